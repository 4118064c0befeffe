"""Attention over packed segments, for the training pass: a prompt that a group shares is computed once.

    T  tokens of one micro-batch      n  segments of one bucket, padded to its longest, l tokens
    A  query heads     K  key-value heads     D  head size     P  tokens of the longest prompt that they continue

Everything else of a transformer looks at one token at a time and runs on the T tokens as they are, end to end, without
padding. Only here are segments laid side by side, in buckets of similar length: those that start a trajectory attend to
themselves, those that continue one to its prompt too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from rl.batch import MicroBatch

PACKED = "packed_segments"  # the name under which transformers' models find this attention
# Their layers mix tokens in attention only, and their attention is the one below. rl/rollout/decoder.py knows the same.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text")
BUCKET_RATIO = 0.75  # of the longest segment in a bucket to the shortest


@dataclass(slots=True)
class Bucket:
    """Segments side by side."""

    length: int  # l
    tokens: Tensor  # [t] int64, which of the T tokens its segments hold, one after the other
    places: Tensor  # [t] int64, where each lies in the flattened [n, l]
    size: int  # n
    parents: Tensor | None = None  # [n] int64, places of their prompts among those below; None: they start trajectories
    prompt: Bucket | None = None  # the prompts that they continue
    prompt_lengths: Tensor | None = None  # [n]
    masks: dict[Any, Tensor | None] = field(default_factory=dict)  # by window

    def laid_out(self, x: Tensor) -> Tensor:
        """[T, heads, D] -> [n, heads, l, D], zeros behind the end of a segment."""
        rows = x.new_zeros((self.size * self.length, *x.shape[1:])).index_copy(0, self.places, x[self.tokens])
        return rows.view(self.size, self.length, *x.shape[1:]).transpose(1, 2)

    def taken_back(self, x: Tensor) -> Tensor:
        """[n, heads, l, D] -> [t, heads, D], the tokens of its segments one after the other."""
        return x.transpose(1, 2).flatten(0, 1).index_select(0, self.places)

    def mask(self, window: int | None) -> Tensor | None:
        """[n, 1, l, P + l] bool, or [1, 1, l, l], or None for plain causal attention."""
        if window not in self.masks:
            self.masks[window] = self._mask(window)
        return self.masks[window]

    def _mask(self, window: int | None) -> Tensor | None:
        own = torch.arange(self.length, device=self.tokens.device)
        if self.prompt is None or self.prompt_lengths is None:
            return None if window is None or window >= self.length else seen(own[:, None], own, window)[None, None]
        position = self.prompt_lengths[:, None, None] + own[:, None]  # [n, l, 1]
        prompt = torch.arange(self.prompt.length, device=own.device)
        exists = (prompt < self.prompt_lengths[:, None])[:, None]
        parts = (exists & seen(position, prompt, window), seen(position, position.mT, window))
        return torch.cat(parts, dim=-1)[:, None]


def seen(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Whether the token at one position attends to that at another: not after it, nor `window` or more before."""
    causal = key <= query
    return causal if window is None else causal & (key > query - window)


def side_by_side(lengths: Sequence[int], segments: Sequence[int], device: torch.device) -> Bucket:
    """A bucket of some of the segments that lie end to end with these lengths."""
    ends = list(accumulate(lengths))
    longest = max(lengths[s] for s in segments)
    tokens = torch.cat([torch.arange(ends[s] - lengths[s], ends[s]) for s in segments])
    places = torch.cat([torch.arange(lengths[s]) + i * longest for i, s in enumerate(segments)])
    return Bucket(longest, tokens.to(device), places.to(device), len(segments))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the segments of a micro-batch are laid side by side."""

    buckets: tuple[Bucket, ...]
    order: Tensor  # [T] int64, where each token is among those of all buckets, one bucket after the other


def layout(batch: MicroBatch) -> Layout:
    lengths, parents, device = batch.lengths, batch.parents.tolist(), batch.token_ids.device
    buckets = []
    for part in _parts(lengths, parents):
        bucket = side_by_side(lengths, part, device)
        if parents[part[0]] >= 0:
            prompts = sorted({parents[s] for s in part})
            bucket.prompt = side_by_side(lengths, prompts, device)
            bucket.parents = torch.tensor([prompts.index(parents[s]) for s in part], device=device)
            bucket.prompt_lengths = torch.tensor([lengths[parents[s]] for s in part], device=device)
        buckets.append(bucket)
    return Layout(tuple(buckets), torch.cat([bucket.tokens for bucket in buckets]).argsort())


def padded_tokens(batch: MicroBatch) -> int:
    """Places of all buckets together."""
    lengths = batch.lengths
    return sum(len(part) * max(lengths[s] for s in part) for part in _parts(lengths, batch.parents.tolist()))


def _parts(lengths: Sequence[int], parents: Sequence[int]) -> list[list[int]]:
    """Segments of a kind and of similar length, so that laying them side by side pads little."""
    parts: list[list[int]] = []
    for continues in (False, True):
        alike: list[list[int]] = []
        for segment in sorted((s for s, p in enumerate(parents) if (p >= 0) == continues), key=lambda s: -lengths[s]):
            if not alike or lengths[segment] < BUCKET_RATIO * lengths[alike[-1][0]]:
                alike.append([])
            alike[-1].append(segment)
        parts += alike
    return parts


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers' layers call. query [1, A, T, D], key and value [1, K, T, D] -> [1, T, A, D]."""
    if layout is None:
        raise RuntimeError("this model is the policy of a PolicyEngine: call rl.policy.token_logprobs, not the model")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    mixed = [_attend_bucket(bucket, q, k, v, scaling, sliding_window, softcap) for bucket in layout.buckets]
    return torch.cat(mixed)[layout.order].unsqueeze(0), None


def _attend_bucket(
    bucket: Bucket, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """[t, A, D], the tokens of the bucket one after the other."""
    queries, keys, values = (bucket.laid_out(x) for x in (q, k, v))
    if bucket.prompt is not None and bucket.parents is not None:
        keys, values = (
            torch.cat((bucket.prompt.laid_out(x).index_select(0, bucket.parents), own), dim=2)
            for x, own in ((k, keys), (v, values))
        )
    return bucket.taken_back(attention(queries, keys, values, bucket.mask(window), scale, softcap))


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """[n, A, l, D] of queries [n, A, l, D] and keys and values [n, K, L, D]; mask [n or 1, 1, l, L] or None: causal."""
    if softcap is not None:
        return _capped(q, k, v, mask, scale, softcap)
    if q.device.type == "cpu":  # where the kernel's backward pass in bfloat16 takes four times that in float32
        with torch.autocast("cpu", enabled=False):
            return _plain(q.float(), k.float(), v.float(), mask, scale).to(v.dtype)
    return _plain(q, k, v, mask, scale)


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )  # fmt: skip


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """Gemma 2: scores = softcap * tanh(scores / softcap), arXiv:2408.00118, section 2."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = softcap * torch.tanh((q @ k.mT) * (scale / softcap))
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    return torch.softmax(scores.float().masked_fill(~mask, -torch.inf), dim=-1).to(v.dtype) @ v


def can_share_prompts(model: PreTrainedModel) -> bool:
    """Whether the model's own attention is one that this file stands for, and the recipe asks for no other."""
    return model.config.model_type in FAMILIES and not getattr(model, "attention_is_chosen", False)


def share_prompts(model: PreTrainedModel) -> None:
    """From now on the model's layers attend by a Layout."""
    AttentionInterface.register(PACKED, attend)
    model.set_attn_implementation(PACKED)
