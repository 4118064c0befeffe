"""The directory of launch/sample.py: what was sampled, under what, and what came of it.

lineage.json              all that decides the completions and their rewards; the directory is continued under no other
config.yaml               the recipe
rollouts/<place>.jsonl    groups as rl/record.py writes them, in the order of the problems; the first one's place
pass_rates.jsonl          a problem a line, in the same order; collect.pass_rates reads it

A file of rollouts is written whole, and its lines of pass_rates.jsonl after it, so that whatever ends the program, the
rollouts are the truth and the pass rates follow from them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.whole_files import write_whole
from rl.config import differences
from rl.difficulty import Key, question_digest
from rl.experience import Group, Prompt, ScoredGroup
from rl.outcome import visit
from rl.record import read_rollouts, write_rollouts

LINEAGE, ROLLOUTS, PASS_RATES = "lineage.json", "rollouts", "pass_rates.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRate:
    """What became of one problem: a line of pass_rates.jsonl."""

    id: str
    source: str
    completions: int
    attempts: int  # completions that were graded, or had no answer to grade
    right: int
    pass_rate: float | None  # right / attempts; None where no completion could be graded
    completion_tokens: float  # mean
    truncated_fraction: float  # completions cut at max_tokens
    question: str  # digest: the id still stands for this question

    @property
    def key(self) -> Key:
        return self.source, self.id


def pass_rate(scored: ScoredGroup, outcome: str) -> PassRate:
    """outcome: the reward that says right or wrong."""
    problem, completions = scored.group.prompt.problem, scored.group.completions
    found = visit(scored, outcome)
    return PassRate(
        id=problem.id,
        source=problem.source,
        completions=len(completions),
        attempts=found.attempts,
        right=found.right,
        pass_rate=found.right / found.attempts if found.attempts else None,
        completion_tokens=sum(len(done.token_ids) for done in completions) / len(completions),
        truncated_fraction=sum(done.finish_reason == "length" for done in completions) / len(completions),
        question=question_digest(problem),
    )


# ---------------------------------------------------------------------- may this directory be continued


def check_lineage(directory: Path, lineage: Mapping[str, Any]) -> None:
    """ValueError for a directory that holds something else, or was begun under another lineage."""
    file = directory / LINEAGE
    if not file.is_file():
        if directory.exists() and (not directory.is_dir() or any(map(_matters, directory.iterdir()))):
            raise ValueError(f"sample.dir={directory} already exists and holds no samples: name another directory")
        return
    try:
        begun = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}; name another sample.dir") from error
    changed = differences(begun, json.loads(json.dumps(lineage)))
    if changed:
        lines = [f"  {key}: {old} then, {new} now" for key, (old, new) in changed.items()]
        raise ValueError(
            f"sample.dir={directory} was begun under other settings:\n"
            + "\n".join(lines)
            + "\nTake these as they were, or another sample.dir. Rewards alone: launch/rescore.py scores what is there "
            "under others"
        )


def _matters(file: Path) -> bool:
    """Not so what a program writes before its lineage, and leaves there if it is killed in between."""
    return not file.name.startswith(".") and file.name != "config.yaml"


def write_lineage(directory: Path, lineage: Mapping[str, Any]) -> None:
    if not (directory / LINEAGE).is_file():
        write_whole(directory / LINEAGE, json.dumps(lineage, indent=1) + "\n")


# ---------------------------------------------------------------------- what is done, and more of it


def done_before(directory: Path, order: Sequence[Key], outcome: str) -> list[PassRate]:
    """What is on disk, a prefix of the order; pass_rates.jsonl says as much afterwards.

    ValueError where a file of rollouts is missing, damaged or of other problems.
    """
    files = recorded(directory)
    lines = whole_lines(directory / PASS_RATES)
    starts = [int(file.stem) for file in files]
    ends = [*starts[1:], None] if files else []
    done: list[PassRate] = []
    for file, start, end in zip(files, starts, ends, strict=True):
        if start != len(done):
            raise ValueError(f"{directory / ROLLOUTS}: problems {len(done)} to {start - 1} are missing before {file}")
        if end is not None and end <= len(lines):
            done += lines[start:end]
        else:  # the last file, or pass_rates.jsonl was lost
            done += [pass_rate(scored, outcome) for scored in read_rollouts(file)]
        if [one.key for one in done[start:]] != list(order[start : len(done)]):
            raise ValueError(f"{file} holds other problems than {PASS_RATES} or the recipe: restore it")
    for file, start in reversed(list(zip(files, starts, strict=True))):
        if any(one.attempts for one in done[start:]):
            break  # else its grader failed on everything, and may have been mended since
        set_aside(directory, start, len(done), 0, read_rollouts(file))
        file.unlink()
        del done[start:]
    if done != lines:
        write_whole(directory / PASS_RATES, "".join(map(as_line, done)))
    return done


def recorded(directory: Path) -> list[Path]:
    """The files of rollouts, in order; not those that wait for their rewards."""
    files = [file for file in (directory / ROLLOUTS).glob("*.jsonl") if file.stem.isdigit()]
    return sorted(files, key=lambda file: int(file.stem))


def whole_lines(file: Path) -> list[PassRate]:
    """The lines before the first that is none: the last one, where a program was killed as it wrote."""
    found: list[PassRate] = []
    if not file.is_file():
        return found
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            found.append(PassRate(**json.loads(line)))
        except (ValueError, TypeError):
            break
        if not line.endswith("\n"):
            return found[:-1]
    return found


def add(directory: Path, start: int, groups: Sequence[ScoredGroup], outcome: str) -> list[PassRate]:
    """The next groups, on disk: the first is the problem at place `start`."""
    write_rollouts(directory / ROLLOUTS / f"{start:06d}.jsonl", groups)
    new = [pass_rate(scored, outcome) for scored in groups]
    with (directory / PASS_RATES).open("a", encoding="ascii") as file:
        file.write("".join(map(as_line, new)))
        file.flush()
        os.fsync(file.fileno())
    forget_scored(directory, start + len(groups))
    return new


def as_line(row: PassRate) -> str:
    return json.dumps(asdict(row)) + "\n"


# ---------------------------------------------------------------------- sampled, and not yet scored


def set_aside(directory: Path, start: int, end: int, rank: int, groups: Sequence[ScoredGroup]) -> Path:
    """Paid-for groups of the problems from place `start` to `end`, which an error keeps out of the results."""
    path = directory / ROLLOUTS / f"{start:06d}-{end:06d}.broken.{rank}.jsonl"
    before = read_rollouts(path) if path.is_file() else []
    found = {name_of(scored.group.prompt): scored for scored in [*before, *groups]}
    write_rollouts(path, list(found.values()))
    return path


def waiting_files(directory: Path) -> dict[Path, tuple[int, int]]:
    """Each file of groups that were set aside, and the places that they are between."""
    files = sorted((directory / ROLLOUTS).glob("*.broken.*.jsonl"))
    spans = {file: file.name.partition(".")[0].split("-") for file in files}
    return {file: (int(start), int(end)) for file, (start, end) in spans.items()}


def waiting_groups(directory: Path, start: int, prompts: Sequence[Prompt]) -> list[Group | None]:
    """Of each prompt, the first of which is at place `start` or behind it: its group that was set aside, if there is
    one. It needs no sampling any more, only its rewards."""
    files = [file for file, (_, end) in waiting_files(directory).items() if end > start]
    groups = {name_of(scored.group.prompt): scored.group for file in files for scored in read_rollouts(file)}
    return [groups.get(name_of(prompt)) for prompt in prompts]


def forget_scored(directory: Path, done: int) -> None:
    """Deletes what was set aside, where all of it is before place `done`."""
    for file, (_, end) in waiting_files(directory).items():
        if end <= done:
            file.unlink()


def name_of(prompt: Prompt) -> tuple[str, str, int]:
    return *key_of(prompt), prompt.index


def key_of(prompt: Prompt) -> Key:
    return prompt.problem.source, prompt.problem.id
