"""SAPO: a soft gate in the place of the clip, tighter for bad answers (arXiv:2511.20347)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from rl.algorithms import LossInputs, Normalization, between
from rl.algorithms.grpo import GRPO
from rl.losses import soft_gated_surrogate


@dataclass(frozen=True, kw_only=True)
class SAPO(GRPO):
    """L_t = -4/tau sigmoid(tau (ratio_t - 1)) A,  tau = tau_pos for A > 0, else tau_neg.

    A bad token's gradient raises all other tokens of the vocabulary, most of them meaningless: tau_neg > tau_pos.
    """

    tau_pos: float = 1.0
    tau_neg: float = 1.05
    clip_low: float = math.inf  # nothing is clipped
    clip_high: float = math.inf
    normalization: Normalization = "sequence"

    def __post_init__(self) -> None:
        super().__post_init__()
        between("tau_pos", self.tau_pos, 0, math.inf)
        between("tau_neg", self.tau_neg, 0, math.inf)

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        return soft_gated_surrogate(self.ratio(inputs), inputs.advantages, self.tau_pos, self.tau_neg)
