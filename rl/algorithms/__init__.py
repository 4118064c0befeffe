"""What an algorithm is: how rewards become advantages, and what one token costs.

G  completions of one prompt        T  tokens of one packed micro-batch
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Normalization = Literal["token", "sequence", "constant"]


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What a token's loss may depend on. All [T], float32 log-probabilities in nats; 0 outside the loss mask."""

    logprobs: Tensor  # current policy, with gradient
    old_logprobs: Tensor  # training engine, before the first update on this batch
    rollout_logprobs: Tensor  # sampler, when it sampled
    ref_logprobs: Tensor | None  # frozen reference; None where the algorithm does not use it
    advantages: Tensor
    sequence_ids: Tensor  # int64, which trajectory of the micro-batch
    loss_mask: Tensor  # bool, True on tokens the policy chose


class Algorithm(Protocol):
    """A frozen dataclass; its fields are hyperparameters under the paper's names."""

    @property
    def normalization(self) -> Normalization: ...

    @property
    def clip_low(self) -> float: ...

    @property
    def clip_high(self) -> float: ...

    @property
    def uses_reference(self) -> bool:
        """Whether token_loss needs ref_logprobs, so that a reference model is loaded and run."""
        ...

    def advantages(self, rewards: Tensor) -> Tensor:
        """[G] float64 -> [G] float64."""
        ...

    def token_loss(self, inputs: LossInputs) -> Tensor:
        """-> [T], to be minimised, not reduced."""
        ...


def check_clip(clip_low: float, clip_high: float, beta: float) -> None:
    """Refuses hyperparameters outside the range in which the formulas mean something."""
    for name, value in (("clip_low", clip_low), ("clip_high", clip_high), ("beta", beta)):
        if not value >= 0:
            raise ValueError(f"algorithm.{name} must be 0 or more, got {value}")
    if math.isinf(beta):
        raise ValueError(f"algorithm.beta must be a finite number, got {beta}")
