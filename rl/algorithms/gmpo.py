"""GMPO: the geometric mean of an answer's clipped ratios, where GRPO takes the arithmetic one (arXiv:2507.20673)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl.algorithms import LossInputs, Normalization
from rl.algorithms.grpo import GRPO
from rl.losses import sequence_mean


@dataclass(frozen=True, kw_only=True)
class GMPO(GRPO):
    """L_i = -A_i exp(mean_t c_t),  c_t = min(log ratio_t, clip_high) for A_i > 0, max(log ratio_t, -clip_low) else.

    An outlier moves a geometric mean little, so the clip, in logarithms and token by token, can be wide: the ratio may
    lie in (e^-0.4, e^0.4).
    """

    clip_low: float = 0.4  # nats, of log ratio_t
    clip_high: float = 0.4
    normalization: Normalization = "sequence"

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        log_ratio = inputs.logprobs - inputs.old_logprobs
        clipped = torch.where(
            inputs.advantages > 0, log_ratio.clamp(max=self.clip_high), log_ratio.clamp(min=-self.clip_low)
        )
        mean = sequence_mean(clipped, inputs.sequence_ids, inputs.loss_mask)
        return -inputs.advantages * torch.exp(mean)

    def token_metrics(self, inputs: LossInputs) -> dict[str, Tensor]:
        log_ratio = (inputs.logprobs - inputs.old_logprobs).detach()
        return super().token_metrics(inputs) | {
            "policy/clip_low_fraction": ((log_ratio < -self.clip_low) & (inputs.advantages < 0)).float(),
            "policy/clip_high_fraction": ((log_ratio > self.clip_high) & (inputs.advantages > 0)).float(),
        }
