"""Runs of benchmarks/learning.py: each a process, kept as one file of JSON lines, one line an evaluation.

A line says what held after `step` batches: accuracy on the held-out problems, completions sampled, seconds of training
(the steps alone, without evaluations, logs and start), and, of the batches since the line before, the entropy and the
lengths of right and wrong completions.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.learning_arms import PUPILS, Arm
from rl.record import read_rollouts
from rl.tracking import read_metrics

ROOT = Path(__file__).resolve().parents[1]
QUIET = {"checkpoint.every": "0", "tracking.tensorboard": "false", "tracking.sample_every": "0", "resume": "auto"}
OF_COLD_START = ("cold_start.", "model.", "data.")  # keys that it depends on
BUILT = ("cold_start.", "model.build.")  # those of them that are done with when an arm starts
Line = dict[str, Any]


class RunFailedError(Exception):
    """A run ended without its result."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same for all runs of a command."""

    out: Path
    overrides: Mapping[str, str]  # the user's, of every run
    threads: int = 1
    jobs: int = 1  # runs at once; above 1 their seconds are compared with nobody's
    cold_start_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run to be."""

    part: str
    arm: Arm
    seed: int


# ---------------------------------------------------------------------------------------------------------------------
# Which runs there are, and what came of them


def run_all(planned: Sequence[Planned], settings: Settings) -> None:
    """Does what is missing, settings.jobs at a time. RunFailedError, with the end of its log, for a run that fails."""
    for pupil in {one.arm.pupil: None for one in planned}:
        cold_start(pupil, settings)
    missing = missing_of(planned, settings)
    say(f"{len(planned) - len(missing)} of {len(planned)} runs are there, {len(missing)} to do")
    processes = Processes()
    pool = ThreadPoolExecutor(settings.jobs)
    try:
        for future in [pool.submit(run_one, one, settings, processes) for one in missing]:
            future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        processes.stop()


def missing_of(planned: Sequence[Planned], settings: Settings) -> list[Planned]:
    """The runs without a result. Of a race both sides, as they are compared in one go, on one machine."""
    missing = [one for one in planned if not result_file(one, settings).exists()]
    seeds = {one.seed for one in missing if one.part == "race"}
    return [one for one in planned if one in missing or (one.part == "race" and one.seed in seeds)]


def run_one(one: Planned, settings: Settings, processes: Processes) -> None:
    """The run, in a process of its own, and its lines."""
    directory = settings.out / "runs" / name_of(one, settings)
    overrides = overrides_of(one, settings) | {"run.dir": str(directory)}
    if one.part == "race":
        shutil.rmtree(directory, ignore_errors=True)
    program = "launch/train.py" if one.arm.side == "ours" else "benchmarks/learning_trl.py"
    processes.run(program, overrides, settings, log=settings.out / "logs" / directory.name)
    if one.arm.side == "ours" and not (directory / "final").is_dir():
        # A trainer that is asked to stop ends well, with a checkpoint: the next command goes on from it.
        raise RunFailedError(f"{directory} was stopped before its last step; the same command goes on with it")
    lines = lines_of(directory)
    about = {
        "part": one.part,
        "arm": one.arm.name,
        "seed": one.seed,
        "settings": {**one.arm.settings, **settings.overrides},
        "cold_start_seed": settings.cold_start_seed,
        "threads": settings.threads,
        "jobs": settings.jobs,
        "machine": machine.describe(),
    }
    write_lines(result_file(one, settings), [about | line for line in lines])
    say(
        f"{one.part} {one.arm.name} seed {one.seed}: {lines[0]['accuracy']:.1%} -> {lines[-1]['accuracy']:.1%} after "
        f"{lines[-1]['completions']:,} completions and {lines[-1]['train_s']:.0f} s of training"
    )


def cold_start(pupil: str, settings: Settings) -> Path:
    """The Hugging Face directory that all arms of this pupil start from, built where it is not there.

    It is a run of no steps: the recipe's model after its cold start, saved as a run saves its policy.
    """
    directory = start_of(pupil, settings)
    own = {key: value for key, value in settings.overrides.items() if key.lstrip("+").startswith(OF_COLD_START)}
    wanted = {**PUPILS[pupil], **own, "seed": str(settings.cold_start_seed)}
    kept = directory / "overrides.json"
    if not kept.exists():
        say(f"cold start of the {pupil} pupil, seed {settings.cold_start_seed}")
        overrides = {**wanted, **QUIET, "steps": "0", "~eval.data.arithmetic": "", "run.dir": str(directory)}
        Processes().run("launch/train.py", overrides, settings, log=settings.out / "logs" / directory.name)
        kept.write_text(json.dumps(wanted))
    if json.loads(kept.read_text()) != wanted:
        raise ValueError(
            f"{directory} was built with {kept.read_text()} and this command says {json.dumps(wanted)}: "
            "take another --out"
        )
    return directory / "final"


def start_of(pupil: str, settings: Settings) -> Path:
    return settings.out / f"cold_start-{pupil}-{settings.cold_start_seed}"


def overrides_of(one: Planned, settings: Settings) -> dict[str, str]:
    """All that a run changes in the recipe, but for where it writes."""
    path = start_of(one.arm.pupil, settings) / "final"
    users = {key: value for key, value in settings.overrides.items() if not key.lstrip("+").startswith(BUILT)}
    given = {**one.arm.settings, **users, "seed": str(one.seed)}
    return {**given, **QUIET, "model.path": str(path), "cold_start.steps": "0"}


def name_of(one: Planned, settings: Settings) -> str:
    """Of its files: another name for other settings."""
    overrides = {key: value for key, value in overrides_of(one, settings).items() if key != "model.path"}
    start = (PUPILS[one.arm.pupil], settings.overrides, settings.cold_start_seed)
    depends_on = (overrides, start, settings.threads)
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:8]
    return f"{one.part}-{one.arm.name}-{one.seed}-{digest}"


def result_file(one: Planned, settings: Settings) -> Path:
    return settings.out / "results" / f"{name_of(one, settings)}.jsonl"


def read_results(out: Path) -> list[list[Line]]:
    """The lines of every run that is there, the oldest first."""
    files = sorted((out / "results").glob("*.jsonl"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


# ---------------------------------------------------------------------------------------------------------------------
# A run directory becomes lines


def lines_of(directory: Path) -> list[Line]:
    """One line for each evaluation of a run."""
    rows = {row["step"]: row for row in read_metrics(directory / "metrics.jsonl")}
    lines: list[Line] = []
    done, completions, train_s = 0, 0, 0.0
    for file in sorted((directory / "evaluations").glob("[0-9]*[0-9].json")):
        (found,) = json.loads(file.read_text()).values()
        step = int(file.stem)
        sampled = [batch_of(directory, number, rows[number]) for number in range(done, step)]
        completions += sum(one["completions"] for one in sampled)
        train_s += sum(one["step_s"] for one in sampled)
        lines.append(
            {
                "step": step,
                "completions": completions,
                "train_s": train_s,
                "accuracy": found["avg"],
                "low": found["interval"][0],
                "high": found["interval"][1],
                "num_problems": found["num_problems"],
                "k": found["k"],
                "entropy": mean([one["entropy"] for one in sampled]),
                "wrong_tokens": mean([length for one in sampled for length in one["wrong"]]),
                "right_tokens": mean([length for one in sampled for length in one["right"]]),
            }
        )
        done = step
    if not lines:
        raise RunFailedError(f"{directory} has no evaluations")
    return lines


def batch_of(directory: Path, step: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """What one step sampled, dropped groups included, and how long it took."""
    files = [directory / "rollouts" / f"{step:06d}{end}.jsonl" for end in ("", ".dropped")]
    groups = [group for file in files if file.exists() for group in read_rollouts(file)]
    lengths: dict[bool, list[int]] = {True: [], False: []}
    for scored in groups:
        for completion, value in zip(scored.group.completions, scored.terms["math_answer"], strict=True):
            lengths[value >= 1.0].append(len(completion.token_ids))
    return {
        "completions": row.get("completions", len(lengths[True]) + len(lengths[False])),
        "step_s": row["time/step_s"],
        "entropy": row.get("policy/entropy"),
        "right": lengths[True],
        "wrong": lengths[False],
    }


def mean(values: Sequence[float | None]) -> float | None:
    """None where there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def write_lines(file: Path, lines: Sequence[Line]) -> None:
    """Whole or not at all: a file that is there is a run that ended."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines))
    unfinished.replace(file)


# ---------------------------------------------------------------------------------------------------------------------
# Processes


class Processes:
    """The children at work; all of them can be told to end."""

    def __init__(self) -> None:
        self._living: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, program: str, overrides: Mapping[str, str], settings: Settings, log: Path) -> None:
        """Waits for it. RunFailedError, with the end of its log, unless it ends well."""
        words = [f"{key}={value}" if not key.startswith("~") else key for key, value in overrides.items()]
        command = [sys.executable, str(ROOT / program), "recipe=grpo_tiny", *words]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as file, self._child(command, file, environment(settings)) as process:
            status = process.wait()
        if status:
            end = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-25:])
            raise RunFailedError(
                f"{log.name} ended with {status}:\n{end}\nThe whole log: {log}\nThe command: {command}"
            )

    @contextlib.contextmanager
    def _child(self, command: list[str], log: Any, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            if self._stopped:
                raise RunFailedError("the command is ending")
            # In a session of its own: Ctrl-C is for the parent, who passes it on once.
            process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
            self._living.append(process)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()

    def stop(self) -> None:
        """A trainer ends after its step, with a checkpoint that the next command goes on from."""
        with self._lock:
            self._stopped = True
            for process in self._living:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)


def environment(settings: Settings) -> dict[str, str]:
    threads = str(settings.threads)
    cache = {"REASONING_RL_CACHE": str(settings.out.resolve() / "cache")}
    return {
        **os.environ,
        **cache,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "0",
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
