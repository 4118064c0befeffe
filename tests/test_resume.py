"""A run that was stopped and resumed is the run that was not stopped; what cannot be resumed is refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file
from test_train import start, torchrun

from launch.run import prepared, resumable
from rl import checkpoint
from rl.checkpoint import Checkpoint
from rl.collect_state import read_state
from rl.config import compose_recipe, typed
from rl.tracking import read_metrics

SMALL = (
    "recipe=grpo_tiny", "run.dir=run", "cold_start.steps=0", "batch.prompts=4", "sampling.completions=4",
    "sampling.max_tokens=16", "eval.data.arithmetic.size=4", "eval.every=0", "eval.sampling.max_tokens=16",
    "optimizer.lr=1e-3", "+rewards.sevens.fn=mine.py:sevens", "tracking.tensorboard=false", "checkpoint.every=5",
)  # fmt: skip


def place_to_run(path: Path) -> Path:
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
    directory = place_to_run(tmp_path_factory.mktemp("unstopped") / "work")
    result = torchrun(*SMALL, "steps=20", cwd=directory, cache=cache)
    assert result.returncode == 0, result.stdout
    return directory


@pytest.mark.slow
def test_stopped_at_10_of_20_it_ends_with_the_same_bits(unstopped, tmp_path, cache):
    directory = place_to_run(tmp_path / "work")
    assert torchrun(*SMALL, "steps=10", cwd=directory, cache=cache).returncode == 0
    resumed = torchrun(*SMALL, "steps=20", "resume=auto", cwd=directory, cache=cache)
    assert "going on from run/checkpoints/step_10" in resumed.stdout
    assert_same_run(unstopped, directory)


def wait_for_rows(process: subprocess.Popen[str], directory: Path, num_rows: int) -> None:
    """Until the run has written down that many steps."""
    metrics = directory / "run" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < num_rows:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.slow
def test_on_two_zero2_ranks_too_of_which_one_is_asked_to_stop(tmp_path, cache):
    whole, parts = place_to_run(tmp_path / "whole"), place_to_run(tmp_path / "parts")
    run = {"ranks": 2, "cache": cache}
    result = torchrun(*SMALL, "steps=20", "engine=zero2", cwd=whole, **run)
    assert result.returncode == 0, result.stdout

    process = start(*SMALL, "steps=20", "engine=zero2", cwd=parts, **run)
    wait_for_rows(process, parts, 8)
    ranks = [
        child for child in psutil.Process(process.pid).children() if "launch/train.py" in " ".join(child.cmdline())
    ]
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "stopped; resume=auto goes on from run/checkpoints" in output
    saved = checkpoint.newest(parts / "run" / "checkpoints")
    assert saved is not None
    assert 8 <= saved.step == len(rewards(parts)) < 20

    result = torchrun(*SMALL, "steps=20", "engine=zero2", "resume=auto", cwd=parts, **run)
    assert f"going on from run/checkpoints/step_{saved.step}" in result.stdout
    assert_same_run(whole, parts)


# Dynamic sampling that keeps surplus groups, a curriculum, a filter, larger groups for hard problems, two inner epochs,
# a mixture, an entropy bonus that keeps to a target: all that a step takes from the steps before it.
STRATEGIES = (
    "collect.dynamic=true", "collect.outcome=lucky", "collect.oversample=2", "collect.reuse=true",
    "collect.max_age=8", "collect.max_rounds=3", "collect.pass_rate=[0.2,0.9]", "collect.revisit=0.3",
    "collect.curriculum.width=0.4", "collect.group_sizes.hard_below=0.3", "batch.epochs=2", "batch.mini_batches=2",
    "+rewards.lucky.fn=mine.py:lucky", "data.train.arithmetic.size=24", "+data.train.arithmetic.weight=2",
    "+data.train.more._target_=data.arithmetic.arithmetic", "+data.train.more.split=test", "+data.train.more.size=12",
    "+data.train.more.weight=1", "checkpoint.every=1", "checkpoint.keep=20", "engine=zero2",
    "+algorithm.entropy_target=5.17", "+algorithm.entropy_coef=1.0", "+algorithm.entropy_delta=0.02",
    "+algorithm.entropy_coef_max=2.0",  # strong enough to cross the target several times
)  # fmt: skip


def place_for_strategies(path: Path) -> Path:
    """With an outcome that one in seven completions has: about half of the groups of four are informative."""
    place_to_run(path)
    with (path / "mine.py").open("a") as file:
        file.write("def lucky(problem, completion):\n    return sum(map(ord, completion.text)) % 7 == 0\n")
    return path


@pytest.mark.slow
def test_killed_in_the_middle_of_dynamic_sampling_a_curriculum_and_inner_epochs(tmp_path, cache):
    whole, parts = place_for_strategies(tmp_path / "whole"), place_for_strategies(tmp_path / "parts")
    run = {"ranks": 2, "cache": cache}
    result = torchrun(*SMALL, *STRATEGIES, "steps=14", cwd=whole, **run)
    assert result.returncode == 0, result.stdout
    rows = [row for row in read_metrics(whole / "run" / "metrics.jsonl") if "collect/rounds" in row]
    assert max(row["collect/rounds"] for row in rows) > 1  # the strategies had something to do
    assert max(row["collect/reused_fraction"] for row in rows) > 0
    assert max(row["data/skipped_fraction"] or 0 for row in rows) > 0
    bonuses = {row["policy/entropy_coef"] for row in rows}
    assert 0 in bonuses  # above the target
    assert len(bonuses) > 2

    process = start(*SMALL, *STRATEGIES, "steps=14", cwd=parts, **run)
    wait_for_rows(process, parts, 7)
    started = psutil.Process(process.pid)
    for one in [started, *started.children(recursive=True)]:
        one.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    states = {path: read_state(path) for path in checkpoint.complete(parts / "run" / "checkpoints")}
    saved = [path for path, state in states.items() if state.kept][-1]  # where groups wait for the next step
    assert len(states[saved].difficulty) > 0
    for path in states:
        if int(path.name.removeprefix("step_")) > int(saved.name.removeprefix("step_")):
            shutil.rmtree(path)
    result = torchrun(*SMALL, *STRATEGIES, "steps=14", "resume=auto", cwd=parts, **run)
    assert f"going on from run/checkpoints/{saved.name}" in result.stdout
    assert_same_run(whole, parts)
    recorded = sorted((whole / "run" / "rollouts").iterdir())
    assert any(path.name.endswith(".dropped.jsonl") for path in recorded)
    for path in recorded:
        assert (parts / "run" / "rollouts" / path.name).read_bytes() == path.read_bytes()
    last = [directory / "run" / "checkpoints" / "step_14" for directory in (whole, parts)]
    one, other = map(read_state, last)
    assert one == other
    control, again = (json.loads((path / "engine" / "engine.json").read_text())["entropy_control"] for path in last)
    assert control == again
    assert 0 < control["coef"] < 2  # at a bound a weight that was forgotten would be the right one again


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle_costs_nothing_that_a_resume_does_not_bring_back(number, unstopped, tmp_path, cache):
    directory = place_to_run(tmp_path / "work")
    process = start(*SMALL, "steps=20", cwd=directory, cache=cache)
    wait_for_rows(process, directory, 8)
    started = psutil.Process(process.pid)
    for one in [started, *started.children(recursive=True)]:  # torchrun, the rank, the reward worker
        one.send_signal(number)
    process.communicate(timeout=60)
    saved = checkpoint.newest(directory / "run" / "checkpoints")
    assert saved is not None
    assert saved.step < 15  # or it was too quick for this test
    if number == signal.SIGTERM:  # it finished its step and saved
        assert saved.step >= 8
    partial = directory / "run" / "checkpoints" / ".step_15.partial"  # as a kill in the middle of a save leaves it
    (partial / "model").mkdir(parents=True)
    (partial / "model" / "half-written").write_text("")
    resumed = torchrun(*SMALL, "steps=20", "resume=auto", cwd=directory, cache=cache)
    assert f"going on from run/checkpoints/step_{saved.step}" in resumed.stdout
    assert_same_run(unstopped, directory)
    assert (directory / "run" / "checkpoints" / "step_15").is_dir()
    assert not list((directory / "run" / "checkpoints").rglob("*half-written"))


@pytest.mark.slow
def test_a_finished_run_is_never_overwritten_and_resumed_it_says_so(unstopped, tmp_path, cache):
    directory = tmp_path / "work"
    shutil.copytree(unstopped, directory)
    refused = torchrun(*SMALL, "steps=20", cwd=directory, cache=cache)
    assert refused.returncode != 0
    assert "run already holds a run, finished after step 20. resume=auto goes on" in refused.stdout
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


def write_checkpoint(parent: Path, step: int, config: Mapping[str, Any], world_size: int = 1) -> Path:
    """A complete one, but for its model and engine."""
    directory = parent / f"step_{step}"
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "weights").write_bytes(b"12345")
    state = {"step": step, "world_size": world_size, "config": config}
    (directory / "state.json").write_text(json.dumps(state))
    (directory / "manifest.json").write_text(json.dumps(checkpoint.manifest(directory)))
    return directory


def test_a_damaged_checkpoint_is_named(tmp_path):
    weights = write_checkpoint(tmp_path, 3, {}) / "model" / "weights"
    assert checkpoint.newest(tmp_path).step == 3
    weights.write_bytes(b"12346")
    with pytest.raises(ValueError, match=r"step_3 is damaged: model/weights missing or not as written"):
        checkpoint.newest(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match=r"step_3 is damaged: model/weights .*Delete .*step_3 to go on from the"):
        checkpoint.newest(tmp_path)
    (tmp_path / "step_3" / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"step_3 is damaged: manifest\.json missing"):
        checkpoint.newest(tmp_path)


def resume(directory: Path, *overrides: str) -> Checkpoint | None:
    """As launch/train.py recipe=grpo_tiny decides."""
    composed = compose_recipe(["recipe=grpo_tiny", *overrides])
    return resumable(directory, typed(composed), resolved(composed))


def resolved(composed: Any) -> Any:
    return OmegaConf.to_container(composed, resolve=True)


@pytest.fixture
def at_step_3(tmp_path) -> Path:
    """A run of grpo_tiny that stopped after three steps."""
    write_checkpoint(tmp_path / "checkpoints", 3, resolved(compose_recipe(["recipe=grpo_tiny"])))
    return tmp_path


@pytest.mark.parametrize(
    "override",
    [
        *("eval.every=5", "eval.sampling.max_tokens=7", "eval.data.arithmetic.size=9", "tracking.sample_every=3"),
        *("checkpoint.every=1", "scoring.workers=3", "run.dir=elsewhere", "steps=99"),
        *("batch.tokens_per_micro_batch=4096", "model.gradient_checkpointing=true"),
    ],
)
def test_what_changes_no_step_may_change_at_a_resume(override, at_step_3):
    resumed = resume(at_step_3, "resume=auto", override)
    assert resumed is not None
    assert resumed.step == 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lr=0.1", r"optimizer\.lr: 0\.00015 then, 0\.1 now"),
        ("seed=7", r"seed: 0 then, 7 now"),
        ("batch.prompts=32", r"batch\.prompts: 16 then, 32 now"),
        ("engine=zero2", r"engine\.name: ddp then, zero2 now"),
        ("+rewards.mine.fn=a.py:b", r"rewards\.mine: None then"),
        ("data.train.arithmetic.size=7", r"data\.train\.arithmetic\.size: 20000 then, 7 now"),
    ],
)
def test_what_changes_a_step_is_refused_at_a_resume_by_its_key(override, said, at_step_3):
    with pytest.raises(ValueError, match=rf"step_3 belongs to a run with other settings:\n  {said}"):
        resume(at_step_3, "resume=auto", override)


def test_the_number_of_steps_may_change_only_under_a_schedule_that_does_not_depend_on_it(tmp_path):
    linear = "optimizer.schedule=linear"
    write_checkpoint(tmp_path / "checkpoints", 3, resolved(compose_recipe(["recipe=grpo_tiny", linear])))
    with pytest.raises(ValueError, match=r"steps: 70 then, 99 now"):
        resume(tmp_path, "resume=auto", linear, "steps=99")


def test_without_resume_auto_a_directory_that_holds_a_run_is_refused(at_step_3, tmp_path_factory):
    with pytest.raises(ValueError, match=r"holds a run, stopped after step 3\. resume=auto .*\n?.*run\.dir="):
        resume(at_step_3)
    barely = tmp_path_factory.mktemp("barely")
    assert resume(barely) is None
    (barely / "metrics.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(ValueError, match=r"holds a run, stopped before its first checkpoint\. resume=auto"):
        resume(barely)
    assert resume(barely, "resume=auto") is None  # from the start


def test_another_number_of_ranks_is_refused(tmp_path):
    saved = Checkpoint(tmp_path / "step_3", step=3, world_size=4, config={})
    with pytest.raises(ValueError, match=r"saved by 4 ranks and cannot be resumed by 1; .*--nproc_per_node=4"):
        checkpoint.check_resumable(saved, {})


def test_the_newest_checkpoint_is_the_one_with_the_highest_step(tmp_path):
    for step in (9, 10, 100):
        (tmp_path / f"step_{step}").mkdir()
    (tmp_path / ".step_200.partial").mkdir()  # a save that did not end
    assert [path.name for path in checkpoint.complete(tmp_path)] == ["step_9", "step_10", "step_100"]
