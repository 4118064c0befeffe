"""Scored groups in, packed micro-batches out. Here every trained token receives its weight in the loss.

    T  tokens of one packed micro-batch, prompts included
    N  trajectories in it
    P  tokens of one prompt        C  tokens of one completion

Over the whole batch, all ranks together, the weights sum to 1 (token and sequence mean) or to the used fraction
(constant), so neither packing nor the number of micro-batches or ranks can change the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from rl.algorithms import Algorithm, Normalization
from rl.experience import ScoredGroup
from rl.metrics import Gather


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One completion to train on, with its prompt."""

    prompt_ids: Sequence[int]  # [P]
    completion_ids: Sequence[int]  # [C]
    rollout_logprobs: Sequence[float]  # [C], nats
    advantage: float

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Several trajectories end to end, one forward pass. All [T] unless said."""

    token_ids: Tensor  # int64
    positions: Tensor  # int64; restart at 0 with each trajectory
    sequence_ids: Tensor  # int64, 0 .. N-1
    cu_seqlens: Tensor  # [N + 1] int32, where trajectories start, and T
    loss_mask: Tensor  # bool, True on tokens the policy chose
    rollout_logprobs: Tensor  # float32, nats; 0 on prompts
    advantages: Tensor  # float32
    loss_weights: Tensor  # float32; 0 on prompts

    def to(self, device: torch.device | str) -> MicroBatch:
        return MicroBatch(*(getattr(self, name).to(device) for name in self.__slots__))

    @property
    def lengths(self) -> list[int]:
        """[N], tokens of each trajectory."""
        return self.cu_seqlens.diff().tolist()


@dataclass(frozen=True, slots=True)
class Totals:
    """What the loss weights divide by: sums over every rank's trajectories."""

    tokens: int  # completion tokens
    sequences: int


def trajectories(groups: Sequence[ScoredGroup], algorithm: Algorithm) -> list[Trajectory]:
    """The scored completions of each group with their advantages. One without a reward (a grader failed) is left out,
    also from the group's mean."""
    result = []
    for scored in groups:
        valid = [i for i, reward in enumerate(scored.rewards) if not math.isnan(reward)]
        if not valid:
            continue
        advantages = algorithm.advantages(torch.tensor([scored.rewards[i] for i in valid], dtype=torch.float64))
        for i, advantage in zip(valid, advantages.tolist(), strict=True):
            done = scored.group.completions[i]
            result.append(Trajectory(scored.group.prompt.token_ids, done.token_ids, done.logprobs, advantage))
    return result


def token_weight(length: int, totals: Totals, normalization: Normalization, max_tokens: int) -> float:
    """The weight of each of a completion's C = length tokens.

    token     1 / all tokens                        DAPO, arXiv:2503.14476, eq. 8
    sequence  1 / (all sequences x C)               GRPO, arXiv:2402.03300, eq. 3
    constant  1 / (all sequences x max_tokens)      Dr. GRPO, arXiv:2503.20783, section 3.2
    """
    if normalization == "token":
        return 1 / totals.tokens
    return 1 / (totals.sequences * (length if normalization == "sequence" else max_tokens))


def micro_batch(items: Sequence[Trajectory], weights: Sequence[float]) -> MicroBatch:
    """Trajectories end to end; weights[n] is the weight of each completion token of the n-th."""
    lengths = torch.tensor([item.length for item in items])
    in_completion = torch.tensor([len(item.completion_ids) for item in items])
    sequence_ids = torch.repeat_interleave(torch.arange(len(items)), lengths)
    starts = lengths.cumsum(0) - lengths
    positions = torch.arange(int(lengths.sum())) - starts[sequence_ids]
    loss_mask = positions >= (lengths - in_completion)[sequence_ids]
    logprobs = [value for item in items for value in (*([0.0] * len(item.prompt_ids)), *item.rollout_logprobs)]
    return MicroBatch(
        token_ids=torch.tensor([token for item in items for token in (*item.prompt_ids, *item.completion_ids)]),
        positions=positions,
        sequence_ids=sequence_ids,
        cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int(),
        loss_mask=loss_mask,
        rollout_logprobs=torch.tensor(logprobs, dtype=torch.float32),
        advantages=torch.tensor([item.advantage for item in items], dtype=torch.float32)[sequence_ids] * loss_mask,
        loss_weights=torch.tensor(weights, dtype=torch.float32)[sequence_ids] * loss_mask,
    )


def by_token_budget(items: Sequence[Trajectory], max_tokens: int) -> list[list[Trajectory]]:
    """Sorts by length and cuts so that each part, padded to its longest, stays within max_tokens.

    A trajectory longer than max_tokens gets a part of its own. Sorting keeps the padding to a few percent.
    """
    parts: list[list[Trajectory]] = []
    for item in sorted(items, key=lambda item: -item.length):
        if not parts or (len(parts[-1]) + 1) * parts[-1][0].length > max_tokens:
            parts.append([])
        parts[-1].append(item)
    return parts


def build_micro_batches(
    items: Sequence[Trajectory],
    normalization: Normalization,
    *,
    tokens_per_micro_batch: int,
    max_completion_tokens: int,
    gather: Gather,
    skip_without_advantage: bool = False,
) -> list[MicroBatch]:
    """Collective: this rank's micro-batches, equally many on every rank (short ranks pad with empty ones).

    skip_without_advantage leaves trajectories of advantage 0 out of the passes though not out of the weights:
    their loss and gradient are exactly 0 when nothing but the advantage enters the loss.
    """
    own = (sum(len(item.completion_ids) for item in items), len(items))
    counts = cast(list[tuple[int, int]], gather(own))
    totals = Totals(*(sum(column) for column in zip(*counts, strict=True)))
    used = [item for item in items if not (skip_without_advantage and item.advantage == 0)]
    batches = [
        micro_batch(
            part,
            [token_weight(len(i.completion_ids), totals, normalization, max_completion_tokens) for i in part],
        )
        for part in by_token_budget(used, tokens_per_micro_batch)
    ]
    wanted = max(1, *cast(list[int], gather(len(batches))))
    return batches + [empty_micro_batch() for _ in range(wanted - len(batches))]


def empty_micro_batch() -> MicroBatch:
    """Two tokens that weigh nothing: lets a rank without work take part in the collectives of a pass."""
    return micro_batch([Trajectory([0], [0], [0.0], 0.0)], [0.0])


def padding_fraction(batches: Sequence[MicroBatch]) -> float:
    """Share of the forward passes spent on padding: each micro-batch is padded to its longest trajectory."""
    padded = sum(max(batch.lengths) * len(batch.lengths) for batch in batches)
    return 1 - sum(len(batch.token_ids) for batch in batches) / padded
