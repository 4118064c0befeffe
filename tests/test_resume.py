"""A run that was stopped and resumed is the run that was not stopped; what cannot be resumed is refused."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from test_train import start, torchrun

from launch.run import prepared
from rl import checkpoint
from rl.checkpoint import Checkpoint
from rl.tracking import read_metrics

SMALL = (
    "recipe=grpo_tiny", "run.dir=run", "cold_start.steps=0", "batch.prompts=4", "sampling.completions=4",
    "sampling.max_tokens=16", "eval.data.arithmetic.size=4", "eval.every=0", "eval.sampling.max_tokens=16",
    "optimizer.lr=1e-3", "+rewards.sevens.fn=mine.py:sevens", "tracking.tensorboard=false", "checkpoint.every=5",
)  # fmt: skip


def workplace(path: Path) -> Path:
    """A directory to run in, with a reward whose groups are rarely all equal."""
    path.mkdir()
    (path / "mine.py").write_text("def sevens(problem, completion):\n    return len(set(completion.text))\n")
    return path


def final_weights(directory: Path) -> dict:
    return load_file(directory / "run" / "final" / "model.safetensors")


def rewards(directory: Path) -> list[tuple[int, float | None]]:
    return [(row["step"], row.get("reward/mean")) for row in read_metrics(directory / "run" / "metrics.jsonl")]


def assert_same_run(one: Path, other: Path) -> None:
    assert rewards(one) == rewards(other)
    ours, theirs = final_weights(one), final_weights(other)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)  # to the last bit


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory, cache) -> Path:
    """Twenty steps in one go, on one rank."""
    directory = workplace(tmp_path_factory.mktemp("unstopped") / "work")
    result = torchrun(*SMALL, "steps=20", cwd=directory, cache=cache)
    assert result.returncode == 0, result.stdout
    return directory


@pytest.mark.slow
def test_stopped_at_10_of_20_it_ends_with_the_same_bits(unstopped, tmp_path, cache):
    directory = workplace(tmp_path / "work")
    assert torchrun(*SMALL, "steps=10", cwd=directory, cache=cache).returncode == 0
    resumed = torchrun(*SMALL, "steps=20", "resume=auto", cwd=directory, cache=cache)
    assert "going on from run/checkpoints/step_10" in resumed.stdout
    assert_same_run(unstopped, directory)


@pytest.mark.slow
def test_on_two_zero2_ranks_too(tmp_path, cache):
    ran = {}
    for name, parts in {"whole": ("steps=20",), "halves": ("steps=10", "steps=20")}.items():
        ran[name] = workplace(tmp_path / name)
        for steps in parts:
            result = torchrun(*SMALL, steps, "engine=zero2", "resume=auto", ranks=2, cwd=ran[name], cache=cache)
            assert result.returncode == 0, result.stdout
    assert_same_run(ran["whole"], ran["halves"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle_costs_nothing_that_a_resume_does_not_bring_back(number, unstopped, tmp_path, cache):
    directory = workplace(tmp_path / "work")
    process = start(*SMALL, "steps=20", cwd=directory, cache=cache)
    metrics = directory / "run" / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or len(metrics.read_text().splitlines()) < 8):
        time.sleep(0.05)
    started = psutil.Process(process.pid)
    for one in [started, *started.children(recursive=True)]:  # torchrun, the rank, the reward worker
        one.send_signal(number)
    process.wait(timeout=60)
    steps = [path.name for path in checkpoint.complete(directory / "run" / "checkpoints")]
    assert steps
    if number == signal.SIGTERM:  # it finished its step and saved
        assert int(steps[-1].removeprefix("step_")) >= 8
    (directory / "run" / "checkpoints" / ".step_9.partial").mkdir()  # as a kill in the middle of a save leaves it
    resumed = torchrun(*SMALL, "steps=20", "resume=auto", cwd=directory, cache=cache)
    assert f"going on from run/checkpoints/{steps[-1]}" in resumed.stdout
    assert_same_run(unstopped, directory)


@pytest.mark.slow
def test_a_run_is_never_overwritten_nor_resumed_with_other_settings(unstopped, tmp_path, cache):
    directory = tmp_path / "work"
    shutil.copytree(unstopped, directory)
    refused = torchrun(*SMALL, "steps=20", cwd=directory, cache=cache)
    assert refused.returncode != 0
    assert "run already holds a run, finished after step 20. resume=auto goes on" in refused.stdout
    changed = torchrun(*SMALL, "steps=30", "resume=auto", "optimizer.lr=2e-3", cwd=directory, cache=cache)
    assert "optimizer.lr: 0.001 then, 0.002 now" in changed.stdout
    finished = torchrun(*SMALL, "steps=20", "resume=auto", "eval.limit=2", cwd=directory, cache=cache)
    assert finished.returncode == 0
    assert "holds this run, finished" in finished.stdout
    assert "before and after training" in finished.stdout


def test_two_runs_in_one_directory_are_refused(tmp_path):
    with (
        prepared(tmp_path / "run", {}),
        pytest.raises(ValueError, match=r"run\.dir=.*run is in use by a run that has not ended, process \d+;"),
        prepared(tmp_path / "run", {}),
    ):
        pass
    with prepared(tmp_path / "run", {}):  # free again
        pass


def test_a_damaged_checkpoint_is_named(tmp_path):
    directory = tmp_path / "step_3"
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "weights").write_bytes(b"12345")
    (directory / "state.json").write_text(json.dumps({"step": 3, "world_size": 1, "config": {}}))
    (directory / "manifest.json").write_text(json.dumps(checkpoint.manifest(directory)))
    assert checkpoint.newest(tmp_path).step == 3
    (directory / "model" / "weights").write_bytes(b"12346")
    with pytest.raises(ValueError, match=r"step_3 is damaged: model/weights missing or not as written"):
        checkpoint.newest(tmp_path)


def test_another_number_of_ranks_is_refused(tmp_path):
    saved = Checkpoint(tmp_path / "step_3", step=3, world_size=4, config={})
    with pytest.raises(ValueError, match=r"saved by 4 ranks and cannot be resumed by 1; .*--nproc_per_node=4"):
        checkpoint.check_resumable(saved, {})


def test_the_newest_checkpoint_is_the_one_with_the_highest_step(tmp_path):
    for step in (9, 10, 100):
        (tmp_path / f"step_{step}").mkdir()
    assert [path.name for path in checkpoint.complete(tmp_path)] == ["step_9", "step_10", "step_100"]
