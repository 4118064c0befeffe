"""From the text of an answer to its tree: what is special about answers, then the parser."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from rewards.mathematics.build import EXPRESSIONS
from rewards.mathematics.lexer import MAX_CHARS, ParseError, literal, normalise, tokenize
from rewards.mathematics.parser import Parser
from rewards.mathematics.phrases import PHRASES
from rewards.mathematics.tree import (
    Group,
    NamedSet,
    Node,
    Num,
    Quantity,
    SetOp,
    Sym,
    Text,
    Time,
    Unread,
    walk,
)
from rewards.mathematics.words import number_words

NUMBER = re.compile(r"[-+]?(?:[0-9]{1,300}|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,20})(?:\.[0-9]{1,300})?")
CHOICE = re.compile(r"\(?\s*([A-Z])\s*[).:]|\(\s*([A-Za-z])\s*\)")
CHOICE_TEXT = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*)?\(?([A-J])[).:]?\s*\}?[).:]?(?:\s|~|\\ |\\quad)+(?=\S)(.+)", re.DOTALL
)
TIME = re.compile(
    r"([0-9]{1,2}):([0-5][0-9])(?:\s|~|\\[,; ])*(?:\\(?:text|mathrm)\s*\{\s*)?(?:([ap])\.?\s?m\.?)?\s*\}?",
    re.IGNORECASE,
)
CLOCK = re.compile(
    r"([0-9]{1,2})(?:\s|~|\\[,; ])*(?:\\(?:text|mathrm)\s*\{\s*)?(?:([ap])\.?\s?m\.?|o'clock)\s*\}?", re.IGNORECASE
)
BASED = re.compile(
    r"\(?(?:\\(?:text|mathrm)\s*\{)?([0-9A-Za-z]{1,200})\}?\)?\s*_\s*"
    r"(?:\{?\s*([0-9]{1,2})\s*\}?|\{?\s*\\(?:text|mathrm)\s*\{\s*([a-z]{3,9})\s*\}\s*\}?)"
)
BASE_NAMES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "sixteen": 16,
}
RECURRING = re.compile(
    r"([0-9]{0,40})\.([0-9]{0,40})(?:\\(?:overline|bar|dot|overbar)\s*(?:\{\s*([0-9]{1,40})\s*\}|([0-9]))|\(([0-9]{1,40})\))"
)
RECURRING_DOTS = re.compile(r"([0-9]{0,40})\.([0-9]{0,40})\\dot\s*\{?([0-9])\}?([0-9]{0,40})\\dot\s*\{?([0-9])\}?")
ELLIPSIS = re.compile(r"([0-9]{0,40})\.([0-9]{2,60})\s*(?:\.\.\.|\\(?:ldots|dots|cdots))")
PREFIX = re.compile(
    r"(?:(?:the )?(?:final |correct )?answer(?: is|:)|approximately|approx\.?|about|roughly|exactly|option|choice)"
    r"[ :]+(?=\S)",
    re.IGNORECASE,
)
EXCEPT = re.compile(
    r"(?:x\s*(?:=|\\in)\s*)?(?:\\text\s*\{)?\s*all (?:real numbers|reals)(?: x)?,? "
    r"(?:except|other than|but|excluding)(?: for)?\s*\}?"
)
ARTICLES = frozenset(("the", "a", "an"))
NOT_WORDS = re.compile(r"[^\w+\-/<>=^%$&#*|~:]+")


@lru_cache(maxsize=16_384)
def read(text: str) -> Node:
    """The tree of an answer's text; Unread where it cannot be read as mathematics and is no plain text either."""
    if len(text) > 4 * MAX_CHARS:
        return Unread(text[:100], f"longer than {MAX_CHARS} characters")
    text = normalise(text)
    if not text:
        return Unread("", "empty")
    if NUMBER.fullmatch(text):
        value, places = literal(text.replace(",", "").lstrip("+-"))
        return Num(-value if text[0] == "-" else value, places)
    spoken = number_words(text.lower().replace("-", " ").split()) if text[0].isalpha() else None
    if spoken and spoken[1] == len(text.replace("-", " ").split()):
        return Num(spoken[0])
    special = special_answer(text)
    if special is not None:
        return special
    try:
        return polish(parse(recurring(PREFIX.sub("", text, count=1) if PREFIX.match(text) else text)))
    except (ParseError, RecursionError) as error:
        words = text_answer(text)
        return Text(words) if words else Unread(text, str(error))


