"""Supervised fine-tuning as an algorithm: the likelihood of given answers, no reward and no ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rl.algorithms import LossInputs, Normalization


@dataclass(frozen=True, kw_only=True)
class SFT:
    """L_t = -logprobs_t, the cross-entropy. The cold start runs on the same engine and batches as the RL."""

    normalization: Normalization = "token"
    clip_low: float = math.inf
    clip_high: float = math.inf
    uses_reference: bool = False

    def advantages(self, rewards: Tensor) -> Tensor:
        return torch.ones_like(rewards)

    def token_loss(self, inputs: LossInputs) -> Tensor:
        return -inputs.logprobs
