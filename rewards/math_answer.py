"""Accuracy on problems whose answer is a number or a formula.

The common case, numbers, is compared exactly and in microseconds; math-verify (and with it sympy) is imported at the
first answer that is something else. math-verify can hang on hostile formulas such as 3^{10^{9}} and its own time-outs
work in a main thread only, so they are off here: the deadline of the process that calls the reward is what protects it.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from data.problem import Problem
from rl.experience import Completion

MAX_ANSWER_CHARS = 1000  # a longer answer is no answer
MAX_NUMBER_CHARS = 100

BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace \{ is text, not structure
PHRASE = re.compile(r"(?i:the (?:final |correct )?answer is)[ \t]*:?")
SENTENCE_END = re.compile(r"[.!?](?=\s)|,(?=\s+[a-zA-Z]{2})|\n")  # "18, because ..." ends at the comma
LAST_NUMBER = re.compile(r"-?[0-9][0-9,]{0,40}(?:\.[0-9]{1,40})?(?:/[0-9]{1,40})?%?")

NOISE = re.compile(  # spaces (but not between digits: 1 2 is not 12), delimiters and currency, as TeX or plainly
    r"\\[,;:!() \[\]]|\\(?:left|right)(?![a-zA-Z])|\{,\}|\\?\$|(?<![0-9\s])\s+|\s+(?![0-9\s])"
)
DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
DECIMAL = re.compile(rf"({DIGITS}?)(?:\.([0-9]*))?")
PLAIN_FRACTION = re.compile(rf"({DIGITS})/({DIGITS})")
TEX_FRACTION = re.compile(rf"\\[dt]?frac(?:\{{(-?{DIGITS})\}}\{{(-?{DIGITS})\}}|([0-9])([0-9]))")
UNIT = re.compile(r"(?<=[0-9]) +([a-zA-Z]{3,30})(?: [a-zA-Z]{1,30}){0,3}$")
NOT_UNITS = {"hundred", "thousand", "million", "billion", "trillion", "dozen", "and", "plus", "minus", "times"}


def math_answer(problem: Problem, completion: Completion, *, allow_last_number: bool = False) -> float:
    r"""1.0 if the answer of the completion equals the problem's, 0.0 if it does not or there is none.

    What counts as the answer: see `extract_answer`. Equal means equal as exact numbers (1,000 = 1000.0, 1/2 = 0.5 =
    50%, $18. = 18 dollars), as text up to spaces, or as formulas by math-verify.
    """
    answer = extract_answer(completion.text, allow_last_number=allow_last_number)
    return float(answer is not None and same_answer(problem.answer, answer))


def extract_answer(text: str, *, allow_last_number: bool = False) -> str | None:
    r"""The answer that a completion gives, or None.

    Looks after the last </think>, if there is one, for the first of: the last \boxed{}, the last <answer> block, the
    rest of the line after the last ####, the rest of the sentence after the last "the answer is", and, if
    `allow_last_number`, the last number. Linear in the length of the text.

    >>> extract_answer(r"<think>\boxed{1}</think> So it is \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> extract_answer("5 + 7 = 12. The answer is 12.")
    '12'
    """
    text = text[text.rfind("</think>") + len("</think>") :] if "</think>" in text else text
    for found in (_last_boxed(text), _last_block(text), _after_hashes(text), _after_phrase(text)):
        if found:
            return found
    if allow_last_number and (numbers := LAST_NUMBER.findall(text)):
        return str(numbers[-1]).rstrip(",")
    return None


def same_answer(expected: str, given: str) -> bool:
    """Whether two answers are equal: as numbers if both are numbers, else as text, else as formulas."""
    if len(given) > MAX_ANSWER_CHARS:
        return False
    numbers = _number_values(expected), _number_values(given)
    if all(numbers):
        return not numbers[0].isdisjoint(numbers[1])
    if _squeezed(expected) == _squeezed(given):
        return True
    return _same_formula(expected, given)


def _last_boxed(text: str) -> str | None:
    r"""The content of the last \boxed{...}, braces matched; None if there is none or it was cut off."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for token in BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return text[start : token.start()].strip()
    return None


def _last_block(text: str) -> str | None:
    """The content of the last <answer>...</answer>; where that is a sentence, the answer that the sentence gives."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    if start < 0:
        return None
    content = text[start + len("<answer>") : end].strip()
    return _after_hashes(content) or _after_phrase(content) or content


def _after_hashes(text: str) -> str | None:
    """The rest of the line after the last ####, as GSM8K writes its answers."""
    start = text.rfind("####")
    return text[start + 4 :].strip().partition("\n")[0].strip() if start >= 0 else None


def _after_phrase(text: str) -> str | None:
    """The rest of the sentence after the last "the answer is"."""
    ends = [match.end() for match in PHRASE.finditer(text)]
    if not ends:
        return None
    rest = text[ends[-1] : ends[-1] + MAX_ANSWER_CHARS].strip()
    end = SENTENCE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip(" *").rstrip(" .*") or None


def _number_values(text: str) -> set[Fraction]:
    """What the text may mean as a number; empty if it is not one. 50% may be meant as 50 or as 1/2."""
    if len(text) > MAX_NUMBER_CHARS:
        return set()
    unit = UNIT.search(text)
    if unit and unit.group(1).lower() not in NOT_UNITS:
        text = text[: unit.start()]
    squeezed = NOISE.sub("", text).removesuffix(".")
    plain = squeezed.removesuffix("%").removesuffix("\\")
    value = _parse_number(plain)
    if value is None:
        return set()
    return {value, value / 100} if squeezed.endswith("%") else {value}


def _parse_number(text: str) -> Fraction | None:
    """An integer, decimal or fraction, plain or in TeX, as an exact Fraction; None for anything else."""
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-") if sign < 0 else text.removeprefix("+")
    if match := DECIMAL.fullmatch(text):
        whole, decimals = match.group(1).replace(",", ""), match.group(2) or ""
        return sign * Fraction(int(whole + decimals), 10 ** len(decimals)) if whole + decimals else None
    if match := PLAIN_FRACTION.fullmatch(text) or TEX_FRACTION.fullmatch(text):
        above, below = (int(part.replace(",", "")) for part in match.groups() if part)
        return sign * Fraction(above, below) if below else None
    return None


def _squeezed(text: str) -> str:
    """The text without spaces, $ and the trailing period: answers that differ in these only are equal."""
    return NOISE.sub("", text).removesuffix(".")


def _same_formula(expected: str, given: str) -> bool:
    """math-verify's judgement. What it cannot parse equals nothing."""
    from math_verify import verify

    gold, answer = _parse_formula(expected), _parse_formula(given)
    return bool(gold and answer and verify(gold, answer, timeout_seconds=None))


@lru_cache(maxsize=256)  # the completions of a group share the problem's answer, and often their own
def _parse_formula(text: str) -> list[Any]:
    """math-verify's parse. It wants formulas between dollar signs, even if the whole text is one."""
    from math_verify import parse

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they warn at every call that time-outs are off
    formula = text.strip().strip("$").removeprefix("\\(").removesuffix("\\)").rstrip(".")
    return list(parse(f"${formula}$", parsing_timeout=None))
