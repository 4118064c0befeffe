"""Kimi k1.5's length reward: within a group the shorter answers are better, and a wrong answer gains nothing by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from data.problem import Problem
from rewards.other_terms import RIGHT, unknown, values_of
from rl.experience import Completion


def length(
    problem: Problem,
    completions: Sequence[Completion],
    *,
    terms: Mapping[str, Sequence[float]],
    correct: str = "math_answer",
) -> list[float]:
    """Between +0.5 for the shortest completion of the group and -0.5 for the longest, at most 0 if it is wrong.

        lambda_i = 0.5 - (len_i - min len) / (max len - min len)
        reward_i = lambda_i          if completion i is correct      Kimi k1.5, arXiv:2501.12599, section 2.3.3
                   min(0, lambda_i)  if it is wrong
                   0                 if all are equally long

    Lengths in tokens. Correct is what the term `correct` gave 1 or more. A completion for which it gave no value (NaN)
    is masked out of the loss anyway: it is "undecided" here and does not stretch the scale of the others. The paper
    switches this reward on after a first phase of training without it, for early on it slows learning: begin with
    weight 0. Raises ValueError if the recipe has no term of that name.
    """
    values = values_of(terms, correct)
    lengths = [len(completion.token_ids) for completion in completions]
    known = [tokens for tokens, value in zip(lengths, values, strict=True) if not math.isnan(value)]
    rewards: list[float] = []
    for tokens, value in zip(lengths, values, strict=True):
        if math.isnan(value):
            rewards.append(unknown(correct))
        else:
            place = _place(tokens, min(known), max(known))
            rewards.append(place if value >= RIGHT else min(0.0, place))
    return rewards


def _place(tokens: int, shortest: int, longest: int) -> float:
    """lambda: 0.5 for the shortest, -0.5 for the longest."""
    return 0.5 - (tokens - shortest) / (longest - shortest) if longest > shortest else 0.0
