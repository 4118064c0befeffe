r"""Accuracy on GSM8K by the two rules of the LM Evaluation Harness, for comparison with published numbers.

    strict    the number after "####"      #### (\-?[0-9\.\,]+)
    flexible  the last number of the text  (-?[$0-9.,]{2,})|(-?[0-9]+)

both then stripped of commas, dollar signs and the final period (EleutherAI/lm-evaluation-harness, lm_eval/tasks/gsm8k/
gsm8k.yaml, filters strict-match and flexible-extract). Ours differs in three points: the numbers are compared as exact
values, not as text (18.00 is 18); only what follows </think> is read; and different numbers after several "####" are
several answers, which is wrong, where the harness takes the first.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

from data.problem import Problem
from rewards.mathematics.visible import WINDOW_CHARS, after_thinking
from rl.experience import Completion, Prompt, Verdict

Mode = Literal["strict", "flexible"]

NUMBER = re.compile(r"-?\$?-?(?:[0-9][0-9,]{0,60}(?:\.[0-9]{1,60})?|\.[0-9]{1,60})")
AFTER_HASHES = re.compile(rf"####[ \t]{{0,20}}(?:{NUMBER.pattern})")
MINUS = str.maketrans({"\N{MINUS SIGN}": "-"})


def gsm8k(problem: Problem, completion: Completion, *, prompt: Prompt | None = None, mode: Mode = "strict") -> float:
    """1.0 if the number that the mode finds equals the problem's, 0.0 if it does not.

    The gold is a number or a worked solution that ends in "#### 18". A completion without such a number, or whose
    thinking does not end, is "no_answer"; a gold without one "bad_gold". 1,000 is 1000; a percent sign is not read, as
    in the harness; a number glued to the one before ("3-2") has no sign of its own.
    """
    if mode not in ("strict", "flexible"):
        raise ValueError(f"gsm8k: mode must be strict or flexible, got {mode!r}")
    gold = _value(problem.answer.rpartition("####")[2])
    if gold is None:
        return Verdict(state="bad_gold", reason=f"the gold {problem.answer[-40:]!r} holds no number")
    text = after_thinking((prompt.prefix if prompt else "") + completion.text)
    if text is None:
        return Verdict(state="no_answer", reason="the thinking does not end")
    text = text[-WINDOW_CHARS:].translate(MINUS)
    found = _after_hashes(text) if mode == "strict" else _last_number(text)
    if not found:
        return Verdict(state="no_answer", reason="no number after ####" if mode == "strict" else "no number")
    return Verdict(float(found == {gold}))


def _after_hashes(text: str) -> set[Fraction]:
    return {value for match in AFTER_HASHES.finditer(text) if (value := _value(match.group()[4:])) is not None}


def _last_number(text: str) -> set[Fraction]:
    last = None
    for last in NUMBER.finditer(text[-5000:]):  # noqa: B007
        pass
    if last is None:
        return set()
    glued = text[-5000:][: last.start()][-1:].isalnum()
    value = _value(last.group().lstrip("-") if glued else last.group())
    return set() if value is None else {value}


def _value(text: str) -> Fraction | None:
    """The number that the text begins with, exactly."""
    match = NUMBER.match(text.strip().translate(MINUS))
    if match is None:
        return None
    digits = match.group().replace("$", "").replace(",", "")
    return Fraction(digits.replace("--", "-"))
