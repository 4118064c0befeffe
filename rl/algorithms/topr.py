"""TOPR: good answers are imitated, bad ones fade as the policy forgets them (Le Roux et al. 2025, arXiv:2503.14286)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rl.algorithms import LossInputs, Normalization
from rl.algorithms.policy_gradient import PolicyGradient
from rl.losses import sequence_sum, weighted_policy_gradient


@dataclass(frozen=True, kw_only=True)
class TOPR(PolicyGradient):
    """L_i = -sg[w_i] A_i log pi(y_i),  A_i = r_i - baseline,  w_i = 1 for A_i >= 0, else min(pi(y_i) / mu(y_i), 1).

    mu is the sampler, and the answers may be old: without w_i a bad one would be pushed away for ever. Baseline and
    rewards say how much bad answers count, which off-policy is more than variance: a group of equal
    rewards does have a gradient. Rewards of 1 and 0 with a baseline of 1/2 are the paper's 1 and -1, halved.
    """

    baseline: float = 0.5
    clip_low: float = math.inf  # nothing is clipped
    clip_high: float = math.inf
    normalization: Normalization = "sequence"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mismatch != "none":
            raise ValueError("algorithm.mismatch must be none: TOPR's ratio is to the sampler, and corrects already")

    def advantages(self, rewards: Tensor) -> Tensor:
        return rewards - self.baseline

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        place = (inputs.sequence_ids, inputs.loss_mask)
        log_ratio = sequence_sum(inputs.logprobs - inputs.rollout_logprobs, *place)
        weight = torch.where(inputs.advantages < 0, log_ratio.clamp(max=0).exp(), 1.0)
        return weighted_policy_gradient(weight, sequence_sum(inputs.logprobs, *place), inputs.advantages)
