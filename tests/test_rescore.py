"""Claims about launch/rescore.py: recorded rollouts under another reward, each shown by a run of the program."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.problem import Problem, ask
from launch.reward_changes import correlation
from rl.experience import Completion, Failure, Group, Prompt, ScoredGroup
from rl.record import read_rollouts, write_rollouts

ROOT = Path(__file__).resolve().parents[1]
REWARDS = """
import time

def same(problem, completion):
    return float(completion.text == problem.answer)

def opposite(problem, completion):
    return float(completion.text != problem.answer)

def raises_on_five(problem, completion):
    if completion.text == "5":
        raise KeyError("five")
    return float(completion.text == problem.answer)

def slow(problem, completion):
    time.sleep(0.3)
    return 1.0
"""


def group(index: int, texts: list[str], *, failed: int | None = None) -> ScoredGroup:
    """The question 2 + 2 with these answers, recorded as right where they are "4"; one may have failed."""
    problem = Problem(f"sums/{index}", ask("What is 2 + 2?"), "4", "sums")
    completions = tuple(Completion(text, [1, 2], [-0.5, -0.25], "stop", 3) for text in texts)
    values = tuple(math.nan if i == failed else float(text == "4") for i, text in enumerate(texts))
    failures = () if failed is None else (Failure("same", failed, "error", "it raised"),)
    terms = {"length": (0.5,) * len(texts), "same": values}
    return ScoredGroup(Group(Prompt(problem, index, "2 + 2?", (7, 8)), completions), values, terms, failures)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory with two steps and an evaluation: 3 + 3 + 2 completions, of which 2 + 1 + 1 are right."""
    (tmp_path / "mine.py").write_text(REWARDS)
    directory = tmp_path / "run"
    write_rollouts(directory / "rollouts" / "000000.jsonl", [group(0, ["4", "5", "4"])])
    write_rollouts(directory / "rollouts" / "000001.jsonl", [group(1, ["4", "6", "7"], failed=2)])
    write_rollouts(directory / "evaluations" / "000000.samples.jsonl", [group(2, ["4", "9"])])
    return directory


