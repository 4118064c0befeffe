"""A language model small enough to train on a laptop's processor, built on the spot: nothing is downloaded.

`build_tiny_model` writes a plain Hugging Face directory: a Qwen2 with random weights and a byte-level tokenizer that
encodes any text, with a chat template and the tags of visible reasoning. It trains nothing. `build_tiny_moe` does the
same with a mixture of experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3MoeConfig,
)

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# Tokens, but not "special": decoding with skip_special_tokens must keep what the rewards look for.
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = ("system", "user", "assistant", "What", " is")  # one token each; all else is one token a byte

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_model(
    directory: str | Path,
    *,
    seed: int = 0,
    hidden: int = 192,
    layers: int = 3,
    heads: int = 6,
    kv_heads: int = 2,
    intermediate: int = 384,
    max_positions: int = 1024,
    words: Sequence[str] = WORDS,
) -> Path:
    """Write config, weights, tokenizer and generation config to `directory`, and return it. 1.0 M parameters.

    The weights are a function of the shape and the seed alone; torch's global random state is left as it was.
    Raises ValueError where the shape is impossible.
    """
    _check(hidden, layers, heads, kv_heads)
    tokenizer = build_tokenizer(words, max_positions)
    config = Qwen2Config(
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        **_shared(tokenizer, hidden, max_positions),
    )
    return _write(config, tokenizer, Path(directory), seed)


def build_tiny_moe(
    directory: str | Path,
    *,
    family: Literal["qwen3_moe", "deepseek_v3"] = "qwen3_moe",
    seed: int = 0,
    hidden: int = 192,
    layers: int = 3,
    heads: int = 6,
    kv_heads: int = 2,
    experts: int = 8,
    experts_per_token: int = 2,
    intermediate: int = 192,
    max_positions: int = 1024,
    words: Sequence[str] = WORDS,
) -> Path:
    """The same with a mixture of experts of this width in each layer, of which a token goes to some.

    qwen3_moe: 3.0 M parameters, of which a token meets 1.0 M. deepseek_v3: latent attention, which has no kv_heads, the
    first layer dense, and one expert shared by all tokens: 2.6 M and 1.3 M.
    """
    _check(hidden, layers, heads, kv_heads)
    tokenizer = build_tokenizer(words, max_positions)
    shared = _shared(tokenizer, hidden, max_positions)
    shared |= {"num_hidden_layers": layers, "num_attention_heads": heads, "moe_intermediate_size": intermediate}
    shared |= {"intermediate_size": 2 * intermediate, "num_experts_per_tok": experts_per_token}
    head = hidden // heads
    config: PretrainedConfig
    if family == "qwen3_moe":
        shared |= {"num_experts": experts, "num_key_value_heads": kv_heads, "head_dim": head, "norm_topk_prob": True}
        config = Qwen3MoeConfig(**shared)
    else:
        config = DeepseekV3Config(
            n_routed_experts=experts, num_key_value_heads=heads, first_k_dense_replace=1, n_group=1, topk_group=1,
            q_lora_rank=None, kv_lora_rank=hidden // 2, qk_rope_head_dim=head // 2, qk_nope_head_dim=head // 2,
            v_head_dim=head, **shared,
        )  # fmt: skip
    return _write(config, tokenizer, Path(directory), seed)


def _shared(tokenizer: PreTrainedTokenizerFast, hidden: int, max_positions: int) -> dict[str, Any]:
    """What the configs of all families have in common."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "max_position_embeddings": max_positions,
        # The families' own 0.02 is meant for a width of thousands; at this width a model started so hardly learns.
        "initializer_range": hidden**-0.5,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }


def _write(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, directory: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build_tokenizer(words: Sequence[str] = WORDS, max_length: int = 1024) -> PreTrainedTokenizerFast:
    """Bytes as tokens, digits never joined, plus one token for each of `words`; any text survives a round trip."""
    vocab, merges = byte_vocabulary(words)
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (PAD, START, END)])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def byte_vocabulary(words: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The 256 bytes, then each word joined from left to right: merges (W, h), (Wh, a), (Wha, t)."""
    vocab = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for word in words:
        symbols = "".join(piece for piece, _ in pre_tokenizers.ByteLevel(False, False).pre_tokenize_str(word))
        for end in range(1, len(symbols)):
            pair = (symbols[:end], symbols[end])
            if "".join(pair) not in vocab:
                vocab["".join(pair)] = len(vocab)
                merges.append(pair)
    return vocab, merges


def _check(hidden: int, layers: int, heads: int, kv_heads: int) -> None:
    """ValueError for a shape that attention cannot have."""
    if min(hidden, layers, heads, kv_heads) < 1:
        raise ValueError(
            f"a tiny model needs positive sizes, got hidden={hidden}, layers={layers}, heads={heads}, "
            f"kv_heads={kv_heads}"
        )
    if hidden % (2 * heads):
        raise ValueError(f"hidden={hidden} must be a multiple of 2 * heads = {2 * heads}: a rotary head is even")
    if heads % kv_heads:
        raise ValueError(f"heads={heads} must be a multiple of kv_heads={kv_heads}")
