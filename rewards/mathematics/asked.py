r"""A box that holds another quantity than the one asked for: "3x = \boxed{9}" where x is asked.

Only questions that ask for a letter are judged: "find x", "solve ... for x", "what is the value of y?", "Solve 3x = 9."
"""

from __future__ import annotations

import re

MAX_QUESTION_CHARS = 20_000
MAX_LEFT_CHARS = 80

REQUEST = re.compile(r"(?ai)\b(?:find|determine|what(?: is|'s| are)|compute|calculate|evaluate|solve)\b")
MANY = (
    "the|all|any|each|both|possible|positive|negative|real|integer|whole|exact|smallest|largest|least|greatest|only|"
    "values?|solutions?|roots?|unknown|variable|of|for"
)
LETTER = re.compile(  # "find the value of $x$ such that", "for x."
    rf"(?ai)(?:[\s:]++(?:{MANY})\b)*+[\s$]*+(?:\\\()?\s*+(?P<letter>[a-z])\s*+(?:\\\)|\$)?"
    r"(?=\s*+(?:[.,;:?!]|\Z|(?:such|if|when|where|given|that|so|satisfying|in|from|for which)\b))"
)
FOR_LETTER = re.compile(rf"(?ai)\bfor{LETTER.pattern.removeprefix('(?ai)')}")
SINGLE_LETTER = re.compile(r"(?a)(?<![a-zA-Z\\'\u2019])(?!a\b|I\b)[a-zA-Z](?![a-zA-Z'\u2019])")
FORMULA_STARTS = re.compile(
    r"[\n$,;:]|\\(?:[(\[]|q?quad(?![a-z])|text\{[^{}]*\}|(?:R|Longr|r)ightarrow|implies|iff|therefore|to(?![a-z]))"
)
WORDS_BEFORE = re.compile(r"(?a)\A(?:\s*+[a-zA-Z]{2,}+(?![({^]))*+")
TERM = re.compile(r"(?a)(?:[0-9a-zA-Z+*/^(){}.|\s\u2212-]|\\(?:[dt]?frac|sqrt|cdot|times|left|right)(?![a-z]))++")
COMMAND = re.compile(r"(?a)\\[a-zA-Z]+")


def of_another(text: str, start: int, question: str) -> bool:
    r"""Whether what begins at `start` is the value of a term in the letter asked for, and not of the letter.

    >>> of_another(r"3x = \boxed{9}", 5, "Solve 3x = 9."), of_another(r"x = \boxed{3}", 4, "Solve 3x = 9.")
    (True, False)
    >>> of_another(r"3x = \boxed{9}", 5, "If x is 3, what is 3x?")
    False
    """
    before = text[max(0, start - MAX_LEFT_CHARS) : start].rstrip(" $")
    letter = asked_letter(question) if before.endswith("=") else None
    if letter is None:
        return False
    sides = [side.strip() for side in FORMULA_STARTS.split(before[:-1])[-1].split("=")]
    sides[0] = WORDS_BEFORE.sub("", sides[0]).strip()
    term = sides[-1]
    if letter in (side.strip("(){} ") for side in sides) or not TERM.fullmatch(term):
        return False
    return re.search(rf"(?a)(?<![a-zA-Z_]){letter}(?![a-zA-Z_(])", COMMAND.sub(" ", term)) is not None


def asked_letter(question: str) -> str | None:
    """The letter whose value the question asks for last; None if it asks for something else.

    >>> asked_letter("If 2x + 1 = 9, find x."), asked_letter("If x is 3, find 3x."), asked_letter("Solve 3x = 9.")
    ('x', None, 'x')
    """
    requests = list(REQUEST.finditer(question, 0, MAX_QUESTION_CHARS))
    if not requests:
        return None
    request = requests[-1]
    if match := LETTER.match(question, request.end()):
        return match["letter"]
    if request.group().lower() != "solve":
        return None
    if match := FOR_LETTER.search(question, request.end()):
        return match["letter"]
    letters = set(SINGLE_LETTER.findall(question[request.end() :]))
    return letters.pop() if len(letters) == 1 else None
