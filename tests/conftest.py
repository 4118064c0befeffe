"""What many tests need: a problem, quick ways to a completion and a prompt, and a model that every engine runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

for limit in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before anything imports torch
    os.environ.setdefault(limit, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from data.problem import Problem, ask  # noqa: E402
from rl.experience import Completion, Prompt  # noqa: E402


@pytest.fixture
def problem() -> Problem:
    return Problem(id="sums/train/1", messages=ask("What is 2 + 2?"), answer="4", source="sums")


@pytest.fixture
def make_completion() -> Callable[..., Completion]:
    def make(text: str, **fields: Any) -> Completion:
        """A completion with one token per character (at least one), unless told otherwise."""
        token_ids = fields.pop("token_ids", [ord(char) for char in text[:64]] or [0])
        defaults = {"logprobs": [-1.0] * len(token_ids), "finish_reason": "stop", "policy_step": 0}
        return Completion(text=text, token_ids=token_ids, **(defaults | fields))

    return make


@pytest.fixture
def make_prompt(problem: Problem) -> Callable[..., Prompt]:
    def make(prefix: str = "", **fields: Any) -> Prompt:
        """A prompt for `problem` (or problem=...) whose text ends with `prefix`."""
        defaults = {"problem": problem, "index": 0, "text": "What is 2 + 2?\n" + prefix, "token_ids": (1, 2, 3)}
        return Prompt(prefix=prefix, **(defaults | fields))

    return make


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with heads of 32, which vLLM on a CPU can serve too. A file may have another one."""
    from rl.tiny import build_tiny_model

    directory = tmp_path_factory.mktemp("common") / "model"
    return str(build_tiny_model(directory, hidden=192, heads=6, kv_heads=2, layers=2))


@pytest.fixture(scope="module")
def tokenizer(path: str) -> Any:
    from rl.policy import load_tokenizer

    return load_tokenizer(path)


@pytest.fixture
def prompts(tokenizer: Any) -> list[Prompt]:
    from vllm_claims import prompts_of

    return prompts_of(tokenizer)
