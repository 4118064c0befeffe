"""Numbers in words: "twelve", "twenty-five", "one and a half", "three quarters", "two hundred and six"."""

from __future__ import annotations

from fractions import Fraction

UNITS = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
TENS = {
    w: 10 * (k + 2)
    for k, w in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
}
SCALES = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
MULTIPLIERS = SCALES | {"hundred": 100, "dozen": 12}
PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "eleventh": 11,
    "twelfth": 12,
    "sixteenth": 16,
    "twentieth": 20,
    "hundredth": 100,
    "thousandth": 1000,
}
SIGN = {"minus": -1, "negative": -1}
KNOWN = {*UNITS, *TENS, *MULTIPLIERS, *SIGN, *PARTS, *(p + "s" for p in PARTS), "halves", "a", "an", "and"}


def number_words(words: list[str]) -> tuple[Fraction, int] | None:
    """(value, how many words it took) of the longest number at the start of the words, None if there is none."""
    count = 0
    while count < min(len(words), 16) and words[count] in KNOWN:
        count += 1
    while count:
        value = _value(words[:count])
        if value is not None:
            return _with_decimals(words, value, count)
        count -= 1
    return None


def _with_decimals(words: list[str], value: Fraction, count: int) -> tuple[Fraction, int]:
    """three point one four"""
    digits = 0
    while words[count : count + 1] == ["point"] and UNITS.get("".join(words[count + 1 + digits :][:1]), 10) < 10:
        digits += 1
    if not digits or value.denominator != 1:
        return value, count
    decimals = sum(Fraction(UNITS[word], 10 ** (k + 1)) for k, word in enumerate(words[count + 1 : count + 1 + digits]))
    return (value - decimals if words[0] in SIGN else value + decimals), count + 1 + digits


def _value(words: list[str]) -> Fraction | None:
    if words[0] in SIGN:
        inner = _value(words[1:]) if len(words) > 1 else None
        return -inner if inner is not None else None
    if words[:2] == ["half", "a"] and len(words) == 3 and words[2] in MULTIPLIERS:  # half a dozen
        return Fraction(MULTIPLIERS[words[2]], 2)
    last = words[-1]
    part = PARTS.get("half" if last == "halves" else last) or (PARTS.get(last[:-1]) if last.endswith("s") else None)
    if part:
        return _fraction(words[:-1], part)
    whole = _integer(words)
    return Fraction(whole) if whole is not None else None


def _fraction(words: list[str], part: int) -> Fraction | None:
    """ "three" quarters, "a" half, "two and one" third; nothing before it means one of it."""
    if not words:
        return Fraction(1, part)
    if "and" in words:
        where = len(words) - 1 - words[::-1].index("and")
        whole, above = _integer(words[:where]), _small(words[where + 1 :])
        if whole is not None and above is not None and above < part:
            return whole + Fraction(above, part)
    above = _small(words)
    return Fraction(above, part) if above is not None else None


def _small(words: list[str]) -> int | None:
    return 1 if words in (["a"], ["an"]) else _integer(words)


def _integer(words: list[str]) -> int | None:
    """British or American: one hundred (and) six, two thousand, a dozen."""
    total = current = 0
    state = ""  # what the last word was: "", unit, tens, scale
    for word in words:
        if word in ("a", "an") and state == "" and len(words) > 1:
            current, state = 1, "unit"
        elif (word in UNITS and state in ("", "scale", "and")) or (
            word in UNITS and state == "tens" and 0 < UNITS[word] < 10
        ):
            current, state = current + UNITS[word], "unit"
        elif word in TENS and state in ("", "scale", "and"):
            current, state = current + TENS[word], "tens"
        elif word == "hundred" and state in ("unit", "tens"):
            current, state = current * 100, "scale"
        elif word == "dozen" and state in ("", "unit", "tens"):
            current, state = (current or 1) * 12, "dozen"
        elif word in SCALES and state in ("unit", "tens", "scale"):
            total, current, state = total + current * SCALES[word], 0, "scale"
        elif word == "and" and state == "scale":
            state = "and"
        else:
            return None
    return total + current if state not in ("", "and") else None
