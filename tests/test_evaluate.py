"""Claims about rl/evaluate.py."""

from __future__ import annotations

import itertools
import math
import pickle
import random
import re
from dataclasses import replace
from fractions import Fraction

import pytest

from data.problem import Problem, ask
from rl.evaluate import Evaluation, avg_at_k, evaluate, interval_95, maj_at_k, pass_at_k
from rl.experience import Completion, Failure, Group, Prompt, ScoredGroup
from rl.metrics import find_metric


@pytest.mark.parametrize(("n", "c", "k"), [(1, 1, 1), (4, 1, 2), (5, 2, 3), (6, 5, 2), (6, 0, 6), (6, 6, 1)])
def test_pass_at_k_is_the_fraction_of_choices_with_a_right_one(n, c, k):
    choices = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == float(Fraction(sum(map(any, choices)), len(choices)))


def test_pass_at_k_neither_overflows_nor_cancels():
    assert pass_at_k(10_000, 1, 5_000) == 0.5
    assert pass_at_k(10**6, 1, 1) == 1e-6


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)])
def test_pass_at_k_refuses_what_cannot_be(n, c, k):
    with pytest.raises(ValueError, match=r"pass@k needs"):
        pass_at_k(n, c, k)


def test_avg_at_k_is_the_fraction_of_right_completions():
    assert avg_at_k([True, False, False, True]) == 0.5


@pytest.mark.parametrize(
    ("answers", "correct", "right"),
    [
        (["4", "5", "4"], [True, False, True], True),
        (["5", "4", "5"], [False, True, False], False),
        (["4", "5", "5", "4"], [True, False, False, True], True),  # a tie goes to the first to appear
        (["5", "4", "4", "5"], [False, True, True, False], False),
        ([None, None, "4"], [False, False, True], True),  # no answer has no vote
        ([None, None], [False, False], False),
        (["4", "4"], [False, True], True),  # the grader failed on the first "4"
    ],
)
def test_majority_is_the_most_common_answer(answers, correct, right):
    assert maj_at_k(answers, correct) is right


@pytest.mark.parametrize(
    ("c", "n", "low", "high"),
    # Wilson's score interval at 95 %, worked out from its formula with z = 1.96: for 0 of n it ends at z^2 / (n + z^2).
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 20, 0.0089, 0.2361)],
)
def test_with_one_completion_a_problem_the_interval_is_wilsons(c, n, low, high):
    assert interval_95([1.0] * c + [0.0] * (n - c), n=1) == pytest.approx((low, high), abs=1e-4)


def test_all_right_and_none_right_are_not_certainties():
    assert interval_95([0.0] * 200, n=8) == pytest.approx((0.0, 0.0188), abs=1e-4)
    assert interval_95([1.0] * 200, n=8) == pytest.approx((0.9812, 1.0), abs=1e-4)


def test_one_problem_says_little_however_often_it_was_tried():
    assert interval_95([0.5], n=1000) == pytest.approx((0.055, 0.945), abs=1e-3)


def test_completions_that_always_agree_within_a_problem_narrow_nothing():
    accuracies = [1.0, 0.0] * 50
    assert interval_95(accuracies, n=16) == pytest.approx(interval_95(accuracies, n=1), abs=1e-6)


@pytest.mark.parametrize(("num_problems", "n", "spread"), [(200, 1, 0.0), (100, 4, 0.35), (60, 8, 0.2), (100, 4, 0.0)])
def test_the_interval_covers_the_truth_95_times_in_100(num_problems, n, spread):
    # Each problem has a chance of its own, 0.5 +- spread: the truth is 0.5, and the problems are a sample too.
    rng, runs = random.Random(1), 600
    covered = 0
    for _ in range(runs):
        chances = [0.5 + rng.choice([-spread, spread]) for _ in range(num_problems)]
        low, high = interval_95([sum(rng.random() < p for _ in range(n)) / n for p in chances], n)
        covered += low <= 0.5 <= high
    assert 0.92 <= covered / runs <= 0.98  # 0.95 +- three standard errors of 600 runs, 0.009 each


SAMPLES = {  # problem -> text, tokens and right or wrong (None: the grader failed) of four completions
    "a": [("4", 2, 1.0), ("4", 2, 1.0), ("5", 4, 0.0), ("6", 4, 0.0)],
    "b": [("1", 8, 0.0), ("1", 8, 0.0), ("2", 8, 1.0), ("-", 8, 0.0)],
    "c": [("7", 1, 1.0), ("7", 1, None), ("7", 1, 1.0), ("8", 1, 0.0)],
}


