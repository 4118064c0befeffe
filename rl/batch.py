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

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from rl.algorithms import Normalization, TokenPass
from rl.metrics import Gather
from rl.moe import OWN_CHOICE


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One completion to train on, with its prompt."""

    prompt_ids: Sequence[int]  # [P]
    completion_ids: Sequence[int]  # [C]
    rollout_logprobs: Sequence[float]  # [C], nats
    advantages: Tensor  # [C] float64
    scores: TokenPass | None = None  # of a pass before the first update, where there is one
    selected: Tensor | None = None  # [C] bool, see LossInputs
    experts: Tensor | None = None  # [P + C, L, K] int16, what the routers are to choose, see rl/routers.py

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def teaches(self) -> bool:
        """Whether any of its tokens has an advantage."""
        return bool(self.advantages.any())


def trajectory(
    prompt_ids: Sequence[int], completion_ids: Sequence[int], rollout_logprobs: Sequence[float], advantage: float
) -> Trajectory:
    """One whose tokens all have the same advantage."""
    advantages = torch.full((len(completion_ids),), advantage, dtype=torch.float64)
    return Trajectory(prompt_ids, completion_ids, rollout_logprobs, advantages)


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
    old_logprobs: Tensor | None = None  # float32, nats; 0 on prompts. None: those of the pass itself
    ref_logprobs: Tensor | None = None  # the same of the reference; None: not known yet
    selected: Tensor | None = None  # bool, see LossInputs
    experts: Tensor | None = None  # [T, L, K] int16, what the routers are to choose; None: as they like

    def to(self, device: torch.device | str) -> MicroBatch:
        columns: dict[str, Tensor | None] = {name: getattr(self, name) for name in self.__slots__}
        moved: dict[str, Any] = {
            name: column if column is None else column.to(device) for name, column in columns.items()
        }
        return MicroBatch(**moved)

    def per_trajectory(self, values: Tensor) -> list[Tensor]:
        """[T] of its tokens -> [C] of each of its trajectories, in the order in which it was given them."""
        ids = self.sequence_ids[self.loss_mask]
        sizes = ids.unique_consecutive(return_counts=True)[1]
        return list(values[self.loss_mask].split(sizes.tolist()))

    def whole_trajectories(self, values: Tensor) -> list[Tensor]:
        """[T, ...] of its tokens -> [P + C, ...] of each of its trajectories, in the order in which it was given them.
        A shared prompt's are repeated."""
        segments, parents = values.split(self.lengths), self.parents.tolist()
        ends = [segment for segment in range(len(segments)) if segment not in parents]
        return [torch.cat([segments[p] for p in (parents[end], end) if p >= 0]) for end in ends]

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
    experts: Tensor | None = None  # of its tokens, see Trajectory


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
    own = [one.item for one in segments if one.item is not None]

    def column(parts: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor | None:
        """[T] from [C] of each trajectory; None where any has none."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        values = torch.zeros(len(offsets), dtype=dtype)
        values[loss_mask] = torch.cat(known).to(dtype)
        return values

    advantages = column([item.advantages for item in own], torch.float32)
    assert advantages is not None
    scores = [item.scores for item in own]
    return MicroBatch(
        token_ids=torch.tensor([token for segment in segments for token in segment.token_ids]),
        positions=offsets + torch.tensor([segment.start for segment in segments])[sequence_ids],
        sequence_ids=sequence_ids,
        cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int(),
        parents=torch.tensor([segment.parent for segment in segments]),
        loss_mask=loss_mask,
        rollout_logprobs=logprobs,
        advantages=advantages,
        loss_weights=torch.tensor([segment.weight for segment in segments])[sequence_ids] * loss_mask,
        old_logprobs=column([one.old_logprobs if one else None for one in scores], torch.float32),
        ref_logprobs=column([one.ref_logprobs if one else None for one in scores], torch.float32),
        selected=column([item.selected for item in own], torch.bool),
        experts=_experts(segments),
    )


def _experts(segments: Sequence[_Segment]) -> Tensor | None:
    """[T, L, K]: the routers choose for themselves in segments that do not say; None where none does."""
    known = [segment.experts for segment in segments if segment.experts is not None]
    if not known:
        return None
    return torch.cat(
        [
            known[0].new_full((len(one.token_ids), *known[0].shape[1:]), OWN_CHOICE) if one.experts is None
            else one.experts for one in segments
        ]
    )  # fmt: skip


def _segments(items: Sequence[Trajectory], weights: Sequence[float], share_prompts: bool) -> list[_Segment]:
    users = Counter(tuple(item.prompt_ids) for item in items) if share_prompts else Counter()
    segments: list[_Segment] = []
    prompts: dict[tuple[int, ...], int] = {}  # prompt -> its segment
    for item, weight in zip(items, weights, strict=True):
        prompt = tuple(item.prompt_ids)
        if users[prompt] < 2:
            tokens = [*item.prompt_ids, *item.completion_ids]
            segments.append(_Segment(tokens, item, weight, experts=item.experts))
            continue
        of_prompt, of_completion = None, None
        if item.experts is not None:
            of_prompt, of_completion = item.experts[: len(prompt)], item.experts[len(prompt) :]
        if prompt not in prompts:
            prompts[prompt] = len(segments)
            segments.append(_Segment(prompt, None, experts=of_prompt))
        segments.append(
            _Segment(item.completion_ids, item, weight, prompts[prompt], len(prompt), experts=of_completion)
        )
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


def packed(
    items: Sequence[Trajectory], tokens_per_micro_batch: int, share_prompts: bool, gather: Gather
) -> list[list[Trajectory]]:
    """Collective: the trajectories of each micro-batch, equally many micro-batches on every rank: short ranks pad with
    two tokens that weigh nothing."""
    parts = (by_prompt if share_prompts else by_token_budget)(items, tokens_per_micro_batch)
    wanted = max(1, *cast(list[int], gather(len(parts))))
    return parts + [[nothing()] for _ in range(wanted - len(parts))]


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
    used = {id(item) for item in items if item.teaches or not skip_without_advantage}

    def weight(item: Trajectory) -> float:
        if id(item) not in used:  # padding
            return 0.0
        return token_weight(len(item.completion_ids), totals, normalization, max_completion_tokens)

    parts = packed([item for item in items if id(item) in used], tokens_per_micro_batch, share_prompts, gather)
    return [micro_batch(part, [weight(item) for item in part], share_prompts) for part in parts]


def nothing() -> Trajectory:
    """Two tokens, to be given no weight: lets a rank without work take part in the collectives of a pass."""
    zero = torch.zeros(1)
    return Trajectory([0], [0], [0.0], zero, TokenPass(zero, zero, zero, zero), zero.bool())


def empty_micro_batch() -> MicroBatch:
    return micro_batch([nothing()], [0.0])


def padding_fraction(padded_tokens: int, batches: Sequence[MicroBatch]) -> float:
    """Share of the passes' padded_tokens that is padding."""
    return 1 - sum(len(batch.token_ids) for batch in batches) / padded_tokens
