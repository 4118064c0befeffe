"""DAPO-Math-17k: competition problems rewritten so that every answer is a whole number (arXiv:2503.14476, 3.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from data.hub import published
from data.problem import Problem, ask
from data.rows import answer_field, checked_limit, mapping_field, messages_field, section, text_field

# What the published prompts put around the problem: a recipe's data.wording can put it, or something else, back.
INSTRUCTED = re.compile(
    r"\s*Solve the following math problem step by step\.[^\n]*\n\n(.*)"
    r"\n\nRemember to put your answer on its own line[^\n]*\s*",
    re.DOTALL,
)


def dapo_math(split: str = "train", path: str | None = None, limit: int | None = None) -> list[Problem]:
    """The different problems (about 17 thousand, one split), from a local file or from the hub.

    `path`: dapo-math-17k.parquet as its authors published it, {"prompt": [{"role": "user", "content": ...}],
    "reward_model": {"ground_truth": "34"}, ...}, or a file of open-r1/DAPO-Math-17k-Processed, where "prompt" is the
    bare problem; that is also what is read from the hub. The authors' file has every problem a hundred times and takes
    minutes: later copies are left out. `limit` keeps the first different problems. The instruction around the problem
    is taken off.
    """
    key = f"{section(split)}.dapo_math"
    rows = published("open-r1/DAPO-Math-17k-Processed", split, config="all", path=path, key=key)
    return list(islice(_different(rows, split), checked_limit(limit, f"{key}.path")))


def _different(rows: Iterator[tuple[str, Mapping[str, Any]]], split: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for where, row in rows:
        question = _question(row, where)
        if question not in seen:
            yield Problem(
                id=f"dapo_math/{split}/{len(seen):05d}",
                messages=ask(question),
                answer=answer_field(
                    mapping_field(row, "reward_model", where), "ground_truth", f"{where}: 'reward_model'"
                ),
                source="dapo_math",
            )
            seen.add(question)


def _question(row: Mapping[str, Any], where: str) -> str:
    asked = row.get("prompt")
    text = (
        messages_field(row, "prompt", where)[-1]["content"]
        if isinstance(asked, list)
        else text_field(row, "prompt", where)
    )
    found = INSTRUCTED.fullmatch(text)
    return found[1].strip() if found else text.strip()
