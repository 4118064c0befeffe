r"""Answers with a form of their own, found before the parser: letters of multiple choice, times, dates, bases; and
recurring decimals and combinations such as {}_{5}C_{2}, rewritten for it.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.mathematics.tree import Call, Node, Num, Sym, Text, Time
from rewards.mathematics.units import SYMBOLS

WHOLE_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox)\s*\{([^{}\\]{1,60})\}")
ANY_TEXT = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s*\{([^{}\\]{1,60})\}")
CHOICE = re.compile(r"\(?\s*([A-Z])\s*[).:]|\(\s*([A-Za-z])\s*\)")
LABEL = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm)\s*\{\s*)?"
    r"(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:])\s*\}?(?:\s|~|\\ |\\quad|[.:])*(\S.*)",
    re.DOTALL,
)
BARE_CHOICE = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm)\s*\{\s*)?(\(?)\s*([A-Ja-j])\s*(\)?)[.:]?\s*\}?[.:]?\s*"
)
OTHER_LABEL = re.compile(r"\(\s*[A-Ja-j]\s*\)|\b[A-J][).:]|\bor\b|\band\b|\bnot\b")
TIME = re.compile(
    r"([0-9]{1,2}):([0-5][0-9])(?:\s|~|\\[,; ])*(?:\\(?:text|mathrm)\s*\{\s*)?(?:([ap])\.?\s?m\.?)?\s*\}?",
    re.IGNORECASE,
)
CLOCK = re.compile(
    r"([0-9]{1,2})(?:\s|~|\\[,; ])*(?:\\(?:text|mathrm)\s*\{\s*)?(?:([ap])\.?\s?m\.?|o'clock)\s*\}?", re.IGNORECASE
)
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
MONTH = re.compile(r"([a-z]{3,9})\.?\s+([0-9]{1,2})(?:st|nd|rd|th)?(?:,?\s+([0-9]{4}))?", re.IGNORECASE)
DAY = re.compile(r"(?:the )?([0-9]{1,2})(?:st|nd|rd|th)?\s+(?:of )?([a-z]{3,9})\.?(?:,?\s+([0-9]{4}))?", re.IGNORECASE)
ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
NOON = re.compile(r"(?:12(?::00)? )?(?:(noon)|midnight)", re.IGNORECASE)
REMAINDER = re.compile(
    r"([0-9]{1,12})(?:\s|~|\\[,; ])*(?:\\(?:text|mathrm)\s*\{)?\s*,?\s*(?:with )?(?:a )?(?:[rR]|rem\.?|remainder)"
    r"(?: of)?\s*\}?(?:\s|~|\\[,; ])*([0-9]{1,12})\}?"
)
DEGREES, PRIME = r"\s*\^\s*\{?\s*\\circ\s*\}?\s*", r"\s*(?:'|\^\s*\{?\s*(?:\\prime|')\s*\}?)"
ANGLE = re.compile(rf"([0-9]{{1,6}}){DEGREES}([0-9]{{1,2}}){PRIME}\s*(?:([0-9]{{1,2}})\s*(?:''|\"|{PRIME}{PRIME}))?")
ORDINAL = re.compile(r"([0-9]{1,9})\s*(?:\^?\{?\s*(?:\\text\s*\{)?\s*(?:st|nd|rd|th)\s*\}?\s*\}?)")
BASED = re.compile(
    r"\(?(?:\\(?:text|mathrm)\s*\{)?([0-9A-Za-z]{1,200})\}?\)?\s*_\s*"
    r"(?:\{?\s*([0-9]{1,2})\s*\}?|\{?\s*\\(?:text|mathrm)\s*\{\s*([a-z]{3,9})\s*\}\s*\}?)"
)
BASE_NAMES = dict(
    zip(["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], range(2, 11), strict=True)
) | {"sixteen": 16}
RECURRING = re.compile(
    r"([0-9]{0,40})\.([0-9]{0,40})(?:\\(?:overline|bar|dot|overbar)\s*(?:\{\s*([0-9]{1,40})\s*\}|([0-9]))|\(([0-9]{1,40})\))"
)
RECURRING_DOTS = re.compile(r"([0-9]{0,40})\.([0-9]{0,40})\\dot\s*\{?([0-9])\}?([0-9]{0,40})\\dot\s*\{?([0-9])\}?")
ELLIPSIS = re.compile(r"([0-9]{0,40})\.([0-9]{2,60})\s*(?:\.\.\.|\\(?:ldots|dots|cdots))")
LETTER = r"(?:\\(?:mathrm|text|operatorname)\s*\{\s*)?([CP])\s*\}?"
INDEX = r"(?:\{\s*([0-9]{1,4})\s*\}|([0-9]{1,4}))"
CHOOSE_BEFORE = re.compile(rf"(?:\{{\s*\}})?[_^]\s*{INDEX}\s*{LETTER}\s*_\s*{INDEX}")
CHOOSE_RAISED = re.compile(rf"(?<![a-zA-Z\\]){LETTER}\s*_\s*{INDEX}\s*\^\s*{INDEX}")
CHOOSE_CALL = re.compile(rf"(?<![a-zA-Z\\}}]){LETTER}\s*\(\s*([0-9]{{1,4}})\s*,\s*([0-9]{{1,4}})\s*\)")
CHOOSE_PLAIN = re.compile(r"(?<![0-9a-zA-Z.])([0-9]{1,4})\s?([CP])\s?([0-9]{1,4})(?![0-9.])")
UNIT_FRACTION = re.compile(
    r"\\[dt]?frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]{1,30})\}\s*\}\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]{1,30})\}\s*((?:\^\{?[0-9]\}?)?)\s*\}"
)
DERIVATIVE = re.compile(r"(?<![a-zA-Z\\])d([a-z])/d([a-z])(?![a-zA-Z])")
BRACKETED_WORDS = re.compile(r"(?<=[0-9}])((?:\s|~|\\[,; ])*)\\text\s*\{\s*\(([a-z ]{3,40})\)\s*\}$")
GAPS = r"(?:,|\s|~|\\[,;: ]|\\q?quad|\$)*"
WORDS = r"(?:\\(?:text|mathrm|mbox)\s*\{\s*)?"
CLAUSE = re.compile(
    rf"{GAPS}{WORDS},? ?(?:for (?:all|every|any|each)(?: real)?(?: numbers?)?|where) ?\}}?{GAPS}[a-zA-Z]{GAPS}{WORDS}"
    r"(?:\\in\s*\\mathbb\s*\{?R\}?|(?<=[ {])is an?(?: arbitrary| real| any)* constant|)\s*\}?$"
)
SPACES = r"(?:\s|~|\\[,; ]|\$){0,4}"
EACH = r"(?:(?:some|all|any|every|each|an|arbitrary|is) {1,3}){0,3}"
BRACED_ROWS = re.compile(
    r"\\left\s*(?:\\\{|\\lbrace)\s*\\begin\s*\{array\}(?:\{[^{}]{0,20}\})?"
    r"(.{1,800}?)\\end\s*\{array\}\s*\\right\s*\.?(?=[\s,;$]|$)",
    re.DOTALL,
)
CONDITION = re.compile(r"(?:&|\s|~|\\[,; ]|\$|,){0,12}\\text\s*\{\s*,?\s*(?:if|for|when|where)\s*\}")
COUNTED = re.compile(  # for some integer k; where k is any integer
    rf"[,;]?{SPACES}\(?{SPACES}(?:(?:for|where|with|and) {{1,3}})?"
    rf"(?:{EACH}integers?(?![a-zA-Z])(?: values?(?: of)?)?{SPACES}([a-zA-Z])"
    rf"|(?<![a-zA-Z])([a-zA-Z]){SPACES}{EACH}integer){SPACES}\)?{SPACES}$"
)
DEGREE_LETTER = re.compile(r"(?<=[0-9])\s*\^\s*(?:o(?![a-zA-Z])|\{\s*(?:\\(?:text|mathrm)\s*\{\s*o\s*\}|o)\s*\})")
ANGLE_COMMAND = re.compile(r"\\ang\s*\{([^{};]{1,40})\}")
MICRO = re.compile(
    r"\\(?:text|mathrm)\s*\{\s*\\mu\s*([mgsLlNJWAV])\s*\}|\\mu\s*\\(?:text|mathrm)\s*\{\s*([mgsLlNJWAV])\s*\}"
)
PER_SECOND = re.compile(r"(?<![a-zA-Z])(k?)ms(?=\}?\s*\^\s*(?:\{\s*)?-)")  # no kilometre or metre, but m s^{-1}
LOG_OF_BASE = re.compile(r"(?<![a-zA-Z\\])log(2|10)(?=\()")
RATIONAL = re.compile(r"(?<![a-zA-Z\\])Rational\(([+-]?[0-9]{1,40}), ?([0-9]{1,40})\)")
PYTHON_I = re.compile(r"(?<=[0-9]\*)I(?![a-zA-Z0-9_])")
PYTHON_WHOLE = re.compile(r"(FiniteSet|Matrix|Interval(?:\.(?:open|Lopen|Ropen))?)\((.{1,400})\)", re.DOTALL)
BRACKETS = {
    "FiniteSet": ("\\{", "\\}"), "Matrix": ("", ""), "Interval": ("[", "]"), "Interval.open": ("(", ")"),
    "Interval.Lopen": ("(", "]"), "Interval.Ropen": ("[", ")"),
}  # fmt: skip
TRANSPOSE = re.compile(r"\^\s*(?:\\(?:top|intercal)(?![a-zA-Z])|\{\s*\\(?:top|intercal)\s*\})")
EVENTS = re.compile(  # P(A | B) =, a label
    r"(?<![a-zA-Z\\])P\s*(?:\\left)?\(\s*([A-Z]'?(?:\s*(?:\\cap|\\cup|\\mid|\|)\s*[A-Z]'?){1,3})\s*(?:\\right)?\)\s*="
)
GIVEN = re.compile(r"\\mid|\|")
OUT_OF = re.compile(rf"([0-9]{{1,9}}){SPACES}(?:\\text\s*\{{)?{SPACES}(?:out of|in){SPACES}\}}?{SPACES}([0-9]{{1,9}})")
NAMED_ANGLE = re.compile(r"\bm\s*\\angle(?![a-zA-Z])")


def special(text: str) -> Node | None:
    """The tree of a letter, a time, a date, an ordinal, a division with remainder, or a number in another base.

    None for anything else.
    """
    text = unwrapped(text)
    if match := NOON.fullmatch(text):
        return Time(720, "pm" if match[1] else "am")
    if match := REMAINDER.fullmatch(text):
        return Text(f"{int(match[1])} remainder {int(match[2])}")
    if match := CHOICE.fullmatch(text):
        return Sym(match[1] or match[2])
    if match := TIME.fullmatch(text):
        return time(int(match[1]), int(match[2]), match[3])
    if match := CLOCK.fullmatch(text):
        return time(int(match[1]), 0, match[2])
    if match := ANGLE.fullmatch(text):
        parts = [Fraction(part or 0) for part in match.groups()]
        return Call("deg", (Num(parts[0] + parts[1] / 60 + parts[2] / 3600),))
    if match := ORDINAL.fullmatch(text):
        return Num(Fraction(int(match[1])))
    if match := BASED.fullmatch(text):
        base = int(match[2]) if match[2] else BASE_NAMES.get(match[3], 0)
        digits = match[1]
        if 2 <= base <= 36 and (digits.isdigit() or (base > 10 and len(digits) > 1)):
            try:
                return Num(Fraction(int(digits, base)))
            except ValueError:
                return None
    return date(re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", text).replace("\\ ", " ").replace("~", " "))


def unwrapped(text: str) -> str:
    r"""The content of a \\text{...} that is all."""
    match = WHOLE_TEXT.fullmatch(text)
    return match[1].strip() if match else text


def time(hours: int, minutes: int, half: str | None) -> Node | None:
    half = f"{half}m".lower() if half else ""
    if half and not 1 <= hours <= 12:
        return None
    return Time(60 * hours + minutes, half)


def date(text: str) -> Node | None:
    """A day of a month, with its year or without, as text in one form: December 25, 25th of December, 2024-12-25."""
    if match := ISO_DATE.fullmatch(text):
        year, month, day = match[1], int(match[2]), int(match[3])
    elif match := MONTH.fullmatch(text):
        year, month, day = match[3] or "", month_number(match[1]), int(match[2])
    elif match := DAY.fullmatch(text):
        year, month, day = match[3] or "", month_number(match[2]), int(match[1])
    else:
        return None
    return Text(f"date {year} {month} {day}") if 1 <= month <= 12 and 1 <= day <= 31 else None


def month_number(name: str) -> int:
    name = name.lower()
    return next((k for k, month in enumerate(MONTHS, 1) if name in (month, month[:3], month[:4])), 0)


def rewritten(text: str) -> str:
    """The text with combinations, unit fractions and recurring decimals in forms that the parser knows."""
    if "(" in text or "*I" in text:
        text = pythonic(text)
    if "where" in text or ("=" in text and "for" in text):
        text = CLAUSE.sub("", text)
    if "\\left" in text and "{a" in text:
        text = BRACED_ROWS.sub(r"\\begin{cases}\1\\end{cases}", text)
    if "{cases}" in text:
        text = CONDITION.sub(" & ", text)
    if "integer" in text:
        text = COUNTED.sub(lambda m: rf", {m[1] or m[2]}\in\mathbb{{Z}}", ANY_TEXT.sub(r" \1 ", text))
    if "C" in text or "P" in text:
        text = CHOOSE_BEFORE.sub(lambda m: chosen(m[3], m[1] or m[2], m[4] or m[5]), text)
        text = CHOOSE_RAISED.sub(lambda m: chosen(m[1], m[2] or m[3], m[4] or m[5]), text)
        text = CHOOSE_PLAIN.sub(lambda m: chosen(m[2], m[1], m[3]), text)
        text = CHOOSE_CALL.sub(called, text)
    if match := OUT_OF.fullmatch(text):
        text = rf"\frac{{{match[1]}}}{{{match[2]}}}"
    if "P" in text:
        text = EVENTS.sub(event, text)
    if "^" in text:
        text = TRANSPOSE.sub("^T", text)
        text = DEGREE_LETTER.sub(r"^\\circ ", text)
        text = PER_SECOND.sub(r" \1m s", text)
    text = text.replace("per cent", "percent")
    if "/d" in text:
        text = DERIVATIVE.sub(r"\\frac{d\1}{d\2}", text)
    if "\\" in text:
        text = ANGLE_COMMAND.sub(r"{\1}^\\circ ", text)
        text = MICRO.sub(lambda m: rf"\text{{ micro{SYMBOLS[m[1] or m[2]]}}}", text)
        text = NAMED_ANGLE.sub(r"\\angle", text)
        text = BRACKETED_WORDS.sub(r"\1\\text{\2}", text)
        text = UNIT_FRACTION.sub(r"\\text{\1/\2}\3", text)
    if "." in text:
        text = RECURRING_DOTS.sub(lambda m: recurring(m[1], m[2], m[3] + m[4] + m[5]), text)
        text = RECURRING.sub(lambda m: recurring(m[1], m[2], m[3] or m[4] or m[5]), text)
        text = ELLIPSIS.sub(ellipsis, text)
    return text


def event(match: re.Match[str]) -> str:
    """The label of a probability, in words that tell P(A | B) from P(A and B)."""
    words = match[1].replace(r"\cap", " with ").replace(r"\cup", " joined ").replace("'", " not ")
    return rf"\text{{probability {GIVEN.sub(' given ', words)}}} ="


def pythonic(text: str) -> str:
    """Python's and sympy's log2(x), Rational(1, 2), 3 + 4*I, Matrix([[1, 2]]) and sets as LaTeX."""
    if match := PYTHON_WHOLE.fullmatch(text):
        opening, closing = BRACKETS[match[1]]
        text = opening + match[2] + closing
    text = LOG_OF_BASE.sub(r"\\log_{\1}", text)
    return PYTHON_I.sub("i", RATIONAL.sub(r"\\frac{\1}{\2}", text))


def chosen(kind: str, n: str, k: str) -> str:
    """n over k; for P, times k!."""
    return rf"{{\binom{{{n}}}{{{k}}}}}" if kind == "C" else rf"{{({k}!\binom{{{n}}}{{{k}}})}}"


def called(match: re.Match[str]) -> str:
    """C(5, 2), unless the whole text is that and it may be a point: P(5, 2), C(5, 2)."""
    if match[0] == match.string.strip():
        return match[0]
    return chosen(match[1], match[2], match[3])


def recurring(whole: str, fixed: str, period: str) -> str:
    below = 10 ** len(fixed) * (10 ** len(period) - 1)
    above = int(whole + fixed + period) - int(whole + fixed or "0")
    return rf"{{\frac{{{above}}}{{{below}}}}}"


def ellipsis(match: re.Match[str]) -> str:
    """0.333... and 0.142857142857...: what is repeated to the end, twice at least (a single digit three times)."""
    decimals = match[2]
    for length in range(1, len(decimals) // 2 + 1):
        period = decimals[-length:]
        count = 0
        while decimals.endswith(period * (count + 1)):
            count += 1
        if count >= (3 if length == 1 else 2):
            return recurring(match[1], decimals[: len(decimals) - length * count], period)
    return match[0]


def same_choice(gold: str, answer: str) -> bool | None:
    """Whether two letters of multiple choice are the same, where one of them is in brackets or has its option's text.

    None where the texts are no such letters. (A), A) 5 and \\text{(A)} 5 are A; case counts only without brackets.
    """
    first, second = label(gold), label(answer)
    if first is None or second is None or not (first[1] or second[1]):
        return None
    if first[0].islower() and not first[1]:
        return None  # a variable, for all that is known
    return first[0].upper() == second[0].upper()


def label(text: str) -> tuple[str, bool] | None:
    """(letter, whether brackets or an option's text make sure that it is a label)."""
    if len(text) > 300:
        return None
    if match := BARE_CHOICE.fullmatch(text):
        return match[2], bool(match[3])
    if (match := LABEL.fullmatch(text)) and not OTHER_LABEL.search(match[3]):
        return (match[1] or match[2]), True
    return None
