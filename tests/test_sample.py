"""Claims about launch/sample.py: pass rates without training, through a kill, on two ranks, and as a run's filter."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from standin import StandIn

from launch import models
from launch.run import known_before, read_inputs
from launch.sample_files import (
    PassRate,
    add,
    check_lineage,
    done_before,
    pass_rate,
    recorded,
    set_aside,
    waiting_files,
    waiting_groups,
)
from launch.sample_report import histogram, ranges, report
from rl.config import CollectConfig, compose_recipe, typed
from rl.experience import Completion, Failure, Group, Prompt, ScoredGroup
from rl.policy import load_model
from rl.record import read_rollouts
from rl.rollout.native import NativeRollout
from rl.rollout.replay import ReplayRollout
from rl.selection import Position, Selection
from rl.tiny import build_tiny_model
from rl.trainer import EVAL_SEED

ROOT = Path(__file__).resolve().parents[1]
# Of a model that knows nothing, one completion in three is "right".
LUCKY = "def lucky(problem, completion):\n    return float(sum(map(ord, completion.text)) % 3 == 0)\n"
RECIPE = (
    "recipe=grpo_tiny", "cold_start.steps=0", "+model.build.hidden=32", "+model.build.layers=1", "+model.build.heads=2",
    "+model.build.kv_heads=1", "+model.build.intermediate=64", "data.train.arithmetic.size=24", "batch.prompts=4",
    "sampling.completions=4", "sampling.max_tokens=12", "eval.data.arithmetic.size=3", "eval.sampling.max_tokens=12",
    "+rewards.lucky.fn=mine.py:lucky", "collect.outcome=lucky",
)  # fmt: skip

with pytest.MonkeyPatch.context() as kept:  # a launch script puts the root in place of the first entry
    kept.setattr(sys, "path", list(sys.path))
    from launch.sample import main


@contextlib.contextmanager
def place(directory: Path, cache: Path) -> Iterator[None]:
    """Work in this directory, as one process that nothing of it stays in."""
    before, environment = Path.cwd(), dict(os.environ)
    os.environ["REASONING_RL_CACHE"] = str(cache)
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def work(tmp_path_factory, cache) -> Path:
    """A directory with a reward, and all 24 problems sampled into whole/; what was printed is in printed.txt."""
    directory = tmp_path_factory.mktemp("work")
    (directory / "mine.py").write_text(LUCKY)
    with place(directory, cache), contextlib.redirect_stdout(io.StringIO()) as printed:
        main([*RECIPE, "sample.dir=whole"])
    (directory / "printed.txt").write_text(printed.getvalue())
    return directory


def rates(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "pass_rates.jsonl").read_text().splitlines()]


def groups(directory: Path) -> list[ScoredGroup]:
    return [group for file in recorded(directory) for group in read_rollouts(file)]


def tokens(scored: ScoredGroup) -> list[list[int]]:
    return [done.token_ids for done in scored.group.completions]


def command(*overrides: str, ranks: int = 0) -> list[str]:
    """ranks=0: without torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks else []
    return [sys.executable, *torchrun, str(ROOT / "launch" / "sample.py"), *RECIPE, *overrides]


# ---------------------------------------------------------------------- what it writes


def test_every_problem_is_sampled_once_and_its_pass_rate_is_that_of_its_recorded_completions(work):
    rows, recorded_groups = rates(work / "whole"), groups(work / "whole")
    assert len(rows) == len({row["id"] for row in rows}) == 24
    for row, scored in zip(rows, recorded_groups, strict=True):
        right = [sum(map(ord, done.text)) % 3 == 0 for done in scored.group.completions]
        assert scored.terms["lucky"] == tuple(map(float, right))
        assert (row["id"], row["source"]) == (scored.group.prompt.problem.id, "arithmetic")
        assert (row["completions"], row["attempts"], row["right"]) == (4, 4, sum(right))
        assert row["pass_rate"] == sum(right) / 4
        assert row["completion_tokens"] == sum(len(done.token_ids) for done in scored.group.completions) / 4
    assert len({row["pass_rate"] for row in rows}) > 2


def test_the_table_says_what_was_measured(work):
    printed, rows = (work / "printed.txt").read_text(), rates(work / "whole")
    mean = sum(row["pass_rate"] for row in rows) / 24
    line = next(line for line in printed.splitlines() if line.startswith("arithmetic"))
    assert line.split()[1:4] == ["24", "96", f"{mean:.1%}"]
    kept = sum(0.1 <= row["pass_rate"] <= 0.9 for row in rows)
    assert f"collect.pass_rate=[0.1,0.9] keeps {kept} of 24" in printed
    assert "collect.pass_rates=whole/pass_rates.jsonl" in printed


