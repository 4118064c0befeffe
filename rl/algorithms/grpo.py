"""GRPO: PPO's clipped surrogate with the group's mean as baseline (DeepSeekMath, arXiv:2402.03300)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.advantages import group_normalized
from rl.algorithms.policy_gradient import PolicyGradient


@dataclass(frozen=True, kw_only=True)
class GRPO(PolicyGradient):
    """The paper averages over each answer first (normalization "sequence"); DAPO's token mean is the default here.

    L_t = -min(ratio_t A, clip(ratio_t, 1 - clip_low, 1 + clip_high) A) + beta k3_t        eq. 3 and 4

    The paper has beta 0.04; DeepSeek-R1 (arXiv:2501.12948) 0.001 and a clip of 10; most later work no KL.
    """

    def advantages(self, rewards: Tensor) -> Tensor:
        return group_normalized(rewards)
