"""CISPO: clip the importance weight, and leave no token without a gradient (MiniMax-M1, arXiv:2506.13585)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.algorithms import LossInputs
from rl.algorithms.grpo import GRPO
from rl.losses import weighted_policy_gradient


@dataclass(frozen=True, kw_only=True)
class CISPO(GRPO):
    """L_t = -sg[clip(ratio_t, 1 - clip_low, 1 + clip_high)] A log pi_t

    The rare words at which reasoning forks ("however", "wait") have the largest ratios; PPO's clip drops them first.
    The paper bounds the weight from above only. Its bound is not published; ScaleRL (arXiv:2510.13786) has 5.
    """

    clip_low: float = 1.0  # weights are at least 0: no bound
    clip_high: float = 4.0  # weights are at most 5

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        weight = self.ratio(inputs).clamp(1 - self.clip_low, 1 + self.clip_high)
        return weighted_policy_gradient(weight, inputs.logprobs, inputs.advantages)
