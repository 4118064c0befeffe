"""Which problems are sampled next, and how many completions each gets: by their pass rates, if the recipe says so.

    q  a problem's pass rate of late, in [0, 1]
    c  how far the curriculum is, from 0 (easy) to 1 (hard)

All of it follows from the seed, the position and the pass rates at the beginning of the step, so every rank chooses
the same, and a run that was stopped chooses as one that was not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from data.problem import Problem
from rl.config import CollectConfig
from rl.difficulty import Difficulty
from rl.experience import Prompt

PATIENCE = 10_000  # candidates in a row, or as many as there are, after which the next is taken whatever its pass rate


class Stream(Protocol):
    """data.batches.Batches, data.mixing.Mixture, or what stands in for them: endless orders of problems."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Source -> how many problems it has."""
        ...

    def source(self, index: int) -> str:
        """Where the prompt of this index comes from."""
        ...

    def candidate(self, source: str, place: int) -> Problem:
        """The problem at a place of the source's endless order."""
        ...

    def prompt(self, problem: Problem, index: int) -> Prompt: ...


@dataclass(frozen=True, slots=True)
class Position:
    """Where the stream is: prompts made, and the next place in each source's order. Places passed over count too."""

    prompts: int
    places: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt to sample."""

    prompt: Prompt
    slots: int  # its group has slots x sampling.completions completions


class Selection:
    """Takes problems from a stream. `position` moves on; whoever wants to go back keeps an old one."""

    def __init__(
        self,
        stream: Stream,
        settings: CollectConfig,
        difficulty: Difficulty,
        position: Position,
        *,
        seed: int,
        progress: float,
    ) -> None:
        """progress: steps done, as a fraction of all."""
        self.stream, self.settings, self.difficulty, self.position = stream, settings, difficulty, position
        self.seed, self.progress = seed, progress
        self.num_candidates = 0  # looked at

    def take(self, slots: int) -> list[Choice]:
        """The next prompts, with as many slots together. One that needs more than are left gets what is left."""
        choices: list[Choice] = []
        while slots > 0:
            index = self.position.prompts
            problem = self._next(self.stream.source(index))
            wanted = min(slots, slots_of(self.difficulty.rate(problem), self.settings))
            choices.append(Choice(self.stream.prompt(problem, index), wanted))
            slots -= wanted
        return choices

    def _next(self, source: str) -> Problem:
        """The first problem of the source's order that is not passed over."""
        place = start = self.position.places.get(source, 0)
        patience = min(PATIENCE, self.stream.sizes[source])
        while True:
            problem = self.stream.candidate(source, place)
            chance = acceptance(self.difficulty.rate(problem), self.settings, self.progress)
            is_taken = chance >= 1 or place - start >= patience or uniform(self.seed, source, place) < chance
            place += 1
            if is_taken:
                self.num_candidates += place - start
                self.position = Position(self.position.prompts + 1, {**self.position.places, source: place})
                return problem


def slots_of(rate: float | None, settings: CollectConfig) -> int:
    """1, or collect.group_sizes.times for a problem known to be hard. More completions of a hard problem are more
    chances that one is right: as in DARS (arXiv:2508.13755), but in one go, from pass rates known before."""
    sizes = settings.group_sizes
    return sizes.times if rate is not None and rate < sizes.hard_below else 1


def acceptance(rate: float | None, settings: CollectConfig, progress: float) -> float:
    """The chance that a candidate is taken.

        1                                              unknown
        revisit                                        q outside collect.pass_rate
        exp(-(c - (1 - q))^2 / (2 width^2))            under a curriculum, c = progress^exponent
        1                                              else

    Problems taken with a chance proportional to a weight are problems drawn in proportion to it.
    """
    if rate is None:
        return 1.0
    if settings.pass_rate is not None and not in_range(rate, settings.pass_rate):
        return settings.revisit
    if not settings.curriculum.width:
        return 1.0
    centre = min(1.0, progress) ** settings.curriculum.exponent
    return math.exp(-(((centre - (1 - rate)) / settings.curriculum.width) ** 2) / 2)


def in_range(rate: float | None, bounds: Sequence[float]) -> bool:
    """Whether collect.pass_rate=[lowest, highest] keeps a problem; one without a pass rate it does."""
    return rate is None or bounds[0] <= rate <= bounds[1]


def uniform(seed: int, source: str, place: int) -> float:
    """A number in [0, 1), the same on every machine."""
    digest = hashlib.blake2b(f"{seed} {place} {source}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
