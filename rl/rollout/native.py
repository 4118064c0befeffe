"""Our own rollout engine, for small models on a CPU or on one GPU without vLLM.

    R  rows that the cache has room for     B  rows sampling now, in the first B places
    S  prompts that it has room for         N  prompts in it now, in the first N places; M rows of the largest group
    P  tokens of the longest prompt         L  tokens of the longest row
    A  query heads     K  key-value heads     Q = A / K     D  head size     T  tokens of one pass

Each distinct prompt is computed once, and its keys and values are kept once for all rows of its group. A row that ends
leaves at once: the last row takes its place in the cache, and a waiting one comes in.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rl.attention import attention, seen, side_by_side
from rl.experience import Completion, FinishReason, Group, Prompt, SamplingParams
from rl.rollout import Finished
from rl.rollout.decoder import Decoder, Layer
from rl.rollout.policy_copy import PolicyCopy
from rl.rollout.sampling import draw, row_uniforms

PREFILL_TOKENS = 4096  # of one pass over prompts


class NativeRollout(PolicyCopy):
    """Batched sampling with a cache of fixed size, prompts shared by their groups, rows refilled as they end."""

    def __init__(
        self,
        model_path: str,
        tokenizer: PreTrainedTokenizerBase,
        dtype: str,
        device: torch.device,
        *,
        max_rows: int = 256,
        kv_memory_gb: float = 4.0,
    ) -> None:
        """At most max_rows completions at a time, fewer where their keys and values would need more than kv_memory_gb.

        ValueError for a model of another family than rl/rollout/decoder.py knows.
        """
        if max_rows < 1:
            raise ValueError(f"rollout.max_rows must be at least 1, got {max_rows}")
        if not kv_memory_gb > 0:
            raise ValueError(f"rollout.kv_memory_gb must be above 0, got {kv_memory_gb}")
        super().__init__(model_path, tokenizer, dtype, device, offload=False)
        self.max_rows, self.kv_memory_gb = max_rows, kv_memory_gb
        self.decoder = Decoder(self.model)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        super().load_weights(weights, policy_step)
        self.decoder.refresh()

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None = None
    ) -> list[Group]:
        """`finished` is called with each completion as it ends."""
        done: dict[tuple[int, int], Completion] = {}

        def finish(row: _Row) -> None:
            assert row.finish_reason is not None
            completion = self.completion(row.token_ids, row.logprobs, row.finish_reason)
            done[row.prompt, row.place] = completion
            if finished is not None:
                finished(row.prompt, row.place, completion)

        if prompts:
            cache = Cache(self.decoder, *self._room(prompts, params))
            _Session(self, cache, prompts, params, seed, finish).run()
        places = range(params.completions)
        return [Group(prompt, tuple(done[i, j] for j in places)) for i, prompt in enumerate(prompts)]

    def _room(self, prompts: Sequence[Prompt], params: SamplingParams) -> tuple[int, int, int, int]:
        """R, S, P and L of the cache: as many rows as fit. ValueError where not even one does."""
        longest = max(len(prompt.token_ids) for prompt in prompts)
        budget = int(self.kv_memory_gb * 2**30 / self.decoder.kv_bytes_per_token)

        def needed(rows: int) -> int:
            return rows * params.max_tokens + _num_prompts(rows, params.completions, len(prompts)) * longest

        rows = min(self.max_rows, len(prompts) * params.completions)
        while rows > 1 and needed(rows) > budget:
            rows -= 1
        if needed(rows) > budget:
            raise ValueError(
                f"rollout.kv_memory_gb={self.kv_memory_gb} holds the keys and values of {budget} tokens; the longest "
                f"prompt of {longest} and sampling.max_tokens={params.max_tokens} need {needed(1)}: raise "
                f"rollout.kv_memory_gb to {1.01 * needed(1) * self.decoder.kv_bytes_per_token / 2**30:.2g}"
            )
        return rows, _num_prompts(rows, params.completions, len(prompts)), longest, params.max_tokens


def _num_prompts(rows: int, completions: int, prompts: int) -> int:
    """Prompts to keep for that many rows: stragglers of earlier groups hold on to theirs."""
    return min(prompts, rows, 2 * -(-rows // completions))


class Cache:
    """Keys and values [2, layers, places, K, tokens, D] of prompts and of rows."""

    def __init__(self, decoder: Decoder, rows: int, prompts: int, prompt_tokens: int, row_tokens: int) -> None:
        layers, layer = len(decoder.layers), decoder.layers[0]
        self.num_rows, self.num_prompts = rows, prompts

        def zeros(places: int, tokens: int) -> Tensor:
            shape = (2, layers, places, layer.kv_heads, tokens, layer.head_size)
            # Zeros: what nobody wrote is read too, with weight 0, which does not hide a NaN.
            return torch.zeros(shape, dtype=decoder.kv_dtype, device=decoder.device)

        self.prompts, self.rows = zeros(prompts, prompt_tokens), zeros(rows, row_tokens)

    def move_prompt(self, source: int, target: int) -> None:
        self.prompts[:, :, target] = self.prompts[:, :, source]

    def move_row(self, source: int, target: int, tokens: int) -> None:
        self.rows[:, :, target, :, :tokens] = self.rows[:, :, source, :, :tokens]


@dataclass(slots=True)
class _Row:
    """A completion in the making. All but its last token are in the cache."""

    prompt: int
    place: int  # in its group
    uniforms: np.ndarray  # [max_tokens]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None


class _Session:
    """One call of generate: which rows wait, which sample, and where their keys and values lie."""

    def __init__(
        self,
        engine: NativeRollout,
        cache: Cache,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        seed: int,
        finish: Callable[[_Row], None],
    ) -> None:
        self.engine, self.decoder, self.cache = engine, engine.decoder, cache
        self.prompts, self.params, self.finish = prompts, params, finish
        self.waiting = deque(
            _Row(i, j, row_uniforms(seed, prompt.index, j, params.max_tokens))
            for i, prompt in enumerate(prompts)
            for j in range(params.completions)
        )
        self.rows: list[_Row] = []  # the row in each place
        self.cached: list[int] = []  # the prompt in each place
        self.unfinished = Counter(row.prompt for row in self.waiting)  # rows of each prompt
        self.first_logits: dict[int, Tensor] = {}  # [V] after each prompt that rows still wait for

    def run(self) -> None:
        while self.rows or self.waiting:
            self._admit()
            if self.rows:
                self._step()

    # ------------------------------------------------------------------ rows in and out

    def _admit(self) -> None:
        """Rows wait in the order of their prompts. They draw their first token from the logits after the prompt."""
        while True:
            new: list[_Row] = []
            fresh: list[int] = []
            while self.waiting and len(self.rows) + len(new) < self.cache.num_rows:
                prompt = self.waiting[0].prompt
                if prompt not in self.first_logits and prompt not in fresh:
                    if len(self.cached) + len(fresh) == self.cache.num_prompts:
                        break
                    fresh.append(prompt)
                new.append(self.waiting.popleft())
            if not new:
                return
            self._prefill(fresh)
            logits = torch.stack([self.first_logits[row.prompt] for row in new])
            self.rows += self._append(new, logits)
            waited_for = {row.prompt for row in self.waiting}
            self.first_logits = {p: logits for p, logits in self.first_logits.items() if p in waited_for}

    def _append(self, rows: Sequence[_Row], logits: Tensor) -> list[_Row]:
        """Draws each row's next token; gives the rows that go on."""
        uniforms = torch.tensor([row.uniforms[len(row.token_ids)] for row in rows], device=logits.device)
        tokens, logprobs = draw(logits, uniforms, self.params)
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.finish_reason = self.engine.finish_reason(row.token_ids, self.params.max_tokens, self.params.stop)
            if row.finish_reason is not None:
                self._leave(row)
        return [row for row in rows if row.finish_reason is None]

    def _leave(self, row: _Row) -> None:
        self.finish(row)
        self.unfinished[row.prompt] -= 1
        if not self.unfinished[row.prompt]:
            place, last = self.cached.index(row.prompt), self.cached.pop()
            if last != row.prompt:
                self.cache.move_prompt(len(self.cached), place)
                self.cached[place] = last

    def _close_ranks(self) -> None:
        """Rows that still sample move into the places of those that ended."""
        for place in reversed(range(len(self.rows))):
            if self.rows[place].finish_reason is not None:
                last = self.rows.pop()
                if place < len(self.rows):
                    self.cache.move_row(len(self.rows), place, len(last.token_ids) - 1)
                    self.rows[place] = last

    # ------------------------------------------------------------------ passes

    def _prefill(self, prompts: Sequence[int]) -> None:
        """Computes prompts, a few at a time, into the cache."""
        part: list[int] = []
        for prompt in prompts:
            if part and sum(len(self.prompts[p].token_ids) for p in (*part, prompt)) > PREFILL_TOKENS:
                self._prefill_part(part)
                part = []
            part.append(prompt)
        if part:
            self._prefill_part(part)

    def _prefill_part(self, prompts: Sequence[int]) -> None:
        device = self.decoder.device
        ids = [self.prompts[prompt].token_ids for prompt in prompts]
        lengths = [len(own) for own in ids]
        attend = _PromptAttention(self.cache, len(self.cached), lengths, device)
        tokens = torch.tensor([token for own in ids for token in own], device=device)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        hidden = self.decoder.forward(tokens, positions, attend)
        logits = self.decoder.logits(hidden[torch.tensor(lengths, device=device).cumsum(0) - 1])
        self.cached += prompts
        self.first_logits |= dict(zip(prompts, logits, strict=True))

    def _step(self) -> None:
        """One more token for every row."""
        device = self.decoder.device
        tokens = torch.tensor([row.token_ids[-1] for row in self.rows], device=device)
        done = torch.tensor([len(row.token_ids) - 1 for row in self.rows], device=device)
        prompt_lengths = torch.tensor([len(self.prompts[row.prompt].token_ids) for row in self.rows], device=device)
        where = {prompt: place for place, prompt in enumerate(self.cached)}
        attend = RowAttention(self.cache, [where[row.prompt] for row in self.rows], done, prompt_lengths)
        hidden = self.decoder.forward(tokens, prompt_lengths + done, attend)
        self._append(self.rows, self.decoder.logits(hidden))
        self._close_ranks()


