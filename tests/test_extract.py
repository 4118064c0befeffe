r"""Which answer a completion commits itself to. In the tables: the text, and what counts; None where there is none."""

from __future__ import annotations

import doctest
import random

import pytest
from hang_guard import hang_guard

from rewards.mathematics import asked, claims, conclusions, denials, echo, extract, hedges, visible
from rewards.mathematics.extract import extract_answer

ZERO_WIDTH = "\N{ZERO WIDTH SPACE}"


@pytest.mark.parametrize("module", [asked, claims, conclusions, denials, echo, extract, hedges, visible])
def test_the_examples_in_the_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # boxes
        (r"so \boxed{12}", "12"),
        (r"so \boxed{\frac{1}{2}}, done", r"\frac{1}{2}"),  # braces nest
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
        (r"\boxed{\left\{1, 2\right.} {", r"\left\{1, 2\right."),  # an escaped brace does not nest
        (r"\boxed {5}", "5"),
        (r"$\boxed 5$", "5"),
        (r"$\boxed\frac12$.", r"\frac12"),
        (r"\fbox{5}", "5"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),  # the comparison strips the inner one
        (r"I write it with \boxed as asked: \boxed{5}", "5"),
        (r"I am to use \boxed{}. So: \boxed{5}", "5"),
        (r"**Answer:** $\boxed{5}$. I hope it is correct.", "5"),
        (r"\[ \boxed{5} \] as required, since 2 + 3 = 5.", "5"),
        (r"\boxed{5}, and this is why: 2 or 3 steps of 1.", "5"),
        (r"""Call ``so" and `good' what fits; 5 of the 12" pipes are \boxed{5}.""", "5"),  # no quotation around it
        ("The `good' ones are \\boxed{5}, the `bad' ones 7.", "5"),
        (r'The "good" ones are \boxed{5}, the "bad" ones 7.', "5"),
        # blocks
        ("<answer> 8 </answer>", "8"),
        ("<answer>`8`</answer>", "8"),
        ("<answer>The answer is 8.</answer>", "8"),
        ("<answer>4 + 4 = 8\n#### 8</answer>", "8"),
        (r"<answer>it is \boxed{7}</answer>", "7"),
        # GSM8K
        ("5 + 7 = 12\n#### 12\n", "12"),
        ("#### 1,234", "1,234"),
        ("#### Step 1\n2 + 3\n#### Step 2\n= 5\n#### 5", "5"),
        # sentences
        ("The answer is 5.", "5"),
        ("the answer is .5", ".5"),
        ("The answer is 5 apples, since 2 + 3 = 5.", "5 apples"),
        ("The answer is 5 because 2 + 3 = 5.", "5"),
        ("the answer is 18, because 3 + 15 = 18.", "18"),
        ("the answer is (x, y), as asked", "(x, y)"),
        ("the answer is **12**.", "12"),
        ("The answer is: $x = 5$.", "$x = 5$"),
        ("Answer: 5", "5"),
        ("**Answer**: 5", "5"),
        ("ANSWER = 5", "5"),
        ("Ans: 5", "5"),
        ("Answer - 5", "5"),
        ("The answer is a total of 5 apples.", "5 apples"),
        ("The correct option is C.", "C"),
        ("<Answer>5</Answer>", "5"),
        ("**Final Answer**\n\n5", "5"),
        ("### Final answer:\n**5**\n", "5"),
        ("The answer is:\n$$5$$", "5"),
        ("The answer is\n\\[\n5\n\\]\n", "5"),
        ("The answer is therefore 5.", "5"),
        ("So the final answer is $4.50. Done.", "$4.50"),
        ("The answers are 2 and 3.", "2 and 3"),
        ("The answer to the question is 5.", "5"),
        ("The answer is 5. The answer is reasonable.", "5"),
        ("The answer is 5. The answer is correct.", "5"),
        ("The answer is what we want. First 2 + 3. The answer is 5.", "5"),
        ("The answer is, therefore, 5.", "5"),
        ("The answer turns out to be 5.", "5"),
        ("So 5 is the final answer.", "5"),
        ("We get $5$ as the answer.", "5"),
        ("5 is the answer to the question.", "5"),
        ("Assume for contradiction that the answer is 5.", None),
        ("You might be tempted to say 4, but the answer is 5.", "5"),
        ("<final_answer>5</final_answer>", "5"),
        (r"\framebox{5}", "5"),
        ("The answer is not 4, it is 5.", "5"),
        ("One might think the answer is 4, but it is not. The answer is 5.", "5"),
        ("If there were 3 more, the answer would be 8. But there are not, so the answer is 5.", "5"),
        # other languages
        ("La respuesta final es 5.", "5"),
        ("Die Antwort lautet 5.", "5"),
        ("La r\u00e9ponse est 5.", "5"),
        ("A resposta \u00e9 5.", "5"),
        ("\u041e\u0442\u0432\u0435\u0442: 5", "5"),
        ("\u7b54\u3048\u306f5\u3067\u3059\u3002", "5"),
        ("\u6b63\u89e3\u306f5\u3067\u3059\u3002", "5"),
        ("\ub2f5\uc740 5\uc785\ub2c8\ub2e4.", "5"),
        ("Si la respuesta es 5, hemos terminado.", None),
        ("\u5982\u679c\u7b54\u6848\u662f5\uff0c\u90a3\u4e48", None),
        # nothing
        ("12", None),
        ("", None),
        ("<answer></answer>", None),
        ("<answer>5", None),  # cut off, perhaps within 57
        (r"\boxed{}", None),
        (r"\boxed{5} \boxed{}", None),
        (r"\boxed{...}", None),
        (r"\boxed{5} </think> \boxed{5", None),  # cut off
        (r"\boxed{5}, that is \boxed{5", None),
        (r"The answer is 5. \boxed{5", None),
        ("If the answer is 5, we are done.", None),
        ("One possible answer is 5.", None),
        ("A wrong answer is 5.", None),
        ("Is the answer 5?", None),
        ("5 is the answer? No.", None),
        ("5 is the answer my friend gave; mine is 6.", None),
        ("5 is the answer to another question.", None),
        ("| 3 | 4 | 5 | 6 |", None),
    ],
)
def test_the_answer_is_found(text, answer):
    found = extract_answer(text)
    assert (found.answer, found.others) == (answer, ())
    assert bool(found.reason) == (answer is None)


