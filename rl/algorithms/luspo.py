"""LUSPO: GSPO whose answers weigh as much as they are long (arXiv:2602.05261)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.algorithms import LossInputs
from rl.algorithms.gspo import GSPO
from rl.losses import sequence_length


@dataclass(frozen=True, kw_only=True)
class LUSPO(GSPO):
    """L_i = -|y_i| min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i)

    GSPO's gradient has a factor 1 / |y_i|, which favours short right answers and long wrong ones; here it cancels. As
    TRL implements it. The loss is larger by an answer's length than GSPO's: mind optimizer.max_grad_norm.
    """

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        length = sequence_length(inputs.sequence_ids, inputs.loss_mask, inputs.advantages)
        return length * super().policy_loss(inputs)
