"""The pieces a policy loss is made of. Per-token values in, per-token values out; nothing here sums or averages.

    T  tokens of one packed micro-batch

Sums and means are the loss weights' business (rl/batch.py), so no piece can get a denominator wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor


def importance_ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """How much likelier the current policy makes each token than the policy that sampled it. [T] -> [T].

    ratio_t = exp(logprobs_t - old_logprobs_t)        1 at the first update on a batch
    """
    return torch.exp(logprobs - old_logprobs)


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """PPO's clipped surrogate, to be minimised; one value per token.

        L_t = -min(ratio_t A_t, clip(ratio_t, 1 - clip_low, 1 + clip_high) A_t)     arXiv:1707.06347, eq. 7

    All tensors [T]. DAPO's clip-higher (arXiv:2503.14476) is clip_high > clip_low.
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def clipped_low(ratio: Tensor, advantages: Tensor, clip_low: float) -> Tensor:
    """Where the surrogate's gradient stops because a bad token was already made less likely. [T] bool."""
    return (ratio < 1 - clip_low) & (advantages < 0)


def clipped_high(ratio: Tensor, advantages: Tensor, clip_high: float) -> Tensor:
    """Where the surrogate's gradient stops because a good token was already made more likely. [T] bool."""
    return (ratio > 1 + clip_high) & (advantages > 0)
