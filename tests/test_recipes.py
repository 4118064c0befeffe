"""Every recipe and every part that a recipe can name: composed, typed and held against the code it names."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import fields
from typing import Any

import pytest
import yaml

from data.prompts import PromptBuilder
from launch.problems import WEIGHT
from launch.run import check_algorithm
from rl.binding import build, check_options, locate
from rl.config import RECIPES, TrainConfig, batch_arithmetic, compose_recipe, summaries, typed
from rl.scoring import reward_terms

NAMES = sorted(file.stem for file in RECIPES.glob("*.yaml"))
# base/ holds what several recipes start from, which is no part to choose.
PARTS = sorted(f"{file.parent.name}={file.stem}" for file in RECIPES.glob("*/*.yaml") if file.parent.name != "base")
OUTCOMES = {"rewards=code": "code_tests", "rewards=reasoning_gym": "reasoning_gym", "rewards=countdown": "countdown"}
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
            options = {option: value for option, value in section.items() if (key, option) != ("data.train", WEIGHT)}
            check_section(options, f"{key}.{name}")
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
    elif part in OUTCOMES:
        config = config_of("recipe=grpo_math", part, f"eval.correct={OUTCOMES[part]}")
    elif part.startswith("model="):
        config = config_of("recipe=grpo_tiny", part)
    else:
        group = part.partition("=")[0]
        present = compose_recipe(["recipe=grpo_math"])
        chosen = group == "prompt" or (group in present and group != "tracking")  # by the recipe already
        config = config_of("recipe=grpo_math", part if chosen else f"+{part}")
    check_all(config)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "grpo_tiny"])
def test_what_a_section_needs_of_another_is_there(name):
    config = config_of(f"recipe={name}")
    check_algorithm(config, build(config.algorithm, "algorithm"))
    assert "updates" in batch_arithmetic(config, 8) or config.batch.updates == 1
    options = {field.name for field in fields(PromptBuilder)} & {field.name for field in fields(config.data)}
    PromptBuilder(tokenizer=Chat(), max_tokens=1, **{name: getattr(config.data, name) for name in options})


class Chat:
    """A tokenizer as far as its template is asked for."""

    chat_template = "{{ messages }}"


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
