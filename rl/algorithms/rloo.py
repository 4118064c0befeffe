"""RLOO: REINFORCE with the mean of the others as baseline (Ahmadian et al. 2024, arXiv:2402.14740)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rl.advantages import leave_one_out
from rl.algorithms import LossInputs, Normalization
from rl.algorithms.policy_gradient import PolicyGradient
from rl.losses import trajectory_ratio


@dataclass(frozen=True, kw_only=True)
class RLOO(PolicyGradient):
    """One action is the whole answer: its ratio is a product over tokens, and its KL is in the reward.

    A_i = r_i - mean_(j != i) r_j,   r_i = R_i - beta sum_t log(pi_old / pi_ref)
    L_i = -min(ratio_i A_i, clip(ratio_i, 1 - clip_low, 1 + clip_high) A_i)

    The paper takes one step on each batch, where this is REINFORCE: grad L_i = -A_i sum_t grad logprobs_t. The clip for
    later steps is TRL's. In answers of thousands of tokens a step or two puts every ratio outside of it.
    """

    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    kl_in: Literal["loss", "reward"] = "reward"
    normalization: Normalization = "sequence"

    def advantages(self, rewards: Tensor) -> Tensor:
        return leave_one_out(rewards)

    def ratio(self, inputs: LossInputs) -> Tensor:
        return trajectory_ratio(inputs.logprobs, inputs.old_logprobs, inputs.sequence_ids, inputs.loss_mask)
