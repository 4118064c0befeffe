"""Rollouts with transformers' own modules and cache: the reference that other engines are compared with.

    n  distinct prompts of a chunk, padded on the left to P tokens
    B  rows still sampling, at most n x G

Each distinct prompt is computed once and its cache repeated for the group; finished rows leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from rl.experience import Completion, FinishReason, Group, Prompt, SamplingParams
from rl.rollout import Finished, hand_over
from rl.rollout.policy_copy import PolicyCopy
from rl.rollout.sampling import draw, row_uniforms


@dataclass(slots=True)
class _Row:
    """A completion in the making."""

    uniforms: np.ndarray  # [max_tokens]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    experts: list[Tensor] = field(default_factory=list)  # [1, L, K] of each token but the last, if recorded
    finish_reason: FinishReason | None = None


class HFRollout(PolicyCopy):
    """A copy of the policy, sampled by transformers' forward with our own loop around it."""

    def __init__(
        self,
        model_path: str,
        tokenizer: PreTrainedTokenizerBase,
        dtype: str,
        device: torch.device,
        *,
        max_rows: int = 256,
        offload: bool = False,
        record_routing: bool = False,
    ) -> None:
        """max_rows bounds the completions sampled at a time; offload keeps the copy on the CPU between rollouts;
        record_routing: completions and groups carry the experts that a mixture's routers chose."""
        if max_rows < 1:
            raise ValueError(f"rollout.max_rows must be at least 1, got {max_rows}")
        super().__init__(model_path, tokenizer, dtype, device, offload, record_routing)
        self.max_rows = max_rows

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None = None
    ) -> list[Group]:
        per_chunk = max(1, self.max_rows // params.completions)
        groups: list[Group] = []
        for start in range(0, len(prompts), per_chunk):
            chunk = prompts[start : start + per_chunk]
            rows, of_prompts = self._sample(chunk, params, seed)
            for i, prompt in enumerate(chunk):
                own = rows[i * params.completions : (i + 1) * params.completions]
                done = tuple(self._completion(row) for row in own)
                groups.append(Group(prompt, done, self.routing([of_prompts[i, -len(prompt.token_ids) :]])))
            hand_over(groups[start:], finished, first=start)
        return groups

    def _sample(self, prompts: Sequence[Prompt], params: SamplingParams, seed: int) -> tuple[list[_Row], Tensor]:
        """-> the rows, group by group, and the experts [n, P, L, K] of the prompts."""
        size = range(params.completions)
        rows = [_Row(row_uniforms(seed, prompt.index, i, params.max_tokens)) for prompt in prompts for i in size]
        cache, mask, logits, of_prompts = self._prefill(prompts)
        cache.batch_repeat_interleave(params.completions)
        mask, logits = (tensor.repeat_interleave(params.completions, dim=0) for tensor in (mask, logits))
        active = list(range(len(rows)))
        for step in range(params.max_tokens):
            uniforms = torch.tensor([rows[r].uniforms[step] for r in active], device=self.device)
            tokens, logprobs = draw(logits, uniforms, params)
            for r, token, logprob in zip(active, tokens.tolist(), logprobs.tolist(), strict=True):
                self._append(rows[r], token, logprob, params)
            going = [place for place, r in enumerate(active) if rows[r].finish_reason is None]
            if not going:
                break
            if len(going) < len(active):
                active = [active[place] for place in going]
                index = torch.tensor(going, device=self.device)
                cache.batch_select_indices(index)
                mask, tokens = mask[index], tokens[index]
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
            logits, experts = self._forward(tokens.unsqueeze(-1), mask, cache)
            for r, own in zip(active, experts, strict=True):
                rows[r].experts.append(own)
        return rows, of_prompts

    def _prefill(self, prompts: Sequence[Prompt]) -> tuple[DynamicCache, Tensor, Tensor, Tensor]:
        """-> the cache of n prompts, their mask [n, P], the logits of the first token [n, V], experts [n, P, L, K]."""
        longest = max(len(prompt.token_ids) for prompt in prompts)
        ids = torch.zeros((len(prompts), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, longest - len(prompt.token_ids) :] = torch.tensor(prompt.token_ids)
            mask[i, longest - len(prompt.token_ids) :] = 1
        cache = DynamicCache(config=self.model.config)
        mask = mask.to(self.device)
        return cache, mask, *self._forward(ids.to(self.device), mask, cache)

    def _forward(self, ids: Tensor, mask: Tensor, cache: DynamicCache) -> tuple[Tensor, Tensor]:
        """Tokens [B, P] -> logits after the last token of each row, [B, V], and the experts of all, [B, P, L, K]."""
        self.watch()
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        )
        return output.logits[:, -1], self.experts(ids.numel()).unflatten(0, ids.shape)

    def _append(self, row: _Row, token: int, logprob: float, params: SamplingParams) -> None:
        row.token_ids.append(token)
        row.logprobs.append(logprob)
        row.finish_reason = self.finish_reason(row.token_ids, params.max_tokens, params.stop)

    def _completion(self, row: _Row) -> Completion:
        assert row.finish_reason is not None
        return self.completion(row.token_ids, row.logprobs, row.finish_reason, row.experts)
