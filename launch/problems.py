"""The problems that a recipe names. No torch here: tools that need no model start at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.problem import Problem
from rl.binding import build


def load_problems(sections: Mapping[str, Any], key: str) -> list[Problem]:
    """The problems of every data set of a section, one after the other."""
    if not sections:
        raise ValueError(f"{key} names no data set; for example {key}.mine={{_target_: data.jsonl.jsonl, path: FILE}}")
    problems: list[Problem] = []
    for name, section in sections.items():
        try:
            found = build(section, f"{key}.{name}")
        except ValueError as error:
            words = str(error).replace(f"{key}.<name>", f"{key}.{name}")
            raise ValueError(words if f"{key}.{name}" in words else f"{key}.{name}: {words}") from error
        if not found:
            raise ValueError(f"{key}.{name} has no problems")
        problems += found
    return problems
