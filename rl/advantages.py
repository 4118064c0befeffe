"""Advantage estimators: rewards of one group in, advantages out.

    G  completions of one prompt

A reward has no unit. An advantage is measured in the reward's unit, or, where the estimator divides by it,
in standard deviations of the group. Float64 throughout: G numbers cost nothing, and in float32 the rounding
error of the mean, divided by a standard deviation near zero, becomes an advantage.
"""

from __future__ import annotations

from torch import Tensor


def group_normalized(rewards: Tensor, eps: float = 1e-6) -> Tensor:
    """GRPO: how far each reward lies from its group's mean, in group standard deviations.

        A_i = (r_i - mean(r)) / (std(r) + eps)        DeepSeekMath, arXiv:2402.03300, section 4.1.2

    rewards [..., G] -> advantages [..., G], float64. std is the population's. Eight equal rewards of 0.1 give
    exactly 0 up to 1e-8; in float32 the same formula gives -0.007.
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
    return rewards - rewards.mean(dim=-1, keepdim=True)
