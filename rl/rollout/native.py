"""Our own rollout engine, for small models on a CPU or on one GPU without vLLM.

    R  rows that the cache has room for     P  tokens of the longest prompt
    S  prompts that it has room for         L  tokens of the longest completion

Each distinct prompt is computed once, for all rows of its group. A row that ends leaves at once: the last row takes its
place in the cache, and a waiting one comes in.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rl.experience import Completion, FinishReason, Group, Prompt, Routing, SamplingParams
from rl.rollout import Finished
from rl.rollout.cache import Cache, PromptAttention, RowAttention, SharedPromptAttention, copied_tokens
from rl.rollout.decoder import Decoder
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
        record_routing: bool = False,
    ) -> None:
        """At most max_rows completions at a time, fewer where their keys and values would need more than kv_memory_gb.
        record_routing: completions and groups carry the experts that a mixture's routers chose.

        ValueError for a model of another family than rl/rollout/decoder.py knows.
        """
        if max_rows < 1:
            raise ValueError(f"rollout.max_rows must be at least 1, got {max_rows}")
        if not kv_memory_gb > 0:
            raise ValueError(f"rollout.kv_memory_gb must be above 0, got {kv_memory_gb}")
        super().__init__(model_path, tokenizer, dtype, device, offload=False, record_routing=record_routing)
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
            completion = self.completion(row.token_ids, row.logprobs, row.finish_reason, row.experts)
            done[row.prompt, row.place] = completion
            if finished is not None:
                finished(row.prompt, row.place, completion)

        if not prompts:
            return []
        session = _Session(self, Cache(self.decoder, *self._room(prompts, params)), prompts, params, seed, finish)
        session.run()
        places = range(params.completions)
        return [
            Group(prompt, tuple(done[i, j] for j in places), session.prompt_routing[i])
            for i, prompt in enumerate(prompts)
        ]

    def _room(self, prompts: Sequence[Prompt], params: SamplingParams) -> tuple[int, int, int, int]:
        """R, S, P and L of the cache: as many rows as fit. ValueError where not even one does."""
        longest = max(len(prompt.token_ids) for prompt in prompts)
        budget = int(self.kv_memory_gb * 2**30 / self.decoder.kv_bytes_per_token)

        def needed(rows: int) -> int:
            places = _num_prompts(rows, params.completions, len(prompts))
            return rows * (copied_tokens(longest) + params.max_tokens) + places * longest

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


@dataclass(slots=True)
class _Row:
    """A completion in the making. All but its last token are in the cache."""

    prompt: int
    place: int  # in its group
    uniforms: np.ndarray  # [max_tokens]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    experts: list[Tensor] = field(default_factory=list)  # [1, L, K] of each token but the last, if recorded
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
        self.prompt_routing: dict[int, Routing] = {}  # of each prompt so far
        self.num_steps = 0

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
            going_on = self._append(new, logits)
            self.cache.seat([self.cached.index(row.prompt) for row in going_on], first=len(self.rows))
            self.rows += going_on
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
                    self.cache.move_row(len(self.rows), place, self.num_steps)
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
        attend = PromptAttention(self.cache, len(self.cached), lengths, device)
        tokens = torch.tensor([token for own in ids for token in own], device=device)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        self.engine.watch()
        hidden = self.decoder.forward(tokens, positions, attend)
        for prompt, experts in zip(prompts, self.engine.experts(len(tokens)).split(lengths), strict=True):
            self.prompt_routing[prompt] = self.engine.routing([experts])
        logits = self.decoder.logits(hidden[torch.tensor(lengths, device=device).cumsum(0) - 1])
        self.cached += prompts
        self.first_logits |= dict(zip(prompts, logits, strict=True))

    def _step(self) -> None:
        """One more token for every row."""
        device = self.decoder.device
        tokens = torch.tensor([row.token_ids[-1] for row in self.rows], device=device)
        own = torch.tensor([len(row.token_ids) for row in self.rows], device=device)
        prompt_lengths = torch.tensor([len(self.prompts[row.prompt].token_ids) for row in self.rows], device=device)
        self.engine.watch()
        hidden = self.decoder.forward(tokens, prompt_lengths + own - 1, self._attend(own, prompt_lengths))
        for row, experts in zip(self.rows, self.engine.experts(len(tokens)).split(1), strict=True):
            row.experts.append(experts)
        self._append(self.rows, self.decoder.logits(hidden))
        self._close_ranks()
        self.num_steps += 1

    def _attend(self, own: Tensor, prompt_lengths: Tensor) -> RowAttention:
        if self.cache.copied:
            return RowAttention(self.cache, self.num_steps, own, prompt_lengths)
        place = {prompt: i for i, prompt in enumerate(self.cached)}
        places = [place[row.prompt] for row in self.rows]
        return SharedPromptAttention(self.cache, self.num_steps, own, prompt_lengths, places)
