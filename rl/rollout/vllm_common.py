"""What the two vLLM engines share: how vLLM is asked, what its answer means, and the proof that it has the new weights.

T  tokens of the probe: a fixed sequence whose log-probabilities tell one set of weights from another
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rl.experience import Completion, Prompt, SamplingParams
from rl.policy import DTYPES, local_or_hub, named_tensors

PROBE_TOKENS = 16
LOWEST_TEMPERATURE = 0.01  # vLLM raises a lower one to this, unless it is 0

# How far the sampler's log-probability of a probe token may lie from the policy's, nats. Two programs that compute the
# same float32 model were seen to differ by 4e-5. In bfloat16 logits between 16 and 32 are multiples of 1/8, and two
# right programs were seen to differ by 0.27 (135 M parameters); so there a small staleness passes. It shows in
# mismatch/kl_rollout, which averages over thousands of tokens.
TOLERANCE = {"float32": 1e-3, "bfloat16": 1.0}


def sampling_options(params: SamplingParams, seed: int) -> dict[str, Any]:
    """One completion, in vLLM's own words, which its constructor and its HTTP interface share."""
    return {
        "n": 1,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k or -1,
        "min_p": params.min_p,
        "stop": list(params.stop),
        "skip_special_tokens": False,
        "logprobs": 0,  # of the sampled token only
        "seed": seed,
    }


def check_fits(prompts: Sequence[Prompt], params: SamplingParams, max_model_len: int, remedy: str) -> None:
    """ValueError where vLLM would sample something else than was asked for, silently. `remedy` raises max_model_len."""
    longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
    if longest + params.max_tokens > max_model_len:
        raise ValueError(
            f"a prompt of {longest} tokens and max_tokens={params.max_tokens} need {longest + params.max_tokens} "
            f"positions, but vLLM was started with {max_model_len}: {remedy}, or lower sampling.max_tokens"
        )
    if 0 < params.temperature < LOWEST_TEMPERATURE:
        raise ValueError(
            f"sampling.temperature must be 0 (greedy) or at least {LOWEST_TEMPERATURE} with vLLM, "
            f"got {params.temperature}"
        )


def to_completion(
    tokenizer: PreTrainedTokenizerBase,
    token_ids: list[int],
    logprobs: list[float],
    finish_reason: str | None,
    stop_reason: int | str | None,
    policy_step: int,
) -> Completion:
    """stop_reason: None at the end-of-sequence token, the id of another ending token, or the stop text."""
    # A stop text may be part of the end-of-sequence token's own text.
    by_text = isinstance(stop_reason, str) and token_ids[-1] != tokenizer.eos_token_id
    ended = finish_reason == "stop" and not by_text
    text = str(tokenizer.decode(token_ids[:-1] if ended else token_ids))
    return Completion(text, token_ids, logprobs, "stop" if finish_reason == "stop" else "length", policy_step)


class WeightCheck:
    """Refuses incomplete, foreign and misshapen weights, and an engine that does not compute with the last ones.

    Sampling from stale weights would be silent. One set of weights passes through:

        for name, tensor in check.checked(weights): ...     # into vLLM
        check.complete()
        check.refuse_unmoved(...), check.refuse_other(...)  # with what the probe gives
    """

    def __init__(self, model_path: str, dtype: str) -> None:
        """dtype is vLLM's: the weights are handed over in it."""
        skeleton = model_skeleton(model_path)
        self.dtype = dtype
        self.shapes = shapes_of(skeleton)
        self.vocabulary = skeleton.config.get_text_config().vocab_size
        self.probe_ids = [1 + i % (self.vocabulary - 1) for i in range(PROBE_TOKENS)]  # [T]
        self._tied = _tied_embedding(skeleton)
        self._missing: dict[str, torch.Size] = {}
        self._sums: list[Tensor] = []  # of each tensor, numbers that any change moves
        self._digest: list[float] | None = None  # these numbers, of the weights it has; None where that is not known
        self._last: list[float] | None = None  # and of those before

    def checked(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The same weights in vLLM's dtype, and the head where it is the embedding. ValueError for any other set."""
        self._missing, self._sums = dict(self.shapes), []
        self._last, self._digest = self._digest, None
        for name, tensor in weights:
            if name not in self._missing:
                raise ValueError(f"the rollout model has no parameter {name}, or got it twice")
            shape = self._missing.pop(name)
            if tensor.shape != shape:
                raise ValueError(f"parameter {name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")
            tensor = tensor.to(DTYPES[self.dtype])
            self._sums += [tensor.sum(dtype=torch.float64), torch.linalg.vector_norm(tensor, dtype=torch.float64)]
            yield name, tensor
            if name == self._tied:
                # The CPU build keeps a packed copy of a tied head, which the embedding's update does not reach.
                yield "lm_head.weight", tensor

    def complete(self) -> None:
        """After checked(): ValueError if parameters were missing."""
        if self._missing:
            some = next(iter(self._missing))
            raise ValueError(f"no new weights came for {len(self._missing)} parameters, {some} among them")
        self._digest = [float(value) for value in self._sums]

    def refuse_unmoved(self, who: str, before: Sequence[float], after: Sequence[float], policy_step: int) -> None:
        """RuntimeError if the weights differ from the last ones and the probe gives what it gave. [T - 1], nats."""
        if self._last not in (None, self._digest) and list(before) == list(after):
            self._digest = None
            raise RuntimeError(
                f"{who} still computes with old weights: its log-probabilities did not move with update {policy_step}; "
                "take rollout=hf"
            )

    def refuse_other(
        self, who: str, probed: Sequence[float], expected: Sequence[float], dtype: str, policy_step: int
    ) -> None:
        """RuntimeError if the probe gives anything else than the policy, which computes in dtype. [T - 1], nats."""
        tolerance = max(TOLERANCE[dtype], TOLERANCE[self.dtype])
        biggest = max(abs(one - other) for one, other in zip(probed, expected, strict=True))
        if not biggest <= tolerance:  # NaN too
            raise RuntimeError(
                f"{who} does not compute with the weights of policy step {policy_step}: a log-probability of the probe "
                f"differs from the policy's by {biggest:.3g} nats, {tolerance:g} is the most that precision explains. "
                f"Either it has kept old weights, a part of them or its output head, or it serves another model than "
                f"the recipe's or in another dtype than {self.dtype}. rollout=hf needs no such check"
            )


def model_skeleton(model_path: str) -> PreTrainedModel:
    """The model without memory for its weights: only names and shapes."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(local_or_hub(model_path)))


def shapes_of(model: PreTrainedModel) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in named_tensors(model)}


def _tied_embedding(model: PreTrainedModel) -> str | None:
    """The name of the embedding that is the output head too; None where they are two."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    names = [name for name, parameter in model.named_parameters() if parameter is embedding]
    return names[0] if head is embedding else None
