r"""Answers that have the right value and yet say nothing: the question's own expression, a tautology, a template.

    "What is 3*4?"              \boxed{3*4}, \boxed{4*3}, \boxed{\text{three times four}}
    "What is 25% of 80?"        \boxed{0.25\times80}
    "What is 21 divided by 3?"  \boxed{\frac{21}{3}}
    "Expand (x-1)(x+1)."        \boxed{(x+1)(x-1)}

An answer written as the gold is repeats nothing, nor does a plain number: a question may well offer it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from rewards.mathematics.compare import compare

MAX_QUESTION_CHARS = 20_000  # that are searched for the answer
MAX_REORDERED = 4  # places of the question whose reordering the answer may be

SPACES = re.compile(r"\\[,;:! ]|[\s$~]+")
FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}|\\[dt]?frac([0-9])([0-9])")
OPERATION = re.compile(r"[0-9a-zA-Z)\]}!%](?:[-+*/^]|\\[a-z])|[a-z]\(|\\[a-z]|[0-9)][a-zA-Z(]|[!|]")
ARITHMETIC = re.compile(r"[0-9.,+*/()%-]+")
WORKED = re.compile(r"[0-9)%](?:[-+*]|\()")
NUMBERS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(\\?%| ?percent\b|/100(?![0-9]))?")
PLAIN_VALUE = re.compile(r"-?[0-9.,]*/?[0-9]*%?")
WHOLE_NUMBER = re.compile(r"-?[0-9.,]+")
QUOTIENT = re.compile(r"([0-9]{1,15})/([0-9]{1,15})")
DIVISION = re.compile(r"(?ai)\\div|\u00f7|/|frac|\bdivided?\b|\bquotient\b")
PLAIN_SIGNS = {
    **dict.fromkeys(["\\times", "\\cdot", "\N{MULTIPLICATION SIGN}", "\N{MIDDLE DOT}", "\N{DOT OPERATOR}"], "*"),
    **dict.fromkeys(["\\div", "\N{DIVISION SIGN}"], "/"),
    **{"\\dbinom": "\\binom", "\\tbinom": "\\binom", "\N{MINUS SIGN}": "-", "**": "^", "\\%": "%"},
    **dict.fromkeys(["\\left", "\\right", "\\text", "\\mathrm", "{", "}"], ""),
}
NUMERAL_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMERALS = {word: str(number) for number, word in enumerate(NUMERAL_WORDS.split())}
SIGNS = {
    "plus": "+",
    "minus": "-",
    "times": "*",
    "multiplied by": "*",
    "divided by": "/",
    "squared": "^2",
    "cubed": "^3",
}
SPOKEN = re.compile(rf"(?ai)(?<![a-z\\])(?:{'|'.join([*SIGNS, *NUMERALS])})(?![a-z])")
SPOKEN_FORMS = (
    (re.compile(r"(?ai)(?: ?percent|\\?%)\$? of "), "%*"),
    (re.compile(r"(?ai)\bsquare root of "), r"\\sqrt "),
    (re.compile(r"(?ai)\babsolute value of (-?[0-9.]{1,20})"), r"|\1|"),
    (re.compile(r"(?ai)\b([0-9]{1,9}) factorial\b"), r"\1!"),
    (re.compile(r"(?ai)\b([0-9]{1,9}) choose ([0-9]{1,9})\b"), r"\\binom{\1}{\2}"),
    (re.compile(r"(?ai)\blog(?:arithm)? base ([0-9]{1,9}) of "), r"\\log_\1 "),
    (re.compile(r"(?ai)\b([0-9]{1,9}) (?:raised )?to the (?:power (?:of )?)?([0-9]{1,9})(?:st|nd|rd|th)?\b"), r"\1^\2"),
)
SET_BUILDER = re.compile(r"\{ ?[a-z](?:\\in[^:|]{1,40})? ?(?::|\||\\mid)([^{}]{1,200})\\?\}")
TEMPLATE = re.compile(r"\{\{[^{}]*\}\}(?!\})|[$#]\{|`|(?<!\\)\$\([^$]*+\Z")  # to be filled in by who reads it
CONVERSION = re.compile(r"(?ai)\b(?:simpl|lowest terms|reduce|as an? |convert|mixed number|rewrite|express)")
TOKEN = re.compile(r"[0-9]+|\\[a-z]+|.", re.DOTALL)


def evasion(answer: str, gold: str, question: str) -> str:
    r"""Why the answer says nothing although it may have the right value; empty if it does say something.

    >>> evasion("3*4", "12", "What is 3*4?"), evasion("12", "12", "What is 3*4?"), evasion("x = x", "12", "")
    ('is what the question asks to work out', '', 'says nothing')
    """
    if answer == gold or (WHOLE_NUMBER.fullmatch(answer) and "/" not in gold and "\\" not in gold):
        return ""
    if TEMPLATE.search(answer):
        return "is a template, not a value"
    sides = bare(answer).split("=")
    if len(set(sides)) < len(sides) and bare(answer) != bare(gold):
        return "says nothing"
    condition = SET_BUILDER.search(answer)
    said = {answer, answer.rpartition("=")[2], condition[1].rstrip("\\ ") if condition else answer}
    if question and any(_repeats(side, gold, question) for side in said):
        return "is what the question asks to work out"
    return ""


def bare(text: str) -> str:
    """The text without spaces and in one notation for products and simple fractions, to look for it in another."""
    text = FRACTION.sub(lambda match: "/".join(part for part in match.groups() if part is not None), text)
    text = SPACES.sub("", text).removesuffix(".")
    for sign, plain in PLAIN_SIGNS.items():
        text = text.replace(sign, plain)
    return text


@lru_cache(maxsize=256)
def _asked(question: str) -> str:
    return bare(_in_signs(question))


def _in_signs(text: str) -> str:
    """ "three times four" as 3*4."""
    if " " not in text:
        return text
    text = SPOKEN.sub(lambda match: SIGNS.get(match.group().lower()) or NUMERALS[match.group().lower()], text)
    for expression, formal in SPOKEN_FORMS:
        text = expression.sub(formal, text)
    return text


def _repeats(answer: str, gold: str, question: str) -> bool:
    """Whether the answer is an expression of the question, not worked out: "3*4" where 12 is the answer.

    A number as it stands in the question counts only where the question asks for another way of writing it.
    """
    written = bare(_in_signs(answer))
    if len(written) < 2 or written == bare(gold):
        return False
    question = question[:MAX_QUESTION_CHARS]
    if PLAIN_VALUE.fullmatch(written):
        if _undivided(written, question):
            return True
        if not (CONVERSION.search(question) and ("/" in written or "/" in bare(gold))):
            return False
    elif not OPERATION.search(written):
        return False
    if ARITHMETIC.fullmatch(written) and WORKED.search(written):
        numbers = _values(written)  # the question's numbers in another order are not worked out either
        if len(numbers) > 1 and numbers in (_values(question), _values(_asked(question))):
            return True
    asked = _asked(question)
    return _stands_in(asked, written) or any(compare(part, answer).state == "ok" for part in _reordered(asked, written))


def _undivided(written: str, question: str) -> bool:
    """Whether it is 21/3, and the question asks to divide these two numbers."""
    quotient = QUOTIENT.fullmatch(written)
    if quotient is None or int(quotient[2]) < 2 or int(quotient[1]) % int(quotient[2]) or not DIVISION.search(question):
        return False
    return _stands_in(_asked(question), written) or _values(written) == _values(question)


def _values(text: str) -> list[Fraction]:
    """The numbers of a text in order of size; 25% is 0.25."""
    found = [Fraction(match[1]) / (100 if match[2] else 1) for match in NUMBERS.finditer(text) if len(match[1]) < 30]
    return sorted(found)


def _stands_in(asked: str, written: str) -> bool:
    """Whether it is a part of the question, and not the part of a longer number."""
    start = asked.find(written)
    while start >= 0:
        around = asked[start - 1 : start] + asked[start + len(written) : start + len(written) + 1]
        if not any(char.isdigit() for char in around):
            return True
        start = asked.find(written, start + 1)
    return False


def _reordered(asked: str, written: str) -> Iterator[str]:
    """The first parts of the question that hold the same signs in another order: (x-1)(x+1) for (x+1)(x-1)."""
    tokens, parts = TOKEN.findall(written), TOKEN.findall(asked)
    size = len(tokens)
    if size < 3 or size > len(parts) or not any(char.isalpha() for char in written):
        return
    lacking = Counter(tokens)
    found = 0
    for index, part in enumerate(parts):
        lacking[part] -= 1
        if index >= size:
            lacking[parts[index - size]] += 1
        if index >= size - 1 and not any(lacking.values()):
            yield "".join(parts[index - size + 1 : index + 1])
            found += 1
            if found == MAX_REORDERED:
                return
