"""MATH: competition mathematics in five levels (Hendrycks et al., arXiv:2103.03874), split for training and MATH-500.

The split is that of PRM800K (Lightman et al., arXiv:2305.20050): 500 of the 5,000 test problems are held out, MATH-500,
and the other 4,500 join the 7,500 for training: "MATH 12k". Levels 3 to 5 of it are what Oat-Zero and SimpleRL-Zoo
train on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from data.hub import published
from data.problem import Problem, ask
from data.rows import answer_field, checked_limit, field, shorten, text_field

HUB = {"train": "nlile/hendrycks-MATH-benchmark", "test": "HuggingFaceH4/MATH-500"}
LEVEL = re.compile(r"(?:Level )?([1-5])")


def hendrycks_math(
    split: str = "train", path: str | None = None, levels: list[int] | None = None, limit: int | None = None
) -> list[Problem]:
    """The problems of one split (train: 12,000; test: 500), from a local file or from the hub.

    `path`: {"problem": ..., "answer": "14", "level": 3, "subject": ..., "solution": ...}, of which the first two are
    needed. `levels` keeps these, [3, 4, 5] for example, and then "level" is needed too (3 or "Level 3").
    `limit` keeps the first problems of those. metadata: level, subject and solution, where known.
    """
    key = "data.train.math" if split == "train" else "eval.data.math500"  # as recipes/ has them
    if split not in HUB:
        raise ValueError(f"{key}.split must be one of {', '.join(HUB)}, got {split!r}")
    if levels is not None and not set(levels) <= {1, 2, 3, 4, 5}:
        raise ValueError(f"{key}.levels must be of 1 to 5, got {list(levels)}")
    rows = published(HUB[split], split, path=path, key=key)
    problems = _problems(rows, split, None if levels is None else set(levels))
    found = list(islice(problems, checked_limit(limit, f"{key}.path")))
    if not found:
        raise ValueError(f"{key}: no problem is of {key}.levels={levels}")
    return found


def _problems(rows: Iterator[tuple[str, Mapping[str, Any]]], split: str, levels: set[int] | None) -> Iterator[Problem]:
    for index, (where, row) in enumerate(rows):
        level = _level(row, where) if "level" in row or levels is not None else None
        if levels is None or level in levels:
            known = {name: row[name] for name in ("subject", "solution") if row.get(name)}
            yield Problem(
                id=f"math/{split}/{index:05d}",
                messages=ask(text_field(row, "problem", where)),
                answer=answer_field(row, "answer", where),
                source="math",
                metadata=known if level is None else {**known, "level": level},
            )


def _level(row: Mapping[str, Any], where: str) -> int:
    found = LEVEL.fullmatch(str(field(row, "level", where)))
    if not found:
        raise ValueError(f'{where}: \'level\' must be 1 to 5, or "Level 1" to "Level 5", found {shorten(row["level"])}')
    return int(found[1])
