"""What the other terms of a recipe said of the same completion: the correctness that shaping rewards depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from rl.experience import Verdict

RIGHT = 1.0  # a term that reaches this calls the completion correct

T = TypeVar("T")


def values_of(terms: Mapping[str, T], name: str, option: str = "correct") -> T:
    """The values of the term `name`; ValueError that lists the terms if the recipe has none of that name."""
    if name not in terms:
        known = ", ".join(terms) or "none"
        raise ValueError(f"{option}={name} must name another term of the recipe's rewards; it has {known}")
    return terms[name]


def unknown(name: str) -> Verdict:
    """For a completion of which nobody knows whether it is correct: no shaping either."""
    return Verdict(state="undecided", reason=f"{name} gave no value, so it is unknown whether this is correct")
