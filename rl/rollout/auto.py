"""The fastest engine that runs here: vLLM on a GPU where it is installed, else our own, else transformers."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from transformers import AutoConfig, PreTrainedTokenizerBase

from rl import distributed
from rl.policy import local_or_hub
from rl.rollout import RolloutEngine
from rl.rollout.decoder import FAMILIES
from rl.rollout.hf import HFRollout
from rl.rollout.native import NativeRollout
from rl.rollout.vllm import VLLMRollout


def auto_rollout(
    model_path: str,
    tokenizer: PreTrainedTokenizerBase,
    dtype: str,
    device: torch.device,
    *,
    max_rows: int = 256,
    kv_memory_gb: float = 4.0,
    memory_fraction: float = 0.4,
    record_routing: bool = False,
) -> RolloutEngine:
    """max_rows is NativeRollout's and HFRollout's, kv_memory_gb NativeRollout's, memory_fraction VLLMRollout's.
    record_routing leaves vLLM out, which keeps to itself what its routers choose.

    Rank 0 says which engine it is.
    """
    if find_spec("vllm") is not None and device.type == "cuda" and not record_routing:
        _say("vLLM")
        return VLLMRollout(model_path, tokenizer, dtype, device, memory_fraction=memory_fraction)
    kind = AutoConfig.from_pretrained(local_or_hub(model_path)).model_type
    if kind in FAMILIES:
        _say("the native engine (no vLLM, or no GPU for it)")
        return NativeRollout(
            model_path, tokenizer, dtype, device,
            max_rows=max_rows, kv_memory_gb=kv_memory_gb, record_routing=record_routing,
        )  # fmt: skip
    _say(f"transformers (the native engine does not know {kind} models)")
    return HFRollout(model_path, tokenizer, dtype, device, max_rows=max_rows, record_routing=record_routing)


def _say(engine: str) -> None:
    if distributed.rank() == 0:
        print(f"rollouts by {engine}", flush=True)