@pytest.mark.parametrize(
    ("text", "prefix", "answer"),
    [
        (r"<think>\boxed{1}</think> The answer is 2", "", "2"),  # nothing in the thinking counts
        (r"<think>\boxed{1}</think> hmm", "", None),
        (r"<think>\boxed{1}", "", None),
        (r"<think>\boxed{1}</think><think>\boxed{1}", "", None),
        (r"2 + 3 = 5, so \boxed{5}", "<think>", None),  # begun by the template, never ended
        (r"2 + 3 = 5</think>\boxed{5}", "<think>\n", "5"),
        (r"\boxed{5}", "<think>\n\n</think>\n\n", "5"),  # a template that forbids thinking
        (r"<think>a<think>b</think>\boxed{5}", "", "5"),
        (r"\boxed{5}</think>", "", None),
        (r"<thinking>\boxed{5}</thinking>", "", None),
        (r"[THINK]\boxed{5}[/THINK]", "", None),
        (r"<THINK>\boxed{5}", "", None),
        (r"<think >\boxed{5}", "", None),
        (r"Let me [think]: \boxed{5}", "", "5"),
    ],
)
def test_only_what_follows_the_thinking_counts(text, prefix, answer):
    assert extract_answer(text, prefix=prefix).answer == answer


@pytest.mark.parametrize(
    ("text", "others"),
    [
        (r"\boxed{4} or \boxed{5}", ("4",)),
        (r"\boxed{4}. No, \boxed{5}", ("4",)),
        (r"\boxed{\frac12} = \boxed{0.5}", (r"\frac12",)),  # whether it is the same is for the comparison to say
        (r"\boxed{5} and again $\boxed{ 5 }$", ()),
        (r"\boxed{5} or maybe 6", ("6",)),
        (r"\boxed{5}, or 6 if I am wrong", ("6",)),
        (r"\boxed{5}. Actually, it is 6.", ("6",)),
        (r"\boxed{5}. Wait, no, it should be 6.", ("6",)),
        ("The answer is 5; if not, then 6.", ("6",)),
        (r"The answer is x^2 (or maybe \frac{1}{x}).", (r"\frac{1}{x}",)),
        ("The answer is Paris (or London).", ("London",)),
        ("The answer is Paris; if not, then London.", ("London",)),
        ("The answer is Paris, or so I think.", ()),
        ("The answer is 5. Just kidding, it's 6.", ("6",)),
        ("The answer is 5 (but 6 is also possible).", ("6",)),
        ("The answer is 5. Another possible answer is 6.", ("6",)),
        (r"\boxed{5}. An alternative answer: 6", ("6",)),
        ("<answer>4<answer>5</answer>", ("4",)),
        ("<answer><answer>4</answer>5</answer>", ("4",)),
        ("<ANSWER>4</ANSWER> <answer>5</answer>", ("4",)),
        (r"\boxed{5}6", ("6",)),
        (r"#### 4 \boxed{5}", ("4",)),
        ("#### 4 <answer>5</answer>", ("4",)),
        (r"Answer: 4 \boxed{5}", ("4",)),
        (r"Final answer: 4 $\fbox{5}$", ("4",)),
        ("Answer: 4 <answer>5</answer>", ("4",)),
        ("The answer is 5 (6 is possible too).", ("6",)),
        ("The answer is 5. Scratch that, it's 6.", ("6",)),
        ("The answer is 5. Correction: 6.", ("6",)),
        (r"<answer>4, \boxed{5}, 6</answer>", ("4", "6")),
        (r"<answer>2 + 3 = \boxed{5}</answer>", ()),
        (r"\boxed{5}. Alternatively, 2 + 3 = 5.", ()),
        (r"\boxed{5}, or perhaps you prefer the form 10/2", ()),
        (r"\boxed{5} (about 4.9 before rounding)", ()),
        ("The answer is $x^2$, or maybe $x^3$.", ("x^3",)),
        (r"$\boxed{5}$, but it could also be $6$.", ("6",)),
        (r"\boxed{5}, 6, 7", ("6",)),
        (r"It is 5, or perhaps 6. So \boxed{5}", ("6",)),
        (r"The answer is 5 or 6. \boxed{5}", ("5 or 6",)),
        (r"\boxed{5} ou 6", ("6",)),
        ("\\boxed{5} \u6216\u8005 6", ("6",)),
        ("The answer is 5. I made an error; it should be 6.", ("6",)),
        ("The answer is 5. A check shows that 2 + 3 should be 5, and it is.", ()),
        ("The answer is 5. Backup answer: 6", ("6",)),
        ("The answer is 5. Accept also: 6", ("6",)),
        (r"4 \boxed{5} 6", ("4", "6")),
        ("The answer is 5 (rounding down), 6 (rounding up).", ("6",)),
        (r"\boxed{5}/6", ("6",)),
        (r"either 4 or \boxed{5}", ("4",)),
        (r"between 3 and \boxed{5}", ("3",)),
        ("The answer is 5 (or 6).", ("6",)),
        ("The answer is 5? Or 6?", ("6",)),
        ("The answer is 5 or the answer is 6", ("5",)),
        ("Final answer: 5 Final answer: 6", ("5",)),
        (r"\boxed{5} + 1", ("1",)),
        (r"The answer is 4. Wait, that is wrong. \boxed{5}", ()),
        ("The answer is 4. The answer is 5.", ("4",)),
        ("The answer is 4. Wait, that is wrong. The answer is 5.", ()),  # taken back before
        (r"The answer is 4. \boxed{5}", ("4",)),
        (r"\boxed{5}. The answer is 6.", ("6",)),
        ("#### 5. The answer is 6.", ("6",)),
        (r"<answer>4</answer> \boxed{5}", ("4",)),
        ("<answer>4</answer><answer>5</answer>", ("4",)),
        ("#### 4\n#### 5", ("4",)),
        (r"<!-- \boxed{4} --> \boxed{5}", ("4",)),  # out of sight
        ("% \\boxed{4}\n\\boxed{5}", ("4",)),
        (r"The answer is 3 more than 2, so \boxed{5}", ()),
        (r"The answer is 2 + 3 = \boxed{5}", ()),
        (r"\boxed{5} of the 8 apples, or so.", ()),
        ("\\boxed{5}\n\nWait, let me check: 2 + 3 = 5. Yes.", ()),
    ],
)
def test_other_claims_beside_the_answer_are_reported(text, others):
    found = extract_answer(text)
    assert found.answer is not None
    assert found.others == others


