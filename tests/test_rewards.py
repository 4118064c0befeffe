"""The built-in rewards: what they accept, what they do not, and that hostile text costs them no time."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hang_guard import hang_guard

from rewards.arithmetic_steps import arithmetic_steps
from rewards.countdown import countdown
from rewards.exact_match import exact_match
from rewards.gsm8k import gsm8k
from rewards.multiple_choice import multiple_choice
from rewards.tag_count import tag_count
from rewards.think_format import think_format
from rewards.token_f1 import token_f1

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
def test_the_format_of_a_megabyte_is_read_to_its_end(unit, problem, make_completion, make_prompt):
    hostile = make_completion("<think>" + unit * (1_000_000 // len(unit)) + "</think><answer>4</answer>")
    with hang_guard():
        think_format(problem, hostile, prompt=make_prompt())
        tag_count(problem, hostile, prompt=make_prompt())


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
        ("8\N{DIVISION SIGN}(3-8/3)", 1),
        (r"8 \div \left(3 - 8 \div 3\right)", 1),
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


def test_of_several_expressions_all_must_be_right(game, make_completion):
    right, wrong = "<answer>8/(3-8/3)</answer>", "<answer>8</answer>"
    assert countdown(game, make_completion(right + "<answer>(8) / (3 - 8 / 3)</answer>")) == 1
    assert countdown(game, make_completion(wrong + right)) == 0
    assert countdown(game, make_completion(right + wrong)) == 0
    assert countdown(game, make_completion(r"\boxed{8}" + right)) == 0
    assert countdown(game, make_completion("8/(3-8/3)")) == 0


def test_left_to_right_and_precedence_are_those_of_arithmetic(game, make_completion):
    game = dataclasses.replace(game, answer=str(Fraction(10 - 4 - 3) + Fraction(12) / 6 / 2), metadata={})
    game = dataclasses.replace(game, metadata={"nums": [10, 4, 3, 12, 6, 2]})
    assert countdown(game, make_completion("<answer>10 - 4 - 3 + 12 / 6 / 2</answer>")) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {}},
        {"metadata": {"nums": []}},
        {"metadata": {"nums": [1.5]}},
        {"metadata": {"nums": "12"}},
        {"answer": "many"},
        {"answer": "1/0"},
    ],
)
def test_a_game_without_numbers_or_target_has_a_bad_gold(fields, game, make_completion):
    verdict = countdown(dataclasses.replace(game, **fields), make_completion("<answer>8/(3-8/3)</answer>"))
    assert verdict.state == "bad_gold"


@pytest.mark.parametrize(
    ("text", "prefix", "state"),
    [
        ("8/(3-8/3)", "", "no_answer"),
        ("<answer></answer>", "", "no_answer"),
        ("<answer>8/(3-8/3)", "", "no_answer"),
        ("<think><answer>8/(3-8/3)</answer>", "", "no_answer"),
        ("<answer>8/(3-8/3)</answer>", "<think>", "no_answer"),
        ("</think><answer>8/(3-8/3)</answer>", "<think>", "ok"),
        ("<answer>8</answer>", "", "wrong"),
        (r"\boxed{8/(3-8/3)}", "", "ok"),
        ("The answer is 8 / (3 - 8 / 3).", "", "ok"),
        ("The answer is 24. <answer>8/(3-8/3)</answer>", "", "ok"),
        ("The answer is 25. <answer>8/(3-8/3)</answer>", "", "wrong"),
    ],
)
def test_what_countdown_says_where_there_is_no_value(text, prefix, state, game, make_completion, make_prompt):
    assert countdown(game, make_completion(text), prompt=make_prompt(prefix=prefix)).state == state


# gsm8k


@pytest.mark.parametrize(
    ("gold", "text", "strict", "flexible"),
    [
        ("18", "9 + 9 = 18\n#### 18", "ok", "ok"),
        ("9 + 9 = <<9+9=18>>18\n#### 18", "#### 18", "ok", "ok"),  # a worked solution as gold
        ("18", "#### $18.00", "ok", "ok"),
        ("18", "#### 18.", "ok", "ok"),
        ("18", "#### 18%", "ok", "ok"),
        ("18", "####18 dollars", "ok", "ok"),
        ("1234", "#### 1,234", "ok", "ok"),
        ("1,234", "#### 1234", "ok", "ok"),
        ("-5", "#### -5", "ok", "ok"),
        ("-5", "#### -$5", "ok", "ok"),
        ("-5", "#### \N{MINUS SIGN}5", "ok", "ok"),
        ("5", "#### -5", "wrong", "wrong"),
        ("0.5", "#### .5", "ok", "ok"),
        ("18", "The answer is 18.", "no_answer", "ok"),
        ("18", "18 of them, 3 a day", "no_answer", "wrong"),
        ("2", "4-2", "no_answer", "ok"),  # 4-2 has no negative number
        ("18", "#### 18\nand 3 are left", "ok", "wrong"),
        ("18", "#### 18\n#### 19", "wrong", "wrong"),
        ("18", "#### 18 or 19", "wrong", "wrong"),
        ("18", "#### 18, 19", "wrong", "wrong"),
        ("18", "#### 18 + x", "wrong", "ok"),
        ("18", "#### 18x", "wrong", "ok"),
        ("18", "#### 18 a day.", "ok", "ok"),
        ("70000", "#### 70{,}000", "ok", "wrong"),
        ("18", "#### 18\x0019", "wrong", "wrong"),
        ("18", "#### Step 2\n#### 18", "ok", "ok"),
        ("19", "#### 18\n#### 19", "wrong", "ok"),
        ("18", "#### 18\nso #### 18.0", "ok", "ok"),
        ("18", "#### eighteen", "no_answer", "no_answer"),
        ("18", "<think>#### 18", "no_answer", "no_answer"),
        ("18", "<think>#### 18</think> #### 19", "wrong", "wrong"),
        ("18", "", "no_answer", "no_answer"),
        ("", "#### 18", "bad_gold", "bad_gold"),
        ("many", "#### 18", "bad_gold", "bad_gold"),
        ("18", "#### " + "9" * 10_000, "wrong", "wrong"),
    ],
)
def test_gsm8k(gold, text, strict, flexible, problem, make_completion, make_prompt):
    asked, completion = dataclasses.replace(problem, answer=gold), make_completion(text)
    assert gsm8k(asked, completion).state == gsm8k(asked, completion, mode="strict").state == strict
    assert gsm8k(asked, completion, mode="flexible").state == flexible
    assert gsm8k(asked, completion, prompt=make_prompt(prefix="<think>")).state in ("no_answer", "bad_gold", strict)


def test_gsm8k_heeds_the_prefix_and_refuses_an_unknown_mode(problem, make_completion, make_prompt):
    assert gsm8k(problem, make_completion("#### 4"), prompt=make_prompt(prefix="<think>")).state == "no_answer"
    assert gsm8k(problem, make_completion("</think>#### 4"), prompt=make_prompt(prefix="<think>")) == 1
    with pytest.raises(ValueError, match="strict or flexible"):
        gsm8k(problem, make_completion("#### 4"), mode="loose")


# multiple_choice

CITIES = ["London", "Paris", "Rome", "Bern"]


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (r"\boxed{B}", "ok"),
        (r"\boxed{\text{B}}", "ok"),
        (r"\boxed{\textbf{(B)}}", "ok"),
        (r"\boxed{\textbf{(B) } Paris}", "ok"),
        (r"\boxed{b}", "ok"),
        (r"\boxed{Paris}", "ok"),
        (r"\boxed{\text{paris.}}", "ok"),
        ("<answer>B</answer>", "ok"),
        ("<answer>(B)</answer>", "ok"),
        ("<answer>B) Paris</answer>", "ok"),
        ("The answer is B.", "ok"),
        ("The answer is (B).", "ok"),
        ("The answer is (B) Paris, the capital.", "ok"),
        ("The correct answer is **B: Paris**.", "ok"),
        ("Answer: B", "ok"),
        ("The answer is option B.", "ok"),
        ("The answer is Paris.", "ok"),
        ("#### B", "ok"),
        ("B", "ok"),
        ("(B)", "ok"),
        ("B) Paris", "ok"),
        ("Paris", "ok"),
        ("It is not on the Thames. Option B is correct.", "ok"),
        ("I choose (B).", "ok"),
        ("I. We look at the map.\n(B) lies on the Seine.", "ok"),
        ("It must be (B), for it lies on the Seine.", "ok"),
        ("<think>A or C</think> B", "ok"),
        (r"\boxed{C}", "wrong"),
        ("The answer is C.", "wrong"),
        ("The answer is Rome.", "wrong"),
        ("The answer is Madrid.", "wrong"),
        ("The answer is E.", "wrong"),
        ("The answer is (B) Rome.", "wrong"),  # the letter of one, the text of another
        ("The answer is A or B.", "wrong"),
        ("The answer is B or C.", "wrong"),
        (r"\boxed{A, B}", "wrong"),
        (r"\boxed{AB}", "wrong"),
        (r"\boxed{B} or \boxed{C}", "wrong"),
        (r"\boxed{A} \boxed{B} \boxed{C} \boxed{D}", "wrong"),
        (r"The answer is A. \boxed{B}", "wrong"),
        (r"The answer is not \boxed{B}", "wrong"),
        ("(A) London (B) Paris (C) Rome (D) Bern", "wrong"),  # an echo
        ("A) London\nB) Paris\nC) Rome\nD) Bern", "wrong"),
        ("A. London\nB. Paris", "wrong"),
        ("I choose A. I choose B.", "wrong"),
        ("I do not know", "no_answer"),
        ("A city on a river", "no_answer"),
        ("", "no_answer"),
        ("<think>B", "no_answer"),
        (r"<think>\boxed{B}</think>", "no_answer"),
    ],
)
def test_multiple_choice(text, state, problem, make_completion):
    asked = dataclasses.replace(problem, answer="B", metadata={"choices": CITIES})
    assert multiple_choice(asked, make_completion(text)).state == state


@pytest.mark.parametrize(
    ("gold", "choices", "letter"),
    [
        ("B", CITIES, "B"),
        ("(b)", CITIES, "B"),
        ("1", CITIES, "B"),  # an index from 0
        ("Paris", CITIES, "B"),
        ("J", None, "J"),
        ("9", None, "J"),
        ("4", ["3", "4", "5"], "B"),  # the text of a choice before an index
        ("B", {"A": "London", "B": "Paris"}, "B"),
        ("B", {"label": ["A", "B"], "text": ["London", "Paris"]}, "B"),
        ("K", None, None),
        ("", CITIES, None),
        ("E", CITIES, None),
        ("4", CITIES, None),
        ("Madrid", CITIES, None),
        ("Paris", ["Paris", "Paris"], None),
    ],
)
def test_the_gold_of_a_choice_is_a_letter_an_index_or_a_text(gold, choices, letter, problem, make_completion):
    asked = dataclasses.replace(problem, answer=gold, metadata={"choices": choices} if choices else {})
    states = {each: multiple_choice(asked, make_completion(rf"\boxed{{{each}}}")).state for each in "ABJ"}
    assert states == {each: "bad_gold" if letter is None else "ok" if each == letter else "wrong" for each in "ABJ"}


def test_the_kind_of_a_choices_gold_can_be_said(problem, make_completion):
    asked = dataclasses.replace(problem, answer="1", metadata={"choices": ["2", "1"]})
    assert multiple_choice(asked, make_completion(r"\boxed{B}"), gold="index") == 1
    asked = dataclasses.replace(asked, metadata={"choices": ["1", "2"]})
    assert multiple_choice(asked, make_completion(r"\boxed{B}"), gold="index") == 1
    assert multiple_choice(asked, make_completion(r"\boxed{A}"), gold="text") == 1
    assert multiple_choice(asked, make_completion(r"\boxed{A}"), gold="letter").state == "bad_gold"


# exact_match and token_f1


@pytest.mark.parametrize(
    ("text", "match", "f1"),
    [
        ("Denver Broncos", 1, 1),
        ("The denver  broncos.", 1, 1),
        ("<think>hm</think> Denver Broncos", 1, 1),
        (r"It was \boxed{Denver Broncos}", 1, 1),
        ("<answer>the Broncos</answer>", 1, 1),  # another gold
        ("The answer is Denver.", 0, 2 / 3),
        ("Denver Broncos won", 0, 4 / 5),
        ("Denver Denver Broncos", 0, 4 / 5),  # a bag of words counts each as often as it is there
        ("Carolina Panthers", 0, 0),
        (r"\boxed{Broncos} or \boxed{Panthers}", 0, 0),  # the worst claim counts
        ("the", 0, 0),
    ],
)
def test_exact_match_and_token_f1(text, match, f1, problem, make_completion):
    asked = dataclasses.replace(problem, answer="Denver Broncos", metadata={"answers": ["Broncos", "The Broncos"]})
    assert exact_match(asked, make_completion(text)) == match
    assert token_f1(asked, make_completion(text)) == pytest.approx(f1)


def test_exact_match_of_the_whole_text_looks_for_no_claim(problem, make_completion):
    asked = dataclasses.replace(problem, answer="The answer is 4", metadata={"answers": {"text": ["four"]}})
    assert exact_match(asked, make_completion("the answer is 4."), whole=True) == 1
    assert exact_match(asked, make_completion("the answer is 4.")) == 0
    assert exact_match(asked, make_completion("The answer is four.")) == 1


@pytest.mark.parametrize("reward", [exact_match, token_f1])
def test_words_without_a_value(reward, problem, make_completion, make_prompt):
    assert reward(problem, make_completion("")).state == "no_answer"
    assert reward(problem, make_completion("<think>4")).state == "no_answer"
    assert reward(problem, make_completion("4"), prompt=make_prompt(prefix="<think>")).state == "no_answer"
    assert reward(problem, make_completion(r"It is not \boxed{4}")).state == "wrong"
    assert reward(dataclasses.replace(problem, answer=" "), make_completion("4")).state == "bad_gold"
    with pytest.raises(ValueError, match=r"metadata\['answers'\]"):
        reward(dataclasses.replace(problem, metadata={"answers": "four"}), make_completion("4"))


@pytest.mark.parametrize("reward", [gsm8k, multiple_choice, exact_match, token_f1, countdown])
@pytest.mark.parametrize(
    "unit", ["(A) ", "#### 5 ", "the ", "9", "1,", r"\boxed{B}", "<answer>1", "option A ", " ", "\x00"]
)
def test_every_reward_reads_a_megabyte_to_its_end(reward, unit, problem, make_completion):
    asked = dataclasses.replace(problem, metadata={"choices": ["4", "5"], "nums": [2, 2]})
    with hang_guard():
        reward(asked, make_completion(unit * (1_000_000 // len(unit))))


# arithmetic_steps


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
