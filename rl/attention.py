"""Attention over packed segments, for the training pass: a prompt that a group shares is computed once.

    T  tokens of one micro-batch      n  segments of one bucket, padded to its longest, l tokens
    W  places of all buckets          P  tokens of the longest prompt that they continue, m of them
    A  query heads     K  key-value heads     D  head size, for values another one in DeepSeek-V3

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
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, PreTrainedModel

from rl.batch import MicroBatch

PACKED = "packed_segments"  # the name under which transformers' models find this attention
# Their layers mix tokens in attention only, and their attention is the one below. rl/rollout/decoder.py knows most.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "deepseek_v3", "gemma", "gemma2", "gemma3_text")
BUCKET_RATIO = 0.75  # of the longest segment in a bucket to the shortest


@dataclass(slots=True)
class Bucket:
    """Segments of similar length side by side: n rows of l places in a Layout."""

    start: int  # its first place
    size: int  # n
    length: int  # l
    parents: Tensor | None = None  # [n] int64, which of the Layout's prompts each row continues; None: it starts anew
    prompt_lengths: Tensor | None = None  # [n]
    prompt_length: int = 0  # P, the longest of these
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)  # by window

    def rows(self, x: Tensor) -> Tensor:
        """[W, heads, D], all places of the Layout -> [n, l, heads, D], a view."""
        return x[self.start : self.start + self.size * self.length].view(self.size, self.length, *x.shape[1:])

    def mask(self, window: int | None, device: torch.device) -> Tensor | None:
        """[n, 1, l, P + l] bool, or [1, 1, l, l], or None for plain causal attention."""
        if window not in self.masks:
            self.masks[window] = self._mask(window, device)
        return self.masks[window]

    def _mask(self, window: int | None, device: torch.device) -> Tensor | None:
        own = torch.arange(self.length, device=device)
        if self.prompt_lengths is None:
            return None if window is None or window >= self.length else seen(own[:, None], own, window)[None, None]
        position = self.prompt_lengths[:, None, None] + own[:, None]  # [n, l, 1]
        prompt = torch.arange(self.prompt_length, device=device)
        exists = (prompt < self.prompt_lengths[:, None])[:, None]
        parts = (exists & seen(position, prompt, window), seen(position, position.mT, window))
        return torch.cat(parts, dim=-1)[:, None]


def seen(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Whether the token at one position attends to that at another: not after it, nor `window` or more before."""
    causal = key <= query
    return causal if window is None else causal & (key > query - window)


@dataclass(frozen=True, slots=True)
class Layout:
    """Segments side by side, in buckets one behind the other: W places, of which each of the T tokens has one."""

    buckets: tuple[Bucket, ...]
    tokens: Tensor  # [W] int64, the token in each place; 0 in an empty one
    places: Tensor  # [T] int64, the place of each token
    empty: Tensor  # int64, the places behind the end of a segment
    prompts: Tensor | None = None  # [m, P] int64, the places of prompts that others continue; 0 behind their end

    def lay(self, x: Tensor) -> Tensor:
        """[T, heads, D] -> [W, heads, D]. What is in empty places is not looked at."""
        return _Lay.apply(x, self.tokens, self.places)

    def take_back(self, x: Tensor) -> Tensor:
        """[W, heads, D] -> [T, heads, D]."""
        return _TakeBack.apply(x, self.tokens, self.places, self.empty)

    def prompt_rows(self, x: Tensor) -> Tensor | None:
        """[W, heads, D] -> [m, P, heads, D]."""
        if self.prompts is None:
            return None
        return x.index_select(0, self.prompts.flatten()).view(*self.prompts.shape, *x.shape[1:])


