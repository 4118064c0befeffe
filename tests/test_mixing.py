"""Mixing of data sets: the shares asked for, from any seed, and the same from any place in the stream."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from data.batches import Batches
from data.mixing import Mixture
from data.problem import Problem, ask
from rl.experience import Prompt


def build(problem: Problem, index: int) -> Prompt:
    return Prompt(problem=problem, index=index, text=problem.question, token_ids=(1,))


def source_of(name: str, count: int, number: int, seed: int = 0) -> Batches:
    problems = [Problem(id=f"{name}/{i}", messages=ask(f"{i}?"), answer="", source=name) for i in range(count)]
    return Batches(problems, build, prompts_per_step=4, seed=seed, number=number)


def mixture(seed: int = 0, **weights: float) -> Mixture:
    sources = {name: source_of(name, 10, number, seed) for number, name in enumerate(weights, start=1)}
    return Mixture(sources, weights, seed=seed)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "weights", [{"a": 1, "b": 1}, {"a": 7, "b": 2, "c": 1}, {"a": 0.01, "b": 0.99}, {"a": 3, "b": 5, "c": 1, "d": 9}]
)
def test_after_any_number_of_prompts_each_source_has_its_share_within_a_few(weights, seed):
    mixed, counts = mixture(seed, **weights), Counter()
    for index in range(5000):
        counts[mixed.source(index)] += 1
        for name, share in mixed.shares.items():
            assert abs(counts[name] - share * (index + 1)) < 5  # at random: sqrt(5000 / 4) = 35, often twice that


def test_the_source_of_a_prompt_is_the_same_whatever_was_asked_before():
    straight = [mixture(a=2, b=1).source(index) for index in range(100)]
    mixed = mixture(a=2, b=1)
    for index in random.Random(0).sample(range(100), 100):
        assert mixed.source(index) == straight[index]


def test_seeds_begin_at_different_places():
    assert len({tuple(mixture(seed, a=1, b=1).source(i) for i in range(20)) for seed in range(5)}) > 1


def test_the_choice_never_changes_between_versions_or_machines():
    assert "".join(mixture(a=2, b=1).source(index) for index in range(16)) == EXPECTED


EXPECTED = "abaabaaaabaababa"


def test_each_source_goes_through_its_own_problems_before_one_comes_twice():
    mixed = mixture(a=2, b=1)
    for name in "ab":
        for epoch in range(3):
            ids = {mixed.candidate(name, place).id for place in range(10 * epoch, 10 * epoch + 10)}
            assert ids == {f"{name}/{i}" for i in range(10)}
    orders = {tuple(mixed.candidate(name, place).id[2:] for place in range(10)) for name in "ab"}
    assert len(orders) == 2  # sources of one size have orders of their own


def test_a_weight_of_zero_leaves_a_source_out():
    for weights in ({"a": 0, "b": 1}, {"a": 1, "b": 0}, {"a": 0, "b": 1, "c": 0}):
        mixed = mixture(**weights)
        wanted = {name for name, weight in weights.items() if weight}
        assert {mixed.source(index) for index in range(1000)} == wanted


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"a": -1, "b": 1}, r"data\.train\.a\.weight must be 0 or more, got -1"),
        ({"a": float("nan"), "b": 1}, r"data\.train\.a\.weight must be 0 or more, got nan"),
        ({"a": 0, "b": 0}, r"data\.train\.<name>\.weight is 0 for every data set"),
    ],
)
def test_weights_that_are_no_shares_are_refused(weights, complaint):
    with pytest.raises(ValueError, match=complaint):
        mixture(**weights)
