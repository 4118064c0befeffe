"""Countdown: reach a target from a few numbers with + - * /, each number used once. Read from a file or generated."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from data.problem import Problem, ask
from data.rows import field, load_rows, section, shorten

SPLITS = ("train", "test")
TEST_FRACTION = 0.1  # of all sets of numbers; the sets of the test split are never used in training
SIZES = (3, 4)  # how many numbers a problem gives
LARGEST = 99  # numbers are 1..99
TARGETS = range(10, 100)


def countdown(
    split: str = "train", path: str | None = None, size: int = 2000, seed: int = 0, limit: int | None = None
) -> list[Problem]:
    """Problems from a JSONL file, {"nums": [34, 13, 44], "target": 65, "solution": "44 + (34 - 13)"}, or generated.

    `path`: the file, of which `limit` keeps the first rows; `solution` may be absent.
    Without it `size` problems are generated from `seed`, each solvable by construction, and no set of numbers is in
    both splits, whatever the sizes and seeds.

    metadata: nums (list[int]), target (int), and solution (one expression of many) where known. The answer is the
    target as text: which expression reaches it is free.
    """
    key = f"{section(split)}.countdown"
    if split not in SPLITS:
        raise ValueError(f"{key}.split must be one of {', '.join(SPLITS)}, got {split!r}")
    if path is None and size < 1:
        raise ValueError(f"{key}.size must be at least 1, got {size}")
    rows = generate(split, size, seed) if path is None else load_rows(path, f"{key}.path", limit)
    return [_problem(row, where, f"countdown/{split}/{index:05d}") for index, (where, row) in enumerate(rows)]


def question(nums: Sequence[int], target: int) -> str:
    """How the task is put to the policy. It says nothing of tags: that is the template's part."""
    numbers = ", ".join(map(str, nums[:-1])) + f" and {nums[-1]}"
    return (
        f"Combine the numbers {numbers} into an arithmetic expression that equals {target}. Use every number exactly "
        "once and no other number. Allowed are +, -, *, / and parentheses. The final answer is the expression alone, "
        "for example (1 + 2) / 3."
    )


def _problem(row: Mapping[str, Any], where: str, id: str) -> Problem:
    nums, target = field(row, "nums", where), field(row, "target", where)
    if not isinstance(nums, list) or len(nums) < 2 or not all(type(num) is int for num in nums):
        raise ValueError(f"{where}: 'nums' must be a list of two or more integers, found {shorten(nums)}")
    if type(target) is not int:
        raise ValueError(f"{where}: 'target' must be an integer, found {shorten(target)}")
    return Problem(
        id=id,
        messages=ask(question(nums, target)),
        answer=str(target),
        source="countdown",
        metadata={**row, "nums": nums, "target": target},
    )


def generate(split: str, size: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """`size` different solvable rows of one split; the same arguments always give the same rows."""
    draw = random.Random(f"countdown/{split}/{seed}")
    seen: set[tuple[tuple[int, ...], int]] = set()
    while len(seen) < size:
        nums = [draw.randint(1, LARGEST) for _ in range(draw.choice(SIZES))]
        if split_of(nums) != split:
            continue
        value, solution = random_expression(nums, draw)
        if value not in TARGETS or value in nums:
            continue
        key = (tuple(sorted(nums)), int(value))
        if key not in seen:
            seen.add(key)
            yield f"generated row {len(seen)}", {"nums": nums, "target": int(value), "solution": solution}


def split_of(nums: Sequence[int]) -> str:
    """The split that a set of numbers belongs to: a hash of the numbers, so no list of them needs to be kept."""
    share = zlib.crc32(" ".join(map(str, sorted(nums))).encode()) / 2**32
    return "test" if share < TEST_FRACTION else "train"


def random_expression(nums: Sequence[int], draw: random.Random) -> tuple[Fraction, str]:
    """A random expression over all the numbers, exact: join two parts at a time until one is left."""
    parts = [(Fraction(num), str(num)) for num in nums]
    while len(parts) > 1:
        (left, left_text), (right, right_text) = (parts.pop(draw.randrange(len(parts))) for _ in range(2))
        operator = draw.choice("+-*/" if right else "+-*")
        value = apply(operator, left, right)
        text = f"{left_text} {operator} {right_text}"
        parts.append((value, f"({text})" if parts else text))
    return parts[0]


def apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    """left operator right, exactly."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right
