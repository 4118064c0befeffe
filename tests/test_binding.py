"""What a recipe names is found, and its options are held against the signature, before anything is built."""

from __future__ import annotations

import re
from typing import Literal

import pytest

from rl.algorithms.dr_grpo import DrGRPO
from rl.binding import build, check_choice, check_options, describe, fits, locate, nearest


def refusal(section: dict, **runtime) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the texts are compared by the tests
        build(section, "algorithm", **runtime)
    return str(error.value)


def test_a_target_is_built_with_its_options():
    assert build({"_target_": "rl.algorithms.dr_grpo.DrGRPO", "beta": 0.1}, "algorithm") == DrGRPO(beta=0.1)


def test_runtime_values_go_where_the_signature_names_them():
    section = {"_target_": "data.arithmetic.arithmetic", "split": "test", "size": 3}
    assert build(section, "eval.data.arithmetic", seed=5, device="cpu")[0].id == "arithmetic/test/5/00000"
    assert build(section | {"seed": 7}, "eval.data.arithmetic", seed=5)[0].id == "arithmetic/test/7/00000"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"clip_low": 0.2}, "algorithm needs a _target_"),
        ({"_target_": 3}, "algorithm._target_ must be a dotted name"),
        ({"_target_": "..x.y"}, "algorithm._target_ must be a dotted name"),
        ({"_target_": "rl.config.ENGINES"}, "rl.config.ENGINES is neither a function nor a class"),
        ({"_target_": "GRPO"}, "algorithm._target_ must be a dotted name"),
        ({"_target_": "rl.algorithms.grop.GRPO"}, "rl.algorithms.grop cannot be imported"),
        ({"_target_": "rl.algorithms.grpo.GRPOO"}, "has no GRPOO. Did you mean GRPO?"),
        ({"_target_": "rl.algorithms.grpo.GRPO", "clip_hihg": 1}, "has no option clip_hihg. Did you mean clip_high?"),
        ({"_target_": "rl.algorithms.dr_grpo.DrGRPO", "beta": "much"}, "algorithm.beta must be a number, got 'much'"),
        (
            {"_target_": "rl.algorithms.dr_grpo.DrGRPO", "normalization": "tokens"},
            "algorithm.normalization must be one of token, sequence, constant, got 'tokens'",
        ),
        ({"_target_": "data.jsonl.jsonl"}, "algorithm.path is missing"),
        ({"_target_": "rl.algorithms.grpo.GRPO", "beta": -1}, "algorithm.beta must be 0 or more, got -1"),
    ],
)
def test_a_mistake_is_named_with_its_key(section, words):
    assert words in refusal(section)


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (1, float, True),
        (1.0, int, False),
        (True, int, False),
        (True, float, False),
        ("1", float, False),
        (float("nan"), float, False),
        (None, str | None, True),
        (3, str | None, False),
        ([1], list[int], True),
        ((1, 2), tuple[int, ...], True),
        ("1", list[int], False),
        (2, int, True),
        (False, bool, True),
        (0, bool, False),
        ("yes", bool, False),
        (None, int, False),
        (3, str, False),
        ("k3", Literal["k1", "k3"], True),
        ("k2", Literal["k1", "k3"], False),
        (0.5, int | float, True),
        (object(), dict, True),  # a type that YAML cannot write is the code's business
    ],
)
def test_a_value_fits_its_type(value, hint, fit):
    assert fits(value, hint) is fit


def test_only_a_near_word_is_proposed():
    assert nearest("temprature", ["temperature", "top_p"]) == " Did you mean temperature?"
    assert nearest("zzz", ["temperature", "top_p"]) == ""


def test_locate_gives_the_object():
    assert locate("re.compile", "x") is re.compile


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (str | None, "text or null"),
        (bool, "true or false"),
        (Literal["token", "sequence"], "one of token, sequence"),
        (int | float, "a whole number or a number"),
    ],
)
def test_a_type_is_said_in_words(hint, words):
    assert describe(hint) == words


def test_an_option_that_the_run_provides_is_not_missing_and_not_proposed():
    def needs_a_device(device: str, size: int = 1) -> None: ...

    check_options(needs_a_device, {"size": 2}, "part", given=["device"])
    with pytest.raises(ValueError, match=r"^part\.device is missing: needs_a_device needs it$"):
        check_options(needs_a_device, {"size": 2}, "part")
    with pytest.raises(ValueError, match=r"^part has no option devise\. Its options: size$"):
        check_options(needs_a_device, {"devise": "cpu"}, "part", given=["device"])


def test_a_choice_is_refused_with_all_that_there_are():
    check_choice("engine.name", "zero2", ("ddp", "zero2"))
    with pytest.raises(
        ValueError, match=r"^engine\.name must be one of ddp, zero2, got 'zero'\. Did you mean zero2\?$"
    ):
        check_choice("engine.name", "zero", ("ddp", "zero2"))
