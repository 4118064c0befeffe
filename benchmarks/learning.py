"""Does it learn, and how fast: each algorithm on recipe=grpo_tiny from one cold start, beside TRL and beside a coin.

    python benchmarks/learning.py all --out outputs/learning               # everything below, then the report
    python benchmarks/learning.py cold_start                               # the one checkpoint that all arms start from
    python benchmarks/learning.py algorithms --seeds 0,1,2 --jobs 2        # six algorithms, accuracy over completions
    python benchmarks/learning.py algorithms --arms sapo,gmpo --seeds 5    # any of recipes/algorithm
    python benchmarks/learning.py race                                     # wall time to 60 %, ours and TRL's in turn
    python benchmarks/learning.py random                                   # a reward that is a coin teaches nothing
    python benchmarks/learning.py length                                   # Dr. GRPO's length of wrong answers
    python benchmarks/learning.py entropy                                  # DAPO's clip-higher
    python benchmarks/learning.py report                                   # report.md and pictures of what is there

Each run is launch/train.py (or TRL's trainer) in a process of its own; benchmarks/learning_arms.py has what each
changes in the recipe. `key=value` after the options changes a key of every run. Results are JSON lines in OUT/results,
one file a run and one line an evaluation; what is there is not run again, and after Ctrl-C the same command goes on.
With --jobs 2 two runs share the machine: accuracies are the same, seconds are not reported. The race runs alone.

On two cores with the default seeds and --jobs 2 about: two cold starts 3 minutes, algorithms 15, race 6, random 3,
length 9, entropy 9; estimated from single runs, not measured as a whole. With --jobs 1 half as long again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.learning_arms import PARTS, SIX, arms_of, check_algorithms
from benchmarks.learning_report import write_report
from benchmarks.learning_runs import Planned, RunFailedError, Settings, cold_start, run_all, say

COMMANDS = ("all", "cold_start", *PARTS, "report")


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe, in every run")
    parser.add_argument("--out", type=Path, default=Path("outputs/learning"))
    parser.add_argument("--seeds", type=seeds, default=[0, 1, 2], help="of the arms, such as 0,1,2")
    parser.add_argument("--arms", type=lambda text: text.split(","), default=list(SIX), help="algorithms, by name")
    parser.add_argument("--cold-start-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of each run (OMP_NUM_THREADS)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    options = parser.parse_intermixed_args(words)
    for override in options.overrides:
        if "=" not in override or override.startswith("-"):
            parser.error(f"expected key=value, got {override!r}; the commands are {', '.join(COMMANDS)}")
    for name in ("threads", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    return options


def seeds(text: str) -> list[int]:
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers such as 0,1,2, got {text!r}") from None
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"a seed is 0 or more, got {text!r}")
    return list(dict.fromkeys(found))


def run_part(part: str, options: argparse.Namespace) -> None:
    """Every run of one part that is not there yet."""
    jobs = 1 if part == "race" else options.jobs
    arms = arms_of(part, options.arms)
    planned = [Planned(part=part, arm=arm, seed=seed) for seed in options.seeds for arm in arms]
    run_all(planned, settings_of(options, jobs))


def settings_of(options: argparse.Namespace, jobs: int) -> Settings:
    return Settings(
        out=options.out, overrides=dict(word.split("=", 1) for word in options.overrides), threads=options.threads,
        jobs=jobs, cold_start_seed=options.cold_start_seed,
    )  # fmt: skip


def main() -> None:
    options = arguments(sys.argv[1:])
    check_algorithms(options.arms)
    command = f"python benchmarks/learning.py {shlex.join(sys.argv[1:])}"
    if options.command == "cold_start":
        print(cold_start("careless", settings_of(options, jobs=1)))
        return
    for part in PARTS if options.command == "all" else (options.command,):
        if part != "report":
            run_part(part, options)
    print(write_report(options.out, command), flush=True)
    print(f"report.md and the pictures are in {options.out}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RunFailedError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        sys.exit(130)
