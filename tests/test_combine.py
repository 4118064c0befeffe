"""From terms to one reward: weights, gates, ranges, and each term in its own scale."""

from __future__ import annotations

import math

import pytest
import torch

from rl.advantages import group_normalized as reference
from rl.combine import combined, group_normalized
from rl.reward_terms import RewardTerm, reward_terms

NAN = math.nan
MATH = {"_target_": "rewards.math_answer.math_answer"}


def term(name, **fields):
    return RewardTerm(name=name, target="", **fields)


def test_a_reward_is_the_weighted_sum():
    terms = [term("right"), term("long", weight=-0.5)]
    assert combined(terms, {"right": [1, 0], "long": [4, 2]}) == (-1.0, -1.0)


def test_a_gated_term_counts_only_where_its_gate_is_above_zero():
    terms = [term("right"), term("short", weight=0.5, gate="right")]
    assert combined(terms, {"right": [1, 0, -1], "short": [1, 1, 1]}) == (1.5, 0.0, -1.0)


def test_behind_a_closed_gate_a_failure_does_not_matter_and_an_unknown_gate_does():
    terms = [term("right", weight=0.0), term("short", gate="right")]
    found = combined(terms, {"right": [0, 1, NAN], "short": [NAN, NAN, 1]})
    assert found[0] == 0.0
    assert math.isnan(found[1])
    assert math.isnan(found[2])


def test_a_term_is_clipped_before_it_is_weighted():
    terms = [term("long", weight=10, clip=(-1.0, 0.5))]
    assert combined(terms, {"long": [-3, 0.2, 3]}) == (-10.0, 2.0, 5.0)


def test_no_value_gives_no_reward_unless_the_term_has_no_weight():
    values = {"right": [1, NAN], "measured": [NAN, 1]}
    assert combined([term("right"), term("measured", weight=0)], values)[0] == 1.0
    assert math.isnan(combined([term("right"), term("measured", weight=0)], values)[1])
    assert math.isnan(combined([term("right"), term("measured", weight=0.1)], values)[0])


@pytest.mark.parametrize("values", [[1, 0, 0, 0], [0.1, 0.9, 0.4], [-3, 5, 5, 2.5]])
def test_a_normalised_term_is_the_advantage_of_grpo(values):
    expected = reference(torch.tensor(values, dtype=torch.float64))
    assert group_normalized(values) == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_equal_values_are_no_preference_whatever_their_rounding(value):
    assert group_normalized([value] * 8) == [0.0] * 8


def test_normalised_terms_count_alike_whatever_their_scale():
    """Summed first, the term of scale 1000 would be all that matters."""
    values = {"right": [1, 0, 0, 0], "tokens": [1000, 2000, 1000, 2000]}
    terms = [term("right"), term("tokens", weight=-1)]
    first, second, third, fourth = combined(terms, values, normalize_terms=True)
    assert first == pytest.approx(math.sqrt(3) + 1, abs=1e-4)
    assert second == fourth == pytest.approx(-1 / math.sqrt(3) - 1, abs=1e-4)
    assert third == pytest.approx(-1 / math.sqrt(3) + 1, abs=1e-4)


def test_a_completion_without_a_value_is_left_out_of_its_groups_mean():
    found = combined([term("right")], {"right": [1, NAN, 0]}, normalize_terms=True)
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(-1, abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"gate": "rihgt"}, r"rewards\.short\.gate=rihgt names no other reward; did you mean right\?"),
        ({"gate": "short"}, r"rewards\.short\.gate=short names no other reward"),
        ({"clip": 1}, r"rewards\.short\.clip must be a list of two numbers, \[lowest, highest\], got 1"),
        ({"clip": [1, 0]}, r"rewards\.short\.clip must be \[lowest, highest\], got \[1, 0\]"),
        ({"clip": [0, "much"]}, r"rewards\.short\.clip must be a finite number"),
        (
            {"on_error": "msak"},
            r"rewards\.short\.on_error must be one of mask, zero, stop, got 'msak'; did you mean mask\?",
        ),
        ({"no_answer": "stop"}, r"rewards\.short\.no_answer must be one of mask, zero, got 'stop'"),
        ({"deadline_s": 0}, r"rewards\.short\.deadline_s must be a positive number of seconds, got 0"),
    ],
)
def test_a_mistake_in_a_terms_keys_is_told_by_its_key(fields, found):
    with pytest.raises(ValueError, match=found):
        reward_terms({"right": MATH, "short": {**MATH, **fields}})
