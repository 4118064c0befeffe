"""Claims about benchmarks/learning.py: what it counts, what it compares, and that a miniature goes the whole way."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import learning, pupils
from benchmarks.learning_arms import PARTS, SIX, arms_of, check_algorithms
from benchmarks.learning_report import crossing, interval, t_quantile, within_budget, write_report
from benchmarks.learning_runs import Planned, Settings, lines_of, missing_of, name_of, overrides_of, result_file
from data.arithmetic import demonstrations
from rl.config import compose_recipe, typed
from rl.experience import Group, ScoredGroup
from rl.record import write_rollouts

ROOT = Path(__file__).resolve().parents[1]
MINIATURE = (
    *("steps=2", "eval.every=1", "eval.limit=4", "batch.prompts=4", "sampling.completions=2", "optimizer.lr=1e-3"),
    *("cold_start.steps=2", "cold_start.examples=4", "cold_start.data.size=8"),
    *("+model.build.hidden=24", "+model.build.layers=1", "+model.build.heads=2", "+model.build.kv_heads=1"),
)


def line(step, accuracy, *, part="race", arm="ours", seed=0, speed=1.0, **fields):
    values = {
        **{"part": part, "arm": arm, "seed": seed, "step": step, "accuracy": accuracy, "settings": {"algorithm": arm}},
        **{"completions": 128 * step, "train_s": speed * step, "low": accuracy - 0.03, "high": accuracy + 0.03},
        **{
            "num_problems": 250,
            "k": 4,
            "jobs": 1,
            "threads": 1,
            "cold_start_seed": 0,
            "machine": "a machine, commit abc",
        },
        **{"entropy": 0.3, "wrong_tokens": 30.0, "right_tokens": 30.0},
    }
    return values | fields


def keep(out, *runs):
    (out / "results").mkdir(parents=True, exist_ok=True)
    for number, lines in enumerate(runs):
        (out / "results" / f"{number}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


# ---------------------------------------------------------------------------------------------------------------------
# Statistics


@pytest.mark.parametrize(("degrees", "published"), [(1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (30, 2.042)])
def test_quantiles_of_students_t_are_those_of_the_tables(degrees, published):
    assert t_quantile(degrees) == pytest.approx(published, abs=1e-3)


def test_an_interval_is_of_t_over_seeds_and_one_seed_has_none():
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.303 / math.sqrt(3)))
    middle, half = interval([0.5])
    assert middle == 0.5
    assert math.isnan(half)


def test_the_target_is_crossed_on_a_line_between_two_evaluations():
    lines = [line(0, 0.2, speed=2.0), line(5, 0.5, speed=2.0), line(10, 0.9, speed=2.0), line(15, 0.4, speed=2.0)]
    assert crossing(lines, "train_s", 0.6) == pytest.approx(10 + 10 * 0.25)  # a quarter of the way from 0.5 to 0.9
    assert crossing(lines, "completions", 0.2) == 0
    assert crossing(lines, "train_s", 0.95) is None


def test_the_final_accuracy_is_the_last_within_the_budget():
    lines = [line(step, 0.1 * step) for step in range(5)]
    assert [one["step"] for one in within_budget(lines, budget=300)] == [0, 1, 2]


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def test_groups_that_were_dropped_are_completions_too(tmp_path, make_prompt, make_completion):
    def scored(lengths, values):
        done = tuple(make_completion("x", token_ids=[1] * length) for length in lengths)
        return ScoredGroup(Group(make_prompt(), done), tuple(values), {"math_answer": tuple(values)})

    write_rollouts(tmp_path / "rollouts" / "000000.jsonl", [scored((10, 20), (1.0, 0.0))])
    write_rollouts(tmp_path / "rollouts" / "000000.dropped.jsonl", [scored((30, 50), (1.0, 1.0))])
    write_rollouts(tmp_path / "rollouts" / "000001.jsonl", [scored((40, 60), (0.0, 0.0))])
    rows = [{"step": 0, "time/step_s": 2.0, "policy/entropy": 0.4}, {"step": 1, "time/step_s": 3.0}, {"step": 2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "evaluations").mkdir()
    for step, accuracy in ((0, 0.1), (1, 0.2), (2, 0.3)):
        found = {"avg": accuracy, "interval": [0.0, 1.0], "num_problems": 7, "k": 4}
        (tmp_path / "evaluations" / f"{step:06d}.json").write_text(json.dumps({"arithmetic": found}))
    lines = lines_of(tmp_path)
    assert [one["completions"] for one in lines] == [0, 4, 6]
    assert [one["train_s"] for one in lines] == [0.0, 2.0, 5.0]
    assert [one["accuracy"] for one in lines] == [0.1, 0.2, 0.3]
    assert [one["wrong_tokens"] for one in lines] == [None, 20.0, 50.0]
    assert [one["right_tokens"] for one in lines] == [None, 30.0, None]
    assert [one["entropy"] for one in lines] == [None, 0.4, None]


def test_other_settings_are_another_run_and_another_directory_is_not(tmp_path):
    settings = Settings(out=tmp_path, overrides={})
    one = Planned(part="algorithms", arm=arms_of("algorithms")[0], seed=0)
    elsewhere = replace(settings, out=tmp_path / "elsewhere", jobs=2)
    assert name_of(one, settings) == name_of(one, elsewhere)
    others = [
        name_of(replace(one, seed=1), settings),
        name_of(one, replace(settings, overrides={"optimizer.lr": "1e-3"})),
        name_of(one, replace(settings, overrides={"cold_start.steps": "3"})),
        name_of(one, replace(settings, cold_start_seed=1)),
        name_of(one, replace(settings, threads=2)),
    ]
    assert len({name_of(one, settings), *others}) == 6


@pytest.mark.parametrize(("part", "left"), [("random", [1]), ("race", [0, 0])])
def test_what_is_there_is_not_run_again_but_a_race_has_both_sides_anew(part, left, tmp_path):
    settings = Settings(out=tmp_path, overrides={})
    (tmp_path / "results").mkdir()
    planned = [Planned(part=part, arm=arm, seed=seed) for seed in (0, 1) for arm in arms_of(part)]
    for one in planned:
        result_file(one, settings).touch()
    result_file(planned[0 if part == "race" else 1], settings).unlink()
    assert [one.seed for one in missing_of(planned, settings)] == left


@pytest.mark.parametrize("part", PARTS)
def test_each_arm_is_a_recipe_that_starts_from_the_one_checkpoint(part, tmp_path):
    for arm in arms_of(part):
        config = overrides_of(Planned(part=part, arm=arm, seed=5), Settings(out=tmp_path, overrides={}))
        settings = typed(compose_recipe(["recipe=grpo_tiny", *(f"{key}={value}" for key, value in config.items())]))
        assert settings.model.path == str(tmp_path / f"cold_start-{arm.pupil}-0" / "final")
        assert (settings.cold_start.steps, settings.seed) == (0, 5)


def test_the_six_start_alike_and_sample_alike():
    shared = {
        tuple(arm.settings[key] for key in ("optimizer.lr", "batch.mini_batches")) for arm in arms_of("algorithms")
    }
    assert len(shared) == 1
    assert {arm.pupil for arm in arms_of("algorithms")} == {"careless"}
    assert [arm.name for arm in arms_of("algorithms")] == list(SIX)


# ---------------------------------------------------------------------------------------------------------------------
# Pupils


def test_a_coin_knows_nothing_of_the_answer(problem, make_completion):
    texts = [f"<answer>{number}</answer>" for number in range(2000)]
    tosses = [pupils.coin(problem, make_completion(text)) for text in texts]
    assert tosses == [pupils.coin(problem, make_completion(text)) for text in texts]
    assert 0.45 < sum(tosses) / len(tosses) < 0.55
    assert tosses == [pupils.coin(replace(problem, answer="5"), make_completion(text)) for text in texts]
    assert tosses != [pupils.coin(problem, make_completion(text), seed=1) for text in texts]


def test_a_rambling_pupil_hems_as_long_after_right_steps_as_after_wrong_ones():
    examples = pupils.rambling(2000, going_on=0.9)
    plain = demonstrations(2000)
    assert [(problem, text.replace(".", "")) for problem, text in examples] == plain
    dots: dict[bool, list[int]] = {True: [], False: []}
    for problem, text in examples:
        dots[f"<answer>{problem.answer}</answer>" in text].append(text.count("."))
    means = [sum(counts) / len(counts) for counts in dots.values()]
    assert means == pytest.approx([9.0, 9.0], abs=1.0)  # going_on / (1 - going_on)


# ---------------------------------------------------------------------------------------------------------------------
# The report, and the command


def test_the_report_has_the_ratio_of_the_race_and_the_verdict_on_the_coin(tmp_path):
    race = [
        [line(step, 0.2 + 0.1 * step, arm=arm, seed=seed, speed=speed) for step in range(7)]
        for seed in (0, 1)
        for arm, speed in (("ours", 1.0), ("trl", 4.0))
    ]
    flat = [[line(0, 0.2, part="random", arm="coin", seed=s), line(9, 0.2 + gain, part="random", arm="coin", seed=s)]
            for s, gain in enumerate((0.02, -0.02, 0.01))]  # fmt: skip
    keep(tmp_path, *race, *flat)
    text = write_report(tmp_path, "the command")
    assert "| geometric mean |" in text
    assert "0.25 [0.25, 0.25]" in text
    assert "+0.3 +- 5.2 % | no |" in text
    assert (tmp_path / "report.md").read_text() == text
    assert all((tmp_path / f"{part}.png").stat().st_size > 5000 for part in ("race", "random"))
    assert not (tmp_path / "length.png").exists()


def test_effects_are_paired_by_seed(tmp_path):
    def run(arm, seed, growth):
        wrong = [30.0 + seed + growth * (step > 1) for step in range(4)]
        return [line(step, 0.5, part="length", arm=arm, seed=seed, wrong_tokens=wrong[step]) for step in range(4)]

    runs = [run(arm, seed, growth) for arm, growth in (("grpo", 8.0), ("dr_grpo", 1.0)) for seed in (0, 1, 2)]
    keep(tmp_path, *runs)
    assert "| dr_grpo - grpo |" in (text := write_report(tmp_path, ""))
    assert "-7.000 +- 0.000" in text


def test_runs_under_other_settings_are_not_mixed(tmp_path):
    old = [line(step, 0.9, part="random", arm="coin", settings={"optimizer.lr": "1e-3"}) for step in (0, 1)]
    new = [line(step, 0.3, part="random", arm="coin", seed=1, settings={"optimizer.lr": "1e-4"}) for step in (0, 1)]
    keep(tmp_path, old, new)
    text = write_report(tmp_path, "")
    assert "30.0 %" in text
    assert "90.0" not in text


def test_seconds_of_runs_that_shared_the_machine_are_not_reported(tmp_path):
    keep(tmp_path, [line(step, 0.2 * step, part="algorithms", arm="grpo", jobs=2) for step in range(5)])
    assert "run with --jobs 1" in write_report(tmp_path, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algorithms", "--seeds", "a"], "whole numbers"),
        (["algorithms", "--jobs", "0"], "--jobs must be at least 1"),
        (["algorithms", "steps"], "expected key=value"),
        (["algorithm"], "invalid choice"),
    ],
)
def test_a_mistyped_command_is_told_what_was_expected(words, said, capsys):
    with pytest.raises(SystemExit):
        learning.arguments(words)
    assert said in capsys.readouterr().err


def test_a_mistyped_algorithm_is_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean dr_grpo"):
        check_algorithms(["dr_gppo"])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where the miniatures share a cold start."""
    return tmp_path_factory.mktemp("learning")