def parse(text: str) -> Node:
    """The tree; where a letter after a number was taken for a unit and that makes no sense, for a variable."""
    try:
        return Parser(tokenize(text)).whole()
    except ParseError:
        return Parser(tokenize(text, units=False)).whole()


def special_answer(text: str) -> Node | None:
    """A letter of multiple choice, a time, a number in another base, all reals but a few; None for anything else."""
    if match := CHOICE.fullmatch(text):
        return Sym(match[1] or match[2])
    if match := TIME.fullmatch(text):
        return time(int(match[1]), int(match[2]), match[3])
    if match := CLOCK.fullmatch(text):
        return time(int(match[1]), 0, match[2])
    if match := BASED.fullmatch(text):
        base = int(match[2]) if match[2] else BASE_NAMES.get(match[3], 0)
        digits = match[1]
        if 2 <= base <= 36 and (digits.isdigit() or (base > 10 and len(digits) > 1)):
            try:
                return Num(Fraction(int(digits, base)))
            except ValueError:
                return None
    if match := EXCEPT.match(text):
        try:
            left_out = parse(text[match.end() :].strip())
        except ParseError:
            return None
        items = left_out.items if isinstance(left_out, Group) else (left_out,)
        return SetOp("minus", (NamedSet("R"), Group("set", tuple(items))))
    return None


def time(hours: int, minutes: int, half: str | None) -> Node | None:
    half = f"{half}m".lower() if half else ""
    if half and not 1 <= hours <= 12:
        return None
    return Time(60 * hours + minutes, half)


def recurring(text: str) -> str:
    r"""The text with recurring decimals written as fractions: 0.1\overline{6}, 0.(3), 0.333..."""
    if "." not in text:
        return text
    text = RECURRING_DOTS.sub(lambda m: _recurring(m[1], m[2], m[3] + m[4] + m[5]), text)
    text = RECURRING.sub(lambda m: _recurring(m[1], m[2], m[3] or m[4] or m[5]), text)
    return ELLIPSIS.sub(_ellipsis, text)


def _recurring(whole: str, fixed: str, period: str) -> str:
    below = 10 ** len(fixed) * (10 ** len(period) - 1)
    above = int(whole + fixed + period) - int(whole + fixed or "0")
    return rf"{{\frac{{{above}}}{{{below}}}}}"


def _ellipsis(match: re.Match[str]) -> str:
    """0.333... and 0.142857142857...: what is repeated to the end, twice at least (a single digit three times)."""
    decimals = match[2]
    for length in range(1, len(decimals) // 2 + 1):
        period = decimals[-length:]
        count = 0
        while decimals.endswith(period * (count + 1)):
            count += 1
        if count >= (3 if length == 1 else 2):
            return _recurring(match[1], decimals[: len(decimals) - length * count], period)
    return match[0]


def polish(node: Node) -> Node:
    """The tree with its phrases understood."""
    if isinstance(node, Text):
        words = text_answer(node.words)
        return PHRASES.get(words, Text(words))
    if isinstance(node, Group):
        return Group(node.kind, tuple(polish(item) for item in node.items))
    if any(isinstance(part, Quantity) for part in walk(node)) and isinstance(node, EXPRESSIONS):
        raise ParseError("a unit within an expression")
    return node


def text_answer(text: str) -> str:
    """Plain words, in lower case without punctuation and articles; "" if the text is mathematics."""
    text = re.sub(r"\\(?:text|textbf|mathrm|textit|mbox|textrm|operatorname)\s*\{([^{}]*)\}", r"\1", text)
    text = (
        text.replace("\\ ", " ")
        .replace("\\,", " ")
        .replace("~", " ")
        .replace("\\&", "&")
        .replace("\\%", "%")
        .replace("'", "")
    )
    if "\\" in text or not re.search(r"[^\W\d_]{2}", text):
        return ""
    words = [word for word in NOT_WORDS.sub(" ", text.lower()).split() if word not in ("-",)]
    while len(words) > 1 and words[0] in ARTICLES:
        words = words[1:]
    return " ".join(words)
