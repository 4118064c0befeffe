"""The built-in rewards: what they accept, what they do not, and that hostile text costs them no time."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest

from rewards.arithmetic_steps import arithmetic_steps
from rewards.countdown import countdown
from rewards.math_answer import extract_answer, math_answer
from rewards.tag_count import tag_count
from rewards.think_format import think_format

ROOT = Path(__file__).parents[1]
math_answer_module = importlib.import_module("rewards.math_answer")


# math_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{12}", "12"),
        (r"so \boxed{\frac{1}{2}}, done", r"\frac{1}{2}"),  # braces nest
        (r"\boxed{1} no, \boxed{2}", "2"),  # the last one counts
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
        (r"\boxed{\left\{1, 2\right.} {", r"\left\{1, 2\right."),  # an escaped brace does not nest
        (r"<answer>it is \boxed{7}</answer>", "7"),  # boxed before <answer>
        (r"\boxed{7} <answer>8</answer>", "7"),
        ("<answer> 8 </answer>", "8"),
        ("<answer>1</answer><answer>2</answer>", "2"),
        ("<answer>The answer is 8.</answer>", "8"),
        ("5 + 7 = 12\n#### 12\n", "12"),
        ("The answer is 3. No: the final answer is: $4.50. Yes", "$4.50"),
        ("the answer is .5", ".5"),
        ("the answer is 18, because 3 + 15 = 18.", "18"),
        ("the answer is (x, y), as asked", "(x, y)"),
        ("the answer is **12**.", "12"),
        (r"<think>\boxed{1}</think> The answer is 2", "2"),  # nothing in the reasoning counts
        (r"<think>\boxed{1}</think> hmm", None),
        (r"\boxed{1} </think> \boxed{2", None),  # cut off
        ("<answer></answer>", None),
        ("12", None),
        ("", None),
    ],
)
def test_the_answer_is_found(text, answer):
    assert extract_answer(text) == answer


def test_the_examples_in_the_docstrings_hold():
    results = doctest.testmod(math_answer_module)
    assert (results.attempted, results.failed) == (2, 0)


def test_the_last_number_counts_only_if_asked_for():
    assert extract_answer("first 3, then 1,234.5.", allow_last_number=True) == "1,234.5"
    assert extract_answer("first 3, then 1,234.5.") is None


@pytest.mark.parametrize(
    ("expected", "given", "reward"),
    [
        ("18", "18", 1),
        ("18", "18.", 1),
        ("18", "18.00", 1),
        ("18", "$18", 1),
        ("18", r"\$18", 1),
        ("18", "18 dollars", 1),
        ("18", "18 hundred", 0),
        ("18", "+18", 1),
        ("18", "-18", 0),
        ("18", "1 8", 0),
        ("18", "81", 0),
        ("1234", "1,234", 1),
        ("1,234", "1234.0", 1),
        ("1234", r"1{,}234", 1),
        ("1234", "12,34", 0),
        ("1/2", "0.5", 1),
        ("0.5", r"\frac{1}{2}", 1),
        ("0.5", r"\dfrac12", 1),
        ("-1/2", r"-\frac{1}{2}", 1),
        ("1/3", "0.3333333333", 0),  # numbers are compared exactly
        ("1/3", "1/0", 0),
        ("1/2", r"-\frac{1}{2}", 0),
        ("50%", "50", 1),
        ("0.5", r"50\%", 1),
        ("50", "0.5", 0),
        ("0.1", "0.10000000000000001", 0),
        ("Tuesday", "Tuesday.", 1),
        ("Tuesday", "Monday", 0),
        ("(1,2)", "(1, 2)", 1),
        ("x^2+1", "1 + x^2", 1),  # from here on math-verify
        ("18", "x = 18", 1),
        ("4", r"\sqrt{16}", 1),
        (r"\frac{\sqrt{3}}{2}", r"$\frac{3}{2\sqrt{3}}$", 1),
        ("x+1", "x+2", 0),
        ("18", r"\frac{", 0),
        ("18", "9" * 5000, 0),
    ],
)
def test_equal_answers(expected, given, reward, problem, make_completion):
    problem = dataclasses.replace(problem, answer=expected)
    assert math_answer(problem, make_completion(rf"\boxed{{{given}}}")) == reward


def test_numbers_are_compared_in_microseconds_and_without_math_verify():
    code = (
        "import sys, time; from rewards.math_answer import same_answer\n"
        "start = time.perf_counter()\n"
        "for i in range(1000): assert same_answer('1234', '$1,234.00') and not same_answer('18', '19')\n"
        "assert time.perf_counter() - start < 0.5\n"
        "assert same_answer('Tuesday', ' Tuesday. ')\n"
        "assert not {'math_verify', 'sympy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "unit",
    [
        r"\boxed{",
        r"\boxed{}",
        "{",
        "<answer>",
        "</answer>",
        "the answer is ",
        "####",
        "</think>",
        "1,",
        "1.1",
        " ",
        "\\",
    ],
)
def test_finding_the_answer_in_a_megabyte_takes_no_time(unit):
    text = unit * (1_000_000 // len(unit))
    start = time.perf_counter()
    for hostile in (text, r"\boxed{" + text, "<answer>" + text + "</answer>"):
        extract_answer(hostile, allow_last_number=True)
    assert time.perf_counter() - start < 2


# think_format and tag_count


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>2+2 is 4</think><answer>4</answer>", 1.0),
        ("<think>\n2+2\n</think>\n\n<answer>\n4\n</answer>\n", 1.0),
        ("<think></think><answer>4</answer>", 0.0),
        ("<think> \n </think><answer>4</answer>", 0.0),
        ("<think>a</think><answer> </answer>", 0.0),
        ("<think>a</think><answer>4</answer><answer>5</answer>", 0.0),
        ("<think>a</think><answer>4</answer> so there", 0.0),
        ("well <think>a</think><answer>4</answer>", 0.0),
        ("<think>a</think> so <answer>4</answer>", 0.0),
        ("<think>a<think>b</think><answer>4</answer>", 0.0),
        ("<think>a</think>b</think><answer>4</answer>", 0.0),
        ("<think>a <answer>3</answer></think><answer>4</answer>", 0.0),
        ("</think>a<think><answer>4</answer>", 0.0),
        ("<answer>4</answer><think>a</think>", 0.0),
        ("<think>a</think><answer>4", 0.0),
        ("<think>a", 0.0),
        ("", 0.0),
    ],
)
def test_think_format(text, reward, problem, make_completion, make_prompt):
    assert think_format(problem, make_completion(text), prompt=make_prompt()) == reward


def test_an_opening_tag_that_the_template_wrote_counts(problem, make_completion, make_prompt):
    rest, whole = make_completion("a</think><answer>4</answer>"), make_completion("<think>a</think><answer>4</answer>")
    opened = make_prompt("<think>\n")
    assert think_format(problem, rest, prompt=opened) == tag_count(problem, rest, prompt=opened) == 1
    assert think_format(problem, rest, prompt=make_prompt()) == 0
    assert think_format(problem, whole, prompt=opened) == 0
    assert tag_count(problem, whole, prompt=opened) == 0.75


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>a</think> 4", 1.0),
        ("<think>a</think> ", 0.0),
        ("<think></think> 4", 0.0),
        ("b <think>a</think> 4", 0.0),
    ],
)
def test_answer_tags_are_needed_only_if_asked_for(text, reward, problem, make_completion, make_prompt):
    assert think_format(problem, make_completion(text), prompt=make_prompt(), require_answer=False) == reward
    assert think_format(problem, make_completion(text), prompt=make_prompt()) == 0


@pytest.mark.parametrize("unit", ["<think>", "</think>", "<think>a</think>", "<answer>a", "<", " "])
def test_the_format_of_a_megabyte_takes_no_time(unit, problem, make_completion, make_prompt):
    hostile = make_completion("<think>" + unit * (1_000_000 // len(unit)) + "</think><answer>4</answer>")
    start = time.perf_counter()
    think_format(problem, hostile, prompt=make_prompt())
    tag_count(problem, hostile, prompt=make_prompt())
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>a</think><answer>4</answer>", 1.0),
        ("<answer></think><think></answer>", 1.0),  # the order is not its business
        ("<think>a</think>", 0.5),
        ("<think><think></think>", 0.25),
        ("4", 0.0),
    ],
)
def test_tag_count(text, reward, problem, make_completion, make_prompt):
    assert tag_count(problem, make_completion(text), prompt=make_prompt()) == reward


# countdown


@pytest.fixture
def game(problem):
    """Reach 24 with 3, 3, 8 and 8. The only way is 8 / (3 - 8 / 3)."""
    return dataclasses.replace(problem, answer="24", metadata={"nums": [3, 3, 8, 8]})


@pytest.mark.parametrize(
    ("expression", "reward"),
    [
        ("8 / (3 - 8 / 3)", 1),  # exact: in floats it is 23.999999999999989
        ("8/(3-8/3) = 24", 1),
        ("8/(3-8/3) = 25", 0),
        ("8/(3-8/3) = 24 = 24", 0),
        ("(((8))) / (3 - (8 / 3))", 1),
        ("8 * 3", 0),  # two numbers are left
        ("8 * 3 * (8 - 8 + 3 / 3)", 0),  # used too often
        ("8 * 3 + 3 - 8", 0),
        ("24", 0),
        ("8 * 3 - 8 * 3 + 24", 0),
        ("8/(3-8/3", 0),
        ("8/(3-8/3))", 0),
        ("8 8 3 3", 0),
        ("", 0),
        ("8 / (3 - 3) + 8", 0),  # division by zero
        ("8/(3-8/3)*1", 0),
        ("+8/(3-8/3)", 0),
        ("-8/(8/3-3)", 0),
        ("8/(3-8/3) #", 0),
        ("08/(3-8/3)", 0),
        ("8\N{DIVISION SIGN}(3-8/3)", 0),
        ("__import__('os')", 0),
        ("(" * 40 + "8/(3-8/3)" + ")" * 40, 1),
        ("(" * 60 + "8/(3-8/3)" + ")" * 60, 0),  # too deep
        ("(" * 99 + "8/(3-8/3)" + ")" * 99, 0),  # too long
        ("8/(3-8/3)" + " " * 300 + "+0", 0),
    ],
)
def test_countdown(expression, reward, game, make_completion):
    assert countdown(game, make_completion(f"<think>8</think><answer>{expression}</answer>")) == reward


@pytest.mark.parametrize(
    ("nums", "target", "expression"),
    [
        ([12, 2], "144", "12**2"),
        ([7, 2], "3", "7//2"),
        ([3, 5, 2], "7", "3.5*2"),
        ([1, 2], "12", "12"),
        ([5, 5], "10", "5--5"),
        ([99, 98, 97], "1", "99**98**97"),
        ([5, 5], "50", "5_5-5"),
        ([2, 3], "6", "2(3)"),
    ],
)
def test_tricks_that_python_would_evaluate_are_wrong(nums, target, expression, game, make_completion):
    game = dataclasses.replace(game, answer=target, metadata={"nums": nums})
    assert countdown(game, make_completion(f"<answer>{expression}</answer>")) == 0


def test_the_last_answer_block_is_the_one_that_counts(game, make_completion):
    right, wrong = "<answer>8/(3-8/3)</answer>", "<answer>8</answer>"
    assert countdown(game, make_completion(wrong + right)) == 1
    assert countdown(game, make_completion(right + wrong)) == 0
    assert countdown(game, make_completion("8/(3-8/3)")) == 0


def test_left_to_right_and_precedence_are_those_of_arithmetic(game, make_completion):
    game = dataclasses.replace(game, answer=str(Fraction(10 - 4 - 3) + Fraction(12) / 6 / 2), metadata={})
    game = dataclasses.replace(game, metadata={"nums": [10, 4, 3, 12, 6, 2]})
    assert countdown(game, make_completion("<answer>10 - 4 - 3 + 12 / 6 / 2</answer>")) == 1


@pytest.mark.parametrize("metadata", [{}, {"nums": []}, {"nums": [1.5]}, {"nums": "12"}])
def test_a_problem_without_numbers_is_a_bug_not_a_wrong_answer(metadata, game, make_completion):
    with pytest.raises(ValueError, match=r"metadata\['nums'\]"):
        countdown(dataclasses.replace(game, metadata=metadata), make_completion("<answer>1</answer>"))


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ("7+8=15\n15-3=12", 1.0),
        ("7+8=14\n14-3=11", 0.5),  # the mistake is counted where it was made
        ("7+8=15\n14-3=11", 0.5),  # copied wrongly
        ("7+8=15\n15-4=11", 0.5),  # another operation than the problem's
        ("7+8=15", 0.5),
        ("7+8=15\n15-3=12\n12+1=13", 2 / 3),  # a step too many
        ("well, 7+8=15\n15-3=12", 0.0),
        ("", 0.0),
    ],
)
def test_arithmetic_steps(thinking, expected, problem, make_completion, make_prompt):
    asked = dataclasses.replace(problem, metadata={"start": 7, "operations": ["+8", "-3"]})
    completion = make_completion(f"<think>{thinking}</think><answer>12</answer>")
    assert arithmetic_steps(asked, completion, prompt=make_prompt()) == pytest.approx(expected)
    opened = make_completion(completion.text.removeprefix("<think>"))
    assert arithmetic_steps(asked, opened, prompt=make_prompt(prefix="<think>")) == pytest.approx(expected)
