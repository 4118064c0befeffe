"""A claim is a piece of the text that is put forward as the answer; what can be said of it alone."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import NamedTuple

from rewards.mathematics.hedges import NUMBER, word_set
from rewards.mathematics.visible import ZERO_WIDTH

MAX_ANSWER_CHARS = 1000  # a longer answer is no answer
MAX_CLAIMS = 64  # of each kind are read, the last ones

BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])")
PLAIN_NUMBER = re.compile(rf"(?ai)(?:[a-z]\s*+=\s*+)?{NUMBER}(?: ?(?P<unit>[a-z]{{2,20}}))?(?: [a-z]{{2,20}})?")
PLAIN_TEX = re.compile(r"(?:\\(?:[dt]?frac|sqrt|pi|cdot|times|left|right|%)|[0-9+\-*/^_{}(),. ])+")
COMPARING = word_set("more less times than plus minus or and to percent of in by as over when if hundred dozen")
OR = re.compile(r"(?ai)\$?,? or (?:maybe |perhaps |possibly )?\$?")
SPACES = re.compile(r"[\s$]++")


class Claim(NamedTuple):
    """A piece of the text that is put forward as the answer."""

    text: str
    start: int
    end: int


def plain_ones(claims: Iterable[Claim]) -> list[Claim]:
    """Those that are a value by themselves."""
    return [claim for claim in claims if is_plain(claim.text)]


def value_ones(claims: Iterable[Claim]) -> list[Claim]:
    """Those that are a value by themselves, or a choice of values: "72 or 73"."""
    return [claim for claim in claims if all(map(is_plain, OR.split(claim.text, maxsplit=9)))]


def is_plain(text: str) -> bool:
    r"""Whether a text is a value by itself: a number with or without a unit, or a formula of numbers in TeX.

    >>> is_plain("$5"), is_plain("5 apples"), is_plain(r"\frac{1}{2}"), is_plain("3 more than 2"), is_plain("x + 1")
    (True, True, True, False, False)
    """
    text = text.removeprefix("\\$").strip(" $*()[].").strip("( ")
    if not text or len(text) > 80 or not any(char.isdigit() for char in text):
        return False
    if match := PLAIN_NUMBER.fullmatch(text):
        return (match["unit"] or "").lower() not in COMPARING
    return PLAIN_TEX.fullmatch(text) is not None


def different(texts: Iterable[str]) -> list[str]:
    """The texts that differ by more than spaces and dollar signs, each where it last occurs."""
    last = {SPACES.sub("", text): (index, text) for index, text in enumerate(texts)}
    return [text for _, text in sorted(last.values())]


def stripped(text: str) -> str:
    """Without white space and marks of no width at both ends."""
    return text.strip(string.whitespace + ZERO_WIDTH)
