"""GRPO: PPO's clipped surrogate with the group's mean as baseline (DeepSeekMath, arXiv:2402.03300)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rl.advantages import group_normalized
from rl.algorithms import LossInputs, Normalization, check_clip
from rl.kl import ESTIMATORS
from rl.losses import clipped_surrogate, importance_ratio


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """The paper averages over each answer first (normalization "sequence"); DAPO's token mean is the default here.

    L_t = -min(ratio_t A, clip(ratio_t, 1 - clip_low, 1 + clip_high) A) + beta k3_t        eq. 3 and 4
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.0  # weight of the KL to the reference model; the paper has 0.04, most later work none
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    normalization: Normalization = "token"

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high, self.beta)
        if self.kl_estimator not in ESTIMATORS:
            raise ValueError(f"algorithm.kl_estimator must be one of {sorted(ESTIMATORS)}, got {self.kl_estimator!r}")

    @property
    def uses_reference(self) -> bool:
        return self.beta > 0

    def advantages(self, rewards: Tensor) -> Tensor:
        return group_normalized(rewards)

    def token_loss(self, inputs: LossInputs) -> Tensor:
        ratio = importance_ratio(inputs.logprobs, inputs.old_logprobs)
        loss = clipped_surrogate(ratio, inputs.advantages, self.clip_low, self.clip_high)
        if not self.uses_reference:
            return loss
        assert inputs.ref_logprobs is not None, "beta > 0 needs the reference's log-probabilities"
        return loss + self.beta * ESTIMATORS[self.kl_estimator](inputs.logprobs, inputs.ref_logprobs)