def test_two_ranks_and_other_chunks_sample_the_same(work, cache):
    environment = os.environ | {"REASONING_RL_CACHE": str(cache)}
    two = command("sample.dir=two", "sample.prompts=9", ranks=2)
    result = subprocess.run(two, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [file.stem for file in recorded(work / "two")] == ["000000", "000009", "000018"]
    assert (work / "two" / "pass_rates.jsonl").read_bytes() == (work / "whole" / "pass_rates.jsonl").read_bytes()
    for one, other in zip(groups(work / "whole"), groups(work / "two"), strict=True):
        assert one.group.prompt == other.group.prompt
        assert tokens(one) == tokens(other)
        assert one.rewards == other.rewards


def test_killed_in_the_middle_the_same_command_ends_with_the_same_files(work, cache):
    environment = os.environ | {"REASONING_RL_CACHE": str(cache)}
    once = command("sample.dir=parts", "sample.prompts=1")
    process = subprocess.Popen(once, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while len(recorded(work / "parts")) < 3:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    started = psutil.Process(process.pid)
    for one in [started, *started.children(recursive=True)]:
        one.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    paid_for = {file: file.stat().st_mtime_ns for file in recorded(work / "parts")}
    assert 3 <= len(paid_for) < 24  # or it was too quick for this test
    with place(work, cache):
        main([*RECIPE, "sample.dir=parts", "sample.prompts=1"])
        main([*RECIPE, "sample.dir=unstopped", "sample.prompts=1"])
    assert {file: file.stat().st_mtime_ns for file in paid_for} == paid_for  # not sampled again
    for file in [*recorded(work / "unstopped"), work / "unstopped" / "pass_rates.jsonl"]:
        assert (work / "parts" / file.relative_to(work / "unstopped")).read_bytes() == file.read_bytes()


def test_asked_to_stop_it_writes_down_what_is_under_way_and_a_higher_limit_goes_on(work, cache, capsys, monkeypatch):
    def add_and_ask(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return add(*arguments)

    with place(work, cache):
        with monkeypatch.context() as patch:
            patch.setattr("launch.sample_run.add", add_and_ask)
            main([*RECIPE, "sample.dir=asked"])
        assert "stopped after 4 problems; the same command goes on" in capsys.readouterr().out
        assert len(rates(work / "asked")) == 4
        main([*RECIPE, "sample.dir=asked", "sample.limit=8"])
        assert "4 problems x 4 completions, after 4 problems that are done" in capsys.readouterr().out
    assert rates(work / "asked") == rates(work / "whole")[:8]


def test_after_a_broken_reward_is_mended_nothing_is_sampled_again(work, cache, monkeypatch):
    broken = [*RECIPE, "+rewards.mended.fn=mended.py:lucky", "collect.outcome=mended", "sample.dir=mended"]
    right = "def lucky(problem, completion):\n    return 1.0\n"
    (work / "mended.py").write_text(right.replace("return 1.0", "return 1.0 if 'boxed' in completion.text else 1 / 0"))
    with place(work, cache), pytest.raises(Exception, match=r"(?s)reward mended failed .*scores them again"):
        main(broken)
    assert [file.name for file in recorded(work / "mended")] == ["000000.jsonl"]  # it takes two chunks to be sure
    (work / "mended.py").write_text(right)
    with place(work, cache), monkeypatch.context() as patch:
        patch.setattr(NativeRollout, "generate", None)
        main([*broken, "sample.limit=8"])
    assert [row["pass_rate"] for row in rates(work / "mended")] == [1.0] * 8
    assert list(map(tokens, groups(work / "mended"))) == list(map(tokens, groups(work / "whole")[:8]))
    assert len(list((work / "mended" / "rollouts").iterdir())) == 2


def test_a_model_is_known_by_its_weights_wherever_it_lies(tmp_path):
    for name, weights in (("one", bytes(1 << 20)), ("moved", bytes(1 << 20)), ("other", bytes((1 << 20) - 1) + b"x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        (tmp_path / name / "README.md").write_text(name)
    one, moved, other = (models.fingerprint(str(tmp_path / name)) for name in ("one", "moved", "other"))
    assert one == moved != other


def test_completions_are_those_that_the_first_policy_of_a_run_samples_and_is_evaluated_by(work, cache):
    config = config_of("eval.sampling.completions=2")
    with place(work, cache):
        main([*RECIPE, "sample.dir=held_out", "sample.problems=eval", "eval.sampling.completions=2"])
        base = models.base_model(config)
        inputs = read_inputs(config, base)
        engine = NativeRollout(base, inputs.tokenizer, "float32", torch.device("cpu"))
    trained = engine.generate(inputs.stream.at(0), config.params, config.seed)
    assert [scored.group for scored in groups(work / "whole")[:4]] == trained
    evaluated = engine.generate(inputs.held_out["arithmetic"], config.eval_params, config.seed + EVAL_SEED)
    assert [scored.group for scored in groups(work / "held_out")] == evaluated


def test_a_server_is_given_the_weights_and_must_show_them(work, cache):
    """One that was started with a model of the same shape and other weights, and with one that keeps its own."""
    with place(work, cache):
        base = models.base_model(config_of())
        other = build_tiny_model(work / "other", seed=1, hidden=32, layers=1, heads=2, kv_heads=1, intermediate=64)
    server = StandIn(str(other))
    over_http = [*RECIPE, "rollout=server", f"rollout.urls=[{server.url}]", f"model.path={base}", "sample.limit=4"]
    try:
        with place(work, cache):
            main([*over_http, "sample.dir=served"])
            assert len(server.received) == 1
            assert [row["completions"] for row in rates(work / "served")] == [4] * 4
            server.forgets, server.model = True, load_model(str(other), "float32")
            with pytest.raises(Exception, match=r"does not compute with the weights of policy step 0"):
                main([*over_http, "sample.dir=forgotten"])
        assert recorded(work / "forgotten") == []
    finally:
        server.stop()


# ---------------------------------------------------------------------- what a run does with it


def config_of(*overrides: str):
    return typed(compose_recipe([*RECIPE, *overrides]))


def test_a_run_with_the_file_samples_exactly_the_problems_in_range(work, cache, capsys):
    bounds = "collect.pass_rate=[0.2,0.6]"
    config = config_of("collect.pass_rates=whole/pass_rates.jsonl", bounds, "collect.revisit=0")
    with place(work, cache):
        inputs = read_inputs(config, models.base_model(config))
    inside = {row["id"] for row in rates(work / "whole") if 0.2 <= row["pass_rate"] <= 0.6}
    assert 4 < len(inside) < 24
    selection = Selection(inputs.stream, config.collect, inputs.difficulty, Position(0, {}), seed=0, progress=0.0)
    epoch = [choice.prompt.problem.id for choice in selection.take(len(inside))]
    assert sorted(epoch) == sorted(inside)
    said = capsys.readouterr().out
    assert "24 of 24 training problems have a pass rate" in said
    assert f"collect.pass_rate=[0.2, 0.6]: {24 - len(inside)} of 24 problems are outside it" in said


def test_the_first_steps_of_a_run_play_the_samples_back(work, cache):
    config = config_of()
    with place(work, cache):
        stream = read_inputs(config, models.base_model(config)).stream
    replay = ReplayRollout(work / "whole" / "rollouts")
    played = [group for step in (0, 5) for group in replay.generate(stream.at(step), config.params, seed=0)]
    everyone = [scored.group for scored in groups(work / "whole")]
    assert played == [*everyone[:4], *everyone[20:]]


def test_a_file_measured_on_other_questions_of_the_same_names_is_refused(work, cache):
    path = work / "whole" / "pass_rates.jsonl"
    problems = [scored.group.prompt.problem for scored in groups(work / "whole")]
    assert len(known_before(CollectConfig(pass_rates=str(path)), problems)) == 24
    other = [replace(problems[0], messages=({"role": "user", "content": "What is 1+1?"},)), *problems[1:]]
    with pytest.raises(ValueError, match=r"collect\.pass_rates=.*was measured on other problems: arithmetic/train"):
        known_before(CollectConfig(pass_rates=str(path)), other)
    with pytest.raises(ValueError, match=r"collect\.pass_rates=.*nowhere\.jsonl cannot be read"):
        known_before(CollectConfig(pass_rates=str(work / "nowhere.jsonl")), problems)


def test_a_range_that_leaves_nothing_is_refused(work):
    problems = [scored.group.prompt.problem for scored in groups(work / "whole")]
    path = str(work / "whole" / "pass_rates.jsonl")
    nothing = {"pass_rates": path, "pass_rate": [0.26, 0.49]}  # four completions have no such rate
    with pytest.raises(ValueError, match=r"collect\.pass_rate=\[0\.26, 0\.49\] leaves no problem to sample: all 24"):
        known_before(CollectConfig(**nothing, revisit=0.0), problems)
    known_before(CollectConfig(**nothing, revisit=0.1), problems)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["seed=1"], r"begun under other settings:\n.*\n  prompts: .* now\n  seed: 0 then, 1 now"),
        (["sample.seed=1"], r"other settings:\n  seed: 0 then, 1 now\nTake these as they were, or another sample\.dir"),
        (["sample.completions=8"], r"sampling\.completions: 4 then, 8 now"),
        (["cold_start.steps=900"], r"cold_start: None then, "),
        (["sampling.max_tokens=11"], r"sampling\.max_tokens: 12 then, 11 now"),
        (["rewards.math_answer.weight=2"], r"rewards\.math_answer\.weight: 1\.0 then, 2 now\n.*rescore\.py"),
        (["collect.outcome=math_answer"], r"outcome: lucky then, math_answer now"),
        (["data.train.arithmetic.size=23"], r"prompts: "),
        (["data.system=Think."], r"prompts: "),
        (["+model.build.intermediate=96"], r"model\.weights: "),
    ],
)
def test_another_lineage_does_not_go_on_in_the_same_directory(work, cache, overrides, said):
    before = {path: path.read_bytes() for path in (work / "whole").rglob("*") if path.is_file()}
    with place(work, cache), pytest.raises(Exception, match=f"(?s){said}"):
        main([*[one for one in RECIPE if one.split("=")[0] not in overrides[0]], *overrides, "sample.dir=whole"])
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["sample.limt=3"], r"no key sample\.limt in this recipe\. Did you mean sample\.limit\?"),
        (["sample.limit=0"], r"sample\.limit must be 1 or more, got 0"),
        (["sample.problems=test"], r"sample\.problems must be one of train, eval, got 'test'"),
        (["--resume"], r"--resume is not an option"),
        (["sample.dir=."], r"sample\.dir=\. already exists and holds no samples"),
        (["sample.dir=.", "cold_start.steps=900"], r"sample\.dir=\. already exists and holds no samples"),
        (["sample.dir=/proc/x"], r"sample\.dir=/proc/x cannot be written: "),
        (["sample.dir=mine.py"], r"sample\.dir=mine\.py already exists and holds no samples"),
        (["sample.problems=eval", "~eval.data.arithmetic"], r"eval\.data, which names no data set"),
        (["sample.problems=eval", "eval.sampling.temperature=0"], r"eval\.sampling\.temperature=0 makes all 4 .*equal"),
        (["model.path=nowhere"], r"nowhere"),
    ],
)
def test_a_mistake_is_said_before_anything_is_sampled(work, cache, overrides, said):
    with place(work, cache), pytest.raises(Exception, match=f"(?s){said}"):
        main([*RECIPE, *overrides])
    assert not (work / "outputs").exists()


