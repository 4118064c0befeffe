"""Claims about launch/gold_answers.py and launch/attacks.py: what check_reward.py tries, each shown without a run."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest

from data.problem import Problem, ask
from launch.attacks import Target, attacks, executed
from launch.gold_answers import FORMS, gold_of, notations, number, write, written_number
from launch.reward_trial import columns_of_tests, token_ids
from rl.reward_terms import RewardTerm


def problem(answer: str, question: str = "How many?", **metadata: Any) -> Problem:
    return Problem("p/1", ask(question), answer, "p", metadata)


@pytest.mark.parametrize(
    ("answer", "metadata", "kind", "text"),
    [
        ("18", {}, "number", "18"),
        ("9 * 2 = 18\n#### 18", {}, "number", "18"),
        ("So it is \\boxed{\\frac{1}{2}}.", {}, "number", "\\frac{1}{2}"),
        ("$1,234.50$", {}, "number", "$1,234.50$"),
        ("x^2 + 1", {}, "formula", "x^2 + 1"),
        ("50\\%", {}, "formula", "50\\%"),
        ("(B)", {}, "choice", "B"),
        ("Paris", {}, "text", "Paris"),
        ("24", {"nums": [1, 2, 3, 4], "solution": "1 * 2 * 3 * 4"}, "countdown", "1 * 2 * 3 * 4"),
        ("7", {"nums": [3, 4]}, "countdown", "3 + 4"),
        ("7", {"nums": [1, 1]}, "none", ""),
        ("", {"tests": [], "solutions": ["print(1)", "print(2)"]}, "code", "print(1)"),
        ("", {"tests": []}, "none", ""),
        ("-", {"tests": [], "solutions": ["print(1)"]}, "code", "print(1)"),
        ("72", {"tests": [], "solutions": ["print(1)"]}, "number", "72"),
        ("Paris", {"test_list": []}, "text", "Paris"),
        ("-", {"instruction_id_list": ["punctuation:no_comma"]}, "none", ""),
    ],
)
def test_a_gold_is_reduced_to_what_a_completion_would_give(answer, metadata, kind, text):
    gold = gold_of(problem(answer, **metadata))
    assert (gold.kind, gold.text) == (kind, text)
    assert bool(gold.reason) == (kind == "none")


def test_a_program_is_the_gold_of_a_reward_that_reads_the_tests():
    both = problem("72", tests=[], solutions=["print(1)"])
    assert gold_of(both, {"tests"}).text == "print(1)"
    assert gold_of(both, {"other"}).text == "72"
    assert gold_of(problem("72", tests=[]), {"tests"}).kind == "none"


@pytest.mark.parametrize(
    ("target", "options", "reads"),
    [
        ("rewards.code_tests.code_tests", {}, {"tests", "test_list"}),
        ("rewards.code_tests.code_tests", {"tests": "io"}, {"tests", "io"}),
        ("rewards.math_answer.math_answer", {}, set()),
        ("rewards.judge.judge", {}, set()),
    ],
)
def test_which_columns_a_reward_reads_as_tests(target, options, reads):
    found = columns_of_tests([RewardTerm(name="x", target=target, options=options)])
    assert reads <= found
    assert bool(reads) == bool(found)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(7), "7"),
        (Fraction(-1, 2), "-0.5"),
        (Fraction(1, 3), "1/3"),
        (Fraction(5, 4), "1.25"),
        (Fraction(0), "0"),
    ],
)
def test_numbers_are_written_exactly(value, text):
    assert written_number(value) == text
    assert number(text) == value


@pytest.mark.parametrize("answer", ["72", "-3", "1200", "1234567", "0.5", "0.125", "1/3", "-7/4", "0"])
def test_every_notation_of_a_number_has_its_value(answer):
    for name, text in notations(gold_of(problem(answer)), problem(answer), "answer"):
        plain = text.replace("\\displaystyle", "").replace("{,}", ",").strip(" *").removesuffix(".")
        plain = plain.removeprefix("\\(").removesuffix("\\)")
        assert number(plain) == Fraction(answer), name


def test_dollars_are_a_notation_where_the_question_asks_for_dollars():
    asked = problem("18", "Eggs cost $2. How much does she make in dollars?")
    assert ("unit", "18 dollars") in notations(gold_of(asked), asked, "answer")
    other = problem("18", "Ten dollars buy how many eggs at $2. How many eggs?")
    assert "unit" not in dict(notations(gold_of(other), other, "answer"))


@pytest.mark.parametrize(
    ("form", "prefix", "text"),
    [
        ("answer", "", "<think>hm</think>\n<answer>5</answer>"),
        ("boxed", "<think>", "hm</think>\nSo it is \\boxed{5}."),
        ("hashes", "<think>\n", "hm</think>\n#### 5"),
        ("phrase", "<think>\n\n</think>\n\n", "The answer is 5."),
    ],
)
def test_an_answer_is_written_after_what_the_template_wrote(form, prefix, text):
    assert write("5", form, prefix, "hm") == text


@pytest.mark.parametrize(
    "answer", ["0", "1", "7", "8", "20001", "-20", "1/3", "0.5", "x", "A", "J", "inf", "True", "Paris"]
)
@pytest.mark.parametrize("form", ["answer", "boxed"])
def test_no_attack_is_by_accident_right(answer, form, tmp_path):
    """Judged by the exact value of the whole answer, where it is a number, and by its text."""
    gold = gold_of(problem(answer))
    target = Target(problem(answer), gold, form, "")
    before, after = FORMS[form].format("\n").split("\n")
    found = attacks(target, tmp_path, huge=False)
    assert len({(attack.family, attack.name) for attack in found}) == len(found)
    for attack in found:
        if attack.expected == "anything":
            continue
        _, closed, rest = attack.text.rpartition("</think>\n")
        if closed and rest.startswith(before) and rest.endswith(after) and attack.family != "thinking":
            given = rest.removeprefix(before).removesuffix(after)
            assert given.strip() != gold.text, attack
            assert gold.value is None or number(given) != gold.value, attack


@pytest.mark.parametrize("answer", ["x > 5", "x \\le 5", "x \\in A", "\\infty", "x^2 + C"])
def test_no_number_is_added_where_that_may_change_nothing(answer):
    """x > 5 and 7919 + x > 5 is x > 5."""
    assert "7919 +" not in Target(problem(answer), gold_of(problem(answer)), "answer", "").wrong
    assert Target(problem("x + 1"), gold_of(problem("x + 1")), "answer", "").wrong == "7919 + x + 1"


def test_infinity_in_other_words_and_an_echo_that_is_the_answer_are_no_attacks(tmp_path):
    infinite, yes = problem("\\infty"), problem("Yes", "Yes?")
    found = attacks(Target(infinite, gold_of(infinite), "answer", ""), tmp_path, huge=False)
    assert {attack.expected for attack in found if attack.name in ("inf", "\\infty")} == {"anything"}
    assert {attack.expected for attack in found if attack.name in ("-inf", "nan")} == {"never right"}
    assert "echo" not in {attack.family for attack in attacks(Target(yes, gold_of(yes), "answer", ""), tmp_path)}


def test_what_an_attack_has_executed_is_told_by_the_file_it_leaves(tmp_path):
    target = Target(problem("5"), gold_of(problem("5")), "answer", "")
    found = attacks(target, tmp_path, huge=False)
    assert executed(found, tmp_path) == []
    (mkdir,) = [attack for attack in found if attack.name == "os.mkdir"]
    eval(mkdir.text.partition("<answer>")[2].partition("</answer>")[0])
    assert {attack.name for attack in executed(found, tmp_path)} == {"os.mkdir", "os.mkdir, a program"}


def test_huge_attacks_have_a_megabyte_and_a_bounded_number_of_tokens(tmp_path):
    target = Target(problem("5"), gold_of(problem("5")), "answer", "")
    huge = [attack for attack in attacks(target, tmp_path) if attack.family == "1 MB"]
    assert len(huge) == 50
    assert all(math.isclose(len(attack.text), 1e6, rel_tol=1e-3) for attack in huge)
    assert len(token_ids(huge[0].text)) == 32_768
    assert len(token_ids("")) == 1
