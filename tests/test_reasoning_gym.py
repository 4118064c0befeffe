"""reasoning-gym's problems and scorers: every kind accepts its own answers, runs no answer, and is fooled by none."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import importlib
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hang_guard import hang_guard
from reasoning_gym.factory import DATASETS

from data.reasoning_gym import TEST_FRACTION, reasoning_gym, split_of
from rewards.reasoning_gym import reasoning_gym as score

ROOT = Path(__file__).parents[1]
KINDS = sorted(set(DATASETS) - {"composite"})
WITHOUT_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}


@pytest.fixture(scope="module")
def first_problems():
    """One problem of every kind."""
    return {kind: reasoning_gym("train", kind, 1)[0] for kind in KINDS}


@pytest.fixture
def reward(make_completion, make_prompt):
    def judge(problem, answer, tagged=True, prefix="", **options):
        text = f"<answer>{answer}</answer>" if tagged else answer
        return score(problem, make_completion(text), prompt=make_prompt(prefix, problem=problem), **options)

    return judge


# The data set


def test_problems_are_different_and_the_same_each_time():
    problems = reasoning_gym("train", "chain_sum", 250)
    assert len({problem.question for problem in problems}) == 250
    assert problems == reasoning_gym("train", "chain_sum", 250)
    assert problems[:50] == reasoning_gym("train", "chain_sum", 50)
    assert problems[0].id == "reasoning_gym/chain_sum/train/0/00000"
    assert problems[0].source == "reasoning_gym/chain_sum"
    others = {problem.question for problem in reasoning_gym("train", "chain_sum", 100, seed=1)}
    assert len(others & {problem.question for problem in problems}) < 10


def test_no_question_is_in_both_splits():
    small = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}  # 200 questions in all
    train = {problem.question for problem in reasoning_gym("train", "chain_sum", 100, config=small)}
    test = {problem.question for problem in reasoning_gym("test", "chain_sum", 20, seed=7, config=small)}
    assert train.isdisjoint(test)
    share = sum(split_of(str(number)) == "test" for number in range(5000)) / 5000
    assert share == pytest.approx(TEST_FRACTION, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "chain_sums"}, r"data.train.chain_sums.name=chain_sums is no kind .* near are chain_sum"),
        ({"split": "eval"}, "must be one of train, test, got 'eval'"),
        ({"size": 0}, "size must be at least 1"),
        ({"config": {"terms": 3}}, "refused by reasoning-gym's chain_sum"),
        ({"config": {"min_terms": -1}}, "refused by reasoning-gym's chain_sum"),
        (
            {"size": 500, "config": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}},
            "size=500 different questions were not found, only [0-9]+; lower it",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        reasoning_gym(**arguments)


# The reward


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_accepts_its_own_answer_also_after_a_journey_as_json(kind, first_problems, reward):
    problem = first_problems[kind]
    if kind in WITHOUT_ANSWER:
        assert problem.answer == ""
        return
    travelled = dataclasses.replace(problem, metadata=json.loads(json.dumps(problem.metadata)))
    assert reward(problem, problem.answer) == 1
    assert reward(travelled, problem.answer) == 1
    assert reward(problem, problem.answer) == 1  # the scorer did not change the entry


CODE = (
    "__import__('pathlib').Path({0!r}).touch()",
    "[__import__('pathlib').Path({0!r}).touch()]",
    "[[1, __import__('pathlib').Path({0!r}).touch()]]",
    '{{"a": __import__("pathlib").Path({0!r}).touch()}}',
    "(lambda: __import__('pathlib').Path({0!r}).touch())()",
    "x + __import__('pathlib').Path({0!r}).touch()",
    "1; import pathlib; pathlib.Path({0!r}).touch()",
)


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_runs_the_answer(kind, first_problems, reward, tmp_path):
    canary = tmp_path / "canary"
    for code in CODE:
        reward(first_problems[kind], code.format(str(canary)), partial=True)
    assert not canary.exists()


def test_the_canary_sings_where_a_scorer_is_used_as_it_comes(tmp_path):
    program = (
        "from reasoning_gym import create_dataset, get_score_answer_fn\n"
        "entry = create_dataset('spiral_matrix', seed=0, size=1)[0]\n"
        f"get_score_answer_fn('spiral_matrix')({CODE[1].format(str(tmp_path / 'canary'))!r}, entry)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "canary").exists()


JUNK = [
    "x",
    "1/0",
    "[",
    "nan",
    "inf",
    "1e999",
    "\0",
    "9" * 5000,
    "(1,2)",
    "{}",
    "None",
    "a b",
    "[[1]]",
    "1.5.2",
    "\xb2",
]


@pytest.mark.parametrize("kind", KINDS)
def test_junk_is_wrong_and_never_an_error(kind, first_problems, reward):
    with hang_guard():
        for junk in JUNK:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
                assert reward(first_problems[kind], junk) == 0, junk


@pytest.mark.parametrize(
    ("kind", "numbers", "target", "answer", "value"),
    [
        ("countdown", [3, 5, 2], 16, "(3 + 5) * 2", 1),
        ("countdown", [3, 5, 2], 16, "3 + 5 + 2", 0),
        ("countdown", [3, 5, 2], 16, "8 * 2", 0),
        ("countdown", [3, 5, 2], 32, "2 ** 5", 0),
        ("puzzle24", [2, 3, 4, 1], None, "2 * 3 * 4 * 1", 1),
        ("puzzle24", [2, 3, 4, 1], None, "6 * 4 * 1 * 1", 0),  # other numbers: the library's scorer accepts it
        ("puzzle24", [5, 5, 1, 1], None, "5 * 5 - 1 / 1", 1),
        ("puzzle24", [5, 5, 2, 8], None, "5 * 5 - 2 / 8", 0),  # 24.75: the library's scorer accepts it
    ],
)
def test_expressions_are_judged_exactly(kind, numbers, target, answer, value, problem, reward):
    metadata = {"numbers": numbers} | ({"target": target} if target else {})
    game = dataclasses.replace(problem, metadata={"dataset": kind, "entry": {"answer": None, "metadata": metadata}})
    assert reward(game, answer) == value


@pytest.mark.parametrize(
    ("answer", "value"), [("x**3/3", 1), ("x**3/3 + C", 1), ("x**3/3 + 7", 1), ("x**3", 0), ("2*x", 0), ("x**1000", 0)]
)
def test_integrals_are_judged_by_the_library(answer, value, problem, reward):
    entry = {"answer": "x**3/3 + C", "metadata": {"integrand": "x**2", "variable": "x"}}
    integral = dataclasses.replace(problem, metadata={"dataset": "simple_integration", "entry": entry})
    assert reward(integral, answer) == value


def test_a_wrong_word_is_wrong(first_problems, reward):
    game = first_problems["game_of_life_halting"]
    assert {reward(game, "True"), reward(game, "False")} == {0, 1}


def test_partial_credit_is_given_only_if_asked_for(first_problems, reward):
    factors = dataclasses.replace(
        first_problems["prime_factorization"],
        metadata={"dataset": "prime_factorization", "entry": {"answer": "2 \xd7 2 \xd7 3", "metadata": {}}},
    )
    assert reward(factors, "4 \xd7 3") == 0
    assert reward(factors, "4 \xd7 3", partial=True) == 0.5
    assert reward(factors, "2 \xd7 2 \xd7 3") == 1


@pytest.mark.parametrize(
    ("text", "prefix", "state"),
    [
        ("<think>a</think><answer>{}</answer>", "", "ok"),
        (r"So \boxed{{{}}}.", "", "ok"),
        ("<answer>-99</answer> no: <answer>{}</answer>", "", "ok"),
        ("<answer>{}</answer> no: <answer>-99</answer>", "", "wrong"),
        ("{}", "", "no_answer"),
        ("<answer> </answer>", "", "no_answer"),
        (r"\boxed{{{}", "", "no_answer"),  # cut off
        ("<answer>{}</answer>", "<think>", "no_answer"),  # still thinking
        ("<think><answer>{}</answer></think>", "", "no_answer"),
    ],
)
def test_where_the_answer_is_looked_for(text, prefix, state, first_problems, reward):
    problem = first_problems["chain_sum"]
    given = reward(problem, text.format(problem.answer), tagged=False, prefix=prefix)
    assert given.state == state


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"dataset": "chain_sum"},
        {"dataset": "chain_sum", "entry": {"answer": "4"}},
        {"dataset": "chain_sums", "entry": {"answer": "4", "metadata": {}}},
        {"dataset": "composite", "entry": {"answer": "4", "metadata": {}}},
        {"dataset": "sudoku", "entry": {"answer": "4", "metadata": {}}},  # the scorer misses its grid
    ],
)
def test_a_problem_that_cannot_be_judged(metadata, problem, reward):
    assert reward(dataclasses.replace(problem, metadata=metadata), "4").state == "bad_gold"


def test_the_library_is_loaded_at_first_use_only():
    program = "import rewards.reasoning_gym, data.reasoning_gym, sys; sys.exit('reasoning_gym' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_the_examples_in_the_docstring_hold():
    results = doctest.testmod(importlib.import_module("rewards.reasoning_gym"))
    assert (results.attempted, results.failed) == (1, 0)
