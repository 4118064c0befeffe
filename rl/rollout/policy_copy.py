"""The copy of the policy that our own engines sample from: its weights, its place in memory, when a row ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rl.experience import NOT_RECORDED, Completion, FinishReason, Routing
from rl.policy import load_model, named_tensors
from rl.routers import Routers, recorded


class PolicyCopy:
    """A causal LM in the dtype it samples in, and the tokenizer that turns what it sampled into text."""

    def __init__(
        self,
        model_path: str,
        tokenizer: PreTrainedTokenizerBase,
        dtype: str,
        device: torch.device,
        offload: bool,
        record_routing: bool,
    ) -> None:
        """offload keeps the copy on the CPU outside of awake(). record_routing: completions tell their experts."""
        self.tokenizer, self.device, self.offload = tokenizer, device, offload
        self.model = load_model(model_path, dtype).eval().requires_grad_(False)
        if not offload:
            self.model.to(device)
        self.policy_step = 0
        self.end_ids = end_token_ids(self.model, tokenizer)
        self.routers = Routers(self.model) if record_routing else None

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        if self.offload:
            self.model.to(self.device)
        try:
            yield
        finally:
            if self.offload:
                self.model.to("cpu")
                torch.cuda.empty_cache()

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        """Refuses an incomplete or foreign set of weights: sampling from stale ones would be silent."""
        missing = dict(named_tensors(self.model))
        for name, tensor in weights:
            if name not in missing:
                raise ValueError(f"the rollout model has no parameter {name}, or got it twice")
            parameter = missing.pop(name)
            if parameter.shape != tensor.shape:  # copy_ would spread a smaller tensor over it
                raise ValueError(f"parameter {name} has shape {tuple(parameter.shape)}, got {tuple(tensor.shape)}")
            parameter.copy_(tensor)
        if missing:
            raise ValueError(f"no new weights came for {len(missing)} parameters, {next(iter(missing))} among them")
        self.policy_step = policy_step

    def watch(self) -> None:
        """Before a pass whose experts may be asked for."""
        if self.routers is not None:
            self.routers.watch()

    def experts(self, tokens: int) -> Tensor:
        """Of the pass since watch(), over that many tokens: [tokens, L, K] int16, or [tokens, 0, 0] unrecorded."""
        if self.routers is None:
            return torch.empty(tokens, 0, 0, dtype=torch.int16)
        return self.routers.routes().experts.to("cpu", torch.int16)

    def routing(self, experts: Sequence[Tensor]) -> Routing:
        """[tokens, L, K] of several passes, one behind the other."""
        if self.routers is None:
            return NOT_RECORDED
        return recorded(torch.cat([self.routers.nothing, *experts]), self.routers.num_experts)

    def finish_reason(self, token_ids: list[int], max_tokens: int, stop: Sequence[str]) -> FinishReason | None:
        """Why a row of these tokens ends here; None where it goes on."""
        if token_ids[-1] in self.end_ids or self._at_stop_text(token_ids, stop):
            return "stop"
        return "length" if len(token_ids) == max_tokens else None

    def _at_stop_text(self, token_ids: list[int], stop: Sequence[str]) -> bool:
        if not stop:
            return False
        # A stop text of k characters may straddle at most k tokens before the last, each at least a byte long.
        tail = str(self.tokenizer.decode(token_ids[-(4 * max(map(len, stop)) + 1) :]))
        return any(text in tail for text in stop)

    def completion(
        self, token_ids: list[int], logprobs: list[float], finish_reason: FinishReason, experts: Sequence[Tensor]
    ) -> Completion:
        """The text leaves out an end token, the tokens do not. experts: [1, L, K] of each token but the last."""
        ended = token_ids[-1] in self.end_ids
        text = str(self.tokenizer.decode(token_ids[:-1] if ended else token_ids))
        return Completion(text, token_ids, logprobs, finish_reason, self.policy_step, self.routing(experts))


def end_token_ids(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a completion: the tokenizer's, and those of the model's generation config."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (tokenizer.eos_token_id, *ids) if token is not None)
