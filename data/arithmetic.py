"""Sums and differences of several single digits, with the running total written step by step.

The embedded data set: problems without end, no download. A problem is `What is 7+8-3?`, its answer `12`, and the
reasoning we hope for is

    <think>7+8=15
    15-3=12</think><answer>12</answer>

`worked_example` writes such completions for a cold start, as a careless pupil does: where a carry or a borrow is
needed, the pupil often falls for one of two well-known procedural bugs (Brown and Burton, "Diagnostic models for
procedural bugs in basic mathematical skills", Cognitive Science 2, 1978). A model fitted to these examples knows the
format, copies reliably and calculates badly; what is left to learn is correctness.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass

from data.problem import Problem, ask

SPLITS = ("train", "test")
TEST_SHARE = 5  # one question in so many belongs to the test split
LARGEST_TOTAL = 99  # running totals stay in 0 .. 99
CAREFUL_FIRST, CAREFUL_SHARE = 0.65, 0.15  # of the demonstrations; see there
MAX_TERMS = 12

QUESTION = re.compile(r"What is (\d(?:[+-]\d)+)\?")


@dataclass(frozen=True, slots=True)
class Chain:
    """The first number, then (sign, digit) for each step: 7+8-3 is Chain(7, (("+", 8), ("-", 3)))."""

    first: int
    steps: tuple[tuple[str, int], ...]

    @property
    def text(self) -> str:
        return str(self.first) + "".join(f"{sign}{digit}" for sign, digit in self.steps)

    @property
    def total(self) -> int:
        return self.first + sum(digit if sign == "+" else -digit for sign, digit in self.steps)


def arithmetic(
    split: str,
    size: int,
    seed: int = 0,
    min_terms: int = 4,
    max_terms: int = 5,
    minus_fraction: float = 0.3,
    borrow: bool = False,
) -> list[Problem]:
    """`size` different problems of min_terms to max_terms digits each; the same arguments give the same problems.

    A question belongs to one split by its hash, whatever the seed: nothing in "test" is ever in "train".
    minus_fraction is the share of steps that subtract where the total allows it; with `borrow` also those that need
    to borrow, which adds a second kind of mistake to unlearn.
    Raises ValueError where an argument is out of range or so many different questions do not exist.
    """
    _check(split, size, min_terms, max_terms, minus_fraction)
    rng = random.Random(f"arithmetic/{split}/{seed}")
    chains: dict[str, Chain] = {}
    attempts = 0
    while len(chains) < size:
        chain = draw_chain(rng, rng.randint(min_terms, max_terms), minus_fraction, borrow)
        if split_of(chain) == split:
            chains.setdefault(chain.text, chain)
        attempts += 1
        if attempts > 100 * size + 10_000:
            raise ValueError(
                f"data.{split}.arithmetic.size={size} different questions of {min_terms} to {max_terms} terms were "
                f"not found, only {len(chains)}; lower the size or raise data.{split}.arithmetic.max_terms"
            )
    return [_problem(f"arithmetic/{split}/{seed}/{i:05d}", chain) for i, chain in enumerate(chains.values())]


def draw_chain(rng: random.Random, num_terms: int, minus_fraction: float, borrow: bool = False) -> Chain:
    """Digits 1 to 9; a step subtracts with probability minus_fraction, if it can without a borrow (or below zero)."""
    first = total = rng.randint(1, 9)
    steps = []
    for _ in range(num_terms - 1):
        digit = rng.randint(1, 9)
        takes = rng.random() < minus_fraction and digit <= (total if borrow else total % 10)
        minus = takes or total + digit > LARGEST_TOTAL
        steps.append(("-" if minus else "+", digit))
        total += -digit if minus else digit
    return Chain(first, tuple(steps))


def split_of(chain: Chain) -> str:
    """The split a question belongs to, by its hash."""
    digest = hashlib.sha256(chain.text.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % TEST_SHARE == 0 else "train"


def worked_example(problem: Problem, rng: random.Random, carelessness: float = 1.0) -> str:
    """A completion in the exact format whose steps are those of a careless pupil; the answer is what the steps give.

    Each step that carries or borrows goes wrong with probability `carelessness` (see `careless`), and also where the
    right result of the pupil's own wrong total would leave 0 .. 99.
    """
    if not 0 <= carelessness <= 1:
        raise ValueError(f"carelessness must be in [0, 1], got {carelessness}")
    chain = chain_of(problem)
    total, lines = chain.first, []
    for sign, digit in chain.steps:
        result = calculate(total, sign, digit)
        if rng.random() < carelessness or not 0 <= result <= LARGEST_TOTAL:
            result = careless(total, sign, digit)
        lines.append(f"{total}{sign}{digit}={result}")
        total = result
    return "<think>" + "\n".join(lines) + f"</think><answer>{total}</answer>"


def calculate(total: int, sign: str, digit: int) -> int:
    """total + digit or total - digit."""
    return total + digit if sign == "+" else total - digit


def careless(total: int, sign: str, digit: int) -> int:
    """The result with the bug: the carry forgotten, or the smaller digit taken from the larger; both totals >= 0.

    >>> careless(17, "+", 8), careless(32, "-", 5), careless(11, "+", 3)
    (15, 33, 14)
    """
    tens, ones = divmod(total, 10)
    return 10 * tens + ((ones + digit) % 10 if sign == "+" else abs(ones - digit))


def chain_of(problem: Problem) -> Chain:
    """The chain that a question of this data set asks for; ValueError for a question of another."""
    match = QUESTION.fullmatch(problem.question)
    if match is None:
        raise ValueError(f"problem {problem.id}: expected a question like 'What is 7+8-3?', got {problem.question!r}")
    expression = match[1]
    steps = re.findall(r"([+-])(\d)", expression)
    return Chain(int(expression[0]), tuple((sign, int(digit)) for sign, digit in steps))


def _problem(id_: str, chain: Chain) -> Problem:
    return Problem(
        id=id_,
        messages=ask(f"What is {chain.text}?"),
        answer=str(chain.total),
        source="arithmetic",
        metadata={"start": chain.first, "operations": [f"{sign}{digit}" for sign, digit in chain.steps]},
    )


def _check(split: str, size: int, min_terms: int, max_terms: int, minus_fraction: float) -> None:
    """ValueError for an argument out of range, naming its recipe key."""
    if split not in SPLITS:
        raise ValueError(f"data.train.arithmetic.split must be one of {', '.join(SPLITS)}, got {split!r}")
    for name, value, ok, needed in (
        ("size", size, size >= 1, "at least 1"),
        ("min_terms", min_terms, min_terms >= 2, "at least 2"),
        ("max_terms", max_terms, min_terms <= max_terms <= MAX_TERMS, f"in min_terms={min_terms} .. {MAX_TERMS}"),
        ("minus_fraction", minus_fraction, 0 <= minus_fraction <= 1, "in [0, 1]"),
    ):
        if not ok:
            raise ValueError(f"data.{split}.arithmetic.{name} must be {needed}, got {value}")


def demonstrations(
    size: int,
    seed: int = 0,
    careful_first: float = CAREFUL_FIRST,
    careful_share: float = CAREFUL_SHARE,
    min_terms: int = 4,
    max_terms: int = 5,
    minus_fraction: float = 0.3,
    borrow: bool = False,
) -> list[tuple[Problem, str]]:
    """`size` training problems, each with a worked example: what the cold start learns from, in this order.

    The first `careful_first` of them are right: they teach to calculate. In the rest one pupil in 1 / careful_share
    still is, and the others make every mistake they can: they teach bad habits, which the RL is to overcome.
    """
    for name, value in (("careful_first", careful_first), ("careful_share", careful_share)):
        if not 0 <= value <= 1:
            raise ValueError(f"cold_start.data.{name} must be in [0, 1], got {value}")
    rng = random.Random(f"demonstrations/{seed}")
    problems = arithmetic("train", size, seed, min_terms, max_terms, minus_fraction, borrow)
    careful = [i < careful_first * size or rng.random() < careful_share for i in range(size)]
    return [(p, worked_example(p, rng, 0.0 if c else 1.0)) for p, c in zip(problems, careful, strict=True)]
