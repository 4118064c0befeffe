"""What two arms of benchmarks/learning.py need that no recipe has: a reward that is a coin, and a pupil who rambles."""

from __future__ import annotations

import hashlib
import random

from data.arithmetic import demonstrations
from data.problem import Problem
from rl.experience import Completion

CLOSE = "</think>"


def coin(problem: Problem, completion: Completion, *, seed: int = 0) -> float:
    """1.0 or 0.0, each for half of all texts, whatever they say: a hash of seed, problem and text.

    The same text on the same problem always has the same reward, as with a real one.
    """
    digest = hashlib.sha256(f"{seed}/{problem.id}/{completion.text}".encode()).digest()
    return float(digest[0] % 2)


def rambling(
    size: int, seed: int = 0, going_on: float = 0.9, longest: int = 90, **options: float
) -> list[tuple[Problem, str]]:
    """data.arithmetic.demonstrations (its options are `options`) of a pupil who hems before the end of the thinking.

    After the last step come n dots, P(n >= k) = going_on^k, at most `longest`: as many after right steps as after wrong
    ones, so that how long an answer is says nothing about it, and the policy is free to change it.
    """
    if not 0 <= going_on < 1:
        raise ValueError(f"cold_start.data.going_on must be in [0, 1), got {going_on}")
    rng = random.Random(f"rambling/{seed}")
    examples = []
    for problem, answer in demonstrations(size, seed, **options):  # type: ignore[arg-type]
        dots = 0
        while dots < longest and rng.random() < going_on:
            dots += 1
        examples.append((problem, answer.replace(CLOSE, "." * dots + CLOSE, 1)))
    return examples
