"""From the lines of benchmarks/learning.py to tables and pictures.

Intervals are of Student's t over seeds, 95 %. They speak of other seeds on the same held-out problems; other problems
add what each line's own interval says (`low`, `high`), about the same for all arms, as all are judged on the same ones.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import machine
from benchmarks.learning_arms import BUDGET, TARGET
from benchmarks.learning_runs import Line, mean, read_results
from rl.curves import COLORS, INK, Picture, draw_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Runs = Mapping[str, list[list[Line]]]  # arm -> its runs, by seed
Row = dict[str, Any]

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond them see t_quantile.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
Z_975 = 1.959964
LAST_PART = 1 / 3  # of a run: over which entropies and lengths are compared


# ---------------------------------------------------------------------------------------------------------------------
# Statistics


def t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t; beyond the table by Cornish and Fisher's expansion, right to 1e-3.

    z + (z^3 + z) / 4n + (5 z^5 + 16 z^3 + 3 z) / 96 n^2 + ...      Abramowitz and Stegun, 26.7.5
    """
    if degrees <= len(T_975):
        return T_975[degrees - 1]
    z = Z_975
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half of its 95 % interval, t s / sqrt(n); one seed alone has none (NaN)."""
    if len(values) < 2:
        return fmean(values), math.nan
    return fmean(values), t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def crossing(lines: Sequence[Line], across: str, target: float) -> float | None:
    """Where accuracy first reaches the target, on a straight line between two evaluations. None: never."""
    if lines[0]["accuracy"] >= target:
        return float(lines[0][across])
    for before, after in itertools.pairwise(lines):
        if after["accuracy"] >= target:
            part = (target - before["accuracy"]) / (after["accuracy"] - before["accuracy"])
            return float(before[across] + part * (after[across] - before[across]))
    return None


def within_budget(lines: Sequence[Line], budget: int = BUDGET) -> list[Line]:
    """The evaluations of a run until it has sampled its budget of completions."""
    return [line for line in lines if line["completions"] <= budget]


def late(lines: Sequence[Line], name: str) -> float | None:
    """Mean over the last part of the run."""
    values = [line[name] for line in lines[1:]]
    return mean(values[-max(1, round(len(values) * LAST_PART)) :])


# ---------------------------------------------------------------------------------------------------------------------
# Numbers as text


def share(values: Sequence[float], signed: bool = False) -> str:
    """Fractions in percent, with their interval."""
    middle, half = interval([100 * value for value in values])
    text = f"{middle:+.1f}" if signed else f"{middle:.1f}"
    return f"{text} %" if math.isnan(half) else f"{text} +- {half:.1f} %"


def number(values: Sequence[float], digits: int = 1, signed: bool = False) -> str:
    middle, half = interval(values)
    text = f"{middle:+.{digits}f}" if signed else f"{middle:.{digits}f}"
    return text if math.isnan(half) else f"{text} +- {half:.{digits}f}"


def reached(found: Sequence[float | None], digits: int = 0) -> str:
    """Where all seeds got there, with the interval; else how many did not."""
    there = [value for value in found if value is not None]
    if len(there) == len(found):
        return number(there, digits)
    return "never" if not there else f"{number(there, digits)}; never for {len(found) - len(there)} of {len(found)}"


def settings_of(lines: Sequence[Line]) -> str:
    return " ".join(f"{key}={value}" for key, value in lines[0]["settings"].items())


# ---------------------------------------------------------------------------------------------------------------------
# Tables, one for each part


def algorithms_table(runs: Runs) -> list[Row]:
    rows = []
    for arm, seeds in runs.items():
        kept = [within_budget(lines) for lines in seeds]
        rows.append(
            {
                "algorithm": arm,
                "changes to recipe=grpo_tiny": settings_of(seeds[0]),
                "seeds": seed_list(seeds),
                "accuracy before": share([lines[0]["accuracy"] for lines in kept]),
                f"after at most {BUDGET:,} completions": share([lines[-1]["accuracy"] for lines in kept]),
                "worst seed": f"{min(100 * lines[-1]['accuracy'] for lines in kept):.1f} %",
                f"completions to {TARGET:.0%}": reached([crossing(lines, "completions", TARGET) for lines in kept]),
                f"seconds to {TARGET:.0%}": reached([crossing(lines, "train_s", TARGET) for lines in kept], 1)
                if ran_alone({arm: seeds})
                else "run with --jobs 1",
                "completions sampled": number([lines[-1]["completions"] for lines in kept], 0),
            }
        )
    return rows


def race_table(runs: Runs) -> list[Row]:
    by_seed: dict[int, dict[str, list[Line]]] = defaultdict(dict)
    for arm, seeds in runs.items():
        for lines in seeds:
            by_seed[lines[0]["seed"]][arm] = lines
    rows: list[Row] = []
    ratios = []
    for seed, sides in sorted(by_seed.items()):
        seconds = {arm: crossing(lines, "train_s", TARGET) for arm, lines in sides.items()}
        row: Row = {"seed": seed}
        for arm, lines in sides.items():
            row[f"{arm}: seconds to {TARGET:.0%}"] = "never" if seconds[arm] is None else f"{seconds[arm]:.1f}"
            row[f"{arm}: accuracy at the end"] = f"{100 * lines[-1]['accuracy']:.1f} %"
            row[f"{arm}: seconds"] = f"{lines[-1]['train_s']:.1f}"
        ours, other = seconds.get("ours"), seconds.get("trl")
        if ours is not None and other is not None:
            ratios.append(ours / other)
            row["ours / TRL"] = f"{ours / other:.2f}"
        rows.append(row)
    if ratios:
        # In logarithms: a ratio of 1/2 is as far from 1 as one of 2.
        middle, half = interval([math.log(ratio) for ratio in ratios])
        ends = "" if math.isnan(half) else f" [{math.exp(middle - half):.2f}, {math.exp(middle + half):.2f}]"
        rows.append({"seed": "geometric mean", "ours / TRL": f"{math.exp(middle):.2f}{ends}"})
    return rows


def random_table(runs: Runs) -> list[Row]:
    rows = []
    for arm, seeds in runs.items():
        gains = [lines[-1]["accuracy"] - lines[0]["accuracy"] for lines in seeds]
        middle, half = interval(gains)
        rows.append(
            {
                "reward": arm,
                "seeds": seed_list(seeds),
                "accuracy before": share([lines[0]["accuracy"] for lines in seeds]),
                "after": share([lines[-1]["accuracy"] for lines in seeds]),
                "after - before": share(gains, signed=True),
                "improved beyond noise": "one seed does not tell"
                if math.isnan(half)
                else "yes"
                if middle - half > 0
                else "no",
            }
        )
    return rows


def effect_table(runs: Runs, name: str, measured: Callable[[Sequence[Line]], float | None]) -> list[Row]:
    """Each arm's value, and the paired difference of the second arm from the first over the seeds that both have."""
    values = {
        arm: {lines[0]["seed"]: value for lines in seeds if (value := measured(lines)) is not None}
        for arm, seeds in runs.items()
    }
    rows: list[Row] = [
        {
            "arm": arm,
            "changes to recipe=grpo_tiny": settings_of(runs[arm][0]),
            "seeds": seed_list(runs[arm]),
            "accuracy after": share([lines[-1]["accuracy"] for lines in runs[arm]]),
            name: number(list(found.values()), 3) if found else "nothing to measure",
        }
        for arm, found in values.items()
    ]
    if len(values) == 2:
        (first, one), (second, other) = values.items()
        paired = [other[seed] - one[seed] for seed in sorted(one.keys() & other.keys())]
        if paired:
            rows.append({"arm": f"{second} - {first}", name: number(paired, 3, signed=True)})
    return rows


