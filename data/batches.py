"""Which problems come in which order: a pure function of the seed and of the place in the order.

n  problems of the data set
p  place in the endless order of training problems; without a filter also the index of the prompt made of it
e  epoch, p // n: the e-th pass over all problems
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.problem import Problem
from rl.experience import Prompt

ALL = "all"  # the name of the one source where data sets are not weighted


class Batches:
    """The order of training problems, and the prompts of a step where none is passed over. Each epoch is a new order.

    Nothing is kept between calls but the order of the latest epoch, so a run that resumes at step s reads what a
    run that never stopped would have read.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        build: Callable[[Problem, int], Prompt],
        *,
        prompts_per_step: int,
        seed: int,
        number: int = 0,
    ) -> None:
        """number: which of several sources this is, from 1; they have orders of their own."""
        if not problems:
            raise ValueError("training needs at least one problem, data.train gave none")
        if prompts_per_step < 1:
            raise ValueError(f"batch.prompts must be at least 1, got {prompts_per_step}")
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        self.problems = problems
        self.prompts_per_step = prompts_per_step
        self._build = build
        self._seed, self._number = seed, number
        self._order: tuple[int, NDArray[np.int64]] = (0, permutation(len(problems), seed, 0, number))

    def at(self, step: int) -> list[Prompt]:
        """The prompts of one step, all ranks together. No problem comes twice before every problem came once."""
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        start = step * self.prompts_per_step
        return [self.prompt(self.candidate(ALL, p), p) for p in range(start, start + self.prompts_per_step)]

    def epoch(self, step: int) -> float:
        """How many passes over the problems lie behind `step`, where none is passed over."""
        return step * self.prompts_per_step / len(self.problems)

    # What rl/collect.py asks of a stream

    @property
    def sizes(self) -> Mapping[str, int]:
        """Source -> how many problems it has."""
        return {ALL: len(self.problems)}

    def source(self, index: int) -> str:
        """Where the prompt of this index comes from."""
        return ALL

    def candidate(self, source: str, place: int) -> Problem:
        """The problem at a place of the endless order."""
        epoch, offset = divmod(place, len(self.problems))
        if self._order[0] != epoch:
            self._order = (epoch, permutation(len(self.problems), self._seed, epoch, self._number))
        return self.problems[self._order[1][offset]]

    def prompt(self, problem: Problem, index: int) -> Prompt:
        return self._build(problem, index)


def permutation(size: int, seed: int, epoch: int, number: int = 0) -> NDArray[np.int64]:
    """The order of the problems in one epoch: [size], every index once.

    Seed and epoch enter as two words of a SeedSequence: with seed + epoch, epoch 1 of seed 0 would be epoch 0 of
    seed 1. The problems are sorted by raw draws, because numpy keeps the raw stream of PCG64 for ever but may change
    `Generator.permutation` (NEP 19), and then a resumed run would repeat problems. number: of the source, 0 where
    there is one (a third word of 0 would give the same draws as none).
    """
    words = (seed, epoch, number) if number else (seed, epoch)
    draws = np.random.PCG64(np.random.SeedSequence(words)).random_raw(size)
    return np.argsort(draws, kind="stable")
