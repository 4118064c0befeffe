"""Rollouts by vLLM inside the training process: one engine a rank, asleep while the policy is updated.

One request a completion, with a seed of its own, so that a completion does not depend on its neighbours. The engine is
given token ids, never text.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerBase

from rl.experience import Completion, Group, Prompt, SamplingParams
from rl.policy import local_or_hub
from rl.rollout.sampling import row_seed

PROBE_TOKENS = 16  # of the fixed prompt whose log-probabilities tell old weights from new


class VLLMRollout:
    """vLLM's LLM class behind our protocol.

    The log-probabilities are those of the tempered distribution, after top-k, top-p and min-p where these are used:
    vLLM offers no others. With top_k=0, top_p=1 and min_p=0 they are the trainer's; otherwise mismatch/kl_rollout
    shows the difference.
    """

    def __init__(
        self,
        model_path: str,
        tokenizer: PreTrainedTokenizerBase,
        dtype: str,
        device: torch.device,
        *,
        memory_fraction: float = 0.4,
        max_model_len: int | None = None,
        eager: bool = False,
    ) -> None:
        """memory_fraction: of the GPU, for vLLM's weights and KV cache; eager: no CUDA graphs, starts sooner.

        ValueError where vLLM is not installed or the fraction is impossible.
        """
        if find_spec("vllm") is None:
            raise ValueError("rollout=vllm needs vLLM: pip install -e .[vllm], or take rollout=hf")
        if not 0 < memory_fraction < 1:
            raise ValueError(f"rollout.memory_fraction must be between 0 and 1, got {memory_fraction}")
        self.tokenizer, self.device, self.policy_step = tokenizer, device, 0
        self.sleeps = device.type == "cuda"
        self.engine = _engine(model_path, dtype, self.sleeps, memory_fraction, max_model_len, eager)
        config = AutoConfig.from_pretrained(local_or_hub(model_path))
        self.tied = bool(getattr(config, "tie_word_embeddings", False))
        self._expected: frozenset[str] | None = None  # names of the first set of weights; every later one is the same
        self._total: float | None = None  # of the last weights, see _Digest
        self._probe_ids = [1 + i % (config.vocab_size - 1) for i in range(PROBE_TOKENS)]

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        if self.sleeps:
            self.engine.wake_up()
        yield
        if self.sleeps:
            self.engine.sleep(level=1)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        """Hands all parameters over and checks that the engine computes with them: stale weights would be silent.

        RuntimeError if weights came in that differ from the last ones while the engine's log-probabilities did not
        move.
        """
        with self.awake():
            before = self._probe()
            digest = _Digest()
            self.engine.collective_rpc("reload_weights", kwargs={"weights_iterator": self._checked(weights, digest)})
            self.engine.reset_prefix_cache()
            after = self._probe()
        if self._expected is not None and digest.names != self._expected:
            missing = sorted(self._expected ^ digest.names)
            raise ValueError(f"the weights are not those of the last update: {missing[:3]} came or stayed away")
        if self._total not in (None, digest.total) and before == after:
            raise RuntimeError("vLLM still computes with old weights: its log-probabilities did not move with them")
        self._expected, self._total, self.policy_step = digest.names, digest.total, policy_step

    def _checked(self, weights: Iterable[tuple[str, Tensor]], digest: _Digest) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in weights:
            digest.add(name, tensor)
            yield name, tensor
            if self.tied and name.endswith("embed_tokens.weight"):
                # The CPU build keeps a packed copy of a tied head, which the embedding's update does not reach.
                yield "lm_head.weight", tensor

    def _probe(self) -> list[float]:
        """Log-probabilities of a fixed sequence of tokens under the engine's weights."""
        from vllm import SamplingParams as VLLMParams

        params = VLLMParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        (output,) = self.engine.generate([{"prompt_token_ids": self._probe_ids}], params, use_tqdm=False)
        rows = output.prompt_logprobs[1:]
        return [row[token].logprob for row, token in zip(rows, self._probe_ids[1:], strict=True)]

    def generate(self, prompts: Sequence[Prompt], params: SamplingParams, seed: int) -> list[Group]:
        requests = [
            ({"prompt_token_ids": list(prompt.token_ids)}, _vllm_params(params, row_seed(seed, prompt.index, i)))
            for prompt in prompts
            for i in range(params.completions)
        ]
        outputs = self.engine.generate([r[0] for r in requests], [r[1] for r in requests], use_tqdm=False)
        done = [self._completion(output.outputs[0]) for output in outputs]
        size = params.completions
        return [Group(prompt, tuple(done[i * size : (i + 1) * size])) for i, prompt in enumerate(prompts)]

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        logprobs = [row[token].logprob for row, token in zip(output.logprobs, ids, strict=True)]
        # stop_reason: None at the end-of-sequence token, the id of another ending token, or the stop text.
        ended = output.finish_reason == "stop" and not isinstance(output.stop_reason, str)
        text = str(self.tokenizer.decode(ids[:-1] if ended else ids))
        reason = "stop" if output.finish_reason == "stop" else "length"
        return Completion(text, ids, logprobs, reason, self.policy_step)  # type: ignore[arg-type]


class _Digest:
    """What a set of weights is told by: its names, and a sum that any change moves."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self.total = 0.0

    def add(self, name: str, tensor: Tensor) -> None:
        if name in self.names:
            raise ValueError(f"parameter {name} came twice")
        self.names |= {name}
        values = tensor.detach().double()
        self.total += float(values.sum()) + float(values.abs().sum())


def _engine(
    model_path: str, dtype: str, sleeps: bool, memory_fraction: float, max_model_len: int | None, eager: bool
) -> Any:
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process: the weights are handed over by reference
    options: dict[str, Any] = {}
    if sleeps:
        # Every rank has an engine of its own, beside the process group that training uses.
        options = {"distributed_executor_backend": "external_launcher", "enable_sleep_mode": True}
    else:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM

    return LLM(
        model=local_or_hub(model_path),
        dtype=dtype,
        skip_tokenizer_init=False,
        logprobs_mode="processed_logprobs",
        gpu_memory_utilization=memory_fraction,
        max_model_len=max_model_len,
        enforce_eager=eager or not sleeps,
        disable_log_stats=True,
        **options,
    )


def _vllm_params(params: SamplingParams, seed: int) -> Any:
    from vllm import SamplingParams as VLLMParams

    return VLLMParams(
        n=1,
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k or -1,
        min_p=params.min_p,
        stop=list(params.stop),
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        logprobs=0,
        seed=seed,
    )
