"""What became of rewards under test: results are counted here, printed as a table and written as JSON.

case     one completion with what is expected of it         result   what one reward term made of a case
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal["gold", "notation", "attack"]
SHOWN_CHARS = 160
EXAMPLES = 8  # of one kind of failure in the printed report; the JSON has them all
COLUMNS = (
    *("term", "golds right", "bad golds", "false accepts", "false rejects", "undecided", "hangs", "crashes", "values"),
    *("p50 ms", "p99 ms", "items/s", "worst ms"),
)
UNUSABLE = ("timeout", "error")


@dataclass(frozen=True, slots=True)
class Case:
    """One completion, and what a reward about correctness should make of it."""

    phase: Phase
    name: str  # "hedge: gold or wrong"
    problem_id: str
    gold: str
    text: str
    expected: Literal["right", "never right", "anything"]


@dataclass(frozen=True, slots=True)
class Result:
    """What one term made of one case."""

    state: str  # one of rl.experience.State; "ok" and "wrong" have a value
    value: float  # NaN without one
    seconds: float  # NaN where it was not measured
    message: str = ""


@dataclass(slots=True)
class Failure:
    """Something that a reward should not do."""

    kind: str  # "false accept", "gold not right", "false reject", "hang", "crash", "executed"
    case: Case
    result: Result

    def to_json(self) -> dict[str, Any]:
        """Long texts are cut; NaN is null."""
        plain = {**asdict(self.case), **asdict(self.result), "kind": self.kind}
        plain["text"] = shown(self.case.text, 2000)
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in plain.items()}


@dataclass(slots=True)
class TermReport:
    """All about one term. `outcome`: it says right or wrong; of others only hangs, crashes and speed are judged."""

    name: str
    outcome: bool
    right: float  # the least value that says "right"
    tried: dict[str, int] = field(default_factory=lambda: {"gold": 0, "notation": 0, "attack": 0})
    golds_right: int = 0
    undecided: int = 0  # of golds and notations: an attack may well be undecided
    bad_golds: list[tuple[str, str, str]] = field(default_factory=list)  # problem id, gold, why
    failures: list[Failure] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    ordinary_s: list[float] = field(default_factory=list)  # seconds of golds and notations
    slowest_s: float = 0.0  # of attacks that gave a value
    partial: float = 0.0  # the highest value below `right` that an attack got
    first_without: str = ""  # why the first case without a value has none
    no_golds: str = ""  # why there was no gold to try

    def add(self, case: Case, result: Result) -> None:
        """Count one result."""
        self.tried[case.phase] += case.expected != "anything"
        if not math.isnan(result.value):
            self.values.append(result.value)
        else:
            self.first_without = self.first_without or f"{result.state}: {result.message}"
        if not math.isnan(result.seconds):
            if case.phase != "attack":
                self.ordinary_s.append(result.seconds)
            else:
                self.slowest_s = max(self.slowest_s, result.seconds)
        if result.state in UNUSABLE:
            self.failures.append(Failure("hang" if result.state == "timeout" else "crash", case, result))
        elif self.outcome:
            self._judge(case, result)

    def _judge(self, case: Case, result: Result) -> None:
        is_right = result.value >= self.right  # NaN is not
        if case.phase == "attack":
            if is_right and case.expected == "never right":
                self.failures.append(Failure("false accept", case, result))
            elif not is_right and not math.isnan(result.value):
                self.partial = max(self.partial, result.value)
            return
        self.undecided += result.state == "undecided"
        self.golds_right += is_right and case.phase == "gold"
        if result.state == "bad_gold":
            if case.phase == "gold":
                self.bad_golds.append((case.problem_id, case.gold, result.message))
        elif not is_right:
            self.failures.append(Failure("gold not right" if case.phase == "gold" else "false reject", case, result))

    def count(self, kind: str) -> int:
        return sum(failure.kind == kind for failure in self.failures)

    def short_of(self, min_golds: float, min_notations: float) -> list[str]:
        """Why this term falls short; nothing if it does not."""
        found = [f"{kind}: {self.count(kind):,}" for kind in WORST if self.count(kind)]
        if not self.values and self.first_without:
            found.append(f"no value for anything; {printable(shown(self.first_without))}")
        if not self.outcome:
            return found
        if not self.tried["gold"] and min_golds > 0:
            found.append(f"no gold could be tried: {self.no_golds or 'there was none'} (min_golds=0 allows it)")
        shares = {
            "golds right": (self.golds_right, self.tried["gold"], min_golds),
            "other notations right": (self.notations_right, self.tried["notation"], min_notations),
        }
        for what, (good, all_, needed) in shares.items():
            if good < needed * all_:
                found.append(f"{good:,} of {all_:,} {what}" + (f", {needed:.1%} needed" if needed < 1 else ""))
        return found

    @property
    def notations_right(self) -> int:
        return self.tried["notation"] - self.count("false reject") - self._of("notation")

    def _of(self, phase: Phase) -> int:
        """Hangs and crashes of a phase."""
        return sum(failure.kind in ("hang", "crash") and failure.case.phase == phase for failure in self.failures)

    def to_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "tried": self.tried,
            "golds_right": self.golds_right,
            "bad_golds": [{"id": id, "gold": gold, "reason": why} for id, gold, why in self.bad_golds],
            "false_accepts": self.count("false accept"),
            "false_rejects": self.count("false reject"),
            "executed": self.count("executed"),
            "hangs": self.count("hang"),
            "crashes": self.count("crash"),
            "undecided": self.undecided,
            "values": [min(self.values), max(self.values)] if self.values else None,
            "p50_ms": milliseconds(percentile(self.ordinary_s, 0.5)),
            "p99_ms": milliseconds(percentile(self.ordinary_s, 0.99)),
            "items_per_s": rate(self.ordinary_s),
            "slowest_attack_ms": milliseconds(self.slowest_s),
            "failures": [failure.to_json() for failure in self.failures],
        }


WORST = ("executed", "false accept", "hang", "crash")  # never allowed


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def rate(seconds: Sequence[float]) -> float | None:
    """Items a second of one worker."""
    return len(seconds) / sum(seconds) if seconds and sum(seconds) else None


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 4)


def table(terms: Iterable[TermReport]) -> list[str]:
    """One row a term, as lines of text."""
    rows = [list(COLUMNS)]
    for term in terms:
        about_answers = [
            f"{term.golds_right:,}/{term.tried['gold']:,}",
            f"{len(term.bad_golds):,}",
            f"{term.count('false accept'):,}/{term.tried['attack']:,}",
            f"{term.count('false reject'):,}/{term.tried['notation']:,}",
            f"{term.undecided:,}",
        ]
        span = f"{min(term.values):g} .. {max(term.values):g}" if term.values else "none"
        times = (percentile(term.ordinary_s, 0.5), percentile(term.ordinary_s, 0.99))
        speed = rate(term.ordinary_s)
        rows.append(
            [term.name + (" *" if term.outcome else "")]
            + (about_answers if term.outcome else ["-"] * 5)
            + [f"{term.count('hang'):,}", f"{term.count('crash'):,}", span]
            + [f"{1000 * time:.2f}" if time is not None else "-" for time in times]
            + [f"{speed:,.0f}" if speed else "-", f"{1000 * term.slowest_s:.0f}" if term.slowest_s else "-"]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def examples(term: TermReport) -> Iterator[str]:
    """Lines that show failures: one of each kind and name, with how often it happened."""
    for kind in ("executed", "false accept", "hang", "crash", "gold not right", "false reject"):
        named: dict[str, list[Failure]] = {}
        for failure in term.failures:
            if failure.kind == kind:
                named.setdefault(failure.case.name, []).append(failure)
        for failures in list(named.values())[:EXAMPLES]:
            yield from _example(failures)
        if len(named) > EXAMPLES:
            yield f"  {kind}: and {len(named) - EXAMPLES} more sorts; report=FILE has them all"


def _example(failures: Sequence[Failure]) -> Iterator[str]:
    first, times = failures[0], f", {len(failures)} times" if len(failures) > 1 else ""
    case, result = first.case, first.result
    value = "no value" if math.isnan(result.value) else f"{result.value:g}"
    why = f": {printable(shown(result.message))}" if result.message else ""
    yield f"  {first.kind} ({printable(case.name)}{times}): {value}, {result.state}{why}"
    yield f"      {case.problem_id}, gold {shown(case.gold, 60)!r}"
    yield f"      {shown(case.text)!r}"


def printable(text: str) -> str:
    """One line that is safe for a terminal: what is not printable is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(text: str, chars: int = SHOWN_CHARS) -> str:
    """The text, or its two ends and its length."""
    if len(text) <= chars:
        return text
    return f"{text[: chars // 2]} ... [{len(text):,} characters] ... {text[-chars // 2 :]}"


def report_json(
    words: str, terms: Sequence[TermReport], short: Mapping[str, Sequence[str]], notes: Sequence[str]
) -> dict[str, Any]:
    """All of it, for report=FILE."""
    return {
        "rewards": words,
        "passed": not any(short.values()),
        "falls_short": {name: list(reasons) for name, reasons in short.items() if reasons},
        "notes": list(notes),
        "terms": {term.name: term.to_json() for term in terms},
    }
