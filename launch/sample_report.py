"""The closing table of launch/sample.py: how hard the problems are for this policy, and what a filter would keep."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from launch.sample_files import PassRate
from rl.evaluate import interval_95
from rl.selection import in_range

BINS = 10
BAR = 40  # characters of the longest
RANGES = ((0.01, 0.99), (0.1, 0.9), (0.2, 0.8), (0.1, 0.5))  # of collect.pass_rate, for whoever does not know yet
COLUMNS = ("", "problems", "completions", "pass rate [95 % interval]", "0", "between", "1", "tokens", "cut")


def report(rates: Sequence[PassRate]) -> list[str]:
    """Lines of text."""
    sources = sorted({one.source for one in rates})
    parts = {source: [one for one in rates if one.source == source] for source in sources}
    rows = [COLUMNS, *(row(source, part) for source, part in parts.items())]
    if len(parts) > 1:
        rows.append(row("all", rates))
    known = [one for one in rates if one.attempts]
    ungraded = len(rates) - len(known)
    lines = ["", *aligned(rows), "", *histogram(known), "", *ranges(known)]
    if ungraded:
        lines.append(f"{ungraded:,} problems have no pass rate: their grader failed; `failures` in rollouts/ say why")
    return lines


def row(name: str, rates: Sequence[PassRate]) -> tuple[str, ...]:
    """One data set's."""
    known = [one for one in rates if one.attempts]
    completions = sum(one.completions for one in rates)
    tokens = sum(one.completions * one.completion_tokens for one in rates) / completions
    cut = sum(one.completions * one.truncated_fraction for one in rates) / completions
    if not known:
        return (name, f"{len(rates):,}", f"{completions:,}", "none", "-", "-", "-", f"{tokens:.0f}", f"{cut:.1%}")
    shares = [one.right / one.attempts for one in known]
    low, high = interval_95(shares, max(one.attempts for one in known))
    solved, hopeless = sum(share == 1 for share in shares), sum(share == 0 for share in shares)
    between = len(known) - solved - hopeless
    return (
        name,
        f"{len(rates):,}",
        f"{completions:,}",
        f"{statistics.fmean(shares):.1%} [{low:.1%}, {high:.1%}]",
        *(f"{count / len(known):.1%}" for count in (hopeless, between, solved)),
        f"{tokens:.0f}",
        f"{cut:.1%}",
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(one[i]) for one in rows) for i in range(len(rows[0]))]
    return ["  ".join([one[0].ljust(widths[0]), *map(str.rjust, one[1:], widths[1:])]).rstrip() for one in rows]


def histogram(known: Sequence[PassRate]) -> list[str]:
    """Problems by pass rate: the lower end of a bin belongs to it, and 1 to the last."""
    counts = Counter(min(BINS - 1, BINS * one.right // one.attempts) for one in known)
    largest = max(counts.values(), default=1)
    lines = ["pass rate  problems"]
    for i in range(BINS):
        bar = "#" * -(-BAR * counts[i] // largest)
        lines.append(f"{i / BINS:.1f} - {(i + 1) / BINS:.1f}  {counts[i]:>8,}  {bar}".rstrip())
    return lines


def ranges(known: Sequence[PassRate]) -> list[str]:
    """What collect.pass_rate would keep of the problems with a pass rate."""
    lines = []
    for bounds in RANGES:
        kept = sum(in_range(one.pass_rate, bounds) for one in known)
        share = kept / len(known) if known else 0.0
        lines.append(f"collect.pass_rate=[{bounds[0]:g},{bounds[1]:g}] keeps {kept:,} of {len(known):,} ({share:.1%})")
    return lines
