"""DPPO: a trust region of the policy's divergence, not of the token's ratio (Qi et al. 2026, arXiv:2602.04879)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rl.algorithms import LossInputs, between, one_of
from rl.algorithms.grpo import GRPO
from rl.losses import binary_kl_mask, importance_ratio, total_variation_mask, weighted_policy_gradient

MASKS = {"tv": total_variation_mask, "kl": binary_kl_mask}


@dataclass(frozen=True, kw_only=True)
class DPPO(GRPO):
    """L_t = -M_t sg[min(ratio_t, ratio_cap)] A log pi_t,    ratio_t = pi_t / mu_t, mu the sampler's own probability.

    M_t is 0 where the divergence of (token, all others) exceeds its threshold on the side that A pushes to. A rare
    token may grow tenfold, since that moves little probability; a common one may not shrink by a quarter.
    """

    divergence: Literal["tv", "kl"] = "tv"
    clip_low: float = 0.2  # thresholds of the divergence: 0.2 for tv, 0.05 nats for kl
    clip_high: float = 0.2
    ratio_cap: float = 20.0  # section 5.4: large, for truncation is a bias

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("divergence", self.divergence, tuple(MASKS))
        between("ratio_cap", self.ratio_cap, 1, float("inf"))
        if self.mismatch != "none":
            raise ValueError("algorithm.mismatch must be none: DPPO's ratio is to the sampler, and corrects already")

    def ratio(self, inputs: LossInputs) -> Tensor:
        return importance_ratio(inputs.logprobs, inputs.rollout_logprobs)

    def is_inside(self, inputs: LossInputs) -> Tensor:
        """[T] bool, M_t."""
        mask = MASKS[self.divergence]
        return mask(inputs.logprobs, inputs.rollout_logprobs, inputs.advantages, self.clip_low, self.clip_high)

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        weight = self.ratio(inputs).clamp(max=self.ratio_cap) * self.is_inside(inputs)
        return weighted_policy_gradient(weight, inputs.logprobs, inputs.advantages)

    def token_metrics(self, inputs: LossInputs) -> dict[str, Tensor]:
        outside = ~self.is_inside(inputs)
        return super().token_metrics(inputs) | {
            "policy/clip_low_fraction": (outside & (inputs.advantages < 0)).float(),
            "policy/clip_high_fraction": (outside & (inputs.advantages > 0)).float(),
        }
