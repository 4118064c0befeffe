"""Every recipe and every part that a recipe can name: composed, typed and held against the code it names."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import yaml

from rl.binding import build, check_options, locate
from rl.config import RECIPES, TrainConfig, compose_recipe, summaries, typed
from rl.scoring import reward_terms

NAMES = sorted(file.stem for file in RECIPES.glob("*.yaml"))
PARTS = sorted(f"{file.parent.name}={file.stem}" for file in RECIPES.glob("*/*.yaml"))
RUNTIME = ("model_path", "tokenizer", "dtype", "device", "seed", "directory")  # what launch/ adds to the options


def config_of(*overrides: str) -> TrainConfig:
    return typed(compose_recipe(overrides))


def check_section(section: dict[str, Any], key: str) -> None:
    """The target exists and its signature takes the options."""
    target = locate(section["_target_"], key)
    options = {name: value for name, value in section.items() if name != "_target_"}
    check_options(target, options, key, [name for name in RUNTIME if name in inspect.signature(target).parameters])


def check_all(config: TrainConfig) -> None:
    assert reward_terms(config.rewards)
    assert config.params.completions > 1  # else no group prefers anything
    assert config.eval_params.completions >= 1
    assert config.eval.correct in config.rewards
    assert build(config.algorithm, "algorithm").normalization in ("token", "sequence", "constant")
    check_section(config.rollout, "rollout")
    for key, sections in (("data.train", config.data.train), ("eval.data", config.eval.data)):
        for name, section in sections.items():
            check_section(section, f"{key}.{name}")
    if config.model.build:
        check_section(config.model.build, "model.build")
    if config.cold_start.data:
        check_section(config.cold_start.data, "cold_start.data")


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_composes_and_names_what_exists(name):
    check_all(config_of(f"recipe={name}"))


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_says_what_was_measured(name):
    header = itertools.takewhile(lambda line: line.startswith("#"), (RECIPES / f"{name}.yaml").open())
    text = " ".join(line.strip("# \n") for line in header)
    where = "README" if name == "grpo_tiny" else "docs/results.md"
    assert where in text or "not measured yet" in text.lower()
    assert "docs/results.md" not in text or (RECIPES.parent / "docs" / "results.md").is_file()


def test_each_recipe_says_in_its_first_line_what_it_is():
    assert {name for name, summary in summaries().items() if len(summary) > 20 and summary[0].isupper()} == set(NAMES)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_fits_into_a_recipe(part):
    if part == "rollout=replay":
        config = config_of("recipe=grpo_math", part, "rollout.path=somewhere")
    elif part in ("rewards=code", "rewards=reasoning_gym"):
        correct = {"rewards=code": "code_tests", "rewards=reasoning_gym": "reasoning_gym"}[part]
        config = config_of("recipe=grpo_math", part, f"eval.correct={correct}")
    elif part.startswith("model="):
        config = config_of("recipe=grpo_tiny", part)
    else:
        group = part.partition("=")[0]
        present = compose_recipe(["recipe=grpo_math"])
        config = config_of("recipe=grpo_math", part if group in present and group != "tracking" else f"+{part}")
    check_all(config)


def test_grpo_math_has_the_published_defaults():
    config = config_of("recipe=grpo_math")
    algorithm = build(config.algorithm, "algorithm")
    assert (config.optimizer.lr, config.optimizer.schedule, config.optimizer.warmup_steps) == (1e-6, "constant", 10)
    assert (config.params.completions, config.params.temperature) == (8, 1.0)
    assert (algorithm.beta, algorithm.clip_low, algorithm.clip_high) == (0.0, 0.2, 0.28)
    assert algorithm.normalization == "token"
    assert config.optimizer.max_grad_norm == 1.0
    assert (config.model.path, config.model.dtype, config.engine.name) == ("Qwen/Qwen2.5-1.5B", "bfloat16", "zero2")
    assert (config.data.template, list(config.rewards)) == ("r1_zero", ["math_answer", "think_format"])


def test_r1_zero_math_has_the_papers_hyperparameters():
    config = config_of("recipe=r1_zero_math")
    algorithm = build(config.algorithm, "algorithm")
    assert (config.optimizer.lr, algorithm.beta, algorithm.clip_high) == (3e-6, 0.001, 10.0)
    assert (config.batch.prompts, config.params.completions, config.params.temperature) == (32, 16, 1.0)


def test_the_recipes_of_the_readme_exist():
    assert {"grpo_tiny", "grpo_math", "r1_zero_math", "grpo_countdown"} <= set(NAMES)


@pytest.mark.parametrize("path", sorted((RECIPES / "rewards").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_group_of_rewards_spares_a_completion_without_an_answer(path):
    section = yaml.safe_load(path.read_text())
    outcome = next(iter(section))
    assert section[outcome]["no_answer"] == "zero"


@pytest.mark.parametrize("name", NAMES)
def test_no_recipe_spares_a_completion_without_an_answer(name):
    config = config_of(f"recipe={name}")
    (outcome,) = [term for term in reward_terms(config.rewards) if term.name == config.eval.correct]
    assert outcome.no_answer == "zero"
