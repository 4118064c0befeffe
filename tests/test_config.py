"""A recipe that is wrong is refused in words that say what to type instead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import models
from launch.run import check_algorithm
from rl.binding import build
from rl.config import OptimizerConfig, batch_arithmetic, compose_recipe, differences, flat_keys, summaries, typed
from rl.distributed import FailedTogether
from rl.tiny import build_tiny_model

ROOT = Path(__file__).resolve().parents[1]


def refusal(*overrides: str) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the texts are compared by the tests
        typed(compose_recipe(overrides))
    return str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["recipe=grpo_tny"], "there is no recipe 'grpo_tny'. Did you mean grpo_tiny? There are: cispo_math"),
        (["steps=3"], "name a recipe: recipe=<name>. There are: cispo_math"),
        (["recipe=grpo_tiny", "optimizer.lrr=1"], "no key optimizer.lrr in this recipe. Did you mean optimizer.lr?"),
        (["recipe=grpo_tiny", "otpimizer.lr=1"], "no key otpimizer.lr in this recipe. Did you mean optimizer.lr?"),
        (["recipe=grpo_tiny", "engine=zero9"], "there is no engine 'zero9'. Did you mean zero"),
        (
            ["recipe=grpo_tiny", "optimizer.lr=abc"],
            "optimizer.lr=abc: Value 'abc' of type 'str' could not be converted",
        ),
        (["recipe=grpo_tiny", "optimizer.lr=-1"], "optimizer.lr must be above 0, got -1"),
        (["recipe=grpo_tiny", "+sampling.temprature=1"], "no option temprature. Did you mean temperature?"),
        (["recipe=grpo_tiny", "sampling.temperature=hot"], "sampling.temperature must be a number, got 'hot'"),
        (
            ["recipe=grpo_tiny", "sampling.temperature=0"],
            "sampling.temperature=0 makes all completions of a group equal",
        ),
        (["recipe=grpo_tiny", "sampling.completions=0"], "sampling.completions must be at least 1, got 0"),
        (["recipe=grpo_tiny", "steps=-1"], "steps must be 0 or more, got -1"),
        (["recipe=grpo_tiny", "optimizer.warmup_steps=-1"], "optimizer.warmup_steps must be 0 or more, got -1"),
        (["recipe=grpo_tiny", "optimizer.betas=[0.9]"], "optimizer.betas must be two numbers in [0, 1), got [0.9]"),
        (["recipe=grpo_tiny", "scoring.workers=0"], "scoring.workers must be 1 or more, got 0"),
        (["recipe=grpo_tiny", "scoring.deadline_s=-1"], "scoring.deadline_s must be a positive number of seconds"),
        (["recipe=grpo_tiny", "model.lora.rank=-1"], "model.lora.rank must be 0 or more, got -1"),
        (["recipe=grpo_tiny", "eval.limit=0"], "eval.limit must be 1 or more, got 0"),
        (["recipe=grpo_tiny", "eval.every=-2"], "eval.every must be 0 or more, got -2"),
        (["recipe=grpo_tiny", "checkpoint.every=-1"], "checkpoint.every must be 0 or more, got -1"),
        (["recipe=grpo_tiny", "rollout=replay"], "rollout.path is not set and has no default"),
        (["recipe=grpo_tiny", "eval.sampling.temperature=-1"], "eval.sampling.temperature must be 0 (greedy) or more"),
        (["recipe=grpo_tiny", "resume=yes"], "resume must be one of never, auto"),
        (["recipe=grpo_tiny", "model.dtype=float16"], "model.dtype must be one of float32, bfloat16, got 'float16'"),
        (["recipe=grpo_tiny", "eval.correct=math"], "eval.correct must be one of math_answer, think_format"),
        (["recipe=grpo_tiny", "eval.pass_k=9"], "eval.pass_k=9 needs as many completions"),
        (["recipe=grpo_tiny", "model.compile=true", "engine=zero3"], "take engine=zero2, or model.compile=false"),
        (["recipe=grpo_tiny", "batch.prompts=0"], "batch.prompts must be 1 or more, got 0"),
        (["recipe=grpo_tiny", "checkpoint.keep=0"], "checkpoint.keep must be 1 or more, got 0"),
        (["recipe=grpo_math", "model.path=null"], "model.path must name a Hugging Face directory or a hub model"),
        (["recipe=grpo_tiny", "optimizer.schedule=cosin"], "Did you mean cosine?"),
        (
            ["recipe=grpo_tiny", "+eval.sampling.temprature=1"],
            "eval.sampling has no option temprature. Did you mean tem",
        ),
        (
            ["recipe=grpo_tiny", "model.lora.rnak=8"],
            "no key model.lora.rnak in this recipe. Did you mean model.lora.rank?",
        ),
        (["recipe=grpo_tiny", "rollout=fh"], "there is no rollout 'fh'. Did you mean hf? There are: "),
        (["recipe=grpo_tiny", "rollout=replay"], "rollout.path is not set and has no default: add rollout.path=VALUE"),
        (
            ["recipe=grpo_tiny", "engine.name=zero9"],
            "engine.name must be one of ddp, zero1, zero2, zero3, zero3_offload",
        ),
        (
            ["recipe=grpo_tiny", "batch.prompts=1.5"],
            "batch.prompts=1.5: Value '1.5' of type 'float' could not be converted",
        ),
        (["recipe=grpo_tiny", "tracking.wandb=maybe"], "tracking.wandb=maybe: Value 'maybe' is not a valid bool"),
        (["recipe=grpo_tiny", "steps=null"], "steps=null: field 'steps' is not Optional"),
        (["recipe=grpo_tiny", "sampling.max_tokens=1.5"], "sampling.max_tokens must be a whole number, got 1.5"),
        (["recipe=grpo_tiny", "+sampling.top_p=0"], "sampling.top_p must be in (0, 1], got 0"),
        (["recipe=grpo_tiny", "resume=atuo"], "resume must be one of never, auto, got 'atuo'. Did you mean auto?"),
        (
            ["recipe=grpo_tiny", "collect.dynamc=true"],
            "no key collect.dynamc in this recipe. Did you mean collect.dyna",
        ),
        (["recipe=grpo_tiny", "collect.max_rounds=0"], "collect.max_rounds must be 1 or more, got 0"),
        (["recipe=grpo_tiny", "collect.outcome=maths"], "collect.outcome must be one of math_answer, think_format"),
        (["recipe=grpo_tiny", "collect.oversample=0.5"], "collect.oversample must be 1 or more, got 0.5"),
        (["recipe=grpo_tiny", "collect.oversample=2"], "collect.oversample=2.0 is for collect.dynamic=true"),
        (
            ["recipe=grpo_tiny", "collect.dynamic=true", "collect.reuse=true"],
            "collect.reuse=true needs collect.dynamic=true and collect.oversample above 1",
        ),
        (
            ["recipe=grpo_tiny", "collect.max_age=3", "batch.epochs=4"],
            "collect.max_age=3 optimizer steps is less than the 4 of one step",
        ),
        (["recipe=grpo_tiny", "collect.pass_rate=[0.9,0.1]"], "collect.pass_rate must be [lowest, highest] within"),
        (["recipe=grpo_tiny", "collect.pass_rate=[0.1]"], "must be [lowest, highest] within [0, 1], got [0.1]"),
        (["recipe=grpo_tiny", "collect.revisit=2"], "collect.revisit must be in [0, 1], got 2.0"),
        (["recipe=grpo_tiny", "collect.curriculum.width=-1"], "collect.curriculum.width must be 0 or more, got -1.0"),
        (["recipe=grpo_tiny", "collect.curriculum.exponent=0"], "collect.curriculum.exponent must be above 0, got 0.0"),
        (["recipe=grpo_tiny", "collect.group_sizes.times=1"], "collect.group_sizes.times must be 2 or more, got 1"),
        (["recipe=grpo_tiny", "collect.group_sizes.hard_below=2"], "group_sizes.hard_below must be in [0, 1], got 2.0"),
    ],
)
def test_a_mistake_is_told_with_what_to_type_instead(overrides, words):
    assert words in refusal(*overrides)


def test_the_arithmetic_of_a_batch_is_said_in_words():
    config = typed(compose_recipe(["recipe=grpo_math"]))
    assert batch_arithmetic(config, 2).startswith(
        "32 prompts x 8 completions = 256 completions a step, 128 a rank, at most 13 micro-batches of 16,384 tokens"
    )


def test_a_group_larger_than_the_share_of_a_rank_is_refused():
    config = typed(compose_recipe(["recipe=grpo_tiny", "batch.prompts=4", "collect.group_sizes.hard_below=0.3"]))
    assert batch_arithmetic(config, 2)
    with pytest.raises(ValueError, match=r"collect\.group_sizes\.times=2 .* 16 completions, more than the 8 of a rank"):
        batch_arithmetic(config, 4)


@pytest.mark.parametrize(
    ("prompts", "world_size", "nearest"), [(33, 2, 32), (3, 2, 4), (31, 4, 32), (30, 4, 32), (1, 8, 8), (5, 3, 6)]
)
def test_a_batch_that_ranks_cannot_share_names_the_nearest_that_they_can(prompts, world_size, nearest):
    config = typed(compose_recipe(["recipe=grpo_math", f"batch.prompts={prompts}"]))
    with pytest.raises(
        ValueError, match=rf"by {world_size} ranks; the nearest value that can is batch.prompts={nearest} "
    ):
        batch_arithmetic(config, world_size)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.25, 0.5, 1.0, 1.0, 1.0]),
        ("linear", [0.25, 0.5, 1.0, 0.5, 0.0]),
        ("cosine", [0.25, 0.5, 1.0, 0.5, 0.0]),
    ],
)
def test_the_learning_rate_is_a_function_of_the_step(schedule, rates):
    optimizer = OptimizerConfig(lr=1.0, schedule=schedule, warmup_steps=4)
    assert [optimizer.lr_at(step, 12) for step in (0, 1, 4, 8, 12)] == pytest.approx(rates)


def test_differences_are_found_at_every_depth():
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}) == {
        "a.c": (2, 4),
        "d": (3, None),
        "e": (None, 5),
    }


def test_every_key_of_a_recipe_has_a_dotted_name():
    keys = flat_keys(compose_recipe(["recipe=grpo_tiny"]))
    assert {"optimizer.lr", "sampling", "rewards.math_answer.weight", "model.lora.rank"} <= set(keys)


def run(*arguments: str, **environment: str) -> tuple[int, str, float]:
    start_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch" / "train.py"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, time.monotonic() - start_s


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recipe=grpo_tny"], "error: there is no recipe 'grpo_tny'. Did you mean grpo_tiny?"),
        (
            ["recipe=grpo_tiny", "optimizer.lrr=1"],
            "error: there is no key optimizer.lrr in this recipe. Did you mean optimizer.lr?",
        ),
    ],
)
def test_a_typo_is_one_message_within_seconds_and_without_a_traceback(arguments, words):
    code, output, taken_s = run(*arguments)
    assert code == 2
    assert output.count("error: ") == 1
    assert words in output
    assert "Traceback (most" not in output
    assert taken_s < 20  # half a second, on a machine with nothing else to do


@pytest.mark.parametrize("typo", ["recipe=grpo_tny", "recipe=grpo_tiny +sampling.temprature=1"])
def test_a_typo_is_found_before_torch_is_imported(typo):
    code, output, _ = run(*typo.split(), PYTHONPROFILEIMPORTTIME="1")  # a line on stderr for each import
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}
    assert code == 2
    assert "hydra" in imported
    assert not {"torch", "transformers", "deepspeed"} & imported


def test_help_lists_the_recipes_and_the_keys_of_one():
    code, output, _ = run("--help", "recipe=grpo_tiny")
    assert code == 0
    assert "    grpo_countdown       Countdown" in output
    assert "    deepscaler_1.5b_16k  DeepScaleR" in output
    assert set(summaries()) <= set(output.split())
    assert "warmup_steps: 5" in output


def test_a_model_that_is_not_at_hand_is_told_how_to_bring(tmp_path):
    code, output, _ = run(
        "recipe=grpo_countdown", "model.path=nobody/nothing", f"run.dir={tmp_path / 'run'}", HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path), OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert code == 2
    assert "model.path=nobody/nothing: config.json is neither in the local cache nor could the hub be reached" in output
    assert "model.path=DIR" in output
    assert not (tmp_path / "run").exists()


def test_a_run_directory_that_cannot_be_written_is_told_before_the_cold_start(tmp_path):
    (tmp_path / "file").touch()  # nothing can be made below a file, by root either
    directory = tmp_path / "file" / "run"
    code, output, _ = run(
        "recipe=grpo_tiny", f"run.dir={directory}", REASONING_RL_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="1"
    )
    assert code == 2
    assert f"error: run.dir={directory} cannot be written: Not a directory; choose another run.dir" in output
    assert "Traceback (most" not in output
    assert "cold start" not in output


def test_a_built_model_is_built_once_for_each_shape_and_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("REASONING_RL_CACHE", str(tmp_path))
    small = ("recipe=grpo_tiny", "+model.build.hidden=32", "+model.build.heads=2", "+model.build.layers=1")
    first, again, seeded, wider = (
        models.base_model(typed(compose_recipe([*small, *more])))
        for more in ([], [], ["seed=1"], ["+model.build.intermediate=64"])
    )
    assert first == again
    assert len({first, seeded, wider}) == 3 == len(list(tmp_path.iterdir()))
    assert {Path(one).parent for one in (first, seeded, wider)} == {tmp_path}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+model.build.hiden=32"], "model.build has no option hiden. Did you mean hidden?"),
        (["+model.build.heads=5"], "hidden=192 must be a multiple of 2 * heads = 10"),
        (["model.path=/nowhere/at/all"], "model.path=/nowhere/at/all does not exist"),
    ],
)
def test_a_model_that_cannot_be_had_leaves_nothing_behind(overrides, words, tmp_path, monkeypatch):
    monkeypatch.setenv("REASONING_RL_CACHE", str(tmp_path))
    with pytest.raises((ValueError, FailedTogether), match=re.escape(words)):
        models.base_model(typed(compose_recipe(["recipe=grpo_tiny", *overrides])))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("section", ["sampling", "eval.sampling"])
def test_answers_longer_than_the_model_knows_positions_are_refused(section, tmp_path):
    build_tiny_model(tmp_path, hidden=32, layers=1, heads=2, kv_heads=1, max_positions=144)
    fits = typed(compose_recipe(["recipe=grpo_tiny"]))  # 64 tokens of prompt and 80 of answer
    models.check_length(fits, str(tmp_path))
    longer = typed(compose_recipe(["recipe=grpo_tiny", f"{section}.max_tokens=81"]))
    with pytest.raises(
        ValueError, match=r"make 145 tokens, but the model knows 144 positions; lower sampling\.max_tok"
    ):
        models.check_length(longer, str(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["algorithm=gdpo"], "set scoring.normalize_terms=true"),
        (["algorithm=pass_at_k", "algorithm.k=8"], "needs more completions than that"),
        (["algorithm=raft", "collect.dynamic=true"], "set collect.dynamic=false"),
        (["batch.mini_batches=17"], "batch.mini_batches=17 is more than the 16 prompts"),
    ],
)
def test_what_an_algorithm_needs_of_the_recipe_is_said_by_key(overrides, found):
    config = typed(compose_recipe(["recipe=grpo_tiny", *overrides]))
    with pytest.raises(ValueError, match=found):  # noqa: PT012
        batch_arithmetic(config, 1)
        check_algorithm(config, build(config.algorithm, "algorithm"))
