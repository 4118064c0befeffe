"""Recorded completions scored again under another reward. No model is needed.

    python launch/rescore.py run=outputs/x rewards=math
    python launch/rescore.py run=outputs/x fn=my_rewards.py:f out=outputs/x_again against=math_answer
    python launch/rescore.py run=outputs/x out=outputs/x_again          under the run's own rewards, as they are now

Reads run/rollouts/*.jsonl and run/evaluations/*.samples.jsonl, or the one file that `run` names, and prints old and new
means, how many verdicts changed, with examples, and how old and new values correlate.

    run=DIR or FILE     what was recorded
    out=DIR             where the groups with their new rewards are written, under the same names; nothing is
                        overwritten. After Ctrl-C the same command goes on where it stopped. Without `out` nothing is
                        written
    rewards=... fn=... recipe=... rewards.<name>.<key>=VALUE     as for launch/check_reward.py
    outcome=NAME        the new term to compare (default: eval.correct of the recipe, else the first term)
    against=NAME        the recorded term to compare it with (default: that of the same name, else the first recorded)
    right=1.0           the least value that says "right"
    workers=N deadline_s=S      as scoring.workers and scoring.deadline_s
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import yaml  # noqa: E402

from launch.progress import Progress  # noqa: E402
from launch.reward_changes import Changes  # noqa: E402
from launch.reward_recipe import RewardRecipe, explaining_errors, read_options, reward_recipe  # noqa: E402
from launch.whole_files import naming, try_directory, write_whole  # noqa: E402
from rl.binding import check_choice  # noqa: E402
from rl.experience import ScoredGroup  # noqa: E402
from rl.record import read_rollouts, write_rollouts  # noqa: E402
from rl.scoring import Scorer, reward_terms  # noqa: E402

PATTERNS = ("rollouts/*.jsonl", "evaluations/*.samples.jsonl")
REWARDS_FILE = "rewards.yaml"  # in `out`: under what the groups were scored
CHUNK = 32  # groups between two lines of progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """What this tool takes beside the rewards."""

    run: str = ""
    out: str | None = None
    outcome: str | None = None
    against: str | None = None
    right: float = 1.0
    workers: int | None = None
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError("run is missing: run=outputs/x, a run's directory, or one of its files of rollouts")


def main(arguments: Sequence[str]) -> None:
    options, overrides = read_options(Options, arguments)
    run = Path(options.run).expanduser()
    files = recorded(run)
    own = run / "config.yaml"
    recipe = reward_recipe(overrides, default=own if own.is_file() else None)
    scoring = recipe.scoring(options.workers, options.deadline_s)
    terms = reward_terms(recipe.rewards)
    outcome = recipe.outcome(options.outcome) or next(iter(recipe.rewards))
    first = read_rollouts(files[0][0])
    changes = Changes(outcome, old_term(first, outcome, options.against), options.right)
    out = prepared(Path(options.out).expanduser(), run, recipe) if options.out else None
    with Scorer(terms, **scoring, stop_when_broken=False) as scorer:
        if first:
            scorer.check(first[0].group.prompt)
        for number, (file, name) in enumerate(files, start=1):
            old = read_rollouts(file)
            done = out is not None and (out / name).exists()
            label = f"{name} ({number} of {len(files)}), groups"
            new = read_rollouts(out / name) if out and done else list(rescored(old, scorer, label))
            if out is not None and not done:
                with naming("out", out):
                    write_rollouts(out / name, new)
            changes.add(old, new, f"{file}")
    print("\n".join(changes.lines()))
    if out is not None:
        print(f"{len(files)} files are in {out}")


def recorded(run: Path) -> list[tuple[Path, str]]:
    """The files to score again, each with the name it gets in `out`."""
    if run.is_file():
        return [(run, run.name)]
    if not run.is_dir():
        raise ValueError(f"run={run}: there is no such directory or file")
    found = [(path, str(path.relative_to(run))) for pattern in PATTERNS for path in sorted(run.glob(pattern))]
    if not found:
        raise ValueError(f"run={run}: nothing was recorded there; looked for {' and '.join(PATTERNS)}")
    return found


def old_term(groups: Sequence[ScoredGroup], outcome: str, against: str | None) -> str:
    """The recorded term to compare with."""
    known = list(groups[0].terms) if groups else []
    if against is not None:
        check_choice("against", against, known)
    elif not known:
        raise ValueError("the first file has no groups: there is nothing to compare with")
    return against or (outcome if outcome in known else known[0])


def prepared(out: Path, run: Path, recipe: RewardRecipe) -> Path:
    """The directory to write to: new, or begun under the same rewards. ValueError for any other."""
    if out.resolve() == (run if run.is_dir() else run.parent).resolve():
        raise ValueError(f"out={out} is where the recorded files are; nothing is overwritten: name another directory")
    plain = {"run": str(run.resolve()), "rewards": {name: dict(term) for name, term in recipe.rewards.items()}}
    file = out / REWARDS_FILE
    if file.is_file():
        try:
            same = yaml.safe_load(file.read_text(encoding="utf-8")) == plain
        except yaml.YAMLError:
            same = False
        if not same:
            raise ValueError(f"out={out} was scored from another run or under other rewards, see {file}; name another")
        with naming("out", out):
            try_directory(out)
        return out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} already exists and is not empty; nothing is overwritten: name another directory")
    with naming("out", out):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(file, yaml.safe_dump(plain, sort_keys=False))
    return out


def rescored(groups: Sequence[ScoredGroup], scorer: Scorer, label: str) -> Iterator[ScoredGroup]:
    """The same groups under the scorer's rewards."""
    with Progress(label, len(groups)) as progress:
        for start in range(0, len(groups), CHUNK):
            yield from scorer.score([scored.group for scored in groups[start : start + CHUNK]])
            progress.at(min(start + CHUNK, len(groups)))


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with explaining_errors():
        if {"-h", "--help"} & set(sys.argv[1:]):
            print((__doc__ or "").strip(), flush=True)
            sys.exit()
        main(sys.argv[1:])
