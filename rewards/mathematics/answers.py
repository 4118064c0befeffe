"""From the text of an answer to its tree: what is special about answers, then the parser."""

from __future__ import annotations

import re
from functools import lru_cache

from rewards.mathematics import forms
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
    Text,
    Unread,
    walk,
)
from rewards.mathematics.words import number_words

NUMBER = re.compile(r"[-+]?(?:[0-9]{1,300}|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,20})(?:\.[0-9]{1,300})?")
SAYING = (
    r"(?:(?:(?:the )?(?:final |correct )?answer(?: is|:)|approximately|approx\.?|exactly|option|choice)"
    r" *:? *)"
)
PREFIX = re.compile(rf"{SAYING}(?<=[ :])(?=\S)|\\text\s*\{{\s*{SAYING}\}}\s*(?=\S)", re.IGNORECASE)
EXCEPT = re.compile(
    r"(?:x\s*(?:=|\\in)\s*)?(?:\\text\s*\{)?\s*all (?:real numbers|reals)(?: x)?,? "
    r"(?:except|other than|but|excluding)(?: for)?\s*\}?"
)
MAX_CACHED = 300  # characters of a text whose tree is remembered
GLUED = re.compile(r"[0-9][a-zA-Z]{2,4}(?![a-zA-Z])")  # 2mn: a unit, or a product of variables
ARTICLES = frozenset(("the", "a", "an"))
NOT_WORDS = re.compile(r"[^\w+\-/<>=^%$&#*|~:]+")


def read(text: str) -> Node:
    """The tree of an answer's text; Unread where it cannot be read as mathematics and is no plain text either."""
    return remembered(text) if len(text) <= MAX_CACHED else read_once(text)


@lru_cache(maxsize=16_384)
def remembered(text: str) -> Node:
    return read_once(text)


def read_once(text: str) -> Node:
    if len(text) > 4 * MAX_CHARS:
        return Unread(text[:100], f"longer than {MAX_CHARS} characters")
    text = normalise(text).replace(r"\text{:}", ":").replace(r"\colon ", ":")
    if not text:
        return Unread("", "empty")
    if NUMBER.fullmatch(text):
        value, places = literal(text.replace(",", "").lstrip("+-"))
        return Num(-value if text[0] == "-" else value, places)
    spoken = number_words(text.lower().replace("-", " ").split()) if text[0].isalpha() else None
    if spoken and spoken[1] == len(text.replace("-", " ").split()):
        return Num(spoken[0])
    special = forms.special(text) or all_but(forms.unwrapped(text))
    if special is not None:
        return special
    try:
        if match := PREFIX.match(forms.unwrapped(text)):
            return polish(parse(forms.rewritten(forms.unwrapped(text)[match.end() :])))
        return polish(parse(forms.rewritten(text)))
    except (ParseError, RecursionError) as error:
        words = text_answer(text)
        return Text(words) if words else Unread(text, str(error))


def parse(text: str) -> Node:
    """The tree; where a letter after a number was taken for a unit and that makes no sense, for a variable."""
    try:
        found = Parser(tokenize(text)).whole()
    except ParseError:
        return Parser(tokenize(text, units=False)).whole()
    if has_text(found) and GLUED.search(text):  # x^2 + 2mn
        try:
            other = Parser(tokenize(text, units=False)).whole()
        except ParseError:
            return found
        return found if has_text(other) else other
    return found


def has_text(node: Node) -> bool:
    return any(isinstance(part, Text) and part.words != "..." for part in walk(node))


def read_letters(text: str) -> Node | None:
    """The tree of a text in which 2mn is 2 m n, no weight; None if that cannot be read."""
    try:
        return Parser(tokenize(forms.rewritten(normalise(text)), units=False)).whole()
    except (ParseError, RecursionError):
        return None


def all_but(text: str) -> Node | None:
    """All real numbers except some."""
    match = EXCEPT.match(text)
    if match is None:
        return None
    try:
        left_out = parse(text[match.end() :].strip())
    except ParseError:
        return None
    items = left_out.items if isinstance(left_out, Group) else (left_out,)
    return SetOp("minus", (NamedSet("R"), Group("set", tuple(items))))


def polish(node: Node) -> Node:
    """The tree with its phrases understood."""
    if isinstance(node, Text):
        words = text_answer(node.words)
        if not words and node.words != "...":
            raise ParseError("words that say nothing")
        return PHRASES.get(words, Text(words or node.words))
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
    text = re.sub(r"(?<=[a-zA-Z])\s*-\s*(?=[a-zA-Z])", " ", text)
    words = [word for word in NOT_WORDS.sub(" ", text.lower()).split() if word not in ("-",)]
    while len(words) > 1 and words[0] in ARTICLES:
        words = words[1:]
    return " ".join(words)
