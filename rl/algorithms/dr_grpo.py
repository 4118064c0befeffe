"""Dr. GRPO: GRPO without its two divisions, by the answer's length and by the group's spread (arXiv:2503.20783)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.advantages import group_centred
from rl.algorithms import Normalization
from rl.algorithms.grpo import GRPO


@dataclass(frozen=True, kw_only=True)
class DrGRPO(GRPO):
    """Every token weighs 1 / (completions x sampling.max_tokens), however long its own answer is (section 3.2)."""

    normalization: Normalization = "constant"

    def advantages(self, rewards: Tensor) -> Tensor:
        return group_centred(rewards)
