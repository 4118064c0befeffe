"""GSM8K: 8.5 thousand grade-school word problems (Cobbe et al., arXiv:2110.14168)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from data.hub import published
from data.problem import Problem, ask
from data.rows import section, shorten, text_field

HOME = "https://github.com/openai/grade-school-math/tree/master/grade_school_math/data"
NUMBER = re.compile(r"-?\d+(\.\d+)?")
CALCULATION = re.compile(r"<<[^<>]*>>")  # "48/2 = <<48/2=24>>24": notes for a calculator, not for a reader


def gsm8k(split: str = "train", path: str | None = None, limit: int | None = None) -> list[Problem]:
    """The problems of one split (train: 7,473; test: 1,319), from a local file or from hub openai/gsm8k.

    `path`: a JSONL file in GSM8K's own format, {"question": ..., "answer": "... #### 72"}.
    The answer is the number after "####" without thousands commas; metadata["solution"] is the worked solution
    before it, without calculator notes. Ids are "gsm8k/train/00017"; `limit` keeps the first rows.
    """
    key = f"{section(split)}.gsm8k"
    instead = f"download {split}.jsonl from {HOME} and give {key}.path={split}.jsonl"
    rows = published("openai/gsm8k", split, config="main", path=path, key=key, limit=limit, instead=instead)
    return [_problem(row, where, f"gsm8k/{split}/{index:05d}") for index, (where, row) in enumerate(rows)]


def _problem(row: Mapping[str, Any], where: str, id: str) -> Problem:
    solution, number = split_answer(text_field(row, "answer", where), where)
    return Problem(
        id=id,
        messages=ask(text_field(row, "question", where)),
        answer=number,
        source="gsm8k",
        metadata={"solution": solution},
    )


def split_answer(text: str, where: str) -> tuple[str, str]:
    """The worked solution, and the number after "####".

    >>> split_answer("She sold 4/2 = <<4/2=2>>2 clips.\\n#### 1,002", "line 1")
    ('She sold 4/2 = 2 clips.', '1002')
    """
    solution, marker, final = text.rpartition("####")
    number = final.strip().replace(",", "")
    if not marker or not NUMBER.fullmatch(number):
        raise ValueError(f"{where}: 'answer' must end with '#### ' and a number, found {shorten(text[-40:])}")
    return CALCULATION.sub("", solution).strip(), number