class _PromptAttention:
    """Causal attention inside each of several prompts; keys and values go into the cache, from place `first` on."""

    def __init__(self, cache: Cache, first: int, lengths: Sequence[int], device: torch.device) -> None:
        self.cache, self.first = cache, first
        self.bucket = side_by_side(lengths, range(len(lengths)), device)

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # What is behind a prompt's end no token of it sees.
        q, k, v = (self.bucket.laid_out(part).to(self.cache.prompts.dtype) for part in (q, k, v))
        for cached, new in zip(self.cache.prompts[:, layer.index], (k, v), strict=True):
            cached[self.first : self.first + self.bucket.size, :, : self.bucket.length] = new
        mask = self.bucket.mask(layer.window)
        return self.bucket.taken_back(attention(q, k, v, mask, layer.scale, layer.softcap)).flatten(1)


class RowAttention:
    """Each row's one new token attends to its prompt, with the rows of the same prompt, and to its own tokens."""

    def __init__(self, cache: Cache, prompt_places: Sequence[int], done: Tensor, prompt_lengths: Tensor) -> None:
        """[B]: where each row's prompt lies, its own tokens in the cache, and the tokens of its prompt."""
        self.cache, self.device = cache, done.device
        members: list[list[int]] = [[] for _ in range(max(prompt_places) + 1)]
        for row, place in enumerate(prompt_places):
            members[place].append(row)
        largest = max(map(len, members))
        # [N, M], filled up with row 0, whose result is then not looked at; and where in there each row is.
        self.members = torch.tensor([own + [0] * (largest - len(own)) for own in members], device=self.device)
        place_in_group = {row: j for own in members for j, row in enumerate(own)}
        self.where = (
            torch.tensor(prompt_places, device=self.device),
            torch.tensor([place_in_group[row] for row in range(len(prompt_places))], device=self.device),
        )
        self.done, self.prompt_lengths = done, prompt_lengths
        self.num_prompt, self.num_own = int(prompt_lengths.max()), int(done.max()) + 1
        kv_heads, tokens = cache.rows.shape[3:5]
        rows, heads = (torch.arange(size, device=self.device) for size in (len(done), kv_heads))
        self.slots = ((rows[:, None] * kv_heads + heads) * tokens + done[:, None]).flatten()  # [B * K], of one layer
        self.masks: dict[int | None, Tensor] = {}

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._own(layer, k, v)
        prompt_keys, prompt_values = self.cache.prompts[:, layer.index, : len(self.members), :, : self.num_prompt]
        grouped = q.to(keys.dtype).view(len(q), layer.kv_heads, -1, layer.head_size)
        scores = torch.cat(
            (self._apart(self._together(grouped, layer) @ prompt_keys.mT, layer), grouped @ keys.mT), dim=-1
        )
        weights = softmax_scores(scores, self._mask_of(layer.window), layer)
        of_prompt, of_own = weights.split((self.num_prompt, self.num_own), dim=-1)
        mixed = self._apart(self._together(of_prompt, layer) @ prompt_values, layer) + of_own @ values
        return mixed.reshape(len(q), -1)

    def _own(self, layer: Layer, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the new keys and values [B, K, D] and gives those of every row [B, K, L, D]."""
        cached = self.cache.rows[:, layer.index]
        for part, new in zip(cached, (k, v), strict=True):
            part.view(-1, layer.head_size).index_copy_(0, self.slots, new.reshape(-1, layer.head_size).to(part.dtype))
        keys, values = cached[:, : len(k), :, : self.num_own]
        return keys, values

    def _together(self, x: Tensor, layer: Layer) -> Tensor:
        """[B, K, Q, X] -> [N, K, M * Q, X]: the rows of a prompt side by side."""
        groups, size = self.members.shape
        together = x[self.members.flatten()].view(groups, size, *x.shape[1:]).transpose(1, 2)
        return together.reshape(groups, layer.kv_heads, -1, x.shape[-1])

    def _apart(self, x: Tensor, layer: Layer) -> Tensor:
        """[N, K, M * Q, X] -> [B, K, Q, X]: back again."""
        groups, size = self.members.shape
        return x.view(groups, layer.kv_heads, size, -1, x.shape[-1]).transpose(1, 2)[self.where]

    def _mask_of(self, window: int | None) -> Tensor:
        """[B, 1, 1, P + L]: 0 where a row's token sees, -inf elsewhere."""
        if window not in self.masks:
            prompt = torch.arange(self.num_prompt, device=self.device).expand(len(self.done), -1)
            own = torch.arange(self.num_own, device=self.device) + self.prompt_lengths[:, None]
            position = (self.prompt_lengths + self.done)[:, None]
            is_prompt = prompt < self.prompt_lengths[:, None]
            allowed = torch.cat((is_prompt & seen(position, prompt, window), seen(position, own, window)), dim=-1)
            self.masks[window] = _mask(allowed)[:, None, None]
        return self.masks[window]


def _mask(allowed: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, -torch.inf)


def softmax_scores(scores: Tensor, mask: Tensor, layer: Layer) -> Tensor:
    """Attention weights from the products of queries and keys."""
    if layer.softcap is not None:
        scores, scale = torch.tanh(scores * (layer.scale / layer.softcap)), layer.softcap
    else:
        scale = layer.scale
    return torch.softmax(torch.add(mask.to(scores.dtype), scores, alpha=scale), dim=-1)
