"""One step's rounds of sampling: what is asked for, what is kept and thrown away, and that ranks agree."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from data.batches import Batches
from data.mixing import Mixture
from data.problem import Problem, ask
from rl.collect import Batch, Collected, Collector, collect, shares
from rl.collect_state import read_state, write_state
from rl.config import CollectConfig, GroupSizesConfig
from rl.difficulty import Difficulty
from rl.experience import Completion, Group, Prompt, SamplingParams, ScoredGroup
from rl.outcome import Visit
from rl.selection import Position

PER_STEP, COMPLETIONS = 8, 4
RIGHT = {"hard": 0, "even": 2, "easy": COMPLETIONS}  # right ones of a group


def kind_of(id: int) -> str:
    return ("hard", "even", "easy", "even")[id % 4]


def batches(count: int = 64, name: str = "s", number: int = 0) -> Batches:
    problems = [Problem(id=str(i), messages=ask(f"{i}?"), answer="", source=name) for i in range(count)]

    def build(problem: Problem, index: int) -> Prompt:
        return Prompt(problem=problem, index=index, text=problem.question, token_ids=(1,))

    return Batches(problems, build, prompts_per_step=PER_STEP, seed=0, number=number)


def scored(prompt: Prompt, right: int, size: int = COMPLETIONS, policy_step: int = 0) -> ScoredGroup:
    """`right` of `size` completions are right; the shaped sum differs in every group."""
    done = tuple(Completion(str(i), [1, 2], [-1.0, -2.0], "stop", policy_step) for i in range(size))
    outcomes = tuple(float(i < right) for i in range(size))
    return ScoredGroup(
        Group(prompt, done), tuple(value + i / 100 for i, value in enumerate(outcomes)), {"right": outcomes}
    )


class Sampling:
    """Stands in for a rollout engine and its rewards, and remembers what it was asked for."""

    def __init__(self, policy_step: int = 0, right: Callable[[Prompt], int] | None = None) -> None:
        self.policy_step, self.rounds, self.sizes, self.firsts = policy_step, [], [], []
        self.right = right or (lambda prompt: RIGHT[kind_of(int(prompt.problem.id))])

    def __call__(self, prompts, sizes, is_first):
        self.rounds.append([prompt.index for prompt in prompts])
        self.sizes.append(list(sizes))
        self.firsts.append(is_first)
        pairs = zip(prompts, sizes, strict=True)
        return [scored(prompt, self.right(prompt), size, self.policy_step) for prompt, size in pairs]


def collector(stream=None, **settings: Any) -> Collector:
    return Collector(
        stream=stream or batches(), settings=CollectConfig(**settings), outcome="right", slots=PER_STEP,
        completions=COMPLETIONS, seed=0, steps=10,
    )  # fmt: skip


def indices(groups) -> list[int]:
    return [group.group.prompt.index for group in groups]


def kinds(groups) -> list[str]:
    return [kind_of(int(group.group.prompt.problem.id)) for group in groups]


def metrics(collected: Collected) -> dict[str, float]:
    return collected.tally.reduce(lambda value: [value])


# ---------------------------------------------------------------------- a plain recipe


def test_a_plain_step_is_the_next_prompts_whatever_becomes_of_them():
    one, sampling = collector(), Sampling()
    for step in range(10):
        found = one.step(step, step, sampling)
        one.state = found.after
        assert indices(found.groups) == indices(found.sampled) == list(range(8 * step, 8 * step + 8))
        assert [group.group.prompt for group in found.batch] == one.stream.at(step)
        assert (found.dropped, metrics(found)) == ([], {})
    assert sampling.firsts == [True] * 10


# ---------------------------------------------------------------------- dynamic sampling


def test_each_round_asks_for_what_is_lacking_until_the_batch_is_full():
    sampling = Sampling()
    found = collector(dynamic=True).step(0, 0, sampling)
    lacking = [PER_STEP]
    for round_ in sampling.rounds:
        assert len(round_) == lacking[-1]
        got = sum(kind_of(int(p.problem.id)) == "even" for p in prompts_at(round_))
        lacking.append(lacking[-1] - got)
    assert lacking[-1] == 0
    assert sampling.firsts == [True] + [False] * (len(sampling.rounds) - 1)
    assert kinds(found.batch) == ["even"] * PER_STEP
    assert set(kinds(found.dropped)) == {"hard", "easy"}
    everything = [index for round_ in sampling.rounds for index in round_]
    assert everything == list(range(len(everything)))
    assert sorted(indices(found.batch) + indices(found.dropped)) == everything
    assert found.after.position == Position(len(everything), {"all": len(everything)})


def prompts_at(places) -> list[Prompt]:
    stream = batches()
    return [stream.prompt(stream.candidate("all", place), place) for place in places]


def test_the_outcome_decides_and_not_the_shaped_sum():
    found = collector(dynamic=True).step(0, 0, Sampling())
    assert all(group.informative for group in found.dropped)  # by the sum, they would all have been kept


def test_after_max_rounds_the_batch_is_what_there_is():
    one = collector(dynamic=True, max_rounds=3)
    found = one.step(0, 0, Sampling(right=lambda prompt: int(prompt.index == 5)))
    assert indices(found.batch) == [5]
    assert len(found.dropped) == 8 + 7 + 7 - 1
    row = metrics(found)
    assert row["collect/rounds"] == 3
    assert row["collect/filled_fraction"] == 1 / 8
    assert row["collect/dropped_fraction"] == 21 / 22
    assert row["collect/all_wrong_fraction"] == 21 / 22
    assert row["data/pass_rate"] == 1 / 88
    nothing = one.step(0, 0, Sampling(right=lambda prompt: 0))
    assert (nothing.groups, nothing.batch) == ([], [])
    assert metrics(nothing)["collect/filled_fraction"] == 0


def test_a_group_that_differs_in_its_cut_completions_only_is_dropped_where_these_are():
    def all_wrong_ones_cut(prompts, sizes, is_first):
        groups = Sampling()(prompts, sizes, is_first)
        return [replace(group, group=replace(group.group, completions=cut(group))) for group in groups]

    def cut(group):
        pairs = zip(group.group.completions, group.terms["right"], strict=True)
        return tuple(replace(done, finish_reason="stop" if right else "length") for done, right in pairs)

    settings = {"dynamic": True, "max_rounds": 2}
    assert set(kinds(collector(**settings).step(0, 0, all_wrong_ones_cut).batch)) == {"even"}
    assert collector(**settings, drop_truncated=True).step(0, 0, all_wrong_ones_cut).batch == []


def test_metrics_of_a_step_are_shares_of_what_was_sampled():
    found = collector(dynamic=True).step(0, 0, Sampling())
    of = kinds(found.batch + found.dropped)
    row = metrics(found)
    assert row["collect/all_right_fraction"] == of.count("easy") / len(of)
    assert row["collect/all_wrong_fraction"] == of.count("hard") / len(of)
    assert row["collect/reused_fraction"] == row["collect/age"] == row["data/tried_fraction"] == 0
    assert row["data/pass_rate"] == sum(RIGHT[kind] for kind in of) / (COMPLETIONS * len(of))


# ---------------------------------------------------------------------- surplus groups


def test_surplus_groups_are_dropped_or_wait_for_the_next_step():
    found = collector(dynamic=True, oversample=3.0).step(0, 0, Sampling())
    assert len(found.batch) == PER_STEP
    assert found.after.kept == ()
    assert "even" in kinds(found.dropped)

    one = collector(dynamic=True, oversample=3.0, reuse=True)
    found = one.step(0, 0, Sampling(policy_step=0))
    kept = found.after.kept
    assert set(kinds(kept)) == {"even"}
    assert "even" not in kinds(found.dropped)
    assert max(indices(found.batch)) < min(indices(kept))  # by their place in the stream

    one.state = found.after
    sampling = Sampling(policy_step=1)
    again = one.step(1, 1, sampling)
    assert indices(again.batch)[: len(kept)] == indices(kept)
    assert len(again.batch) == PER_STEP
    if sampling.rounds:
        assert len(sampling.rounds[0]) == math.ceil(3 * (PER_STEP - len(kept)))
    assert metrics(again)["collect/reused_fraction"] == len(kept) / PER_STEP
    assert metrics(again)["collect/age"] == len(kept) / PER_STEP
    assert indices(again.sampled) == [index for round_ in sampling.rounds for index in round_]


def test_a_kept_group_that_grew_too_old_is_thrown_away_and_recorded():
    one = collector(dynamic=True, oversample=3.0, reuse=True)
    found = one.step(0, 0, Sampling())
    one.state = found.after
    late = one.step(1, 2, Sampling(policy_step=2))  # two optimizer steps later, one is allowed
    assert set(indices(found.after.kept)) <= set(indices(late.dropped))
    assert metrics(late)["collect/reused_fraction"] == 0

    one.settings = replace(one.settings, max_age=2)
    assert metrics(one.step(1, 2, Sampling(policy_step=2)))["collect/reused_fraction"] > 0
    one.settings, one.updates = replace(one.settings, max_age=None), 2  # null: those of a step
    assert metrics(one.step(1, 2, Sampling(policy_step=2)))["collect/age"] > 0


def test_a_step_of_kept_groups_alone_samples_nothing():
    one = collector(dynamic=True, oversample=8.0, reuse=True)
    one.state = one.step(0, 0, Sampling()).after
    assert len(one.state.kept) >= PER_STEP
    sampling = Sampling(policy_step=1)
    found = one.step(1, 1, sampling)
    assert (sampling.rounds, found.sampled) == ([], [])
    assert len(found.batch) == PER_STEP
    assert math.isnan(metrics(found)["data/pass_rate"])


def test_every_group_is_used_once_or_thrown_away_once():
    one = collector(dynamic=True, oversample=2.5, reuse=True)
    used, thrown, last = [], [], 0
    for step in range(10):
        found = one.step(step, step, Sampling(policy_step=step))
        one.state = found.after
        used += indices(found.batch)
        thrown += indices(found.dropped)
        last = found.after.position.prompts
    assert sorted(used + thrown + indices(one.state.kept)) == list(range(last))


# ---------------------------------------------------------------------- ranks


def on_ranks(world_size: int, make: Callable[[], Collector], steps: int = 4, updates: int = 1):
    """Each rank in a thread of its own: [ranks] of ([step] of Collected, Sampling)."""
    barrier, box = threading.Barrier(world_size), {}
    results: list[Any] = [None] * world_size

    def work(rank: int) -> None:
        def gather(value):
            barrier.wait()
            box[rank] = value
            barrier.wait()
            return [box[i] for i in range(world_size)]

        one = replace(make(), rank=rank, world_size=world_size, gather=gather)
        found, sampling = [], Sampling()
        for step in range(steps):
            sampling.policy_step = step * updates
            found.append(one.step(step, step * updates, sampling))
            one.state = found[-1].after
        results[rank] = found, sampling

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert all(results)
    return results


SETTINGS = [
    {},
    {"dynamic": True},
    {"dynamic": True, "oversample": 2.5, "reuse": True},
    {"dynamic": True, "pass_rate": [0.1, 0.9], "oversample": 1.5},
    {"group_sizes": GroupSizesConfig(hard_below=0.25, times=2)},
    {"dynamic": True, "max_rounds": 2, "group_sizes": GroupSizesConfig(hard_below=0.25, times=2)},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_do_what_one_does(world_size, settings):
    ((alone, _),) = on_ranks(1, lambda: collector(**settings))
    ranks = on_ranks(world_size, lambda: collector(**settings))
    for step, expected in enumerate(alone):
        parts = [found[step] for found, _ in ranks]
        for part in parts:
            assert part.batch == expected.batch
            assert part.dropped == expected.dropped
            assert part.after == expected.after
            assert metrics(part) == pytest.approx(metrics(expected), nan_ok=True)
        trained = sorted(index for part in parts for index in indices(part.groups))
        assert trained == sorted(indices(expected.batch))
        sampled = sorted(index for part in parts for index in indices(part.sampled))
        assert sampled == sorted(indices(expected.sampled))


@pytest.mark.parametrize("settings", SETTINGS)
def test_ranks_have_equal_work(settings):
    ranks = on_ranks(2, lambda: collector(**settings))
    largest = CollectConfig(**settings).group_sizes.times if "group_sizes" in settings else 1
    for step in range(4):
        work = [sum(len(group.rewards) for group in found[step].groups) for found, _ in ranks]
        assert max(work) - min(work) <= largest * COMPLETIONS
        if len({len(g.rewards) for found, _ in ranks for g in found[step].groups}) == 1 and sum(work) == 32:
            assert work[0] == work[1]
    rounds = [sampling.rounds for _, sampling in ranks]
    assert len(rounds[0]) == len(rounds[1])  # a round is collective, also for a rank without a prompt


def test_a_plain_share_is_contiguous():
    ranks = on_ranks(2, collector, steps=1)
    assert [indices(found[0].groups) for found, _ in ranks] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", [[1] * 8, [4] * 7, [2, 1, 1, 2, 1, 1], [3, 1, 1, 1], [2, 2, 2], [], [1, 3, 1, 1, 2]])
def test_shares_are_a_partition_with_sums_no_further_apart_than_the_largest(sizes, ranks):
    given = shares(sizes, ranks)
    assert sorted(place for share in given for place in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in given)
    sums = [sum(sizes[place] for place in share) for share in given]
    assert max(sums) - min(sums) <= max(sizes, default=0)


def test_shares_are_equal_where_small_groups_can_make_up_for_large_ones():
    for large in range(4):
        sizes = [2] * large + [1] * (8 - 2 * large)
        if 8 - 2 * large >= 2:
            assert {sum(sizes[place] for place in share) for share in shares(sizes, 2)} == {4}


def test_the_batch_takes_what_fits_in_the_order_in_which_it_comes():
    batch = Batch(4)
    for index, slots in enumerate([2, 1, 2, 1, 1]):
        batch.offer(index, slots)
    assert (batch.taken, batch.surplus, batch.lacking) == ([0, 1, 3], [2, 4], 0)


# ---------------------------------------------------------------------- pass rates, sizes, sources


def test_what_was_seen_of_a_problem_counts_from_the_next_step_on():
    one = collector(stream=batches(16), pass_rate=[0.1, 0.9], revisit=0.0)
    for step in range(2):
        found = one.step(step, step, Sampling())
        one.state = found.after
    assert len(one.state.difficulty) == 16  # one epoch: every problem was unknown
    third = one.step(2, 2, Sampling())
    assert kinds(third.batch) == ["even"] * PER_STEP
    assert metrics(third)["data/tried_fraction"] == 1
    assert metrics(third)["data/skipped_fraction"] > 0.3


def test_a_hard_problem_has_a_larger_group_and_the_step_as_many_completions():
    one = collector(stream=batches(16), group_sizes=GroupSizesConfig(hard_below=0.25, times=2))
    for step in range(6):
        sampling = Sampling()
        found = one.step(step, step, sampling)
        one.state = found.after
        assert sum(len(group.rewards) for group in found.batch) == PER_STEP * COMPLETIONS
        sizes = {(kind, len(group.rewards)) for kind, group in zip(kinds(found.batch), found.batch, strict=True)}
        assert sizes <= {("hard", 8), ("hard", 4), ("even", 4), ("easy", 4)}
    assert ("hard", 8) in sizes


def test_prompts_by_source_are_counted_where_there_are_several():
    stream = Mixture({"a/b": batches(8, "a", number=1), "c": batches(8, "c", number=2)}, {"a/b": 3, "c": 1}, seed=0)
    row = metrics(collector(stream).step(0, 0, Sampling()))
    assert row == {"data/a.b_fraction": 0.75, "data/c_fraction": 0.25}


# ---------------------------------------------------------------------- the state


def test_a_state_comes_back_as_it_was_and_goes_on_alike(tmp_path):
    settings = {"dynamic": True, "oversample": 2.5, "reuse": True, "pass_rate": [0.1, 0.9]}
    whole, parts = collector(**settings), collector(**settings)
    for step in range(10):
        expected = whole.step(step, step, Sampling(policy_step=step))
        whole.state = expected.after
        found = parts.step(step, step, Sampling(policy_step=step))
        assert (found.batch, found.dropped, found.after) == (expected.batch, expected.dropped, expected.after)
        write_state(tmp_path / str(step), found.after)
        parts = collector(**settings)
        parts.state = read_state(tmp_path / str(step))
        assert parts.state == whole.state


def test_a_step_that_fails_leaves_the_state_as_it_was():
    one = collector(dynamic=True)
    before = one.state

    def fails(prompts, sizes, is_first):
        if not is_first:
            raise RuntimeError
        return Sampling()(prompts, sizes, is_first)

    with pytest.raises(RuntimeError):
        one.step(0, 0, fails)
    assert one.state is before
    assert one.state.difficulty == Difficulty()


def test_pass_rates_from_before_the_run_are_there_in_its_first_step():
    one = collector(stream=batches(16), pass_rate=[0.1, 0.9], revisit=0.0)
    known = Difficulty().after(Visit("s", str(i), "informative", 4, RIGHT[kind_of(i)]) for i in range(16))
    one.state = replace(one.state, difficulty=known)
    assert kinds(one.step(0, 0, Sampling()).batch) == ["even"] * PER_STEP


# ---------------------------------------------------------------------- one round


class Engine:
    """Gives each completion its prompt's index and place."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], int]] = []

    def awake(self):
        return nullcontext()

    def generate(self, prompts, params, seed, finished):
        self.calls.append(([prompt.index for prompt in prompts], params.completions))
        groups = []
        for i, prompt in enumerate(prompts):
            done = [Completion(f"{prompt.index}/{j}", [1], [-1.0], "stop", 0) for j in range(params.completions)]
            for j, one in enumerate(done):
                finished(i, j, one)
            groups.append(Group(prompt, tuple(done)))
        return groups


