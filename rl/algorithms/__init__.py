"""What an algorithm is: how rewards become advantages, and what one token costs.

G  completions of one prompt        C  tokens of one completion        T  tokens of one packed micro-batch
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from rl.metrics import Gather

Normalization = Literal["token", "sequence", "constant"]


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What a token's loss may depend on. All [T], float32 log-probabilities in nats; 0 outside the loss mask."""

    logprobs: Tensor  # current policy, with gradient
    old_logprobs: Tensor  # training engine, before the first update on this batch
    rollout_logprobs: Tensor  # sampler, when it sampled
    ref_logprobs: Tensor | None  # frozen reference or teacher; None where the algorithm does not use it
    advantages: Tensor
    sequence_ids: Tensor  # int64, which trajectory of the micro-batch; each is whole
    loss_mask: Tensor  # bool, True on tokens the policy chose
    entropy: Tensor | None = None  # current policy, nats; with gradient where the algorithm NeedsEntropy
    selected: Tensor | None = None  # bool, what SelectsTokens.select said; None where the algorithm does not select


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
        """Whether ref_logprobs are needed, by token_loss or by token_penalty, so that a reference model is run."""
        ...

    def advantages(self, rewards: Tensor) -> Tensor:
        """[G] float64 -> [G] float64."""
        ...

    def token_loss(self, inputs: LossInputs) -> Tensor:
        """-> [T], to be minimised, not reduced."""
        ...


# ---------------------------------------------------------------------- abilities that an algorithm may have
#
# Found by their methods' names: a class that has none of them is complete. rl/credit.py calls them.


@dataclass(frozen=True, slots=True)
class TokenPass:
    """One completion before the first update on its batch. All [C], nats, without gradient."""

    old_logprobs: Tensor
    rollout_logprobs: Tensor
    entropy: Tensor
    ref_logprobs: Tensor | None


@runtime_checkable
class PenalizesTokens(Protocol):
    """Takes something from the reward at each token, before the advantages: a KL in the reward."""

    @property
    def penalizes_tokens(self) -> bool: ...

    @property
    def pays_to_go(self) -> bool:
        """Whether a token pays for itself and those after it only; else for the whole completion."""
        ...

    def token_penalty(self, scores: TokenPass) -> Tensor:
        """-> [C], in the reward's unit."""
        ...


@runtime_checkable
class NormalizesBatch(Protocol):
    """Advantages that depend on the whole batch."""

    def batch_advantages(self, advantages: list[Tensor], gather: Gather) -> list[Tensor]:
        """Collective: [C] of each of this rank's completions, in the order of the batch -> the same, float64."""
        ...


@runtime_checkable
class SelectsTokens(Protocol):
    """Treats some tokens of the batch differently, by a rule over the whole batch: LossInputs.selected."""

    def select(self, scores: Sequence[TokenPass], advantages: Sequence[Tensor], gather: Gather) -> list[Tensor]:
        """Collective: of each of this rank's completions, in the order of the batch -> [C] bool each."""
        ...


@runtime_checkable
class NeedsEntropy(Protocol):
    @property
    def needs_entropy(self) -> bool:
        """Whether token_loss depends on LossInputs.entropy."""
        ...


@dataclass(frozen=True, slots=True)
class EntropyControl:
    """What adaptive entropy control knows between two updates; the same on every rank, and part of a checkpoint."""

    coef: float  # of the bonus, c_k; whether it is applied depends on the entropy
    entropy: float = math.inf  # nats per token, all ranks' trained tokens, at the update before; inf before the first


@runtime_checkable
class ControlsEntropy(Protocol):
    """Moves the weight of its entropy bonus by what each update measured. The engine carries the state."""

    @property
    def controls_entropy(self) -> bool: ...

    @property
    def entropy_coef(self) -> float:
        """What the control begins with."""
        ...

    def under(self, control: EntropyControl) -> Algorithm:
        """The algorithm of one update: its bonus has the weight that the control gives it."""
        ...

    def next_control(self, control: EntropyControl, entropy: float) -> EntropyControl:
        """After an update that began with this entropy."""
        ...


@runtime_checkable
class ReportsTokens(Protocol):
    def token_metrics(self, inputs: LossInputs) -> dict[str, Tensor]:
        """Metric -> [T], to be averaged over the trained tokens; names are in rl/metrics.py."""
        ...


def check_clip(clip_low: float, clip_high: float, beta: float) -> None:
    """Refuses hyperparameters outside the range in which the formulas mean something."""
    for name, value in (("clip_low", clip_low), ("clip_high", clip_high), ("beta", beta)):
        at_least_zero(name, value)
    if math.isinf(beta):
        raise ValueError(f"algorithm.beta must be a finite number, got {beta}")


def at_least_zero(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"algorithm.{name} must be 0 or more, got {value}")


def between(name: str, value: float, low: float, high: float) -> None:
    """ValueError unless low < value <= high."""
    if not low < value <= high:
        raise ValueError(f"algorithm.{name} must be above {low:g} and at most {high:g}, got {value}")


def one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"algorithm.{name} must be one of {sorted(choices)}, got {value!r}")
