"""Rollouts by vLLM inside the training process: one engine a rank, asleep while the policy is updated.

One request a completion, with a seed of its own, so that a completion does not depend on its neighbours. The engine is
given token ids, never text.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rl import distributed
from rl.experience import Completion, Group, Prompt, SamplingParams
from rl.policy import local_or_hub
from rl.rollout import Finished, hand_over
from rl.rollout.sampling import row_seed

PROBE_TOKENS = 16  # of the fixed prompt whose log-probabilities tell old weights from new
LOWEST_TEMPERATURE = 0.01  # vLLM raises a lower one to this, unless it is 0


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
        sleep: bool = True,
    ) -> None:
        """Collective: vLLM makes its groups of one rank each beside the process group of training.

        memory_fraction: of the GPU, for vLLM's weights and KV cache; max_model_len bounds prompt and completion
        together; eager: no CUDA graphs, starts sooner; sleep: that memory is free outside of awake(). ValueError where
        vLLM is not installed or the fraction is impossible.
        """
        if find_spec("vllm") is None:
            raise ValueError("rollout=vllm needs vLLM: pip install -e .[vllm], or take rollout=hf")
        if not 0 < memory_fraction < 1:
            raise ValueError(f"rollout.memory_fraction must be between 0 and 1, got {memory_fraction}")
        self.tokenizer, self.device, self.policy_step = tokenizer, device, 0
        self.sleeps = sleep and device.type == "cuda"
        with _random_state_kept():
            self.engine = _engine(model_path, dtype, device, self.sleeps, memory_fraction, max_model_len, eager)
        # vLLM's own last act destroys every process group, training's too, or fails where that one is gone already.
        self.engine.llm_engine.engine_core._finalizer.detach()
        self.max_model_len: int = self.engine.llm_engine.model_config.max_model_len
        skeleton = _skeleton(model_path)
        self._shapes = {name: parameter.shape for name, parameter in skeleton.named_parameters()}
        self._tied = _tied_embedding(skeleton)
        self._total: float | None = None  # of the last weights, see _checked
        self._probe_ids = [1 + i % (skeleton.config.get_text_config().vocab_size - 1) for i in range(PROBE_TOKENS)]

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Sleeping, the weights wait in the memory of the CPU, and the KV cache is dropped."""
        if not self.sleeps:
            yield
            return
        self.engine.wake_up()
        try:
            yield
        finally:
            self.engine.sleep(level=1)

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        """Refuses an incomplete or foreign set of weights, and checks that the engine computes with the new ones.

        Sampling from stale weights would be silent. RuntimeError if weights came that differ from the last ones while
        the engine's log-probabilities did not move.
        """
        missing = dict(self._shapes)
        sums: list[Tensor] = []
        with self.awake():
            before = self._probe()
            checked = self._checked(weights, missing, sums)
            self.engine.collective_rpc("reload_weights", kwargs={"weights_iterator": checked})
            if missing:
                raise ValueError(f"no new weights came for {len(missing)} parameters, {next(iter(missing))} among them")
            self.engine.reset_prefix_cache()
            after = self._probe()
        total = sum(float(value) for value in sums)
        if self._total not in (None, total) and before == after:
            raise RuntimeError(
                f"vLLM still computes with old weights: its log-probabilities did not move with update {policy_step}; "
                "take rollout=hf"
            )
        self._total, self.policy_step = total, policy_step

    def _checked(
        self, weights: Iterable[tuple[str, Tensor]], missing: dict[str, torch.Size], sums: list[Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """The same weights, each taken from `missing`; `sums` gets numbers of each that any change moves."""
        for name, tensor in weights:
            if name not in missing:
                raise ValueError(f"the rollout model has no parameter {name}, or got it twice")
            shape = missing.pop(name)
            if tensor.shape != shape:
                raise ValueError(f"parameter {name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")
            sums += [tensor.sum(dtype=torch.float64), torch.linalg.vector_norm(tensor, dtype=torch.float64)]
            yield name, tensor
            if name == self._tied:
                # The CPU build keeps a packed copy of a tied head, which the embedding's update does not reach.
                yield "lm_head.weight", tensor

    def _probe(self) -> list[float]:
        """Log-probabilities of a fixed sequence of tokens under the engine's weights."""
        from vllm import SamplingParams as VLLMParams

        params = VLLMParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        (output,) = self.engine.generate([{"prompt_token_ids": self._probe_ids}], params, use_tqdm=False)
        rows = output.prompt_logprobs[1:]
        return [row[token].logprob for row, token in zip(rows, self._probe_ids[1:], strict=True)]

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None = None
    ) -> list[Group]:
        self._check_fits(prompts, params)
        requests = [
            ({"prompt_token_ids": list(prompt.token_ids)}, _vllm_params(params, row_seed(seed, prompt.index, i)))
            for prompt in prompts
            for i in range(params.completions)
        ]
        outputs = self.engine.generate([r[0] for r in requests], [r[1] for r in requests], use_tqdm=False)
        done = [self._completion(output.outputs[0]) for output in outputs]
        size = params.completions
        groups = [Group(prompt, tuple(done[i * size : (i + 1) * size])) for i, prompt in enumerate(prompts)]
        hand_over(groups, finished)
        return groups

    def _check_fits(self, prompts: Sequence[Prompt], params: SamplingParams) -> None:
        """ValueError where vLLM would sample something else than was asked for, silently."""
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        if longest + params.max_tokens > self.max_model_len:
            raise ValueError(
                f"a prompt of {longest} tokens and max_tokens={params.max_tokens} need {longest + params.max_tokens} "
                f"positions, but vLLM was started with {self.max_model_len}: raise rollout.max_model_len "
                f"or lower sampling.max_tokens"
            )
        if 0 < params.temperature < LOWEST_TEMPERATURE:
            raise ValueError(
                f"sampling.temperature must be 0 (greedy) or at least {LOWEST_TEMPERATURE} with rollout=vllm, "
                f"got {params.temperature}"
            )

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        logprobs = [row[token].logprob for row, token in zip(output.logprobs, ids, strict=True)]
        # stop_reason: None at the end-of-sequence token, the id of another ending token, or the stop text,
        # which may be part of the end-of-sequence token's own text.
        by_text = isinstance(output.stop_reason, str) and ids[-1] != self.tokenizer.eos_token_id
        ended = output.finish_reason == "stop" and not by_text
        text = str(self.tokenizer.decode(ids[:-1] if ended else ids))
        reason = "stop" if output.finish_reason == "stop" else "length"
        return Completion(text, ids, logprobs, reason, self.policy_step)  # type: ignore[arg-type]


def _skeleton(model_path: str) -> PreTrainedModel:
    """The model without memory for its weights: only names and shapes."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(local_or_hub(model_path)))


def _tied_embedding(model: PreTrainedModel) -> str | None:
    """The name of the embedding that is the output head too; None where they are two."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    names = [name for name, parameter in model.named_parameters() if parameter is embedding]
    return names[0] if head is embedding else None


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """vLLM seeds the global generators as it starts; what training draws from them stays as it was."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)


def _engine(
    model_path: str,
    dtype: str,
    device: torch.device,
    sleeps: bool,
    memory_fraction: float,
    max_model_len: int | None,
    eager: bool,
) -> Any:
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process: the weights are handed over by reference
    options: dict[str, Any] = {}
    if device.type == "cuda":
        distributed.describe_single_process()
        # Every rank has an engine of its own, beside the process group that training uses, on the GPU of LOCAL_RANK.
        options = {"distributed_executor_backend": "external_launcher", "enable_sleep_mode": sleeps}
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
        enforce_eager=eager or device.type == "cpu",
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
        skip_special_tokens=False,
        logprobs=0,
        seed=seed,
    )