class _Lay(torch.autograd.Function):
    """Its gradient is a choice of rows too, where autograd would add rows to zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return x.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (places,) = ctx.saved_tensors
        return grad.index_select(0, places), None, None


class _TakeBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tokens: Tensor, places: Tensor, empty: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, empty)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        tokens, empty = ctx.saved_tensors
        return grad.index_select(0, tokens).index_fill_(0, empty, 0), None, None, None


def layout(batch: MicroBatch) -> Layout:
    lengths, parents = batch.lengths, batch.parents.tolist()
    return side_by_side(lengths, _parts(lengths, parents), batch.token_ids.device, parents)


def side_by_side(
    lengths: Sequence[int], parts: Sequence[Sequence[int]], device: torch.device, parents: Sequence[int] = ()
) -> Layout:
    """Segments that lie end to end with these lengths, those of each part in a bucket.

    parents: the segment that each continues, -1 for none. All of a part continue one, or none does.
    """
    prompts = sorted({p for p in parents if p >= 0})
    buckets = []
    start = 0
    for part in parts:
        bucket = Bucket(start, len(part), max(lengths[s] for s in part))
        if prompts and parents[part[0]] >= 0:
            bucket.parents = torch.tensor([prompts.index(parents[s]) for s in part], device=device)
            bucket.prompt_lengths = torch.tensor([lengths[parents[s]] for s in part], device=device)
            bucket.prompt_length = max(lengths[parents[s]] for s in part)
        buckets.append(bucket)
        start += bucket.size * bucket.length
    tokens, places = _where(lengths, parts, buckets)
    empty = (tokens < 0).nonzero().squeeze(-1)
    first = [0, *accumulate(lengths)]
    rows = [places[first[p] : first[p + 1]] for p in prompts]
    return Layout(
        tuple(buckets), tokens.clamp(min=0).to(device), places.to(device), empty.to(device),
        pad_sequence(rows, batch_first=True).to(device) if rows else None,
    )  # fmt: skip


def _where(lengths: Sequence[int], parts: Sequence[Sequence[int]], buckets: Sequence[Bucket]) -> tuple[Tensor, Tensor]:
    """The token in each place [W], -1 in an empty one, and the place of each token [T]."""
    first = [0, *accumulate(lengths)]
    tokens = []
    places = torch.empty(first[-1], dtype=torch.int64)
    for part, bucket in zip(parts, buckets, strict=True):
        for row, segment in enumerate(part):
            own = torch.arange(lengths[segment])
            places[first[segment] : first[segment + 1]] = own + bucket.start + row * bucket.length
            tokens.append(F.pad(own + first[segment], (0, bucket.length - len(own)), value=-1))
    return torch.cat(tokens), places


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


@torch.compiler.disable  # its shapes are of each micro-batch anew
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
    on_cpu = query.device.type == "cpu"  # where the kernel's backward pass in bfloat16 takes four times as long
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    q, k, v = (layout.lay(x.float() if on_cpu else x) for x in (q, k, v))
    prompts = layout.prompt_rows(k), layout.prompt_rows(v)
    mixed = [_attend_bucket(bucket, q, k, v, prompts, scaling, sliding_window, softcap) for bucket in layout.buckets]
    return layout.take_back(torch.cat(mixed)).to(value.dtype).unsqueeze(0), None


def _attend_bucket(
    bucket: Bucket,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prompts: tuple[Tensor | None, Tensor | None],
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """[n * l, A, D], from the queries, keys and values of all places, and the keys and values of prompts."""
    rows = [bucket.rows(x) for x in (q, k, v)]
    if bucket.parents is not None:
        for i, prompt in enumerate(prompts, start=1):
            assert prompt is not None
            theirs = prompt[:, : bucket.prompt_length].index_select(0, bucket.parents)
            rows[i] = torch.cat((theirs, rows[i]), dim=1)
    queries, keys, values = (x.transpose(1, 2) for x in rows)
    mixed = attention(queries, keys, values, bucket.mask(window, q.device), scale, softcap)
    return mixed.transpose(1, 2).flatten(0, 1)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """[n, A, l, D] of queries [n, A, l, D] and keys and values [n, K, L, D]; mask [n or 1, 1, l, L] or None: causal."""
    with torch.autocast("cpu", enabled=False):  # which would take float32 for bfloat16; on a GPU it does so still
        if softcap is not None:
            return _capped(q, k, v, mask, scale, softcap)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
        )  # fmt: skip


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = soft_cap(q @ k.mT, scale, softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    return torch.softmax(scores.float().masked_fill(~mask, -torch.inf), dim=-1).to(v.dtype) @ v


def soft_cap(products: Tensor, scale: float, softcap: float) -> Tensor:
    """Gemma 2's scores from products of queries and keys: softcap * tanh(scale * products / softcap).

    arXiv:2408.00118, section 2.
    """
    return softcap * torch.tanh(products * (scale / softcap))


def can_share_prompts(model: PreTrainedModel) -> bool:
    """Whether the model's own attention is one that this file stands for, and the recipe asks for no other."""
    return model.config.model_type in FAMILIES and not getattr(model, "attention_is_chosen", False)


def share_prompts(model: PreTrainedModel) -> None:
    """From now on the model's layers attend by a Layout."""
    AttentionInterface.register(PACKED, attend)
    model.set_attn_implementation(PACKED)
