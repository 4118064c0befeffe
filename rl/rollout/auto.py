"""vLLM where it is installed and there is a GPU, else transformers."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from transformers import PreTrainedTokenizerBase

from rl import distributed
from rl.rollout import RolloutEngine
from rl.rollout.hf import HFRollout
from rl.rollout.vllm import VLLMRollout


def auto_rollout(
    model_path: str,
    tokenizer: PreTrainedTokenizerBase,
    dtype: str,
    device: torch.device,
    *,
    max_rows: int = 256,
    memory_fraction: float = 0.4,
) -> RolloutEngine:
    """max_rows is HFRollout's, memory_fraction VLLMRollout's; rank 0 says which engine it is."""
    has_vllm = find_spec("vllm") is not None and device.type == "cuda"
    if distributed.rank() == 0:
        print(f"rollouts by {'vLLM' if has_vllm else 'transformers (no vLLM, or no GPU for it)'}", flush=True)
    if has_vllm:
        return VLLMRollout(model_path, tokenizer, dtype, device, memory_fraction=memory_fraction)
    return HFRollout(model_path, tokenizer, dtype, device, max_rows=max_rows)