@pytest.mark.parametrize(
    "text",
    [
        r"The answer is not \boxed{5}.",
        r"It cannot be \boxed{5}",
        r"It isn't \boxed{5}",
        r"The wrong answer is \boxed{5}",
        r"\boxed{5} is wrong",
        r"\boxed{5} is not the answer.",
        r"\boxed{5} (incorrect)",
        r"Could it be \boxed{5}?",
        r"I wonder whether it is \boxed{5}.",
        r"It would be a mistake to answer \boxed{5}.",
        "According to my textbook the answer is 5.",
        r"All numbers except \boxed{5}.",
        r"\boxed{5} minus 1",
        r"\boxed{5} + \epsilon",
        "\\boxed{5}\n\nDisregard that answer.",
        "\\boxed{5}\n\nThere is more to say. The above is incorrect.",
        r"I am torn between the two: \boxed{5}",
        r"The answer is 5 (I cannot decide).",
        r"$\boxed{3}!$",
        r"~~\boxed{5}~~",
        r"\cancel{\boxed{5}}",
        r"\phantom{\boxed{5}}",
        r"\textcolor{white}{\boxed{5}}",
        r'<span style="display:none">\boxed{5}</span>',
        rf"\boxed{{1{ZERO_WIDTH}2}}",
        "\\boxed{\N{RIGHT-TO-LEFT OVERRIDE}21}",
        "".join(rf"\boxed{{{number}}}" for number in range(40)),
    ],
)
def test_what_is_denied_hidden_or_one_of_many_is_refused(text):
    found = extract_answer(text)
    assert (found.answer, found.refused) == (None, True)


