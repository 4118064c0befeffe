"""GDPO: each reward term normalised in its group, their sum over the batch (arXiv:2601.05242)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.advantages import batch_normalized, group_centred
from rl.algorithms.grpo import GRPO
from rl.metrics import Gather


@dataclass(frozen=True, kw_only=True)
class GDPO(GRPO):
    """A_i = sum_k w_k (r_ik - mean(r_k)) / std(r_k),    A_i <- (A_i - mean) / std over all completions of the batch.

    The sum is the reward of scoring.normalize_terms=true (rl/combine.py), which it needs; the second step is here, and
    keeps the advantages' scale whatever the number of terms. Its groups have mean 0 already; centring removes rounding.
    """

    def advantages(self, rewards: Tensor) -> Tensor:
        return group_centred(rewards)

    def batch_advantages(self, advantages: list[Tensor], gather: Gather) -> list[Tensor]:
        return batch_normalized(advantages, gather, per="completion")
