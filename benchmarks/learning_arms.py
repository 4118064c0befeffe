"""The arms of benchmarks/learning.py: what each run changes in recipe=grpo_tiny, openly and in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
PUPILS: dict[str, dict[str, str]] = {  # what the cold start imitates -> overrides of the recipe
    "careless": {},  # the recipe's own
    "rambling": {
        "cold_start.data._target_": "benchmarks.pupils.rambling",
        "+cold_start.data.going_on": "0.96",
        "+cold_start.data.longest": "120",
    },
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One line of a figure: runs that differ by their seed only."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)  # overrides of recipe=grpo_tiny
    pupil: str = "careless"
    side: Literal["ours", "trl"] = "ours"


# Four optimizer steps for each batch: with one, all ratios are 1, and GRPO, CISPO and GSPO are one and the same
# gradient but for its normalisation. The recipe's rate of 1.5e-4 for one step is 5e-5 for each of four; the warm-up
# is five batches long in both.
UPDATES = {"batch.mini_batches": "4", "optimizer.lr": "5e-5", "optimizer.warmup_steps": "20", "eval.every": "5"}
# What an algorithm asks for beyond its own file in recipes/algorithm.
OWN = {
    # Dynamic sampling is a part of DAPO (arXiv:2503.14476, section 3.2). 25 batches take what 70 plain ones do: as the
    # policy gets better, ever more groups are all right and are sampled for nothing.
    "dapo": {"collect.dynamic": "true", "steps": "25"},
}
SIX = ("grpo", "dr_grpo", "dapo", "rloo", "gspo", "cispo")
BUDGET = 8_960  # completions: 70 batches of 16 x 8. An arm's final accuracy is its last within them

# The race: the recipe to where accuracy has passed the target, judged after each step. Both sides under bf16 autocast,
# which makes ours faster and TRL's no slower; ours also leaves out what has no gradient, an option that TRL lacks.
RACE = {"steps": "16", "eval.every": "1", "model.dtype": "bfloat16"}
FASTEST = {"batch.skip_without_advantage": "true"}
TARGET = 0.6

COIN = {
    "eval.every": "10",
    "rewards.math_answer.weight": "0.0",
    "+rewards.coin._target_": "benchmarks.pupils.coin",
}

# Answers of which the policy is free to choose the length, so that there is something for a bias to move and, once sums
# are right, still some entropy; a rate at which wrong answers do not vanish at once.
ROOM = {"sampling.max_tokens": "200", "eval.sampling.max_tokens": "200"}
LENGTH = {**ROOM, "optimizer.lr": "5e-5", "eval.every": "10"}

# Sixteen updates for each batch, or no ratio comes near the clip. With the careless pupil, whose entropy is gone after
# five batches, 0.2 and 0.28 did not differ.
CLIP = {
    **ROOM,
    "algorithm": "dapo",
    "batch.mini_batches": "4",
    "batch.epochs": "4",
    "optimizer.lr": "1e-4",
    "optimizer.warmup_steps": "20",
    "steps": "30",
    "eval.every": "5",
}


def arms_of(part: str, algorithms: Iterable[str] = SIX) -> list[Arm]:
    """The arms of one part; algorithms are files of recipes/algorithm, for the part of that name."""
    match part:
        case "algorithms":
            return [Arm(name=name, settings={"algorithm": name, **UPDATES, **OWN.get(name, {})}) for name in algorithms]
        case "race":
            return [Arm(name="ours", settings={**RACE, **FASTEST}), Arm(name="trl", settings=RACE, side="trl")]
        case "random":
            return [Arm(name="coin", settings=COIN)]
        case "length":
            grpo = {"algorithm": "grpo", "algorithm.normalization": "sequence", "algorithm.clip_high": "0.2"}
            return [
                Arm(name="grpo", settings={**grpo, **LENGTH}, pupil="rambling"),
                Arm(name="dr_grpo", settings={"algorithm": "dr_grpo", **LENGTH}, pupil="rambling"),
            ]
        case "entropy":
            return [
                Arm(name="symmetric", settings={**CLIP, "algorithm.clip_high": "0.2"}, pupil="rambling"),
                Arm(name="clip_higher", settings={**CLIP, "algorithm.clip_high": "0.28"}, pupil="rambling"),
            ]
    raise ValueError(f"there is no part {part!r}; there are {', '.join(PARTS)}")


PARTS = ("algorithms", "race", "random", "length", "entropy")


def check_algorithms(names: Iterable[str]) -> None:
    """ValueError for a name that is no file of recipes/algorithm."""
    known = sorted(file.stem for file in (ROOT / "recipes" / "algorithm").glob("*.yaml"))
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"--arms: there is no recipes/algorithm/{name}.yaml; {hint}")