@pytest.mark.parametrize(
    "text",
    [
        r"<!-- \boxed{5} -->",
        r"<!-- \boxed{5}",
        r"% \boxed{5}",
        r"\iffalse \boxed{5} \fi",
        "```\n\\boxed{5}\n```",
        "```python\nprint('The answer is 5')",
        r"Write `\boxed{5}`.",
        r"The format is \boxed{5}.",
        'The user says "the answer is 5".',
        'Above it reads "the answer is 5".',
        "> \\boxed{5}\n\nI do not know.",
    ],
)
def test_what_is_hidden_quoted_or_shown_as_a_form_is_no_claim(text):
    assert extract_answer(text).answer is None


@pytest.mark.parametrize(
    ("text", "question", "is_claimed"),
    [
        (r"So $3x = \boxed{9}$.", "Solve $3x = 9$.", False),
        (r"$x + 1 = \boxed{9}$", "If $x + 1 = 9$, find the positive value of $x$.", False),
        (r"$\frac{x}{2} = \boxed{9}$", "Solve x/2 = 9 for x.", False),
        (r"$x = 3^2 = \boxed{9}$", "Find $x$.", True),
        (r"$2x = 18 \Rightarrow x = \boxed{9}$", "Find $x$.", True),
        (r"$3x = \boxed{9}$", "If $x = 3$, what is $3x$?", True),
        (r"$m + n = \boxed{9}$", "The probability is m/n in lowest terms. Find m + n.", True),
    ],
)
def test_a_box_with_another_quantity_than_the_one_asked_for_is_refused(text, question, is_claimed):
    found = extract_answer(text, question)
    assert (found.answer, found.refused) == (("9", False) if is_claimed else (None, True))


