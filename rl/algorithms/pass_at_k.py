"""Pass@k training: the reward of k completions is their best (Chen et al. 2025, arXiv:2508.10751)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.advantages import pass_at_k
from rl.algorithms.grpo import GRPO


@dataclass(frozen=True, kw_only=True)
class PassAtK(GRPO):
    """GRPO's loss with the analytical advantage of all subsets of k. Needs sampling.completions > k: with as many there
    is one subset, and no advantage.

    Hard problems count most: with one right answer among many, that one gets nearly all the credit, and once more than
    G - k are right there is nothing left to learn. Annealing to k = 1 gives GRPO.
    """

    k: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ValueError(f"algorithm.k must be 1 or more, got {self.k}")

    def advantages(self, rewards: Tensor) -> Tensor:
        return pass_at_k(rewards, self.k)