class Marks:
    """Says which prompt each completion was begun with."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.continued: list[bool] = []

    def begin(self, prompt, completion):
        self.begun[completion.text] = prompt.index

    def score(self, groups, *, continued=False):
        self.continued.append(continued)
        return [ScoredGroup(group, (0.0,) * len(group.completions), {}) for group in groups]


def test_groups_of_several_sizes_come_back_in_the_order_of_their_prompts():
    engine, marks = Engine(), Marks()
    prompts = prompts_at(range(5))
    found = collect(
        prompts, engine, marks, SamplingParams(completions=2), seed=0, time=lambda _: nullcontext(),
        sizes=[2, 4, 2, 6, 4], continued=True,
    )  # fmt: skip
    assert engine.calls == [([0, 2], 2), ([1, 4], 4), ([3], 6)]
    assert indices(found) == [0, 1, 2, 3, 4]
    assert [len(group.rewards) for group in found] == [2, 4, 2, 6, 4]
    assert all(index == int(text.split("/")[0]) for text, index in marks.begun.items())
    assert (len(marks.begun), marks.continued) == (18, [True])


def test_without_sizes_all_prompts_are_sampled_at_once():
    engine = Engine()
    collect(prompts_at(range(3)), engine, Marks(), SamplingParams(completions=2), seed=0, time=lambda _: nullcontext())
    assert engine.calls == [([0, 1, 2], 2)]
