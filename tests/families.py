"""Tiny random models of each family that the native engine and the packed update know, for the tests of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"intermediate_size": 48, "max_position_embeddings": 256, "vocab_size": 300, "head_dim": 16}
SHAPE |= {"initializer_range": 0.2}  # with the usual 0.02 no token heeds the ones before it, and any mask would do
WINDOW: dict[str, Any] = {"sliding_window": 5}  # shorter than a prompt and than an answer
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 1}
# Values half as wide as queries and keys; the first layer is dense; experts in two groups, of which one is used.
MLA: dict[str, Any] = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
MLA |= {"v_head_dim": 8, "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2}
MLA |= {"topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 24, "head_dim": 8}
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3_ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}

FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "llama with biases, tied": (LlamaConfig, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama 3": (LlamaConfig, {"rope_parameters": LLAMA3_ROPE}),
    "mistral": (MistralConfig, WINDOW),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {}),
    "qwen3_moe": (Qwen3MoeConfig, MOE),
    "deepseek_v3": (DeepseekV3Config, MLA),
    "gemma": (GemmaConfig, {}),
    "gemma2": (Gemma2Config, WINDOW | {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 2.0}),
    "gemma3": (Gemma3TextConfig, WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}),
}


def build(family: str, directory: Path, **options: Any) -> str:
    """Writes a random model of the family and gives its directory."""
    config, own = FAMILIES[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(**SHAPE | own | options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))  # else 0 or 1, and nobody misses them
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.add_(0.1 * torch.randn_like(buffer))
    model.save_pretrained(directory)
    return str(directory)
