"""The learning curves of a run as one picture."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rl.tracking import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

Rows = Sequence[dict[str, Any]]
Panel = tuple[str, Callable[["Axes", Rows], None]]

COLORS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568", "#b7791f", "#0987a0")
INK, FAINT = "#2d3748", "#e2e8f0"
COLUMNS = 3
SMOOTH_FROM = 30  # rows; shorter runs are drawn as they are
SMOOTH_PART = 20  # the running mean covers this part of the run: 1/20


def draw_curves(metrics_path: str | Path, png_path: str | Path) -> None:
    """Draws metrics.jsonl so far: reward, accuracy, length, entropy, informative groups, gradient; skips the absent.

    Never raises: a picture is not worth a run. A failure is one warning in the log.
    """
    try:
        _draw(read_metrics(metrics_path), Path(png_path), Path(metrics_path).parent.name)
    except Exception as error:
        logger.warning("no learning curves in %s: %s: %s", png_path, type(error).__name__, error)


def _draw(rows: Rows, png_path: Path, title: str) -> None:
    panels = [Picture(name, _with(rows, draw)) for name, draw in _panels(rows)]
    if panels:
        last = rows[-1]["step"]
        draw_pictures(panels, png_path, f"{title}   (to step {last})" if title else f"to step {last}")


@dataclass(frozen=True)
class Picture:
    """One part of a figure."""

    title: str
    draw: Callable[[Axes], None]
    across: str = "step"  # what the horizontal axis shows


def draw_pictures(pictures: Sequence[Picture], png_path: Path, title: str) -> None:
    """All of them in one PNG, which is replaced whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, no state shared with the user's pyplot
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(COLUMNS, len(pictures))
    lines = -(-len(pictures) // columns)
    spaced = ConstrainedLayoutEngine(wspace=0.06, hspace=0.08)
    figure = Figure(figsize=(4.6 * columns, 3.1 * lines + 0.5), dpi=110, layout=spaced)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, color=INK)
    for place, picture in enumerate(pictures, start=1):
        axes = figure.add_subplot(lines, columns, place)
        picture.draw(axes)
        _dress(axes, picture.title, picture.across)
    unfinished = png_path.with_name(f".{png_path.name}.{os.getpid()}.tmp")
    png_path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(unfinished, format="png")
    unfinished.replace(png_path)  # whoever looks at the picture meanwhile sees the old one whole


def _with(rows: Rows, draw: Callable[[Axes, Rows], None]) -> Callable[[Axes], None]:
    return lambda axes: draw(axes, rows)


def _panels(rows: Rows) -> list[Panel]:
    """Those that have something to show."""
    wanted: list[tuple[str, str, Callable[[Axes, Rows], None]]] = [
        ("reward", r"reward/mean", _draw_rewards),
        ("evaluation: accuracy, 95 % interval", r"eval/[^/]+/avg@.*", _draw_accuracy),
        ("completion length (tokens)", r"(rollout|eval/[^/]+)/completion_tokens", _draw_lengths),
        ("policy entropy (nats per token)", r"policy/entropy", _line("policy/entropy")),
        ("informative groups (fraction)", r"group/informative_fraction", _line("group/informative_fraction", top=1.0)),
        ("gradient norm before clipping", r"optim/grad_norm", _line("optim/grad_norm")),
    ]
    return [(title, draw) for title, pattern, draw in wanted if _names(rows, pattern)]


def _names(rows: Rows, pattern: str) -> list[str]:
    """The metrics that fit the pattern and have a number somewhere, in order of appearance."""
    found = {name: None for row in rows for name, value in row.items() if value is not None}
    return [name for name in found if re.fullmatch(pattern, name)]


def _series(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    steps, values = zip(*points, strict=True) if points else ((), ())
    return np.array(steps, dtype=float), np.array(values, dtype=float)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean, centred, over 1/20 of the run; at both ends over what there is of it."""
    half = max(2, len(values) // SMOOTH_PART // 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    here = np.arange(len(values))
    first, end = np.maximum(here - half, 0), np.minimum(here + half + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def _plot(axes: Axes, rows: Rows, name: str, color: str, *, label: str | None = None, width: float = 1.8) -> None:
    """A bold running mean over the pale values themselves; short runs without the mean."""
    steps, values = _series(rows, name)
    if len(steps) < SMOOTH_FROM:
        marker = "o" if len(steps) < 2 else ""
        axes.plot(steps, values, color=color, linewidth=width, label=label, marker=marker, markersize=4)
        return
    axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.3)
    axes.plot(steps, _smooth(values), color=color, linewidth=width, label=label)


def _line(name: str, top: float | None = None) -> Callable[[Axes, Rows], None]:
    """Draws one metric whose scale begins at 0."""

    def draw(axes: Axes, rows: Rows) -> None:
        _plot(axes, rows, name, COLORS[0])
        axes.set_ylim(0, top and top * 1.03)

    return draw


def _draw_rewards(axes: Axes, rows: Rows) -> None:
    terms = [name for name in _names(rows, r"reward/[^/]+") if not re.search(r"/(mean|std|failed_fraction)$", name)]
    _plot(axes, rows, "reward/mean", COLORS[0], label="mean", width=2.2)
    for color, name in zip(COLORS[1:], terms, strict=False):  # more terms than colours would not be readable
        _plot(axes, rows, name, color, label=name.removeprefix("reward/"), width=1.2)
    _legend(axes, show=bool(terms))


def _draw_accuracy(axes: Axes, rows: Rows) -> None:
    names = _names(rows, r"eval/[^/]+/avg@.*")
    for color, name in zip(COLORS, names, strict=False):
        dataset, measure = name.removeprefix("eval/").split("/")
        steps, values = _series(rows, name)
        axes.plot(steps, values, color=color, linewidth=2, marker="o", markersize=4, label=f"{dataset} {measure}")
        low, high = (_series(rows, f"eval/{dataset}/{end}") for end in ("ci_low", "ci_high"))
        if np.array_equal(low[0], high[0]) and len(low[0]):
            axes.fill_between(low[0], low[1], high[1], color=color, alpha=0.15, linewidth=0)
    axes.set_ylim(0, 1.03)
    _legend(axes, show=True)


def _draw_lengths(axes: Axes, rows: Rows) -> None:
    names = _names(rows, r"rollout/completion_tokens") + _names(rows, r"eval/[^/]+/completion_tokens")
    for color, name in zip(COLORS, names, strict=False):
        label = name.removeprefix("eval/").removesuffix("/completion_tokens")
        _plot(axes, rows, name, color, label=label)
    axes.set_ylim(bottom=0)
    _legend(axes, show=len(names) > 1)


def _legend(axes: Axes, show: bool) -> None:
    if show:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _dress(axes: Axes, title: str, across: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(across, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
