"""Which problems belong to which step: a pure function of (seed, step), the same for any number of ranks.

n  problems of the data set
p  position in the endless stream of training prompts: step * prompts_per_step + i
e  epoch, p // n: the e-th pass over all problems
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from data.problem import Problem
from rl.experience import Prompt


class Batches:
    """The stream of training prompts, addressed by step. Each epoch is a new order of all problems.

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
    ) -> None:
        if not problems:
            raise ValueError("training needs at least one problem, data.train gave none")
        if prompts_per_step < 1:
            raise ValueError(f"batch.prompts must be at least 1, got {prompts_per_step}")
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        self.problems = problems
        self.prompts_per_step = prompts_per_step
        self._build = build
        self._seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (0, permutation(len(problems), seed, 0))

    def at(self, step: int) -> list[Prompt]:
        """The prompts of one step, all ranks together. No problem comes twice before every problem came once."""
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        start = step * self.prompts_per_step
        return [self._prompt(position) for position in range(start, start + self.prompts_per_step)]

    def epoch(self, step: int) -> float:
        """How many passes over the problems lie behind `step`."""
        return step * self.prompts_per_step / len(self.problems)

    def _prompt(self, position: int) -> Prompt:
        epoch, place = divmod(position, len(self.problems))
        if self._order[0] != epoch:
            self._order = (epoch, permutation(len(self.problems), self._seed, epoch))
        return self._build(self.problems[self._order[1][place]], position)


def permutation(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the problems in one epoch: [size], every index once.

    Seed and epoch enter as two words of a SeedSequence: with seed + epoch, epoch 1 of seed 0 would be epoch 0 of
    seed 1. The problems are sorted by raw draws, because numpy keeps the raw stream of PCG64 for ever but may change
    `Generator.permutation` (NEP 19), and then a resumed run would repeat problems.
    """
    draws = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(size)
    return np.argsort(draws, kind="stable")
