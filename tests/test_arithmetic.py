"""The embedded data set: its problems and its pupils."""

import random

import pytest

from data.arithmetic import (
    arithmetic,
    calculate,
    careless,
    chain_of,
    demonstrations,
    worked_example,
)
from data.problem import Problem, ask
from rewards.arithmetic_steps import arithmetic_steps


def problem(question: str, answer: str = "") -> Problem:
    return Problem(id="a", messages=ask(question), answer=answer, source="arithmetic")


def test_the_same_arguments_give_the_same_problems_and_another_seed_gives_others():
    assert arithmetic("train", 50, seed=3) == arithmetic("train", 50, seed=3)
    first, second = ({p.question for p in arithmetic("train", 50, seed=seed)} for seed in (3, 4))
    assert len(first & second) < 10


def test_a_smaller_set_is_the_beginning_of_a_larger_one():
    assert arithmetic("train", 20) == arithmetic("train", 100)[:20]


def test_no_question_is_in_both_splits_whatever_the_seeds():
    train = {p.question for seed in range(3) for p in arithmetic("train", 2000, seed=seed)}
    test = {p.question for seed in range(3) for p in arithmetic("test", 500, seed=seed)}
    assert not train & test


def test_every_question_is_asked_once_under_its_own_id():
    problems = arithmetic("test", 500)
    assert len({p.question for p in problems}) == len({p.id for p in problems}) == 500


def test_the_answer_is_what_the_expression_gives_and_totals_stay_in_range():
    for p in arithmetic("train", 500, min_terms=2, max_terms=9, minus_fraction=0.5, borrow=True):
        chain = chain_of(p)
        total, totals = chain.first, []
        for sign, digit in chain.steps:
            total = calculate(total, sign, digit)
            totals.append(total)
        assert p.answer == str(totals[-1])
        assert all(0 <= total <= 99 for total in totals)
        assert 2 <= len(p.metadata["operations"]) + 1 == len(chain.steps) + 1 <= 9


@pytest.mark.parametrize(("fraction", "signs"), [(0.0, {"+"}), (1.0, {"+", "-"})])
def test_minus_fraction_decides_the_signs(fraction, signs):
    chains = [chain_of(p) for p in arithmetic("train", 100, minus_fraction=fraction)]
    assert {sign for chain in chains for sign, _ in chain.steps} == signs


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"split": "dev", "size": 1}, r"arithmetic\.split must be one of train, test, got 'dev'"),
        ({"split": "train", "size": 0}, r"data\.train\.arithmetic\.size must be at least 1, got 0"),
        (
            {"split": "train", "size": 1, "min_terms": 1},
            r"train\.arithmetic\.min_terms must be at least 2, got 1",
        ),
        ({"split": "test", "size": 1, "max_terms": 3}, r"data\.test\.arithmetic\.max_terms must be in min_terms="),
        ({"split": "train", "size": 1, "max_terms": 99}, r"data\.train\.arithmetic\.max_terms must be in .* got 99"),
        ({"split": "train", "size": 1, "minus_fraction": 1.5}, r"minus_fraction must be in \[0, 1\], got 1.5"),
        ({"split": "train", "size": 900, "min_terms": 2, "max_terms": 2}, r"size=900 .* were not found, only"),
    ],
)
def test_a_bad_argument_is_refused_by_its_recipe_key(arguments, key):
    with pytest.raises(ValueError, match=key):
        arithmetic(**arguments)


def test_another_data_sets_question_is_refused():
    with pytest.raises(ValueError, match=r"expected a question like 'What is 7\+8-3\?', got 'Why\?'"):
        chain_of(problem("Why?"))


def test_a_careful_pupil_writes_the_true_steps():
    text = worked_example(problem("What is 7+8-3?"), random.Random(0), carelessness=0.0)
    assert text == "<think>7+8=15\n15-3=12</think><answer>12</answer>"


def test_a_careless_pupil_forgets_the_carry_and_takes_the_smaller_digit_from_the_larger():
    # 7+8 is 15, the carry forgotten 5; 5-9 has no digit to borrow from, and 9-5 is 4; 4+3 carries nothing.
    text = worked_example(problem("What is 7+8-9+3?"), random.Random(0), carelessness=1.0)
    assert text == "<think>7+8=5\n5-9=4\n4+3=7</think><answer>7</answer>"


def test_the_bugs_show_only_where_a_carry_or_a_borrow_is_needed():
    for total in range(100):
        for digit in range(1, 10):
            assert (careless(total, "+", digit) == total + digit) == (total % 10 + digit < 10)
            assert (careless(total, "-", digit) == total - digit) == (total % 10 >= digit)


def test_examples_vary_with_the_generator_and_a_share_of_their_steps_is_wrong(make_completion, make_prompt):
    problems, rng = arithmetic("train", 400), random.Random(0)
    shares = [
        arithmetic_steps(p, make_completion(worked_example(p, rng, carelessness=0.6)), prompt=make_prompt())
        for p in problems
    ]
    share = sum(shares) / len(shares)
    assert 0.65 < share < 0.85  # carries are about four steps in ten, and 60 % of these go wrong


def test_carelessness_must_be_a_probability():
    with pytest.raises(ValueError, match=r"carelessness must be in \[0, 1\], got 60"):
        worked_example(problem("What is 1+1?"), random.Random(0), carelessness=60)


def count_right(examples):
    return sum(text.endswith(f"<answer>{p.answer}</answer>") for p, text in examples)


def test_demonstrations_are_right_at_first_and_mostly_careless_later():
    examples = demonstrations(1000, seed=0)
    assert examples == demonstrations(1000, seed=0)
    assert count_right(examples[:650]) == 650
    assert 0.1 < count_right(examples[650:]) / 350 < 0.4  # 15 % careful pupils, and problems without a carry


def test_no_demonstration_is_of_the_test_split():
    assert not {p.question for p, _ in demonstrations(2000)} & {p.question for p in arithmetic("test", 1000)}


def test_without_borrow_no_step_of_a_problem_borrows():
    for p in arithmetic("train", 300, minus_fraction=0.9):
        chain = chain_of(p)
        total = chain.first
        for sign, digit in chain.steps:
            assert sign == "+" or digit <= total % 10
            total = calculate(total, sign, digit)


@pytest.mark.parametrize("name", ["careful_first", "careful_share"])
def test_a_share_of_careful_pupils_is_a_share(name):
    with pytest.raises(ValueError, match=rf"cold_start\.data\.{name} must be in \[0, 1\], got 15"):
        demonstrations(10, **{name: 15})
