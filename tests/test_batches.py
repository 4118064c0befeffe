"""Batches: the same stream of problems however often a run stops and however many ranks read it."""

from __future__ import annotations

import random

import pytest

from data.batches import Batches, permutation
from data.problem import Problem, ask
from rl.experience import Prompt


def make_problems(count: int) -> list[Problem]:
    return [Problem(id=str(i), messages=ask(f"{i}?"), answer="", source="s") for i in range(count)]


def build(problem: Problem, index: int) -> Prompt:
    return Prompt(problem=problem, index=index, text=problem.question, token_ids=(1,))


def make_batches(count: int, prompts_per_step: int, seed: int = 0) -> Batches:
    return Batches(make_problems(count), build, prompts_per_step=prompts_per_step, seed=seed)


def ids(prompts: list[Prompt]) -> list[str]:
    return [prompt.problem.id for prompt in prompts]


@pytest.mark.parametrize(("count", "per_step"), [(10, 4), (10, 5), (3, 8), (1, 4), (7, 7)])
def test_no_problem_comes_again_before_every_problem_came(count, per_step):
    batches = make_batches(count, per_step)
    stream = [id for step in range(3 * count) for id in ids(batches.at(step))]
    for start in range(0, len(stream) - count + 1, count):
        assert len(set(stream[start : start + count])) == count


def test_a_step_is_the_same_whatever_was_read_before():
    steps = list(range(30))
    straight = make_batches(10, 4)
    expected = {step: straight.at(step) for step in steps}
    shuffled = make_batches(10, 4)
    for step in random.Random(0).sample(steps, len(steps)):
        assert shuffled.at(step) == expected[step]
    assert make_batches(10, 4).at(29) == expected[29]


def test_the_index_is_the_position_in_the_endless_stream():
    batches = make_batches(3, 4)
    assert [prompt.index for step in range(3) for prompt in batches.at(step)] == list(range(12))


def test_two_small_steps_are_one_large_step():
    small, large = make_batches(10, 4), make_batches(10, 8)
    assert small.at(2) + small.at(3) == large.at(1)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(permutation(20, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9  # with seed + epoch as the seed there would be 5


def test_the_order_never_changes_between_versions_or_machines():
    assert permutation(8, 0, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert permutation(8, 0, 1).tolist() == [7, 4, 5, 1, 6, 2, 0, 3]


def test_epoch_counts_passes_over_the_problems():
    assert make_batches(8, 4).epoch(3) == 1.5


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"count": 0, "prompts_per_step": 1}, "at least one problem"),
        ({"count": 1, "prompts_per_step": 0}, r"batch\.prompts must be at least 1, got 0"),
        ({"count": 1, "prompts_per_step": 1, "seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_what_cannot_make_a_batch_is_refused_at_start(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_batches(**fields)


def test_a_step_before_the_first_is_refused():
    with pytest.raises(ValueError, match="step must be 0 or more, got -1"):
        make_batches(3, 1).at(-1)
