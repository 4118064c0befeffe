r"""Accuracy on GSM8K by the two rules of the LM Evaluation Harness, for comparison with published numbers.

    strict    the number after "####"      #### (\-?[0-9\.\,]+)
    flexible  the last number of the text  (-?[$0-9.,]{2,})|(-?[0-9]+)

both then stripped of commas, dollar signs and the final period (EleutherAI/lm-evaluation-harness, lm_eval/tasks/gsm8k/
gsm8k.yaml, filters strict-match and flexible-extract). Ours differs in three points: the numbers are compared as exact
values, not as text (18.00 is 18); only what follows </think> is read; and where "####" is followed by several numbers
or by a term ("18 or 19", "18 + x"), the harness takes the first number, which here is wrong.
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
HASHES = re.compile(r"####([^\n]*+)")
TERM = re.compile(  # after a number: it is part of a term
    r"(?ai)[ \t$]*+(?:[-+*/^=]|(?:hundred|thousand|[mb]illion|dozen)\b)|[a-z]\b"
)
MAX_LINE_CHARS = 1000
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
    return Verdict(float(set(found) == {gold}))


def _after_hashes(text: str) -> list[Fraction | None]:
    """The value of each line that #### and then a number begin; None if there is more than the number in it."""
    found: list[Fraction | None] = []
    for match in HASHES.finditer(text):
        line = match.group(1).rpartition("####")[2][:MAX_LINE_CHARS].replace("{,}", ",").lstrip(" \t")
        number = NUMBER.match(line)
        if number:
            alone = NUMBER.search(line, number.end()) is None and TERM.match(line, number.end()) is None
            found.append(_value(number.group()) if alone else None)
    return found


def _last_number(text: str) -> list[Fraction | None]:
    """The last number alone. Where it is glued to what stands before, it has no sign: in 4-2 there is no -2."""
    last = list(NUMBER.finditer(text[-MAX_LINE_CHARS:]))[-1:]
    return [_value(match.group().lstrip("-" if _glued(match) else "")) for match in last]


def _glued(match: re.Match[str]) -> bool:
    return match.string[: match.start()][-1:].isalnum()


def _value(text: str) -> Fraction | None:
    """The number that the text begins with, exactly."""
    match = NUMBER.match(text.strip().translate(MINUS))
    if match is None:
        return None
    digits = match.group().replace("$", "").replace(",", "")
    return Fraction(digits.replace("--", "-"))
