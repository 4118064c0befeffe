"""How often each problem was solved: attempts and right ones by source and id, kept through a resume.

A file of them is JSON lines, {"id": ..., "source": ..., "attempts": 8, "right": 3}, a problem a line. It comes from
launch/sample.py or from the checkpoint of another run (collect/pass_rates.jsonl), and goes into collect.pass_rates.
Other keys are not read, but for `question`, which tells whether an id still stands for the question that it stood for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.problem import Problem
from rl.outcome import Visit

FORGET = 0.5  # what earlier visits still count at each new one: the policy has moved since
Key = tuple[str, str]  # source, id


@dataclass(frozen=True, slots=True)
class Tried:
    """What is known of one problem. The recent numbers forget: each visit halves what was before it."""

    attempts: int
    right: int
    recent_attempts: float
    recent_right: float

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.attempts or not 0 <= self.recent_right <= self.recent_attempts:
            raise ValueError(f"needs 0 <= right <= attempts, got {self.right} of {self.attempts}")

    @property
    def rate(self) -> float:
        """Pass rate of late, in [0, 1]."""
        return self.recent_right / self.recent_attempts

    def after(self, attempts: int, right: int) -> Tried:
        return Tried(
            self.attempts + attempts,
            self.right + right,
            FORGET * self.recent_attempts + attempts,
            FORGET * self.recent_right + right,
        )


NEVER = Tried(0, 0, 0.0, 0.0)


class Difficulty:
    """The pass rates of the problems that were tried."""

    def __init__(self, known: Mapping[Key, Tried] | None = None) -> None:
        self._known: dict[Key, Tried] = dict(known or {})

    def __len__(self) -> int:
        return len(self._known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Difficulty) and self._known == other._known

    __hash__ = None  # type: ignore[assignment]

    def rate(self, problem: Problem) -> float | None:
        """Pass rate of late, in [0, 1]; None for a problem that was never tried."""
        tried = self._known.get((problem.source, problem.id))
        return None if tried is None else tried.rate

    def tried(self, problem: Problem) -> Tried:
        return self._known.get((problem.source, problem.id), NEVER)

    def after(self, visits: Iterable[Visit]) -> Difficulty:
        """With these added. A visit without a graded completion says nothing."""
        known = dict(self._known)
        for one in visits:
            if one.attempts:
                key = (one.source, one.id)
                known[key] = known.get(key, NEVER).after(one.attempts, one.right)
        return Difficulty(known)

    def of(self, problems: Iterable[Problem]) -> Difficulty:
        """What is known of these problems."""
        keys = {(problem.source, problem.id) for problem in problems}
        return Difficulty({key: tried for key, tried in self._known.items() if key in keys})

    def write(self, path: Path) -> None:
        rows = (
            {
                "id": id,
                "source": source,
                "attempts": tried.attempts,
                "right": tried.right,
                "recent_attempts": tried.recent_attempts,
                "recent_right": tried.recent_right,
            }
            for (source, id), tried in sorted(self._known.items())
        )
        with path.open("w", encoding="ascii") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def question_digest(problem: Problem) -> str:
    """A short name for what the policy is asked."""
    asked = json.dumps([dict(message) for message in problem.messages], sort_keys=True)
    return hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()


def check_questions(path: Path, problems: Iterable[Problem], key: str = "collect.pass_rates") -> None:
    """ValueError where a problem of the file, which read_pass_rates has read, is asked something else here.

    Ids are often row numbers: another file, split or seed of a data set has the same ones for other questions.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    asked = {(str(row["source"]), str(row["id"])): row["question"] for row in rows if "question" in row}
    for problem in problems:
        if asked.get((problem.source, problem.id)) not in (None, question_digest(problem)):
            raise ValueError(
                f"{key}={path} was measured on other problems: {problem.id} of {problem.source} is another question "
                "in data.train; measure again with launch/sample.py, or name the file that belongs to this data"
            )


def read_pass_rates(path: Path, key: str = "collect.pass_rates") -> Difficulty:
    """ValueError, with the file's line, for a line that is none, or a problem that comes twice."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{key}={path} cannot be read: {error}") from error
    known: dict[Key, Tried] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            name, tried = _parse(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f'{key}: {path}:{number} must look like {{"id": "...", "source": "...", "attempts": 8, "right": 3}}: '
                f"{type(error).__name__}: {error}"
            ) from error
        if name in known:
            raise ValueError(f"{key}: {path}:{number} names problem {name[1]} of {name[0]} a second time")
        if tried.attempts:
            known[name] = tried
    return Difficulty(known)


def _parse(row: Mapping[str, Any]) -> tuple[Key, Tried]:
    numbers = [row["attempts"], row["right"]]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"attempts and right must be whole numbers, got {numbers}")
    recent = [float(row.get("recent_attempts", numbers[0])), float(row.get("recent_right", numbers[1]))]
    return (str(row["source"]), str(row["id"])), Tried(*numbers, *recent)
