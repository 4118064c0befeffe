"""How two scorings of the same completions differ.

verdict   right (a value of at least `right`), wrong (another value), or no value
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from launch.reward_report import printable, shown
from rl.experience import ScoredGroup

Verdict = Literal["right", "wrong", "no value"]
EXAMPLES = 3  # of one kind of change
END_CHARS = 200  # of a completion, where its answer stands


@dataclass(frozen=True, slots=True)
class Example:
    """One completion whose verdict changed."""

    place: str  # file and problem
    gold: str
    old: float
    new: float
    why: str  # of a failure
    text: str


@dataclass(slots=True)
class Changes:
    """Counts over all files: the new term beside the old one, and the means of everything."""

    new_term: str
    old_term: str
    right: float
    num_files: int = 0
    num_groups: int = 0
    old_values: list[float] = field(default_factory=list)  # of old_term
    new_values: list[float] = field(default_factory=list)  # of new_term, completion by completion
    old_columns: dict[str, list[float]] = field(default_factory=dict)  # "reward" and every term
    new_columns: dict[str, list[float]] = field(default_factory=dict)
    moved: Counter[tuple[Verdict, Verdict]] = field(default_factory=Counter)
    examples: dict[tuple[Verdict, Verdict], list[Example]] = field(default_factory=dict)

    def add(self, old: Sequence[ScoredGroup], new: Sequence[ScoredGroup], file: str) -> None:
        """The groups of one file, before and after. ValueError where the old ones lack the term."""
        self.num_files += 1
        for before, after in zip(old, new, strict=True):
            self.num_groups += 1
            if self.old_term not in before.terms:
                known = ", ".join(before.terms)
                raise ValueError(f"{file}: against={self.old_term} was not recorded there; there are {known}")
            for columns, scored in ((self.old_columns, before), (self.new_columns, after)):
                for name, values in {"reward": scored.rewards, **scored.terms}.items():
                    columns.setdefault(name, []).extend(values)
            self._compare(before, after, file)

    def _compare(self, before: ScoredGroup, after: ScoredGroup, file: str) -> None:
        old, new = before.terms[self.old_term], after.terms[self.new_term]
        self.old_values += old
        self.new_values += new
        why = {failure.index: failure.message for failure in after.failures if failure.term == self.new_term}
        problem = after.group.prompt.problem
        for i, (was, is_now) in enumerate(zip(old, new, strict=True)):
            move = (verdict(was, self.right), verdict(is_now, self.right))
            self.moved[move] += 1
            shown_ones = self.examples.setdefault(move, [])
            if move[0] != move[1] and len(shown_ones) < EXAMPLES:
                text = after.group.completions[i].text
                place = f"{file}: {problem.id}, completion {i}"
                shown_ones.append(Example(place, problem.answer, was, is_now, why.get(i, ""), text))

    def lines(self) -> Iterator[str]:
        """The comparison, to print."""
        total = len(self.new_values)
        changed = sum(count for (was, is_now), count in self.moved.items() if was != is_now)
        yield f"{total:,} completions of {self.num_groups:,} prompts in {self.num_files:,} files"
        yield from self._means()
        yield (
            f"{self.new_term} now against {self.old_term} as recorded: {changed:,} verdicts changed"
            + (f" ({changed / total:.2%})" if total else "")
            + f"; correlation of the values {_correlation_in_words(self.old_values, self.new_values)}"
        )
        for move, count in sorted(self.moved.items(), key=lambda item: -item[1]):
            if move[0] == move[1]:
                continue
            yield f"  {move[0]} -> {move[1]}: {count:,}"
            for example in self.examples[move]:
                yield f"    {example.place}: gold {shown(example.gold, 60)!r}, {_number(example.old)} -> " + (
                    _number(example.new) + (f" ({printable(shown(example.why))})" if example.why else "")
                )
                yield (
                    f"        ...{example.text[-END_CHARS:]!r}"
                    if len(example.text) > END_CHARS
                    else (f"        {example.text!r}")
                )

    def _means(self) -> Iterator[str]:
        names = [*self.new_columns, *(name for name in self.old_columns if name not in self.new_columns)]
        title = "mean over those with a value"
        width = max(map(len, [*names, title]))
        yield f"{title.ljust(width)}  {'old':>9}  {'new':>9}  {'no value, old':>13}  {'new':>9}"
        for name in names:
            cells = [_mean(columns.get(name)) for columns in (self.old_columns, self.new_columns)]
            empty = [_num_empty(columns.get(name)) for columns in (self.old_columns, self.new_columns)]
            yield f"{name.ljust(width)}  {cells[0]:>9}  {cells[1]:>9}  {empty[0]:>13}  {empty[1]:>9}"


def verdict(value: float, right: float) -> Verdict:
    if math.isnan(value):
        return "no value"
    return "right" if value >= right else "wrong"


def correlation(old: Sequence[float], new: Sequence[float]) -> float | None:
    """Pearson's, over the completions with both values; None where one of them is constant or there are none."""
    pairs = [pair for pair in zip(old, new, strict=True) if all(map(math.isfinite, pair))]
    if not pairs:
        return None
    means = [math.fsum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    away = [(x - means[0], y - means[1]) for x, y in pairs]
    spread = math.sqrt(math.fsum(x * x for x, _ in away) * math.fsum(y * y for _, y in away))
    return math.fsum(x * y for x, y in away) / spread if spread else None


def _correlation_in_words(old: Sequence[float], new: Sequence[float]) -> str:
    found = correlation(old, new)
    return "has no meaning: one of them is constant" if found is None else f"{found:.3f}"


def _mean(values: Sequence[float] | None) -> str:
    if values is None:
        return "-"
    known = [value for value in values if not math.isnan(value)]
    return f"{math.fsum(known) / len(known):.4f}" if known else "no value"


def _num_empty(values: Sequence[float] | None) -> str:
    return "-" if values is None else f"{sum(map(math.isnan, values)):,}"


def _number(value: float) -> str:
    return "no value" if math.isnan(value) else f"{value:g}"