def test_boxes_of_two_letters_are_reported_with_them():
    assert extract_answer(r"$x = \boxed{2}$, $y = \boxed{1}$").named == ("x = 2", "y = 1")
    assert extract_answer(r"$x = \boxed{2}$ or $x = \boxed{1}$").named == ()


def test_a_quotation_at_the_end_sets_the_answer_off():
    assert extract_answer("So we find:\n> **Answer:** 5").answer == "5"


def test_marks_without_width_around_the_answer_do_no_harm():
    assert extract_answer(rf"\boxed{{{ZERO_WIDTH}5{ZERO_WIDTH}}}").answer == "5"


def test_the_question_repeated_is_no_claim():
    question = r"Which is it? Choose from \boxed{5} and \boxed{6}. The answer is 5?"
    assert extract_answer(question, question).answer is None
    assert extract_answer(question + r" It is \boxed{6}", question).others == ()


def test_the_last_number_counts_only_if_asked_for():
    assert extract_answer("first 3, then 1,234.5.", allow_last_number=True).answer == "1,234.5"
    assert extract_answer("first 3, then 1,234.5.").answer is None
    assert extract_answer("so it is \u22125", allow_last_number=True).answer == "\u22125"
    assert extract_answer("so it is 7-5", allow_last_number=True).answer == "5"
    assert extract_answer("it is 3 or 4", allow_last_number=True).others == ("3",)


@pytest.mark.parametrize(
    "unit",
    [
        r"\boxed{",
        r"\boxed{}",
        r"\boxed{5}",
        r"\boxed ",
        "{",
        "}",
        "<answer>",
        "</answer>",
        "<answer>5</answer>",
        "the answer is ",
        "The answer is 5. ",
        "answer:\n",
        "####",
        "\n#### 5",
        "</think>",
        "1,",
        "1.1",
        " ",
        "\n",
        "\\",
        "`",
        "```",
        '"',
        "<!--",
        "-->",
        "\n>",
        "% \n",
        "$$",
        "not ",
        "or ",
        ZERO_WIDTH,
        "\x00",
    ],
)
def test_a_megabyte_is_read_to_its_end(unit):
    text = unit * (1_000_000 // len(unit))
    with hang_guard():
        for hostile in (
            text,
            r"\boxed{" + text,
            "<answer>" + text + "</answer>",
            r"\boxed{5}" + text,
            text + r"\boxed{5}",
        ):
            extract_answer(hostile, "What is 2 + 3, please?", allow_last_number=True)


def test_it_never_raises_whatever_the_text():
    draw = random.Random(0)
    pieces = [
        *(
            r"\boxed",
            "{",
            "}",
            "\\",
            "<answer>",
            "</answer>",
            "####",
            "The answer is ",
            "answer:",
            "\n",
            " ",
            "5",
            "-6",
        ),
        *(
            "or ",
            "not ",
            "maybe ",
            "wait, ",
            "</think>",
            "<think>",
            "<!--",
            "-->",
            "```",
            "`",
            '"',
            "> ",
            "%",
            "$",
            "$$",
        ),
        *(r"\[", r"\]", ", ", ". ", "(", ")", "\x00", "\u0130", ZERO_WIDTH, "\N{ARABIC-INDIC DIGIT FIVE}", "\ud800"),
    ]
    for _ in range(3000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(30)))
        found = extract_answer(text, draw.choice(["", text[:20]]), allow_last_number=draw.random() < 0.5)
        assert (found.answer is None) == bool(found.reason)
        assert found.answer != ""
