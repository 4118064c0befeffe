"""Several data sets in given shares: which one each prompt comes from, a pure function of the seed and its index.

w_k  the weight of source k, as a share of all weights
u_i  in [0, 1), for the prompt of index i
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from data.batches import Batches
from data.problem import Problem
from rl.experience import Prompt

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, to the nearest odd number
WORD = 1 << 64
MIX = 0x6D6978  # a word of the seed that no order of problems has


class Mixture:
    """Sources in the shares of their weights; each keeps its own order and its own epochs.

        u_i = frac(u_0 + i / golden ratio)        the source k whose part of [0, 1), of length w_k, holds u_i

    A Weyl sequence, in whole numbers modulo 2^64. It spreads more evenly than chance (Niederreiter, Random Number
    Generation and Quasi-Monte Carlo Methods, 1992, section 3.1): of the first N prompts a source has w_k N within a
    few, where draws at random would be off by the square root of N. u_0 comes from the seed.
    """

    def __init__(self, sources: Mapping[str, Batches], weights: Mapping[str, float], *, seed: int) -> None:
        """ValueError for weights that are no shares; keys of `weights` are names of data.train."""
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"data.train.{name}.weight must be 0 or more, got {weight}")
        total = sum(weights.values())
        if not total > 0:
            raise ValueError("data.train.<name>.weight is 0 for every data set; one at least must be above 0")
        self.shares = {name: weights[name] / total for name in sources}
        self._sources = sources
        self._start = int(np.random.PCG64(np.random.SeedSequence((seed, MIX))).random_raw())
        self._ends = [round(end * WORD) for end in accumulate(self.shares.values())]
        last = max(k for k, share in enumerate(self.shares.values()) if share > 0)
        self._ends[last:] = [WORD] * (len(self._ends) - last)  # rounding leaves no gap at the end

    @property
    def sizes(self) -> Mapping[str, int]:
        """Source -> how many problems it has."""
        return {name: len(batches.problems) for name, batches in self._sources.items()}

    def source(self, index: int) -> str:
        """Where the prompt of this index comes from."""
        here = (self._start + index * GOLDEN) % WORD
        return next(name for name, end in zip(self._sources, self._ends, strict=True) if here < end)

    def candidate(self, source: str, place: int) -> Problem:
        """The problem at a place of the source's endless order."""
        return self._sources[source].candidate(source, place)

    def prompt(self, problem: Problem, index: int) -> Prompt:
        return next(iter(self._sources.values())).prompt(problem, index)

    def epochs(self, prompts: int) -> dict[str, float]:
        """Source -> how often this many prompts go through it, where none is passed over."""
        return {name: prompts * share / self.sizes[name] for name, share in self.shares.items()}