def start(out, command, *words):
    options = ("--out", str(out), "--seeds", "3", "--jobs", "2", *MINIATURE)
    return subprocess.Popen(
        [sys.executable, "benchmarks/learning.py", command, *options, *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process):
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


@pytest.mark.slow
def test_a_miniature_goes_the_whole_way(out):
    status, said = ended(start(out, "race"))
    assert status == 0, said[-3000:]
    assert "2 of 2 runs are there, 0 to do" in ended(start(out, "race"))[1]
    results = [[json.loads(one) for one in file.read_text().splitlines()] for file in (out / "results").iterdir()]
    found = {lines[0]["arm"]: lines for lines in results}
    ours, other = found["ours"], found["trl"]
    assert ours[0]["accuracy"] == other[0]["accuracy"]  # one checkpoint, one evaluator
    assert [one["step"] for one in ours] == [one["step"] for one in other] == [0, 1, 2]
    assert [one["completions"] for one in ours] == [one["completions"] for one in other] == [0, 8, 16]
    assert 0 < ours[1]["train_s"] < ours[2]["train_s"]
    assert "ours: seconds to 60%" in (out / "report.md").read_text()
    assert (out / "race.png").exists()


@pytest.mark.slow
def test_a_run_that_was_interrupted_is_no_result_and_is_gone_on_with(out):
    words = ("algorithms", "--arms", "dapo", "steps=100", "eval.every=0", "collect.max_rounds=1")
    process = start(out, *words)
    while not list(out.glob("runs/algorithms-*/rollouts/000004.jsonl")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    status, said = ended(process)
    assert status == 130, said
    assert not list(out.glob("results/algorithms-*"))
    status, said = ended(start(out, *words))
    assert status == 0, said[-3000:]
    (log,) = out.glob("logs/algorithms-*")
    assert "going on from" in log.read_text()
    (file,) = out.glob("results/algorithms-*")
    first, last = map(json.loads, file.read_text().splitlines())
    assert (first["step"], last["step"]) == (0, 100)
    assert last["completions"] == 100 * 8
