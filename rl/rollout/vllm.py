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
from transformers import PreTrainedTokenizerBase

from rl import distributed
from rl.experience import Completion, Group, Prompt, SamplingParams
from rl.policy import local_or_hub
from rl.rollout import Finished, hand_over
from rl.rollout.sampling import row_seed
from rl.rollout.vllm_common import WeightCheck, check_fits, sampling_options, to_completion


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
        self.check = WeightCheck(model_path, dtype)
        self.probe_ids = self.check.probe_ids
        self._probed: list[float] = []  # what the probe gave with the last weights

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
        """ValueError for an incomplete or foreign set, RuntimeError if the engine still computes with old weights."""
        with self.awake():
            before = self._probe()
            self.engine.collective_rpc("reload_weights", kwargs={"weights_iterator": self.check.checked(weights)})
            self.check.complete()
            self.engine.reset_prefix_cache()
            self._probed = self._probe()
        self.check.refuse_unmoved("vLLM", before, self._probed, policy_step)
        self.policy_step = policy_step

    def check_weights(self, expected: Sequence[float], dtype: str) -> None:
        self.check.refuse_other("vLLM", self._probed, expected, dtype, self.policy_step)

    def _probe(self) -> list[float]:
        """Log-probabilities of the probe under the engine's weights, [T - 1], nats."""
        from vllm import SamplingParams as VLLMParams

        params = VLLMParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        (output,) = self.engine.generate([{"prompt_token_ids": self.probe_ids}], params, use_tqdm=False)
        rows = output.prompt_logprobs[1:]
        return [row[token].logprob for row, token in zip(rows, self.probe_ids[1:], strict=True)]

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None = None
    ) -> list[Group]:
        from vllm import SamplingParams as VLLMParams

        check_fits(prompts, params, self.max_model_len, "raise rollout.max_model_len")
        ids = [{"prompt_token_ids": list(prompt.token_ids)} for prompt in prompts for _ in range(params.completions)]
        options = [
            VLLMParams(**sampling_options(params, row_seed(seed, prompt.index, i)))
            for prompt in prompts
            for i in range(params.completions)
        ]
        outputs = self.engine.generate(ids, options, use_tqdm=False)
        done = [self._completion(output.outputs[0]) for output in outputs]
        size = params.completions
        groups = [Group(prompt, tuple(done[i * size : (i + 1) * size])) for i, prompt in enumerate(prompts)]
        hand_over(groups, finished)
        return groups

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        logprobs = [row[token].logprob for row, token in zip(output.logprobs, ids, strict=True)]
        return to_completion(self.tokenizer, ids, logprobs, output.finish_reason, output.stop_reason, self.policy_step)


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