@pytest.fixture
def recorded():
    """Three scored groups."""
    groups = []
    for index, (name, rows) in enumerate(SAMPLES.items()):
        prompt = Prompt(Problem(name, ask("?"), "x", "sums"), index, "?", (1,))
        completions = tuple(
            Completion(text, [0] * size, [-1.0] * size, "length" if size == 8 else "stop", 0) for text, size, _ in rows
        )
        math_answer = tuple(math.nan if right is None else right for *_, right in rows)
        terms = {"math_answer": math_answer, "think_format": (1.0, 1.0, 1.0, 1.0), "brevity": (0.5,) * 4}
        failures = tuple(Failure("math_answer", i, "error", "x") for i, r in enumerate(math_answer) if math.isnan(r))
        groups.append(ScoredGroup(Group(prompt, completions), math_answer, terms, failures))
    return groups


def run(recorded, places=(0, 1, 2), **options) -> Evaluation:
    """An evaluation of the problems in these places."""
    options = {"correct": "math_answer", "extract": lambda text: None if text == "-" else text} | options
    return evaluate([recorded[place] for place in places], **options)


def problem_ids(evaluation: Evaluation) -> list[str]:
    return [scored.group.prompt.problem.id for scored in evaluation.groups]


def test_an_evaluation_by_hand(recorded):
    evaluation = run(recorded, pass_k=2)
    assert evaluation.avg == pytest.approx((2 / 4 + 1 / 4 + 2 / 4) / 3)
    assert evaluation.passed == pytest.approx((5 / 6 + 3 / 6 + 5 / 6) / 3)
    assert evaluation.majority == pytest.approx(2 / 3)  # a: 4 is right, b: 1 is wrong, c: 7 is right
    assert evaluation.completion_tokens == 4.0
    assert evaluation.truncated_fraction == pytest.approx(4 / 12)
    assert evaluation.failed_fraction == pytest.approx(1 / 12)
    assert evaluation.terms == pytest.approx({"math_answer": 5 / 11, "think_format": 1.0, "brevity": 0.5})
    assert (evaluation.num_problems, evaluation.k, evaluation.pass_k) == (3, 4, 2)
    assert evaluation.interval[0] < evaluation.avg < evaluation.interval[1]


def test_its_metrics_are_in_the_table(recorded):
    metrics = run(recorded, pass_k=2).metrics("sums")
    assert {find_metric(name).name.removeprefix("eval/<dataset>/") for name in metrics} == {
        "reward/<term>",
        *(
            "avg@k",
            "pass@k",
            "maj@k",
            "ci_low",
            "ci_high",
            "completion_tokens",
            "truncated_fraction",
            "failed_fraction",
        ),
    }
    assert metrics["eval/sums/pass@2"] == pytest.approx(13 / 18)
    assert "eval/sums/maj@4" not in run(recorded, extract=None).metrics("sums")


def test_without_a_named_term_right_is_where_every_term_is_1(recorded):
    assert run(recorded, correct="").avg == 0.0  # brevity is 0.5 everywhere
    assert run(recorded, correct="think_format").avg == 1.0


def test_a_term_that_is_not_there_is_named_with_the_nearest(recorded):
    with pytest.raises(ValueError, match=re.escape("eval.correct='math_anwser' names no reward") + ".*'math_answer'"):
        run(recorded, correct="math_anwser")


@pytest.mark.parametrize("shares", [((0, 1), (2,)), ((2, 0), (1,)), ((0, 1, 2), ()), ((0, 1), (2, 0))])
def test_ranks_agree_with_one_rank_however_they_share_the_problems(recorded, shares):
    sent = []  # the last share gives problem 0 to both ranks: it counts once

    def collect(local):
        sent.append(pickle.loads(pickle.dumps(local)))
        return [local]

    for places in shares:
        if places:
            run(recorded, places, gather=collect)
        else:
            sent.append(([], []))
    for places in shares:
        evaluation = run(recorded, places, gather=lambda _: list(sent))
        # The failed reward is NaN, which equals nothing once it has travelled: groups are compared by their problems.
        assert replace(evaluation, groups=()) == replace(run(recorded), groups=())
        assert problem_ids(evaluation) == ["a", "b", "c"]


def test_the_first_groups_are_kept_to_print(recorded):
    assert problem_ids(run(recorded, (2, 1, 0), keep_groups=2)) == ["a", "b"]
