"""The problems that a recipe names. No torch here: tools that need no model start at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.problem import Problem
from rl.binding import build

WEIGHT = "weight"  # of a training data set; all other keys are options of its function


def load_problems(sections: Mapping[str, Any], key: str) -> list[Problem]:
    """The problems of every data set of a section, one after the other."""
    return [problem for problems in load_data_sets(sections, key).values() for problem in problems]


def load_data_sets(sections: Mapping[str, Any], key: str) -> dict[str, list[Problem]]:
    """Name -> its problems."""
    if not sections:
        raise ValueError(f"{key} names no data set; for example {key}.mine={{_target_: data.jsonl.jsonl, path: FILE}}")
    data_sets: dict[str, list[Problem]] = {}
    for name, section in sections.items():
        try:
            options = dict(section)
            if key == "data.train":
                options.pop(WEIGHT, None)
            found = build(options, f"{key}.{name}")
        except ValueError as error:
            words = str(error).replace(f"{key}.<name>", f"{key}.{name}")
            raise ValueError(words if f"{key}.{name}" in words else f"{key}.{name}: {words}") from error
        if not found:
            raise ValueError(f"{key}.{name} has no problems")
        data_sets[str(name)] = found
    return data_sets


def weights(sections: Mapping[str, Any]) -> dict[str, float] | None:
    """data.train: name -> its weight; None where none has one: then each problem is as likely as any other."""
    given = {str(name): section[WEIGHT] for name, section in sections.items() if WEIGHT in section}
    if not given:
        return None
    for name, weight in given.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ValueError(f"data.train.{name}.weight must be a number, got {weight!r}")
    lacking = [str(name) for name in sections if str(name) not in given]
    if lacking:
        raise ValueError(
            f"data.train.{lacking[0]}.weight is missing while data.train.{next(iter(given))} has one: "
            "give one to every data set, or to none"
        )
    return {name: float(weight) for name, weight in given.items()}
