"""From the terms of a reward to one reward for each completion of a group. No torch here.

G  completions of one prompt        K  terms        NaN  no value
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from rl.reward_terms import RewardTerm

SPREAD_EPS = 1e-6  # added to a standard deviation that divides, as in rl/advantages.py


def combined(
    terms: Sequence[RewardTerm], values: Mapping[str, Sequence[float]], *, normalize_terms: bool = False
) -> tuple[float, ...]:
    """The reward of each completion.

        r_i = sum_k  w_k  g_ik  c_k(v_ik)

    v_ik: the value of term k, c_k: `clip` to its range, g_ik: 1, or 0 where the term of its `gate` is not above 0.
    With `normalize_terms` c_k(v_ik) g_ik is first measured from its group's mean in its group's standard deviations, so
    that no term drowns another by its scale, and two terms that disagree are told from two that cancel: GDPO,
    arXiv:2601.05242, equation 4 (its normalisation over the batch is the algorithm's).

    values: term -> [G], NaN where it has none. Float64 throughout. A reward is NaN where a term that counts has no
    value: one with a weight whose gate is open or unknown.
    """
    size = len(next(iter(values.values())))
    rewards = [0.0] * size
    for term in terms:
        if term.weight == 0.0:
            continue
        counted = [
            _counted(term, value, values[term.gate][i] if term.gate else 1.0)
            for i, value in enumerate(values[term.name])
        ]
        if normalize_terms:
            counted = group_normalized(counted)
        rewards = [reward + term.weight * value for reward, value in zip(rewards, counted, strict=True)]
    return tuple(rewards)


def _counted(term: RewardTerm, value: float, gate: float) -> float:
    """What a term's value counts before its weight."""
    if math.isnan(gate):
        return math.nan
    if gate <= 0.0:
        return 0.0
    if term.clip is not None and not math.isnan(value):
        return min(max(value, term.clip[0]), term.clip[1])
    return value


def group_normalized(values: Sequence[float]) -> list[float]:
    """(v_i - mean) / (std + eps) over those that are not NaN, population standard deviation; equal values give 0."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return list(values)
    mean, spread = statistics.fmean(known), statistics.pstdev(known)
    if max(known) == min(known):
        return [math.nan if math.isnan(value) else 0.0 for value in values]
    return [(value - mean) / (spread + SPREAD_EPS) for value in values]
