"""What sampling carries from step to step, and its directory in a checkpoint.

collect/position.json      where the stream of prompts is
collect/pass_rates.jsonl   what is known of each problem; another run can read it as collect.pass_rates
collect/kept.jsonl         groups that wait for the next step, as in rollouts/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rl.difficulty import Difficulty, read_pass_rates
from rl.experience import ScoredGroup
from rl.record import read_rollouts, write_rollouts
from rl.selection import Position

FOLDER = "collect"


@dataclass(frozen=True, slots=True)
class CollectState:
    """Between two steps; the same on every rank."""

    position: Position
    difficulty: Difficulty
    kept: tuple[ScoredGroup, ...] = ()  # informative, sampled and not yet trained on


def write_state(checkpoint: Path, state: CollectState) -> None:
    """Into checkpoint/collect/."""
    directory = checkpoint / FOLDER
    directory.mkdir(parents=True)
    position = {"prompts": state.position.prompts, "places": dict(state.position.places)}
    (directory / "position.json").write_text(json.dumps(position))
    state.difficulty.write(directory / "pass_rates.jsonl")
    write_rollouts(directory / "kept.jsonl", state.kept)


def read_state(checkpoint: Path) -> CollectState:
    """From checkpoint/collect/."""
    directory = checkpoint / FOLDER
    position = json.loads((directory / "position.json").read_text())
    return CollectState(
        Position(position["prompts"], position["places"]),
        read_pass_rates(directory / "pass_rates.jsonl", "resume"),
        tuple(read_rollouts(directory / "kept.jsonl")),
    )
