"""Prompts in, scored groups out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from rl.experience import Completion, Group, Prompt, SamplingParams, ScoredGroup
from rl.rollout import RolloutEngine

Time = Callable[[str], AbstractContextManager[None]]  # time("score") adds the seconds inside to time/score_s


class Scoring(Protocol):
    """rl.scoring.Scorer, or what stands in for it."""

    def begin(self, prompt: Prompt, completion: Completion) -> None:
        """Starts on a completion and returns at once."""
        ...

    def score(self, groups: Sequence[Group]) -> list[ScoredGroup]:
        """Waits for what was begun, and does the rest."""
        ...


def collect(
    prompts: Sequence[Prompt],
    rollout: RolloutEngine,
    scoring: Scoring,
    params: SamplingParams,
    *,
    seed: int,
    time: Time,
) -> list[ScoredGroup]:
    """This rank's groups of one step, in the order of its prompts. Each completion goes to its rewards as it ends."""
    with time("rollout"), rollout.awake():
        groups = rollout.generate(prompts, params, seed, finished=lambda i, _, done: scoring.begin(prompts[i], done))
    with time("score"):
        return scoring.score(groups)