def test_two_problems_of_one_name_are_refused(work, cache):
    for name in ("one", "two"):
        (work / f"{name}.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    same = "_target_: data.jsonl.jsonl, source: mine"
    twice = [f"+data.train.{name}={{{same}, path: {name}.jsonl}}" for name in ("one", "two")]
    with place(work, cache), pytest.raises(Exception, match=r"two problems of source mine are called mine/00000"):
        main([*RECIPE, *twice, "sample.dir=twice"])


# ---------------------------------------------------------------------- the files, without a model


def scored(number: int, values: list[float], problem, *, failed: bool = False) -> ScoredGroup:
    """A group of one-token completions; failed: the grader has no value for the last."""
    prompt = Prompt(replace(problem, id=f"sums/{number}"), number, "2 + 2?", (7, 8))
    completions = tuple(Completion("4", [1], [-0.5], "length" if i else "stop", 0) for i in range(len(values)))
    failures = (Failure("lucky", len(values) - 1, "error", "it raised"),) if failed else ()
    return ScoredGroup(Group(prompt, completions), tuple(values), {"lucky": tuple(values)}, failures)


def test_a_directory_of_a_program_that_was_killed_before_its_first_word_is_free(tmp_path):
    for name in (".lock", "config.yaml", ".lineage.json.17.tmp"):
        (tmp_path / name).write_text("")
    check_lineage(tmp_path, {"seed": 0})
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"already exists and holds no samples"):
        check_lineage(tmp_path, {"seed": 0})