def growth_of_wrong(lines: Sequence[Line]) -> float | None:
    """By how many tokens wrong completions are longer in the last part of the run than in its first batches."""
    before, after = lines[1]["wrong_tokens"] if len(lines) > 1 else None, late(lines, "wrong_tokens")
    return None if before is None or after is None else float(after - before)


def seed_list(seeds: Sequence[Sequence[Line]]) -> str:
    return ", ".join(str(lines[0]["seed"]) for lines in seeds)


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def curves(runs: Runs, value: str, across: str) -> Callable[[Axes], None]:
    """Each arm's mean over seeds, with its interval as a band where there are several."""

    def draw(axes: Axes) -> None:
        for color, (arm, seeds) in zip(COLORS * 4, runs.items(), strict=False):
            steps = [step for step in common_steps(seeds) if all(at(lines, step)[value] is not None for lines in seeds)]
            if not steps:
                continue
            x = np.array([fmean(at(lines, step)[across] for lines in seeds) for step in steps])
            found = [interval([at(lines, step)[value] for lines in seeds]) for step in steps]
            middle, half = np.array(found).T
            axes.plot(x, middle, color=color, linewidth=1.8, label=arm)
            if np.isfinite(half).all():
                axes.fill_between(x, middle - half, middle + half, color=color, alpha=0.15, linewidth=0)
        axes.set_ylim(bottom=0, top=1.03 if value == "accuracy" else None)
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)

    return draw


