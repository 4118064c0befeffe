"""GSPO: clip the importance ratio of the whole sequence, not of each token (arXiv:2507.18071)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.algorithms import LossInputs, Normalization
from rl.algorithms.grpo import GRPO
from rl.losses import sequence_ratio, with_gradient_of


@dataclass(frozen=True, kw_only=True)
class GSPO(GRPO):
    """L_i = -min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i),  s_i = (pi(y_i) / pi_old(y_i))^(1/|y_i|)

    The clips are those of section 5.1.
    """

    clip_low: float = 3e-4  # far tighter than PPO's 0.2: a sequence ratio is a geometric mean over its tokens
    clip_high: float = 4e-4
    normalization: Normalization = "sequence"

    def ratio(self, inputs: LossInputs) -> Tensor:
        return sequence_ratio(inputs.logprobs, inputs.old_logprobs, inputs.sequence_ids, inputs.loss_mask)


@dataclass(frozen=True, kw_only=True)
class GSPOToken(GSPO):
    """s_it = sg[s_i] pi_t / sg[pi_t]: the same value, and a gradient by token.

    With the one advantage of an answer on all of its tokens, loss and gradient are those of GSPO.
    """

    def ratio(self, inputs: LossInputs) -> Tensor:
        return with_gradient_of(super().ratio(inputs), inputs.logprobs)
