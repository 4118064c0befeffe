"""On-policy distillation: the student samples, the teacher judges every token.

Reverse KL on the student's own samples: MiniLLM, arXiv:2306.08543; GKD, arXiv:2306.13649; as a policy gradient with the
discount 0: Lu et al. 2025, thinkingmachines.ai/blog/on-policy-distillation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rl.advantages import group_normalized
from rl.algorithms import LossInputs, Normalization, at_least_zero, check_clip
from rl.losses import clipped_surrogate, importance_ratio


@dataclass(frozen=True, kw_only=True)
class Distill:
    """A_t = kl_weight (log teacher_t - log pi_old_t) + reward_weight A_i,  L_t = PPO's surrogate, no clip by default.

    The reference model is the teacher; ref_logprobs are its. grad of E[L] is grad KL(student || teacher) of each next
    token, for the states that the student visits. A_i is GRPO's advantage, left out with reward_weight 0.
    """

    kl_weight: float = 1.0
    reward_weight: float = 0.0
    clip_low: float = math.inf
    clip_high: float = math.inf
    normalization: Normalization = "token"
    uses_reference: bool = True

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high, beta=0.0)
        at_least_zero("kl_weight", self.kl_weight)
        at_least_zero("reward_weight", self.reward_weight)

    def advantages(self, rewards: Tensor) -> Tensor:
        return self.reward_weight * group_normalized(rewards)

    def token_loss(self, inputs: LossInputs) -> Tensor:
        assert inputs.ref_logprobs is not None, "the teacher's log-probabilities"
        with torch.no_grad():
            advantages = self.kl_weight * (inputs.ref_logprobs - inputs.old_logprobs) + inputs.advantages
        ratio = importance_ratio(inputs.logprobs, inputs.old_logprobs)
        return clipped_surrogate(ratio, advantages, self.clip_low, self.clip_high)
