"""What is measured: models with random weights, prompts and sizes. Nothing is downloaded.

The models end a sequence as often as a work says, so that completions vary in length as in a real run; with a model and
prompts of one's own (`--model`, `--prompts`) they end when it wants.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Work:
    """One row of the table."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    prompts: int
    completions: int
    max_tokens: int
    prompt_tokens: tuple[int, int]  # the shortest and the longest prompt
    end_probability: float  # of each token to be the last; 0: all completions reach max_tokens
    dtype: str  # what each side trains in at its best
    rollout_dtype: str  # and samples in
    tokens_per_micro_batch: int = 8192
    trl_micro_batches: int = 1


WORKS = {
    "1m": Work(
        hidden=160, layers=3, heads=5, kv_heads=1, intermediate=448, vocabulary=320, prompts=8, completions=8,
        max_tokens=96, prompt_tokens=(8, 16), end_probability=1 / 40, dtype="float32", rollout_dtype="float32",
    ),
    "10m": Work(
        hidden=320, layers=8, heads=8, kv_heads=2, intermediate=896, vocabulary=1024, prompts=32, completions=8,
        max_tokens=128, prompt_tokens=(8, 16), end_probability=1 / 60, dtype="bfloat16", rollout_dtype="bfloat16",
    ),
    "135m": Work(
        hidden=576, layers=30, heads=9, kv_heads=3, intermediate=1536, vocabulary=49152, prompts=8, completions=8,
        max_tokens=64, prompt_tokens=(60, 140), end_probability=0, dtype="bfloat16", rollout_dtype="bfloat16",
        tokens_per_micro_batch=4096, trl_micro_batches=4,
    ),
    "update-135m": Work(
        hidden=576, layers=30, heads=9, kv_heads=3, intermediate=1536, vocabulary=49152, prompts=2, completions=8,
        max_tokens=64, prompt_tokens=(200, 200), end_probability=0, dtype="bfloat16", rollout_dtype="bfloat16",
        tokens_per_micro_batch=4096,
    ),
}  # fmt: skip


def build(work: Work, directory: Path) -> str:
    """Writes the model and a tokenizer of its vocabulary, whose words are w0, w1, ..."""
    config = LlamaConfig(
        hidden_size=work.hidden, num_hidden_layers=work.layers, num_attention_heads=work.heads,
        num_key_value_heads=work.kv_heads, intermediate_size=work.intermediate, vocab_size=work.vocabulary,
        tie_word_embeddings=True, max_position_embeddings=2048, bos_token_id=None, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    _let_it_end(model, work.end_probability)
    model.save_pretrained(directory)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(work.vocabulary)}, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0", pad_token="w1").save_pretrained(directory)
    return str(directory)


@torch.no_grad()
def _let_it_end(model: LlamaForCausalLM, probability: float) -> None:
    """Gives every embedding a common part, and the end token more of it, until it is as likely as wanted."""
    embedding = model.get_input_embeddings().weight
    common = torch.nn.functional.normalize(torch.randn(embedding.shape[1]), dim=0)
    embedding += 2 * embedding.norm(dim=1).mean() * common
    hidden = model.model(torch.randint(2, len(embedding), (16, 32))).last_hidden_state.flatten(0, 1)
    others, along = hidden @ embedding.T, (hidden @ common).unsqueeze(1)
    low, high = -10.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        logits = others.clone()
        logits[:, :1] += middle * along
        likely = torch.softmax(logits, dim=-1)[:, 0].mean() > probability
        low, high = (low, middle) if likely else (middle, high)
    embedding[0] += low * common


def prompts_of(work: Work, model: str, file: str | None, count: int) -> list[str]:
    """As many texts as asked for: drawn words, or the questions of a JSONL in GSM8K's format."""
    if file is None:
        draw = random.Random(0)
        sizes = [draw.randint(*work.prompt_tokens) for _ in range(count)]
        return [" ".join(f"w{draw.randrange(2, work.vocabulary)}" for _ in range(size)) for size in sizes]
    tokenizer = AutoTokenizer.from_pretrained(model)
    questions = [json.loads(line)["question"] for line in Path(file).read_text().splitlines()[:count]]
    if tokenizer.chat_template is None:
        return questions
    chats = [[{"role": "user", "content": question}] for question in questions]
    return [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]


def completions_of(work: Work, count: int) -> list[list[int]]:
    """Completions for benchmarks of the update alone: drawn tokens, max_tokens of them."""
    draw = random.Random(1)
    return [[draw.randrange(2, work.vocabulary) for _ in range(work.max_tokens)] for _ in range(count)]


def parity(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """A reward in TRL's form that costs nothing and differs within a group."""
    return [float(sum(ids) % 2) for ids in completion_ids]
