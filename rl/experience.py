"""The values that flow from prompts to scored groups. No torch here: reward workers import this module.

G  completions of one prompt
C  tokens of one completion
P  tokens of one prompt
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from data.problem import Problem

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem as the policy reads it: rendered by a template and tokenised, once."""

    problem: Problem
    index: int  # position in the endless stream of training prompts; seeds the sampling of its completions
    text: str  # what the template made of the messages, special tokens written out
    token_ids: tuple[int, ...]  # [P]
    prefix: str = ""  # the end of `text` that already belongs to the answer, "<think>" for some templates
    conversational: bool = False  # rendered by the tokenizer's chat template; rewards in TRL's style then get messages

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ValueError(f"problem {self.problem.id}: the prompt has no tokens")
        if not self.text.endswith(self.prefix):
            raise ValueError(f"problem {self.problem.id}: the prompt does not end with its prefix {self.prefix!r}")


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer to a prompt. No padding: both lists have length C."""

    text: str  # without the end-of-sequence token
    token_ids: list[int]  # the end-of-sequence token included if it was sampled
    logprobs: list[float]  # nats, under the policy and temperature that sampled them
    finish_reason: FinishReason  # "length": cut at sampling.max_tokens
    policy_step: int  # optimizer steps behind the weights that sampled it

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(
                f"a completion needs one logprob per token, got {len(self.logprobs)} logprobs "
                f"for {len(self.token_ids)} tokens"
            )
        if not self.token_ids:
            raise ValueError("a completion needs at least one token, the end-of-sequence token if nothing else")


@dataclass(frozen=True, slots=True)
class Group:
    """G completions of one prompt, sampled by one policy."""

    prompt: Prompt
    completions: tuple[Completion, ...]  # [G]

    def __post_init__(self) -> None:
        if not self.completions:
            raise ValueError(f"problem {self.prompt.problem.id}: a group needs at least one completion")


@dataclass(frozen=True, slots=True)
class Failure:
    """A reward that gave no value for one completion: the grader is broken or too slow, the answer is not wrong."""

    term: str  # name of the reward
    index: int  # which completion of the group
    kind: Literal["error", "timeout"]
    message: str


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group and its rewards. A reward is NaN where a term failed; such a completion is not trained on."""

    group: Group
    rewards: tuple[float, ...]  # [G], the weighted sum; NaN exactly where a term failed
    terms: Mapping[str, tuple[float, ...]]  # reward name -> [G], before weighting
    failures: tuple[Failure, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.group.completions)
        for name, values in {"rewards": self.rewards, **self.terms}.items():
            if len(values) != size:
                raise ValueError(f"{name} needs {size} values, one per completion, got {len(values)}")

    @property
    def scored(self) -> tuple[bool, ...]:
        """[G], True where every term gave a value."""
        return tuple(not math.isnan(reward) for reward in self.rewards)

    @property
    def informative(self) -> bool:
        """Whether any two scored completions differ in reward: else the group teaches nothing."""
        values = {reward for reward in self.rewards if not math.isnan(reward)}
        return len(values) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How completions are drawn. Temperature 0 is greedy."""

    completions: int = 8  # per prompt: the group size G
    max_tokens: int = 1024  # a completion longer than this is cut, finish_reason "length"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    min_p: float = 0.0
    stop: tuple[str, ...] = ()  # texts that end a completion; they stay in its text

    def __post_init__(self) -> None:
        for name, ok, needed in (
            ("completions", self.completions >= 1, "at least 1"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("min_p", 0 <= self.min_p < 1, "in [0, 1)"),
        ):
            if not ok:
                raise ValueError(f"sampling.{name} must be {needed}, got {getattr(self, name)}")
        object.__setattr__(self, "stop", tuple(self.stop))
