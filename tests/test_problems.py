"""Weights of data sets in a recipe, and the stream and pass rates that they become."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from data.batches import Batches
from data.mixing import Mixture
from data.problem import Problem, ask
from launch.problems import load_data_sets, load_problems, weights
from launch.run import known_before, mixture_of
from rl.config import CollectConfig
from rl.experience import Prompt

SUMS = {"_target_": "data.arithmetic.arithmetic", "split": "train", "size": 5}


def test_a_weight_is_no_option_of_the_function():
    sections = {"a": {**SUMS, "weight": 2}, "b": {**SUMS, "size": 3, "weight": 1}}
    found = load_data_sets(sections, "data.train")
    assert {name: len(problems) for name, problems in found.items()} == {"a": 5, "b": 3}
    assert load_problems(sections, "data.train") == [*found["a"], *found["b"]]
    assert weights(sections) == {"a": 2.0, "b": 1.0}
    assert weights({"a": SUMS}) is None


def test_a_held_out_set_has_no_weight():
    with pytest.raises(ValueError, match=r"eval\.data\.a has no option weight"):
        load_problems({"a": {**SUMS, "weight": 2}}, "eval.data")


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"a": {"weight": 1}, "b": {}}, r"data\.train\.b\.weight is missing while data\.train\.a has one"),
        ({"a": {"weight": "much"}}, r"data\.train\.a\.weight must be a number, got 'much'"),
        ({"a": {"weight": True}}, r"data\.train\.a\.weight must be a number, got True"),
    ],
)
def test_weights_that_cannot_be_are_refused_by_their_key(sections, complaint):
    with pytest.raises(ValueError, match=complaint):
        weights(sections)


def problems(name: str, count: int) -> list[Problem]:
    return [Problem(id=str(i), messages=ask(f"{i}?"), answer="", source=name) for i in range(count)]


class Builder:
    max_tokens = 9

    def build(self, problem: Problem, index: int) -> Prompt:
        return Prompt(problem=problem, index=index, text=problem.question, token_ids=(1,))


def test_problems_that_are_too_long_are_left_out_of_their_own_set(capsys):
    sets = {"a": problems("a", 4), "b": problems("b", 6)}
    kept = sets["a"][1:] + sets["b"]
    config = SimpleNamespace(seed=0, steps=10, batch=SimpleNamespace(prompts=8))
    mixture = mixture_of(sets, kept, {"a": 1, "b": 3}, Builder(), config)
    assert isinstance(mixture, Mixture)
    assert mixture.sizes == {"a": 3, "b": 6}
    assert "b: 75% of the prompts, 6 problems, 10 epochs in 10 steps" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"data\.train\.a: no prompt is within data\.max_prompt_tokens=9"):
        mixture_of(sets, sets["b"], {"a": 1, "b": 3}, Builder(), config)


def test_pass_rates_of_other_problems_are_left_aside_and_of_others_only_refused(tmp_path: Path):
    path = tmp_path / "rates.jsonl"
    path.write_text(
        '{"id": "1", "source": "a", "attempts": 8, "right": 2}\n{"id": "1", "source": "z", "attempts": 8, "right": 2}\n'
    )
    known = known_before(CollectConfig(pass_rates=str(path)), problems("a", 3))
    assert (len(known), known.rate(problems("a", 3)[1])) == (1, 0.25)
    with pytest.raises(ValueError, match=r"collect\.pass_rates=.* has 2 problems and none of data\.train"):
        known_before(CollectConfig(pass_rates=str(path)), problems("b", 3))


def test_without_weights_the_order_of_problems_is_the_one_shuffle_of_all():
    batches = Batches(problems("a", 8), Builder().build, prompts_per_step=4, seed=0)
    assert [prompt.problem.id for prompt in batches.at(0) + batches.at(1)] == ["3", "2", "1", "6", "0", "7", "4", "5"]
