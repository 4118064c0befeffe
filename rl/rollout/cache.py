"""Keys and values while the native engine samples, and attention over them.

    R  rows that there is room for         B  rows sampling now, in the first B places
    S  prompts that there is room for      N  prompts in it now, in the first N places; M rows of the largest group
    P  tokens of the longest prompt        L  tokens of the longest completion
    A  query heads     K  key-value heads     Q = A / K     D  head size     T  tokens of one pass

A prompt is kept once. Its rows read it there, all rows of a group at a time, or, if it is short, each in a copy of its
own, which takes a third of the operations. A row's own tokens lie in a ring: every row writes its new token at the same
column, whenever it began, and sees as many columns back as it has tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rl.attention import attention, seen, side_by_side, soft_cap
from rl.rollout.decoder import Decoder, Layer

COPIED_PROMPT = 32  # tokens, up to which each row has a copy of its prompt


class Cache:
    """Keys and values: of prompts [2, layers, S, K, P, D], and of rows [2, layers, R, K, P + L, D].

    Rows have no room for prompts, L instead of P + L, where these are longer than COPIED_PROMPT.
    """

    def __init__(self, decoder: Decoder, rows: int, prompts: int, prompt_tokens: int, row_tokens: int) -> None:
        layers, layer = len(decoder.layers), decoder.layers[0]
        self.num_rows, self.num_prompts, self.ring = rows, prompts, row_tokens
        self.copied = copied_tokens(prompt_tokens)

        def zeros(places: int, tokens: int) -> Tensor:
            shape = (2, layers, places, layer.kv_heads, tokens, layer.head_size)
            # Zeros: what nobody wrote is read too, with weight 0, which does not hide a NaN.
            return torch.zeros(shape, dtype=decoder.kv_dtype, device=decoder.device)

        self.prompts, self.rows = zeros(prompts, prompt_tokens), zeros(rows, self.copied + row_tokens)

    def seat(self, prompt_places: Sequence[int], first: int) -> None:
        """New rows in the places from `first` on, each with its prompt."""
        if self.copied and prompt_places:
            places = torch.tensor(prompt_places, device=self.rows.device)
            self.rows[:, :, first : first + len(places), :, : self.copied] = self.prompts.index_select(2, places)

    def move_prompt(self, source: int, target: int) -> None:
        self.prompts[:, :, target] = self.prompts[:, :, source]

    def move_row(self, source: int, target: int, step: int) -> None:
        """Before the ring first turns over, nothing was written behind the column of `step`."""
        end = self.copied + min(step + 1, self.ring)
        self.rows[:, :, target, :, :end] = self.rows[:, :, source, :, :end]


def copied_tokens(prompt_tokens: int) -> int:
    """Places that each row needs for its prompt."""
    return prompt_tokens if prompt_tokens <= COPIED_PROMPT else 0


class PromptAttention:
    """Causal attention inside each of several prompts; keys and values go into the cache, from place `first` on."""

    def __init__(self, cache: Cache, first: int, lengths: Sequence[int], device: torch.device) -> None:
        self.cache, self.first = cache, first
        self.layout = side_by_side(lengths, [range(len(lengths))], device)
        (self.bucket,) = self.layout.buckets

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # What is behind a prompt's end no token of it sees.
        q, k, v = (self._laid(part).to(self.cache.prompts.dtype) for part in (q, k, v))
        for cached, new in zip(self.cache.prompts[:, layer.index], (k, v), strict=True):
            cached[self.first : self.first + self.bucket.size, :, : self.bucket.length] = new
        mixed = attention(q, k, v, self.bucket.mask(layer.window, q.device), layer.scale, layer.softcap)
        return self.layout.take_back(mixed.transpose(1, 2).flatten(0, 1)).flatten(1)

    def _laid(self, x: Tensor) -> Tensor:
        """[T, heads, D] -> [n, heads, l, D]."""
        return self.bucket.rows(self.layout.lay(x)).transpose(1, 2)


class RowAttention:
    """Each row's one new token attends to what lies in its row: a copy of its prompt, and its own tokens."""

    def __init__(self, cache: Cache, step: int, own: Tensor, prompt_lengths: Tensor) -> None:
        """[B]: tokens of each row, the new one included, and of its prompt. `step` counts the columns written."""
        self.own, self.prompt_lengths, self.copied = own, prompt_lengths, cache.copied
        column = step % cache.ring
        turned = int(own.max()) > column + 1  # some row sees around the end of the ring
        end = cache.copied + (cache.ring if turned else column + 1)
        begin = 0 if turned or cache.copied else end - int(own.max())
        rows = cache.rows[:, :, : len(own)]
        layers, size = rows.shape[1], rows.shape[-1]
        self.new = rows[..., cache.copied + column, :].unbind(1)
        self.all = rows[..., begin:end, :].view(2, layers, -1, end - begin, size).unbind(1)
        columns = torch.arange(begin, end, device=own.device) - cache.copied
        self.age = torch.where(columns < 0, columns, (column - columns) % cache.ring)  # [n]; below 0: of the prompt
        self.masks: dict[int | None, Tensor] = {}

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._write(layer, k, v)
        grouped = q.to(keys.dtype).reshape(len(keys), -1, layer.head_size)
        weights = self._weights(layer, grouped, keys)
        return torch.bmm(weights, values).view(len(q), -1)

    def _write(self, layer: Layer, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Puts the new keys and values [B, K, D] in their place and gives those of all rows [B * K, n, D]."""
        for cached, new in zip(self.new[layer.index], (k, v), strict=True):
            cached.copy_(new)
        keys, values = self.all[layer.index]
        return keys, values

    def _weights(self, layer: Layer, q: Tensor, keys: Tensor) -> Tensor:
        """[B * K, Q, n]."""
        if layer.softcap is None:  # the same in one operation less
            return torch.softmax(torch.baddbmm(self._mask_of(layer), q, keys.mT, alpha=layer.scale), dim=-1)
        return self._softmax(layer, torch.bmm(q, keys.mT))

    def _softmax(self, layer: Layer, products: Tensor) -> Tensor:
        """[B * K, Q, n] of products of queries and keys."""
        mask = self._mask_of(layer)
        if layer.softcap is None:
            return torch.softmax(torch.add(mask, products, alpha=layer.scale), dim=-1)
        return torch.softmax(mask + soft_cap(products, layer.scale, layer.softcap), dim=-1)

    def _mask_of(self, layer: Layer) -> Tensor:
        """[B * K, 1, n]: 0 where a row's token sees, -inf elsewhere."""
        if layer.window not in self.masks:
            self.masks[layer.window] = _mask(self._sees(layer.window)).repeat_interleave(layer.kv_heads, 0)[:, None]
        return self.masks[layer.window]

    def _sees(self, window: int | None) -> Tensor:
        """[B, n] bool."""
        own, prompt_lengths = self.own[:, None], self.prompt_lengths[:, None]
        sees = (self.age >= 0) & (self.age < (own if window is None else own.clamp(max=window)))
        if not self.copied:
            return sees
        prompt = self.age + self.copied  # a prompt's token lies at its position
        return sees | (self.age < 0) & (prompt < prompt_lengths) & seen(prompt_lengths + own - 1, prompt, window)


class SharedPromptAttention(RowAttention):
    """Each row's one new token attends to its prompt, with the rows of the same prompt, and to its own tokens."""

    def __init__(
        self, cache: Cache, step: int, own: Tensor, prompt_lengths: Tensor, prompt_places: Sequence[int]
    ) -> None:
        """prompt_places [B]: where each row's prompt lies."""
        super().__init__(cache, step, own, prompt_lengths)
        device = own.device
        members: list[list[int]] = [[] for _ in range(max(prompt_places) + 1)]
        for row, place in enumerate(prompt_places):
            members[place].append(row)
        largest = max(map(len, members))
        # [N, M], filled up with row 0, whose result is then not looked at; and where in there each row is.
        self.members = torch.tensor([rows + [0] * (largest - len(rows)) for rows in members], device=device)
        place_in_group = {row: j for rows in members for j, row in enumerate(rows)}
        self.where = (
            torch.tensor(prompt_places, device=device),
            torch.tensor([place_in_group[row] for row in range(len(prompt_places))], device=device),
        )
        self.num_prompt = int(prompt_lengths.max())
        self.prompts = cache.prompts[:, :, : len(members), :, : self.num_prompt]  # [2, layers, N, K, P, D]

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._write(layer, k, v)
        prompt_keys, prompt_values = self.prompts[:, layer.index]
        grouped = q.to(keys.dtype).reshape(len(keys), -1, layer.head_size)
        of_prompt = self._apart(self._together(grouped, layer) @ prompt_keys.mT)
        weights = self._softmax(layer, torch.cat((of_prompt, torch.bmm(grouped, keys.mT)), dim=-1))
        of_prompt, of_own = weights.split((self.num_prompt, keys.shape[1]), dim=-1)
        mixed = self._apart(self._together(of_prompt, layer) @ prompt_values) + torch.bmm(of_own, values)
        return mixed.view(len(q), -1)

    def _sees(self, window: int | None) -> Tensor:
        """[B, P + n]."""
        prompt = torch.arange(self.num_prompt, device=self.own.device)
        lengths = self.prompt_lengths[:, None]
        sees = (prompt < lengths) & seen(lengths + self.own[:, None] - 1, prompt, window)
        return torch.cat((sees, super()._sees(window)), dim=-1)

    def _together(self, x: Tensor, layer: Layer) -> Tensor:
        """[B * K, Q, X] -> [N, K, M * Q, X]: the rows of a prompt side by side."""
        groups, size = self.members.shape
        rows = x.view(-1, layer.kv_heads, *x.shape[1:])
        together = rows[self.members.flatten()].view(groups, size, *rows.shape[1:]).transpose(1, 2)
        return together.reshape(groups, layer.kv_heads, -1, x.shape[-1])

    def _apart(self, x: Tensor) -> Tensor:
        """[N, K, M * Q, X] -> [B * K, Q, X]: back again."""
        groups, size = self.members.shape
        rows = x.view(groups, x.shape[1], size, -1, x.shape[-1]).transpose(1, 2)[self.where]
        return rows.flatten(0, 1)


def _mask(allowed: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, -torch.inf)
