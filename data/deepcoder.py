"""DeepCoder's programming problems with tests: TACO, PrimeIntellect and LiveCodeBench (Luo et al. 2025, Notion)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data.hub import published
from data.problem import Problem, ask
from data.rows import field, section, shorten, text_field

SUBSETS = ("primeintellect", "taco", "lcbv5", "codeforces")
FROM_INPUT = "Write a Python program that reads its input from standard input and prints its answer to standard output."
FROM_START = "Complete this Python code:"
IN_A_BLOCK = "Put the whole program into one ```python block at the end."


def deepcoder(
    subset: str = "taco", split: str = "train", path: str | None = None, limit: int | None = None
) -> list[Problem]:
    """The problems of one subset and split, from a local file or from hub agentica-org/DeepCoder-Preview-Dataset.

    Training: primeintellect, taco, lcbv5 (24 thousand together); held out: lcbv5 and codeforces, split test.
    `path`: {"problem": ..., "tests": ..., "starter_code": ..., "metadata": {"func_name": ...}}, of which the first two
    are needed. How the program shall be written is added to the question. metadata, for rewards.code_tests.code_tests:
    tests, as they are (a list, a mapping or JSON text), and fn_name where the tests call a function. `limit` keeps the
    first rows.
    """
    key = f"{section(split)}.{'livecodebench' if subset == 'lcbv5' else subset}"  # as recipes/ has them
    if subset not in SUBSETS:
        raise ValueError(f"{section(split)}.<name>.subset must be one of {', '.join(SUBSETS)}, got {subset!r}")
    rows = published("agentica-org/DeepCoder-Preview-Dataset", split, config=subset, path=path, key=key, limit=limit)
    return [
        _problem(row, where, subset, f"deepcoder/{subset}/{split}/{index:05d}")
        for index, (where, row) in enumerate(rows)
    ]


def _problem(row: Mapping[str, Any], where: str, subset: str, id: str) -> Problem:
    tests = field(row, "tests", where)
    if not tests:
        raise ValueError(f"{where}: 'tests' is empty")
    name = _function(row, where)
    return Problem(
        id=id,
        messages=ask(_question(row, where)),
        answer="",  # any program that passes
        source=f"deepcoder/{subset}",
        metadata={"tests": tests} if name is None else {"tests": tests, "fn_name": name},
    )


def _question(row: Mapping[str, Any], where: str) -> str:
    start = row.get("starter_code")
    how = (
        f"{FROM_START}\n\n```python\n{start.rstrip()}\n```" if isinstance(start, str) and start.strip() else FROM_INPUT
    )
    return f"{text_field(row, 'problem', where).strip()}\n\n{how}\n{IN_A_BLOCK}"


def _function(row: Mapping[str, Any], where: str) -> str | None:
    """Which function the tests call, if they call one: metadata.func_name, where metadata may be JSON text."""
    known = row.get("metadata") or {}
    if isinstance(known, str):
        try:
            known = json.loads(known)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: 'metadata' is not JSON ({error.msg}): {shorten(known)}") from error
    name = known.get("func_name") if isinstance(known, Mapping) else None
    return str(name) if name else None
