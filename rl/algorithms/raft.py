"""RAFT: imitate one's own correct answers (Dong et al. 2023, arXiv:2304.06767), and RAFT++ with PPO's surrogate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from rl.advantages import batch_scaled_to_mean_one
from rl.algorithms import LossInputs
from rl.algorithms.policy_gradient import PolicyGradient
from rl.metrics import Gather


@dataclass(frozen=True, kw_only=True)
class RAFTPlusPlus(PolicyGradient):
    """GRPO's loss on accepted answers alone, A = 1 (Xiong et al. 2025, arXiv:2504.11343).

    Accepted: a reward of at least `threshold`. A is divided by the accepted share of the batch, so that the loss is a
    mean over what was accepted. Groups of equal rewards do have a gradient where they are right.
    """

    threshold: float = 1.0

    def advantages(self, rewards: Tensor) -> Tensor:
        return (rewards >= self.threshold).double()

    def batch_advantages(self, advantages: list[Tensor], gather: Gather) -> list[Tensor]:
        return batch_scaled_to_mean_one(advantages, gather, "completion" if self.normalization != "token" else "token")


@dataclass(frozen=True, kw_only=True)
class RAFT(RAFTPlusPlus):
    """L_t = -A log pi_t: supervised fine-tuning on what was accepted, with no regard to how often it is repeated."""

    clip_low: float = math.inf  # nothing is clipped
    clip_high: float = math.inf

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        return -inputs.advantages * inputs.logprobs
