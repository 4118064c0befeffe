"""GRPO that keeps entropy up by its choice of tokens: Clip-Cov and KL-Cov (arXiv:2505.22617), and learning from the
most uncertain tokens only (arXiv:2506.01939).

The choice is made once a batch, before the first update on it, over all tokens of all ranks.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from rl.algorithms import LossInputs, TokenPass, at_least_zero, between
from rl.algorithms.grpo import GRPO
from rl.losses import clip_cov_mask, kl_cov_mask, top_entropy_mask
from rl.metrics import Gather


@dataclass(frozen=True, kw_only=True)
class ClipCov(GRPO):
    """A few random tokens among those that drive entropy down most have no gradient."""

    fraction: float = 2e-4
    cov_low: float = 1.0
    cov_high: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        between("fraction", self.fraction, 0, 1)

    def select(self, scores: Sequence[TokenPass], advantages: Sequence[Tensor], gather: Gather) -> list[Tensor]:
        """True on the tokens that keep their gradient."""
        rows = logprobs_and_advantages(scores, advantages)
        return over_batch(
            rows, gather, lambda batch: clip_cov_mask(batch[0], batch[1], self.fraction, self.cov_low, self.cov_high)
        )

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        assert inputs.selected is not None
        return super().policy_loss(inputs) * inputs.selected


@dataclass(frozen=True, kw_only=True)
class KLCov(GRPO):
    """The tokens that drive entropy down most are held by kl_weight |log ratio_t|; nothing is clipped."""

    fraction: float = 2e-4
    kl_weight: float = 1.0
    clip_low: float = float("inf")
    clip_high: float = float("inf")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("fraction", self.fraction, 0, 1)
        at_least_zero("kl_weight", self.kl_weight)

    def select(self, scores: Sequence[TokenPass], advantages: Sequence[Tensor], gather: Gather) -> list[Tensor]:
        """True on the tokens that are held."""
        rows = logprobs_and_advantages(scores, advantages)
        return over_batch(rows, gather, lambda batch: kl_cov_mask(batch[0], batch[1], self.fraction))

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        assert inputs.selected is not None
        distance = (inputs.logprobs - inputs.old_logprobs).abs()
        return super().policy_loss(inputs) + self.kl_weight * distance * inputs.selected


@dataclass(frozen=True, kw_only=True)
class TopEntropy(GRPO):
    """Only the `fraction` of tokens where the policy was least sure has a gradient."""

    fraction: float = 0.2
    clip_high: float = 0.28  # the paper trains by DAPO

    def __post_init__(self) -> None:
        super().__post_init__()
        between("fraction", self.fraction, 0, 1)

    def select(self, scores: Sequence[TokenPass], advantages: Sequence[Tensor], gather: Gather) -> list[Tensor]:
        """True on the tokens that keep their gradient."""
        rows = [one.entropy.unsqueeze(0) for one in scores]
        return over_batch(rows, gather, lambda batch: top_entropy_mask(batch[0], self.fraction))

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        assert inputs.selected is not None
        return super().policy_loss(inputs) * inputs.selected


def logprobs_and_advantages(scores: Sequence[TokenPass], advantages: Sequence[Tensor]) -> list[Tensor]:
    """[2, C] float64 of each completion."""
    return [torch.stack([one.old_logprobs.double(), a.double()]) for one, a in zip(scores, advantages, strict=True)]


def over_batch(rows: list[Tensor], gather: Gather, choose: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Collective: what `choose` says of all ranks' tokens, end to end in the order of the batch. [K, C] -> [C] bool."""
    own = torch.cat(rows, dim=1) if rows else None
    name = uuid.uuid4().hex  # a gather does not say which of its entries is one's own
    everyone = cast(list[tuple[str, Tensor | None]], gather((name, own)))
    if own is None:
        return []
    chosen = choose(torch.cat([part for _, part in everyone if part is not None], dim=1))
    start = 0
    for other, part in everyone:
        if other == name:
            break
        start += 0 if part is None else part.shape[1]
    return list(chosen[start : start + own.shape[1]].split([row.shape[1] for row in rows]))
