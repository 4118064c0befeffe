"""Problems made by reasoning-gym: about a hundred kinds, without end and without a download (arXiv:2505.24760)."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from data.problem import Problem, ask
from data.rows import section

SPLITS = ("train", "test")
TEST_FRACTION = 0.2  # of all questions; a question is in one split, whatever seed and size
CHUNK = 100  # problems made at once: some generators make as many at the start as they are asked for
SEED_STRIDE = 10_000_000  # problem i of a seed is made from seed * SEED_STRIDE + i
MAX_DRAWS_PER_PROBLEM = 50


def reasoning_gym(
    split: str = "train",
    name: str = "chain_sum",
    size: int = 1000,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """`size` different problems of the kind `name`; the same arguments and release of reasoning-gym give the same.

    `config` is the kind's own, for example {min_terms: 2, max_terms: 3} for chain_sum.
    metadata: dataset (the name) and entry (question, answer and what its scorer needs), for
    rewards.reasoning_gym.reasoning_gym. The answer is one of possibly many, and empty where the library knows none.
    Raises ValueError for a name or config that the library does not have, and where there are not so many questions.
    """
    key = f"{section(split)}.{name}"
    if split not in SPLITS:
        raise ValueError(f"{key}.split must be one of {', '.join(SPLITS)}, got {split!r}")
    if size < 1:
        raise ValueError(f"{key}.size must be at least 1, got {size}")
    entries: dict[str, dict[str, Any]] = {}
    for drawn, entry in enumerate(_entries(key, name, seed, dict(config or {}))):
        if split_of(entry["question"]) == split:
            entries.setdefault(entry["question"], entry)
        if len(entries) == size:
            break
        if drawn > MAX_DRAWS_PER_PROBLEM * size + 1000:
            raise ValueError(f"{key}.size={size} different questions were not found, only {len(entries)}; lower it")
    return [_problem(f"reasoning_gym/{name}/{split}/{seed}/{i:05d}", name, e) for i, e in enumerate(entries.values())]


def split_of(question: str) -> str:
    """The split that a question belongs to, by its hash."""
    return "test" if zlib.crc32(question.encode()) / 2**32 < TEST_FRACTION else "train"


def _entries(key: str, name: str, seed: int, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The library's entries, without end."""
    from reasoning_gym import create_dataset  # half a second, and sympy: only where it is used
    from reasoning_gym.factory import DATASETS

    known = sorted(set(DATASETS) - {"composite"})  # a mixture is several data sets of a recipe
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise ValueError(f"{key}.name={name} is no kind of reasoning-gym; near are {', '.join(near or known)}")
    first = seed * SEED_STRIDE
    while True:
        try:
            chunk = create_dataset(name, **config, seed=first, size=CHUNK)
        except (TypeError, AssertionError, ValueError) as error:
            raise ValueError(f"{key}.config={config} is refused by reasoning-gym's {name}: {error}") from error
        yield from (chunk[index] for index in range(CHUNK))
        first += CHUNK


def _problem(id: str, name: str, entry: Mapping[str, Any]) -> Problem:
    answer = entry["answer"]
    return Problem(
        id=id,
        messages=ask(entry["question"]),
        answer="" if answer is None else str(answer),
        source=f"reasoning_gym/{name}",
        metadata={"dataset": name, "entry": dict(entry)},
    )