@pytest.fixture
def begun(tmp_path, problem) -> tuple[Path, list[ScoredGroup], list[tuple[str, str]]]:
    """Three chunks of two on disk."""
    everyone = [scored(i, [1.0, float(i % 2)], problem) for i in range(6)]
    for start in (0, 2, 4):
        add(tmp_path, start, everyone[start : start + 2], "lucky")
    return tmp_path, everyone, [("sums", f"sums/{i}") for i in range(8)]


def test_a_completion_whose_grader_failed_is_no_attempt(problem):
    one = pass_rate(scored(0, [1.0, 0.0, float("nan")], problem, failed=True), "lucky")
    assert (one.completions, one.attempts, one.right, one.pass_rate) == (3, 2, 1, 0.5)
    assert one.truncated_fraction == pytest.approx(2 / 3)
    assert pass_rate(scored(0, [float("nan")], problem, failed=True), "lucky").pass_rate is None


def cut_the_last_line(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize("harm", [cut_the_last_line, Path.unlink, lambda file: file.write_text("")])
def test_pass_rates_that_a_kill_cut_short_follow_from_the_rollouts(begun, harm):
    directory, everyone, order = begun
    whole = (directory / "pass_rates.jsonl").read_bytes()
    harm(directory / "pass_rates.jsonl")
    assert done_before(directory, order, "lucky") == [pass_rate(one, "lucky") for one in everyone]
    assert (directory / "pass_rates.jsonl").read_bytes() == whole


def test_rollouts_that_are_gone_or_belong_elsewhere_are_named(begun):
    directory, _, order = begun
    with pytest.raises(ValueError, match=r"000000\.jsonl holds other problems"):
        done_before(directory, list(reversed(order)), "lucky")
    (directory / "rollouts" / "000002.jsonl").unlink()
    done_before(directory, order, "lucky")  # their pass rates are known
    (directory / "pass_rates.jsonl").unlink()
    with pytest.raises(ValueError, match=r"problems 2 to 3 are missing before .*000004\.jsonl"):
        done_before(directory, order, "lucky")


def test_completions_whose_reward_broke_are_only_scored_again(begun, problem):
    directory, _, _ = begun
    paid = scored(6, [float("nan")], problem, failed=True)
    set_aside(directory, 6, 8, 1, [paid])
    also = scored(7, [float("nan")], problem, failed=True)
    set_aside(directory, 6, 8, 1, [also])  # at another attempt, on other ranks: nothing is overwritten
    assert len(recorded(directory)) == 3  # not taken for done
    other = replace(paid.group.prompt, index=99)
    prompts = [also.group.prompt, other, paid.group.prompt]
    assert waiting_groups(directory, 6, prompts) == [also.group, None, paid.group]
    add(directory, 6, [scored(6, [1.0], problem)], "lucky")
    assert waiting_groups(directory, 7, prompts[:1]) == [also.group]  # smaller chunks than before
    add(directory, 7, [scored(7, [1.0], problem)], "lucky")
    assert waiting_files(directory) == {}


def rate_of(right: int, attempts: int, source: str = "sums") -> PassRate:
    return PassRate(
        id=f"{right}/{attempts}", source=source, completions=10, attempts=attempts, right=right,
        pass_rate=right / attempts if attempts else None, completion_tokens=5.0, truncated_fraction=0.5, question="",
    )  # fmt: skip


def test_the_report_counts_by_hand():
    some = [rate_of(0, 10), rate_of(1, 10), rate_of(3, 10), rate_of(9, 10), rate_of(10, 10), rate_of(0, 0)]
    text = "\n".join(report(some))
    line = next(line for line in text.splitlines() if line.startswith("sums"))
    assert line.split()[1:4] == ["6", "60", "46.0%"]  # 23 of 50; what could not be graded is not wrong
    assert line.split()[-5:] == ["20.0%", "60.0%", "20.0%", "5", "50.0%"]
    assert "1 problems have no pass rate" in text
    counts = [int(line.split()[3]) for line in histogram(some[:5])[1:]]
    assert counts == [1, 1, 0, 1, 0, 0, 0, 0, 0, 2]
    assert ranges(some[:5])[1] == "collect.pass_rate=[0.1,0.9] keeps 3 of 5 (60.0%)"
    assert [line.split()[0] for line in report([*some, rate_of(1, 2, "more")]) if line[:1].isalpha()][:3] == [
        "more",
        "sums",
        "all",
    ]
