"""The values that flow from prompts to scored groups. No torch here: reward workers import this module.

G  completions of one prompt
C  tokens of one completion
P  tokens of one prompt
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

from data.problem import Problem

FinishReason = Literal["stop", "length"]

# What became of one reward for one completion. Only the first two carry a value.
State = Literal["ok", "wrong", "no_answer", "undecided", "timeout", "error", "bad_gold"]


class Verdict(float):
    """A reward that also says how it came about; as a number it is its value, 0.0 for every state without one.

    A reward returns one where a bare number would hide the difference between a wrong answer and none, an undecidable
    one, or a problem whose own answer cannot be read: Verdict(1.0), Verdict(0.0), Verdict(state="no_answer"),
    Verdict(state="bad_gold", reason="..."). A bare number is "ok", or "wrong" if it is 0.
    """

    state: State
    reason: str

    def __new__(cls, value: float = 0.0, *, state: State | None = None, reason: str = "") -> Self:
        state = state or ("ok" if value else "wrong")
        if state not in get_args(State):
            raise ValueError(f"a verdict's state must be one of {', '.join(get_args(State))}, got {state!r}")
        if value and state != "ok":
            raise ValueError(f"a verdict of state {state} carries no value, got {value}")
        verdict = super().__new__(cls, value)
        verdict.state, verdict.reason = state, reason
        return verdict

    @property
    def graded(self) -> bool:
        """Whether it carries a value."""
        return self.state in ("ok", "wrong")

    def __reduce__(self) -> tuple[Callable[..., Verdict], tuple[float, State, str]]:
        return _verdict, (float(self), self.state, self.reason)

    def __repr__(self) -> str:
        return f"Verdict({float(self)}, state={self.state!r}, reason={self.reason!r})"


def _verdict(value: float, state: State, reason: str) -> Verdict:
    return Verdict(value, state=state, reason=reason)


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
class Routing:
    """Which experts the routers of a sampler chose: for each token that was its input, in each layer with a router.

    As bytes, for there are many: 1,000 tokens through 48 layers that choose 8 experts are 384 kB.
    """

    tokens: int
    layers: int
    top_k: int  # experts of a token in a layer
    data: bytes  # [tokens, layers, top_k] whole numbers of one byte each, or two, the lower first

    def __post_init__(self) -> None:
        if len(self.data) not in (self.size, 2 * self.size):
            raise ValueError(
                f"the routing of {self.tokens} tokens in {self.layers} layers with {self.top_k} experts each needs "
                f"{self.size} bytes, or twice as many, got {len(self.data)}"
            )

    @property
    def size(self) -> int:
        """How many numbers it is."""
        return self.tokens * self.layers * self.top_k

    @property
    def bytes_per_expert(self) -> int:
        return 2 if len(self.data) > self.size else 1


NOT_RECORDED = Routing(0, 0, 0, b"")  # of a dense model, and of a sampler that was not asked


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer to a prompt. No padding: both lists have length C."""

    text: str  # without the end-of-sequence token
    token_ids: list[int]  # the end-of-sequence token included if it was sampled
    logprobs: list[float]  # nats, under the policy and temperature that sampled them
    finish_reason: FinishReason  # "length": cut at sampling.max_tokens
    policy_step: int  # optimizer steps behind the weights that sampled it
    routing: Routing = NOT_RECORDED  # of all tokens but the last, which ended the completion and was nobody's input

    def __post_init__(self) -> None:
        if self.routing.layers and self.routing.tokens != len(self.token_ids) - 1:
            raise ValueError(
                f"a completion of {len(self.token_ids)} tokens needs the routing of all but the last, "
                f"got that of {self.routing.tokens}"
            )
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
    prompt_routing: Routing = NOT_RECORDED  # of the prompt's P tokens, once for all completions

    def __post_init__(self) -> None:
        if self.prompt_routing.layers and self.prompt_routing.tokens != len(self.prompt.token_ids):
            raise ValueError(
                f"problem {self.prompt.problem.id}: a prompt of {len(self.prompt.token_ids)} tokens needs the routing "
                f"of each, got that of {self.prompt_routing.tokens}"
            )
        if not self.completions:
            raise ValueError(f"problem {self.prompt.problem.id}: a group needs at least one completion")


@dataclass(frozen=True, slots=True)
class Failure:
    """A reward that gave no value for one completion. Only no_answer is the completion's own doing."""

    term: str  # name of the reward
    index: int  # which completion of the group
    kind: State  # never ok or wrong
    message: str


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group and its rewards. A reward is NaN where a term gave no value; such a completion is not trained on."""

    group: Group
    rewards: tuple[float, ...]  # [G], the terms combined; NaN where a term that counts has no value
    terms: Mapping[str, tuple[float, ...]]  # reward name -> [G], before weighting; NaN: no value, or 0 if so told
    failures: tuple[Failure, ...] = ()  # every verdict without a value, also where the recipe makes it 0
    seconds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # reward name -> [G], what the call took

    def __post_init__(self) -> None:
        size = len(self.group.completions)
        for name, values in {"rewards": self.rewards, **self.terms}.items():
            if len(values) != size:
                raise ValueError(f"{name} needs {size} values, one per completion, got {len(values)}")

    @property
    def scored(self) -> tuple[bool, ...]:
        """[G], True where the completion has a reward."""
        return tuple(not math.isnan(reward) for reward in self.rewards)

    @property
    def informative(self) -> bool:
        """Whether any two scored completions differ in reward: else the group teaches nothing."""
        values = {reward for reward in self.rewards if not math.isnan(reward)}
        return len(values) > 1

    def states(self, term: str) -> tuple[State, ...]:
        """[G]: what became of each completion under one term."""
        failed = {failure.index: failure.kind for failure in self.failures if failure.term == term}
        plain: tuple[State, State] = ("wrong", "ok")
        return tuple(failed.get(i, plain[value != 0]) for i, value in enumerate(self.terms[term]))


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
