"""Rows of one's own: a JSON Lines file, one problem a line."""

from __future__ import annotations

from pathlib import Path

from data.problem import Problem
from data.rows import load_rows, problem_from_row

KEY = "data.train.<name>.path"  # or eval.data.<name>.path: a file has no split


def jsonl(
    path: str,
    question: str = "question",
    answer: str = "answer",
    messages: str | None = None,
    source: str | None = None,
    limit: int | None = None,
) -> list[Problem]:
    """The problems of a JSONL file: {"question": "2 + 2?", "answer": "4", "level": 1}.

    `question`, `answer` and `messages` name columns; with `messages` the column holds a whole conversation, and
    `question` is not read. Every other column goes to metadata. Ids are "<source>/00017", and `source` is the
    file's name without its ending unless given. `limit` keeps the first rows.

    Raises ValueError for a missing file, or with file and line number for the first malformed row.
    """
    name = source or Path(path).stem
    return [
        problem_from_row(
            row, where, id=f"{name}/{index:05d}", source=name, question=question, answer=answer, messages=messages
        )
        for index, (where, row) in enumerate(load_rows(path, KEY, limit))
    ]
