"""Advantage estimators: rewards of one group in, advantages out; then what looks at the whole batch.

    G  completions of one prompt        C  tokens of one completion

A reward has no unit. An advantage is measured in the reward's unit, or, where the estimator divides by it,
in standard deviations of the group or of the batch. Float64 throughout: G numbers cost nothing, and in float32 the
rounding error of the mean, divided by a standard deviation near zero, becomes an advantage. Equal rewards give exactly
0 wherever a mean is subtracted, so that a group without preference can be told by == 0.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor


def group_normalized(rewards: Tensor, eps: float = 1e-6) -> Tensor:
    """GRPO: how far each reward lies from its group's mean, in group standard deviations.

        A_i = (r_i - mean(r)) / (std(r) + eps)        DeepSeekMath, arXiv:2402.03300, section 4.1.2

    rewards [..., G] -> advantages [..., G], float64. std is the population's. Eight equal rewards of 0.1 give
    exactly 0; in float32 the plain formula gives -0.007.
    """
    centred = group_centred(rewards)
    return centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + eps)


def group_centred(rewards: Tensor) -> Tensor:
    """Dr. GRPO: how far each reward lies from its group's mean, in the reward's own unit.

        A_i = r_i - mean(r)        Liu et al. 2025, arXiv:2503.20783, section 3.2

    rewards [..., G] -> advantages [..., G], float64. Without the division a question that is nearly always or
    nearly never solved does not weigh more than one solved half of the time.
    """
    rewards = rewards.double()
    centred = rewards - rewards.mean(dim=-1, keepdim=True)
    return torch.where(_equal(rewards), 0.0, centred)


def leave_one_out(rewards: Tensor) -> Tensor:
    """RLOO: how far each reward lies from the mean of the others of its group.

        A_i = r_i - 1/(G-1) sum_(j != i) r_j = G/(G-1) (r_i - mean(r))
                                                Ahmadian et al. 2024, arXiv:2402.14740; Kool et al. 2019

    rewards [..., G] -> advantages [..., G], float64. A baseline that does not depend on completion i leaves its
    gradient unbiased. A group of one has no others: 0.
    """
    size = rewards.shape[-1]
    return group_centred(rewards) * (size / max(1, size - 1))


def pass_at_k(rewards: Tensor, k: int, eps: float = 1e-6) -> Tensor:
    """Pass@k: what a completion adds to the best of k drawn from its group.

        A_i = (E[max_S | i in S] - E[max_S]) / (std(max_S) + eps),    S a uniform subset of k of the G rewards

    For rewards 0 and 1, with N wrong ones, that is Chen et al. 2025, arXiv:2508.10751 (analytical derivation):

        R = 1 - C(N,k)/C(G,k)        std = sqrt(R (1 - R))
        A_right = (1 - R) / std      A_wrong = (1 - R - C(N-1,k-1)/C(G-1,k-1)) / std

    rewards [G] -> advantages [G], float64, sum 0. Where the best of k is always the same (equal rewards, fewer than k
    wrong ones, or k >= G) there is nothing to learn: exactly 0. k = 1 is group_normalized.
    """
    size = len(rewards)
    if size <= k:
        return torch.zeros(size, dtype=torch.float64)
    # Measured from the largest: then a best that is always the same is 0, without rounding.
    values, order = (rewards.double() - rewards.double().max()).sort()
    is_best = _best_of(size, k)
    mean = (is_best * values).sum()
    std = ((is_best * (values - mean).square()).sum()).sqrt()
    # Given i in S: the best is i where the other k - 1 rank below it, else one above it, of the other G - 1.
    own = torch.cat([torch.full((1,), float(k == 1), dtype=torch.float64), _cumulative(size - 1, k - 1)])
    others = _best_of(size - 1, k - 1) * values[1:]  # a reward above i ranks one lower among the others
    above = others.flip(0).cumsum(0).flip(0)
    given = own * values
    given[:-1] += above
    return torch.empty_like(values).index_copy(0, order, (given - mean) / (std + eps))


def _cumulative(size: int, k: int) -> Tensor:
    """[size] float64: chance that all k of a uniform subset of `size` rank among the lowest j, j = 1 .. size."""
    ranks = torch.arange(1, size + 1, dtype=torch.float64)
    chance = torch.ones(size, dtype=torch.float64)
    for drawn in range(k):
        chance = chance * (ranks - drawn).clamp(min=0) / (size - drawn)
    return chance


def _best_of(size: int, k: int) -> Tensor:
    """[size] float64: chance that the best of a uniform subset of k has rank j, j = 1 .. size; 0 where k is 0."""
    if k == 0:
        return torch.zeros(size, dtype=torch.float64)
    return _cumulative(size, k).diff(prepend=torch.zeros(1, dtype=torch.float64))


def _equal(values: Tensor) -> Tensor:
    """Whether all along the last dimension are the same. [..., G] -> [..., 1] bool."""
    return values.amax(dim=-1, keepdim=True) == values.amin(dim=-1, keepdim=True)


# ---------------------------------------------------------------------- over tokens, and over the whole batch


def penalty_before(penalties: Tensor) -> Tensor:
    """What each token has already paid: sum_(i < t) penalty_i. [C] -> [C].

    An advantage from r - sum_i penalty_i, plus this, is r less what the token and those after it pay:

        A_t = r - sum_(i >= t) penalty_i        REINFORCE++, arXiv:2501.03262, with penalty_i = beta KL_i
    """
    return penalties.cumsum(0) - penalties


def batch_normalized(
    advantages: list[Tensor], gather: Any, per: Literal["token", "completion"] = "token", eps: float = 1e-8
) -> list[Tensor]:
    """Collective. REINFORCE++ and GDPO: measured from the mean of the whole batch, in its standard deviations.

        A_t <- (A_t - mean) / (std + eps)        arXiv:2501.03262, "global advantage normalization"

    advantages: [C] of each of this rank's completions -> the same, float64. gather gives every rank's value to all.
    std is the population's. Every token of the batch counts alike (REINFORCE++, as OpenRLHF and verl do), or every
    completion does, whatever its length (GDPO, arXiv:2601.05242). Equal advantages give exactly 0.
    """
    values = [one.double() for one in advantages]
    weights = [1.0 if per == "token" else 1 / max(1, len(one)) for one in values]
    pairs = list(zip(values, weights, strict=True))
    own = (
        sum(len(v) * w for v, w in pairs),
        sum(float(v.sum()) * w for v, w in pairs),
        min((float(v.min()) for v in values if len(v)), default=float("inf")),
        max((float(v.max()) for v in values if len(v)), default=float("-inf")),
    )
    count, total, smallest, largest = zip(*gather(own), strict=True)
    if min(smallest) >= max(largest):
        return [torch.zeros_like(v) for v in values]
    mean = sum(total) / sum(count)
    squares = gather(sum(float((v - mean).square().sum()) * w for v, w in pairs))
    std = (sum(squares) / sum(count)) ** 0.5
    return [(v - mean) / (std + eps) for v in values]


def batch_scaled_to_mean_one(
    advantages: list[Tensor], gather: Any, per: Literal["token", "completion"] = "token"
) -> list[Tensor]:
    """Collective. RAFT: divided by the mean of the whole batch, so that a loss which divides by all tokens (or all
    completions) divides by the accepted ones. [C] of each completion -> the same, float64; all 0 stays 0.
    """
    weights = [1.0 if per == "token" else 1 / max(1, len(one)) for one in advantages]
    pairs = list(zip(advantages, weights, strict=True))
    own = (sum(len(v) * w for v, w in pairs), sum(float(v.double().sum()) * w for v, w in pairs))
    count, total = (sum(column) for column in zip(*gather(own), strict=True))
    return [v.double() * (count / total if total else 0.0) for v in advantages]
