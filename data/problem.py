"""A problem: what the policy is asked, and what only the rewards may know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of a data set. The policy sees `messages` and nothing else."""

    id: str  # unique within its source: "gsm8k/train/00017"
    messages: tuple[Message, ...]  # what the policy may see, oldest first; the last is the user's
    answer: str  # what only the rewards may see
    source: str  # dataset name; metrics are split by it
    metadata: Mapping[str, Any] = field(default_factory=dict)  # unit tests, choices, difficulty

    def __post_init__(self) -> None:
        if not self.messages or self.messages[-1]["role"] != "user":
            raise ValueError(f"problem {self.id}: the last message must be the user's, got {list(self.messages)!r}")
        if not self.messages[-1]["content"].strip():
            raise ValueError(f"problem {self.id}: the question is empty")

    @property
    def question(self) -> str:
        """The last user message: for most data sets the whole problem."""
        return self.messages[-1]["content"]


def ask(question: str) -> tuple[Message, ...]:
    """The messages of a problem that is one question."""
    return ({"role": "user", "content": question},)