def common_steps(seeds: Sequence[Sequence[Line]]) -> list[int]:
    return sorted(set.intersection(*({line["step"] for line in lines} for lines in seeds)))


def at(lines: Sequence[Line], step: int) -> Line:
    return next(line for line in lines if line["step"] == step)


# ---------------------------------------------------------------------------------------------------------------------
# The report

Measured = tuple[str, Callable[[Runs], list[Row]], list[tuple[str, str, str]]]
PARTS: dict[str, Measured] = {
    "algorithms": (
        "Accuracy on held-out problems, by algorithm",
        algorithms_table,
        [("accuracy", "completions", "completions sampled"), ("accuracy", "train_s", "seconds of training")],
    ),
    "race": (
        "The same run beside TRL's GRPOTrainer",
        race_table,
        [("accuracy", "train_s", "seconds of training"), ("accuracy", "step", "step")],
    ),
    "random": ("A reward that is a coin", random_table, [("accuracy", "completions", "completions sampled")]),
    "length": (
        "Length of wrong answers: GRPO's mean over each answer, and Dr. GRPO's constant",
        lambda runs: effect_table(runs, "growth of wrong answers, tokens", growth_of_wrong),
        [("wrong_tokens", "step", "step"), ("right_tokens", "step", "step"), ("accuracy", "step", "step")],
    ),
    "entropy": (
        "Entropy under a symmetric clip and under clip-higher",
        lambda runs: effect_table(runs, "entropy in the last third, nats per token", lambda run: late(run, "entropy")),
        [("entropy", "step", "step"), ("accuracy", "step", "step")],
    ),
}
NAMES = {
    "accuracy": "accuracy, 95 % interval over seeds",
    "wrong_tokens": "tokens of a wrong completion",
    "right_tokens": "tokens of a right completion",
    "entropy": "entropy (nats per token)",
}


def write_report(out: Path, command: str) -> str:
    """report.md and a picture for each part that has runs; ValueError where there is none."""
    results = read_results(out)
    if not results:
        raise ValueError(f"{out} has no results yet; run a part first: benchmarks/learning.py all --out {out}")
    sections = []
    for part, (title, tabled, pictures) in PARTS.items():
        runs = runs_of(results, part)
        if not runs:
            continue
        drawn = [
            Picture(NAMES[value], curves(runs, value, across), words)
            for value, across, words in pictures
            if across != "train_s" or ran_alone(runs)
        ]
        draw_pictures(drawn, out / f"{part}.png", title)
        sections += [f"## {title}", note(runs), machine.table(tabled(runs)), f"![{part}]({part}.png)"]
    text = "\n\n".join(["# Does it learn", f"`{command}`", *sections]) + "\n"
    (out / "report.md").write_text(text)
    return text


def runs_of(results: Sequence[list[Line]], part: str) -> dict[str, list[list[Line]]]:
    """Arm -> its runs in the order of their seeds. Of runs under other settings those of the newest are told of."""
    found: dict[str, list[list[Line]]] = defaultdict(list)
    for lines in results:
        if lines[0]["part"] == part:
            found[lines[0]["arm"]].append(lines)
    kept = {arm: [lines for lines in seeds if alike(lines, seeds[-1])] for arm, seeds in found.items()}
    return {arm: sorted(seeds, key=lambda lines: lines[0]["seed"]) for arm, seeds in kept.items()}


def alike(one: Sequence[Line], other: Sequence[Line]) -> bool:
    return all(one[0][name] == other[0][name] for name in ("settings", "cold_start_seed", "threads"))


def ran_alone(runs: Runs) -> bool:
    """Whether seconds can be compared: each run had the machine for itself, as far as this program knows."""
    return all(lines[0]["jobs"] == 1 for seeds in runs.values() for lines in seeds)


def note(runs: Runs) -> str:
    """Where it was measured, and how sure one evaluation is."""
    lines = [lines for seeds in runs.values() for lines in seeds]
    machines = sorted({run[0]["machine"] for run in lines})
    last = [run[-1] for run in lines]
    half = fmean((line["high"] - line["low"]) / 2 for line in last)
    jobs = max(run[0]["jobs"] for run in lines)
    return (
        f"Measured on {'; and on '.join(machines)}; {'one run' if jobs == 1 else f'{jobs} runs'} at a time. "
        f"{last[0]['num_problems']} held-out problems, {last[0]['k']} completions of each: with other problems an "
        f"accuracy at the end would be another by about +- {100 * half:.1f} %."
    )
