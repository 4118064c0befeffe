"""Prompts in, scored groups out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from rl.experience import Group, Prompt, SamplingParams, ScoredGroup
from rl.rollout import RolloutEngine

Score = Callable[[Sequence[Group]], list[ScoredGroup]]
Time = Callable[[str], AbstractContextManager[None]]  # time("score") adds the seconds inside to time/score_s


def collect(
    prompts: Sequence[Prompt], rollout: RolloutEngine, score: Score, params: SamplingParams, *, seed: int, time: Time
) -> list[ScoredGroup]:
    """This rank's groups of one step, in the order of its prompts."""
    with time("rollout"), rollout.awake():
        groups = rollout.generate(prompts, params, seed)
    with time("score"):
        return score(groups)
