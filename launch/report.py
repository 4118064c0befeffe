"""The closing table of a run, from what is in its directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rl.console import final_report
from rl.evaluate import Evaluation
from rl.record import read_rollouts


def print_report(directory: Path) -> None:
    """Before and after for each evaluation set, with three sample completions; nothing without evaluations."""
    files = sorted((directory / "evaluations").glob("*.json"))
    if files:
        final_report(read_evaluations(files[0]), read_evaluations(files[-1]))
    print(f"everything is in {directory}: metrics.jsonl, rollouts/, curves.png, checkpoints/, final/", flush=True)


def read_evaluations(file: Path) -> dict[str, Evaluation]:
    """What rl.trainer.write_evaluations wrote: evaluation set -> result."""
    samples = read_rollouts(file.with_suffix(".samples.jsonl"))
    plain: dict[str, dict[str, Any]] = json.loads(file.read_text())
    # Samples are of all sets together, which is how they are printed: the first carries them.
    return {name: _evaluation(values, [] if i else samples) for i, (name, values) in enumerate(plain.items())}


def _evaluation(values: dict[str, Any], groups: list[Any]) -> Evaluation:
    return Evaluation(**{**values, "interval": tuple(values["interval"]), "groups": tuple(groups)})
