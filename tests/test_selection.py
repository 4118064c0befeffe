"""Which problems are sampled: by pass rate, by curriculum, by size of group; the same on every rank and resume."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from data.batches import Batches
from data.mixing import Mixture
from data.problem import Problem, ask
from rl.config import CollectConfig, CurriculumConfig, GroupSizesConfig
from rl.difficulty import Difficulty
from rl.experience import Prompt
from rl.outcome import Visit
from rl.selection import Position, Selection, acceptance, slots_of, uniform


def build(problem: Problem, index: int) -> Prompt:
    return Prompt(problem=problem, index=index, text=problem.question, token_ids=(1,))


def batches(count: int = 10, name: str = "s", number: int = 0) -> Batches:
    problems = [Problem(id=f"{i}", messages=ask(f"{i}?"), answer="", source=name) for i in range(count)]
    return Batches(problems, build, prompts_per_step=4, seed=0, number=number)


def rates(source: str = "s", **right_of_10: int) -> Difficulty:
    """rates(_3=5): half of the attempts at problem 3 were right."""
    return Difficulty().after(Visit(source, id[1:], "informative", 10, right) for id, right in right_of_10.items())


def selection(stream=None, difficulty=None, position=None, progress=0.0, seed=0, **settings) -> Selection:
    return Selection(
        stream or batches(), CollectConfig(**settings), difficulty or Difficulty(), position or Position(0, {}),
        seed=seed, progress=progress,
    )  # fmt: skip


def ids(choices) -> list[str]:
    return [choice.prompt.problem.id for choice in choices]


def test_without_settings_the_prompts_are_those_of_the_plain_stream():
    stream, one = batches(), selection()
    for step in range(12):
        assert [choice.prompt for choice in one.take(4)] == stream.at(step)
    assert one.position == Position(48, {"all": 48})


@pytest.mark.parametrize(
    ("rate", "settings", "chance"),
    [
        (None, {"pass_rate": [0.2, 0.8]}, 1.0),
        (0.5, {"pass_rate": [0.2, 0.8]}, 1.0),
        (0.2, {"pass_rate": [0.2, 0.8]}, 1.0),
        (0.8, {"pass_rate": [0.2, 0.8]}, 1.0),
        (0.81, {"pass_rate": [0.2, 0.8]}, 0.05),
        (0.0, {"pass_rate": [0.2, 0.8], "revisit": 0.5}, 0.5),
        (0.0, {"pass_rate": [0.2, 0.8], "revisit": 0.0}, 0.0),
        (0.0, {}, 1.0),
    ],
)
def test_the_chance_of_a_problem_by_its_pass_rate(rate, settings, chance):
    assert acceptance(rate, CollectConfig(**settings), 0.5) == chance


def test_a_curriculum_begins_with_the_easy_and_ends_with_the_hard():
    settings = CollectConfig(curriculum=CurriculumConfig(width=0.25))
    table = {progress: [acceptance(rate, settings, progress) for rate in (1.0, 0.5, 0.0)] for progress in (0, 0.5, 1)}
    one, two = math.exp(-(2**2) / 2), math.exp(-(4**2) / 2)  # half and whole a range away: two and four widths
    assert table[0] == pytest.approx([1, one, two])
    assert table[0.5] == pytest.approx([one, 1, one])
    assert table[1] == pytest.approx([two, one, 1])
    assert acceptance(None, settings, 0.0) == 1
    sooner = CollectConfig(curriculum=CurriculumConfig(width=0.25, exponent=0.5))
    assert acceptance(0.5, sooner, 0.25) == 1  # a quarter of the steps, half of the way


def test_a_curriculum_draws_problems_in_proportion_to_its_weights():
    difficulty = rates(**{f"_{i}": i for i in range(10)})  # pass rates 0, 0.1 .. 0.9
    one = selection(difficulty=difficulty, progress=0.5, curriculum=CurriculumConfig(width=0.2))
    drawn = Counter(ids(one.take(4000)))
    weights = {str(i): math.exp(-(((0.5 - (1 - i / 10)) / 0.2) ** 2) / 2) for i in range(10)}
    for id, weight in weights.items():
        expected = 4000 * weight / sum(weights.values())
        assert abs(drawn[id] - expected) < 5 * math.sqrt(expected) + 1


def test_solved_problems_are_passed_over_but_for_a_visit_now_and_then():
    difficulty = rates(_0=10, _1=10, _2=5)
    one = selection(difficulty=difficulty, pass_rate=[0.1, 0.9], revisit=0.05)
    drawn = Counter(ids(one.take(4000)))
    for id in "23456789":  # unknown ones are as good as those in the range
        assert abs(drawn[id] - 4000 / 8.1) < 10
    for id in "01":
        assert 10 < drawn[id] < 45  # 1 in 20 of 494 epochs
    assert one.num_candidates == 4000 + (one.position.places["all"] - 4000)


def test_where_nothing_is_allowed_an_epoch_is_looked_through_and_then_the_next_is_taken():
    one = selection(difficulty=rates(**{f"_{i}": 10 for i in range(10)}), pass_rate=[0.1, 0.9], revisit=0.0)
    assert len(one.take(3)) == 3
    assert one.num_candidates == 33


def test_the_choice_depends_on_seed_and_place_and_on_nothing_else():
    settings = {"difficulty": rates(**{f"_{i}": 10 for i in range(9)}), "pass_rate": [0.0, 0.5], "revisit": 0.3}
    whole = selection(**settings).take(60)
    parts, position = [], Position(0, {})
    for _ in range(20):  # a run that stops after every step
        one = selection(**settings, position=position)
        parts += one.take(3)
        position = one.position
    assert parts == whole
    assert ids(selection(**settings, seed=1).take(60)) != ids(whole)


def test_uniform_is_spread_over_the_unit_interval_and_the_same_on_every_machine():
    numbers = [uniform(seed, source, place) for seed in (0, 1) for source in "ab" for place in range(2000)]
    assert len(set(numbers)) == 8000
    assert all(0 <= number < 1 for number in numbers)
    assert abs(sum(numbers) / 8000 - 0.5) < 0.02
    assert uniform(3, "gsm8k", 17) == pytest.approx(UNIFORM, abs=1e-12)


UNIFORM = 0.3799399875230416


def test_a_filter_does_not_change_the_shares_of_a_mixture():
    stream = Mixture({"a": batches(50, "a", number=1), "b": batches(50, "b", number=2)}, {"a": 0.75, "b": 0.25}, seed=0)
    solved = rates("a", **{f"_{i}": 10 for i in range(45)})  # nine tenths of a, nothing of b
    one = selection(stream, solved, pass_rate=[0.1, 0.9])
    drawn = Counter(choice.prompt.problem.source for choice in one.take(400))
    assert abs(drawn["a"] - 300) < 5
    assert one.position.places["a"] > 1500
    assert one.position.places["b"] == drawn["b"]


@pytest.mark.parametrize(("rate", "slots"), [(None, 1), (0.0, 3), (0.24, 3), (0.25, 1), (1.0, 1)])
def test_a_problem_known_to_be_hard_gets_a_larger_group(rate, slots):
    assert slots_of(rate, CollectConfig(group_sizes=GroupSizesConfig(hard_below=0.25, times=3))) == slots
    assert slots_of(rate, CollectConfig()) == 1


@pytest.mark.parametrize("slots", range(1, 20))
def test_larger_groups_leave_as_many_completions_in_a_step(slots):
    difficulty = rates(_0=0, _1=1, _2=2, _3=3, _4=0)
    one = selection(difficulty=difficulty, group_sizes=GroupSizesConfig(hard_below=0.25, times=3))
    choices = one.take(slots)
    assert sum(choice.slots for choice in choices) == slots
    assert all(choice.slots in (1, 3) for choice in choices[:-1])
    indices = [choice.prompt.index for choice in choices]
    assert indices == list(range(len(choices)))