def rescore(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    workers = [] if any("workers=" in argument for argument in arguments) else ["workers=1"]
    command = [sys.executable, str(ROOT / "launch" / "rescore.py"), *workers, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def words(text: str) -> list[str]:
    """Lines with single spaces, so that the widths of columns do not matter."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_same_reward_changes_no_verdict_but_gives_a_value_to_what_had_failed(run, tmp_path):
    result = rescore("run=run", "fn=mine.py:same", "out=again", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = words(result.stdout)
    assert "8 completions of 3 prompts in 3 files" in lines
    assert "same 0.5714 0.5000 1 0" in lines  # 4 of 7 with a value, then 4 of 8
    assert "length 0.5000 - 0 -" in lines
    assert "same now against same as recorded: 1 verdicts changed (12.50%); correlation of the values 1.000" in lines
    assert "no value -> wrong: 1" in lines
    written = read_rollouts(tmp_path / "again" / "rollouts" / "000001.jsonl")
    assert [scored.rewards for scored in written] == [(1.0, 0.0, 0.0)]
    assert [scored.failures for scored in written] == [()]
    recorded = read_rollouts(run / "rollouts" / "000001.jsonl")
    assert written[0].group == recorded[0].group  # texts, tokens, log-probabilities, prompt
    assert math.isnan(recorded[0].rewards[2])  # the recorded files are as they were
    assert (tmp_path / "again" / "evaluations" / "000000.samples.jsonl").exists()


def test_every_changed_verdict_is_counted_and_some_are_shown(run, tmp_path):
    result = rescore("run=run", "fn=mine.py:opposite", "against=same", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = words(result.stdout)
    assert "right -> wrong: 4" in lines
    assert "wrong -> right: 3" in lines
    assert "no value -> right: 1" in lines
    assert (
        "opposite now against same as recorded: 8 verdicts changed (100.00%); correlation of the values -1.000" in lines
    )
    assert "run/rollouts/000000.jsonl: sums/0, completion 1: gold '4', 0 -> 1" in lines
    assert not (tmp_path / "again").exists()  # without out= nothing is written


def test_a_reward_that_fails_on_one_completion_is_shown_with_its_reason(run, tmp_path):
    result = rescore("run=run/rollouts/000000.jsonl", "fn=mine.py:raises_on_five", "against=same", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "wrong -> no value: 1" in words(result.stdout)
    assert "0 -> no value (KeyError: 'five'" in result.stdout


def test_the_runs_own_rewards_are_the_default(run, tmp_path):
    (run / "config.yaml").write_text("rewards: {same: {fn: mine.py:same}}\n")
    result = rescore("run=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "same now against same as recorded: 1 verdicts changed" in result.stdout


def test_nothing_is_overwritten(run, tmp_path):
    before = {path: path.read_bytes() for path in run.rglob("*.jsonl")}
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    for out, reason in (("run", "nothing is overwritten"), ("taken", "already exists and is not empty")):
        result = rescore("run=run", "fn=mine.py:same", f"out={out}", cwd=tmp_path)
        assert result.returncode == 2
        assert reason in result.stderr
        assert "Traceback" not in result.stderr
    assert rescore("run=run", "fn=mine.py:same", "out=again", cwd=tmp_path).returncode == 0
    other = rescore("run=run", "fn=mine.py:opposite", "out=again", "against=same", cwd=tmp_path)
    assert other.returncode == 2
    assert "under other rewards" in other.stderr
    assert {path: path.read_bytes() for path in run.rglob("*.jsonl")} == before


def test_after_ctrl_c_finished_files_stay_and_the_same_command_goes_on(run, tmp_path):
    command = [sys.executable, str(ROOT / "launch" / "rescore.py")]
    command += ["workers=1", "run=run", "fn=mine.py:slow", "out=again", "against=same"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first, second = (tmp_path / "again" / "rollouts" / f"00000{i}.jsonl" for i in (0, 1))
    until = time.monotonic() + 60
    while not first.exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not second.exists()
    finished = first.stat().st_mtime_ns
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert first.stat().st_mtime_ns == finished  # not scored again
    assert second.exists()
    assert "8 completions of 3 prompts in 3 files" in result.stdout


def test_a_disk_that_is_full_is_named_with_the_option(run, tmp_path):
    command = [
        sys.executable,
        str(ROOT / "launch" / "rescore.py"),
        "workers=1",
        "run=run",
        "fn=mine.py:same",
        "out=again",
    ]
    for size, what in ((20, "rewards.yaml"), (300, "000000.jsonl")):
        limited = ["prlimit", f"--fsize={size}", *command]
        result = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 2, result.stdout
        assert "error: out=again cannot be written: " in result.stderr
        assert "Traceback" not in result.stderr
        assert not list((tmp_path / "again").rglob(f"*{what}*"))
    assert rescore("run=run", "fn=mine.py:same", "out=again", cwd=tmp_path).returncode == 0  # with room again


def test_a_corrupt_line_is_named(run, tmp_path):
    path = run / "rollouts" / "000001.jsonl"
    path.write_text(path.read_text() + '{"id": "sums/9", \n')
    result = rescore("run=run", "fn=mine.py:same", "out=again", cwd=tmp_path)
    assert result.returncode == 2
    assert "run/rollouts/000001.jsonl:2" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "again" / "rollouts" / "000000.jsonl").exists()  # what was finished before it


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["fn=mine.py:same"], "run is missing"),
        (["run=nowhere", "fn=mine.py:same"], "there is no such directory or file"),
        (["run=.", "fn=mine.py:same"], "nothing was recorded there"),
        (["run=run"], "name the rewards"),
        (["run=run", "rewards=mth"], "Did you mean math?"),
        (["run=run", "fn=mine.py:sama"], "did you mean same?"),
        (["run=run", "fn=mine.py:same", "against=sam"], "Did you mean same?"),
        (["run=run", "fn=mine.py:same", "agains=same"], "there is no option agains. Did you mean against?"),
        (["run=run", "fn=mine.py:same", "right=yes"], "right must be a number"),
        (["run=run", "fn=mine.py:same", "deadline_s=0"], "deadline_s must be above 0"),
        (["run=run", "fn=mine.py:same", "workers=1000000"], "(each is a process"),
        (["run=run", "fn=mine.py:same", "rewards.same.x=~a"], "is not understood"),
        (["run=run", "fn=mine.py:same", "out=/proc/x"], "out=/proc/x cannot be written"),
        (["run=run", "rewards=math", "fn=mine.py:same"], "two sets of rewards"),
        (["run=run", "rewards=none.yaml"], "there is no such file"),
        (["run=run", "fn=mine.py:same", "run=run"], "run is given twice"),
    ],
)
def test_a_mistake_ends_in_one_message(run, tmp_path, arguments, reason):
    result = rescore(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error:") == 1


def test_a_file_without_the_old_term_is_named(run, tmp_path):
    path = run / "rollouts" / "000001.jsonl"
    row = json.loads(path.read_text())
    row["terms"] = ["length"]
    path.write_text(json.dumps(row) + "\n")
    result = rescore("run=run", "fn=mine.py:same", cwd=tmp_path)
    assert result.returncode == 2
    assert "000001.jsonl: against=same was not recorded there; there are length" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([0, 1, 0, 1], [0, 1, 0, 1], 1.0),
        ([0, 1, 0, 1], [1, 0, 1, 0], -1.0),
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),
        ([0, 1, math.nan], [0, 1, 5], 1.0),  # over those with both values
        ([1, 1, 1], [0, 1, 0], None),
        ([], [], None),
    ],
)
def test_correlation(old, new, expected):
    assert correlation(old, new) == (expected if expected is None else pytest.approx(expected))
