"""Scored groups in, packed micro-batches out. Here every trained token receives its weight in the loss.

    T  tokens of one packed micro-batch, prompts included
    N  trajectories in it        S  segments in it
    P  tokens of one prompt      C  tokens of one completion

A segment is a run of tokens that follow one another: a whole trajectory, or, where trajectories share their prompt, the
prompt once and each completion for itself, continuing the prompt.

Over the whole batch, all ranks together, the weights sum to 1 (token and sequence mean) or to the used fraction
(constant), so neither packing nor the number of micro-batches or ranks can change the loss.
"""

from __future__ import annotations

import math
from collections import Counter
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
    sequence_ids: Tensor  # int64, 0 .. S-1, the segment; the trained tokens of one trajectory have one number
    cu_seqlens: Tensor  # [S + 1] int32, where segments start, and T
    parents: Tensor  # [S] int64, the segment that a segment continues; -1 where it starts a trajectory
    loss_mask: Tensor  # bool, True on tokens the policy chose
    rollout_logprobs: Tensor  # float32, nats; 0 on prompts
    advantages: Tensor  # float32
    loss_weights: Tensor  # float32; 0 on prompts

    def to(self, device: torch.device | str) -> MicroBatch:
        return MicroBatch(*(getattr(self, name).to(device) for name in self.__slots__))

    @property
    def lengths(self) -> list[int]:
        """[S], tokens of each segment."""
        return self.cu_seqlens.diff().tolist()

    @property
    def before(self) -> Tensor:
        """[T] int64, the token before each token; -1 where there is none."""
        before = torch.arange(len(self.token_ids), device=self.token_ids.device) - 1
        starts, ends = self.cu_seqlens[:-1].long(), self.cu_seqlens[1:].long()
        last = torch.where(self.parents < 0, -1, ends[self.parents] - 1)
        return before.index_copy(0, starts, last)


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


@dataclass(slots=True)
class _Segment:
    token_ids: Sequence[int]
    item: Trajectory | None  # whose completion it ends with; None: a prompt that others continue
    weight: float = 0.0
    parent: int = -1
    start: int = 0  # position of its first token


def micro_batch(items: Sequence[Trajectory], weights: Sequence[float], share_prompts: bool = False) -> MicroBatch:
    """Trajectories end to end; weights[n] is the weight of each completion token of the n-th.

    share_prompts: a prompt of several trajectories comes once, before their completions.
    """
    segments = _segments(items, weights, share_prompts)
    lengths = torch.tensor([len(segment.token_ids) for segment in segments])
    trained = torch.tensor([0 if one.item is None else len(one.item.completion_ids) for one in segments])
    sequence_ids = torch.repeat_interleave(torch.arange(len(segments)), lengths)
    offsets = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths)[sequence_ids]
    loss_mask = offsets >= (lengths - trained)[sequence_ids]
    logprobs = torch.zeros(len(offsets))
    logprobs[loss_mask] = torch.tensor([value for one in segments if one.item for value in one.item.rollout_logprobs])
    advantages = torch.tensor([one.item.advantage if one.item else 0.0 for one in segments], dtype=torch.float32)
    return MicroBatch(
        token_ids=torch.tensor([token for segment in segments for token in segment.token_ids]),
        positions=offsets + torch.tensor([segment.start for segment in segments])[sequence_ids],
        sequence_ids=sequence_ids,
        cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int(),
        parents=torch.tensor([segment.parent for segment in segments]),
        loss_mask=loss_mask,
        rollout_logprobs=logprobs,
        advantages=advantages[sequence_ids] * loss_mask,
        loss_weights=torch.tensor([segment.weight for segment in segments])[sequence_ids] * loss_mask,
    )


def _segments(items: Sequence[Trajectory], weights: Sequence[float], share_prompts: bool) -> list[_Segment]:
    users = Counter(tuple(item.prompt_ids) for item in items) if share_prompts else Counter()
    segments: list[_Segment] = []
    prompts: dict[tuple[int, ...], int] = {}  # prompt -> its segment
    for item, weight in zip(items, weights, strict=True):
        prompt = tuple(item.prompt_ids)
        if users[prompt] < 2:
            segments.append(_Segment([*item.prompt_ids, *item.completion_ids], item, weight))
            continue
        if prompt not in prompts:
            prompts[prompt] = len(segments)
            segments.append(_Segment(prompt, None))
        segments.append(_Segment(item.completion_ids, item, weight, prompts[prompt], len(prompt)))
    return segments


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


def by_prompt(items: Sequence[Trajectory], max_tokens: int) -> list[list[Trajectory]]:
    """Cuts so that each part, its prompts counted once, stays within max_tokens; trajectories of a prompt together.

    A trajectory longer than max_tokens gets a part of its own; a prompt is computed again in each part that it is in.
    """
    families: dict[tuple[int, ...], list[Trajectory]] = {}
    for item in items:
        families.setdefault(tuple(item.prompt_ids), []).append(item)
    parts: list[list[Trajectory]] = []
    size, last = 0, None
    for prompt, family in families.items():
        for item in family:
            added = len(item.completion_ids) + (len(prompt) if prompt != last else 0)
            if not parts or size + added > max_tokens:
                parts.append([])
                size, added = 0, item.length
            parts[-1].append(item)
            size, last = size + added, prompt
    return parts


def build_micro_batches(
    items: Sequence[Trajectory],
    normalization: Normalization,
    *,
    tokens_per_micro_batch: int,
    max_completion_tokens: int,
    gather: Gather,
    skip_without_advantage: bool = False,
    share_prompts: bool = False,
) -> list[MicroBatch]:
    """Collective: this rank's micro-batches, equally many on every rank (short ranks pad with empty ones).

    share_prompts is for a model with PolicyEngine.shares_prompts: each prompt is computed once for its group, and
    nothing is padded but the rows of attention.

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
            share_prompts,
        )
        for part in (by_prompt if share_prompts else by_token_budget)(used, tokens_per_micro_batch)
    ]
    wanted = max(1, *cast(list[int], gather(len(batches))))
    return batches + [empty_micro_batch() for _ in range(wanted - len(batches))]


def empty_micro_batch() -> MicroBatch:
    """Two tokens that weigh nothing: lets a rank without work take part in the collectives of a pass."""
    return micro_batch([Trajectory([0], [0], [0.0], 0.0)], [0.0])


def padding_fraction(padded_tokens: int, batches: Sequence[MicroBatch]) -> float:
    """Share of the passes' padded_tokens that is padding."""
    return 1 - sum(len(batch.token_ids) for batch in batches) / padded_tokens
