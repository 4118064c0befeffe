"""GGUF import: a file written here, with known weights, comes out as a directory with the same model."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[1]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
NAMES = {  # GGUF's names for the weights of one layer
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch/import_gguf.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def main(monkeypatch):
    """The script's main, in this process: transformers is loaded already."""
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # the script replaces the first entry
    return importlib.import_module("launch.import_gguf").main


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def interleave(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rotary pairs (i, i + half) of each head as GGUF keeps them: next to each other."""
    return weight.view(heads, 2, -1, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)


def write_gguf(model: LlamaForCausalLM, path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", state["model.norm.weight"].numpy())
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, ours in NAMES.items():
        weight = state[f"model.layers.0.{ours}.weight"]
        weight = interleave(weight, heads[name]) if name in heads else weight
        writer.add_tensor(f"blk.0.{name}.weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_becomes_a_model_directory_with_the_same_weights_and_tokenizer(main, tmp_path, capsys):
    model = make_model()
    write_gguf(model, tmp_path / "tiny.gguf")
    main([str(tmp_path / "tiny.gguf"), str(tmp_path / "out" / "tiny"), "--question", "ab?"])
    printed = capsys.readouterr().out
    assert "asked 'ab?', it says" in printed
    assert "eos '<|im_end|>' (2), pad '<|endoftext|>' (0), chat template: yes" in printed

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "tiny").eval()
    token_ids = torch.arange(3, 33)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(token_ids).logits, model(token_ids).logits)
    assert loaded.dtype == torch.float32
    assert loaded.generation_config.eos_token_id == 2

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "tiny")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "ab"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>ab<|im_end|><|im_start|>"
    assert tokenizer(text)["input_ids"] == [1, TOKENS.index("ab"), 2, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tiny.gguf"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny"]


def test_a_damaged_gguf_leaves_nothing_behind(main, tmp_path):
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    write_gguf(model, tmp_path / "tiny.gguf")
    with pytest.raises(SystemExit, match=r"1 weights are not finite, the first is model\.norm\.weight"):
        main([str(tmp_path / "tiny.gguf"), str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_what_is_not_a_gguf_is_refused_by_name(tmp_path):
    assert "nowhere.gguf: no such file" in run(tmp_path / "nowhere.gguf", tmp_path / "out").stderr
    (tmp_path / "zip.gguf").write_bytes(b"PK\x03\x04rest")
    assert "is not a GGUF file: it starts with b'PK" in run(tmp_path / "zip.gguf", tmp_path / "out").stderr
    (tmp_path / "big-00001-of-00003.gguf").write_bytes(b"GGUF")
    assert "is one of 3 parts" in run(tmp_path / "big-00001-of-00003.gguf", tmp_path / "out").stderr
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    made = run(tmp_path / "tiny.gguf", tmp_path / "out")
    assert made.returncode == 1
    assert "out exists and is not an empty directory" in made.stderr
    assert (tmp_path / "out" / "kept").exists()


def test_without_the_gguf_package_the_remedy_is_named(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    program = (
        "import runpy, sys; sys.modules['gguf'] = None; "
        f"sys.argv = ['import_gguf', {str(tmp_path / 'tiny.gguf')!r}, {str(tmp_path / 'out')!r}]; "
        f"runpy.run_path({str(ROOT / 'launch/import_gguf.py')!r}, run_name='__main__')"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "pip install gguf" in made.stderr
