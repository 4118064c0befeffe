"""AIME: the 30 problems of a year, each with a whole number from 0 to 999 as answer. For evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from data.hub import published
from data.problem import Problem, ask
from data.rows import answer_field, shorten, text_field

HUB = {2024: "HuggingFaceH4/aime_2024", 2025: "yentinglin/aime_2025"}
NUMBER = re.compile(r"0*([0-9]{1,3})(?:\.0)?")


def aime(year: int = 2024, split: str = "train", path: str | None = None, limit: int | None = None) -> list[Problem]:
    """The problems of one year, from a local file, {"problem": ..., "answer": "073"}, or from the hub.

    The hub calls its only split train, but nobody should train on it. Answers lose their leading zeros.
    """
    key = f"eval.data.aime{year % 100}"  # as recipes/eval has it
    if path is None and year not in HUB:
        known = ", ".join(map(str, HUB))
        raise ValueError(f"eval.data.<name>.year must be one of {known}, or give the path of a file; got {year}")
    rows = published(HUB.get(year, ""), split, path=path, key=key, limit=limit)
    return [
        Problem(
            id=f"aime/{year}/{index:02d}",
            messages=ask(text_field(row, "problem", where)),
            answer=_number(row, where),
            source=f"aime_{year}",
        )
        for index, (where, row) in enumerate(rows)
    ]


def _number(row: Mapping[str, Any], where: str) -> str:
    answer = answer_field(row, "answer", where)
    found = NUMBER.fullmatch(answer.strip())
    if not found:
        raise ValueError(f"{where}: 'answer' must be a whole number from 0 to 999, found {shorten(answer)}")
    return found[1]
