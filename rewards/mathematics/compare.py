"""Whether two answers are the same mathematics, in stages, the cheap ones first.

    1 text, up to layout      2 exact rational numbers      3 our parser's trees, compared kind by kind:
    4 numeric values at random points, first in floats, then in 50 digits or more
    5 exact expansion of polynomials and rational functions      6 sympy, in a process with a deadline

Equal value or equal set is right whatever the notation; order counts in tuples, not in sets; brackets of intervals
count; a missing unit is fine, a different one is wrong. What cannot be decided is "undecided", never right.
No text is ever executed: no eval, exec or sympify; the parser is rewards.mathematics.parser.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rewards.mathematics import answers, tree
from rewards.mathematics.forms import same_choice
from rewards.mathematics.lexer import MAX_CHARS, ParseError, normalise, tokenize
from rewards.mathematics.same import same
from rewards.mathematics.symbolic import CLOCK, start_clock
from rewards.mathematics.tree import Unread
from rl.experience import Verdict

MAX_CACHED = 600  # characters of a pair that is remembered, lest long texts fill the memory
LAYOUT = re.compile(r"\\[,;:! ]|\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\s+|~")
TIGHT = re.compile(r"\s*(\\?[{}()\[\]^_=+*/<>,$-])\s*|(\\[a-zA-Z]+)\s+(?![a-zA-Z])")
INTEGER = re.compile(r"[-+]?[0-9]{1,30}")


def compare(gold: str, answer: str) -> Verdict:
    """ok, wrong, undecided, or bad_gold: whether `answer` equals `gold`, both as extracted, in LaTeX or plain.

    An answer longer than MAX_CHARS characters is wrong.

    >>> compare(r"\\frac{1}{2}", "0.5")
    Verdict(1.0, state='ok', reason='')
    """
    if len(gold) + len(answer) > MAX_CACHED:
        return compared(gold, answer)
    try:
        return remembered(gold, answer)
    except CutShortError as cut:
        return cut.verdict


class CutShortError(Exception):
    """Carries a verdict for want of time past the cache: the same question may be decided another time."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


@lru_cache(maxsize=65_536)
def remembered(gold: str, answer: str) -> Verdict:
    CLOCK.cut = False
    verdict = compared(gold, answer)
    if CLOCK.cut and verdict.state != "ok":
        raise CutShortError(verdict)
    return verdict


def compared(gold: str, answer: str) -> Verdict:
    if INTEGER.fullmatch(gold) and INTEGER.fullmatch(answer):
        return Verdict(float(int(gold) == int(answer)))
    if not gold.strip():
        return Verdict(state="bad_gold", reason="the gold answer is empty")
    if len(gold) > 4 * MAX_CHARS or len(answer) > 4 * MAX_CHARS:
        if len(gold) > 4 * MAX_CHARS:
            return Verdict(state="bad_gold", reason=f"the gold answer is longer than {4 * MAX_CHARS} characters")
        return Verdict(0.0, reason=f"longer than {4 * MAX_CHARS} characters")
    if squeezed(gold) == squeezed(answer):
        return Verdict(1.0)
    choice = same_choice(gold, answer)
    if choice is not None:
        return Verdict(float(choice))
    left, right = answers.read(gold), answers.read(answer)
    if isinstance(right, Unread) and not (right.text and isinstance(left, Unread)):
        return Verdict(0.0, reason=f"the answer cannot be read: {right.reason}")
    if isinstance(left, Unread):
        if isinstance(right, Unread) and layout_free(left.text) == layout_free(right.text):
            return Verdict(1.0)
        return Verdict(state="undecided", reason=f"the gold answer cannot be read: {left.reason}")
    start_clock()
    try:
        outcome = same(left, right)
        if not outcome and answers.GLUED.search(gold + " " + answer):  # 2mn is no weight where the other has 2nm
            outcome = same_letters(gold, answer) or outcome
    except (RecursionError, ArithmeticError) as error:
        return Verdict(state="undecided", reason=f"{type(error).__name__}: {error}")
    if outcome is None:
        return Verdict(state="undecided", reason="their equality cannot be decided")
    return Verdict(float(outcome))


def same_letters(gold: str, answer: str) -> bool:
    """Whether the texts are equal with no letter behind a number read as a unit."""
    left, right = answers.read_letters(gold), answers.read_letters(answer)
    if left is None or right is None or not tree.symbols(left) or tree.symbols(left) != tree.symbols(right):
        return False
    return same(left, right) is True


def layout_free(text: str) -> tuple[tuple[str, str], ...]:
    """The tokens of mathematics that cannot be read, without braces around a single one."""
    try:
        tokens = [(kind, str(value)) for kind, value, _ in tokenize(text)]
    except ParseError:
        return ((text, ""),)
    kept: list[tuple[str, str]] = []
    for token in tokens:
        if token == ("op", "}") and len(kept) > 1 and kept[-2] == ("op", "{"):
            kept[-2:] = [kept[-1]]
        else:
            kept.append(token)
    return tuple(kept)


def squeezed(text: str) -> str:
    """The text without its layout: answers that differ in these only are equal."""
    text = normalise(text).replace("dfrac", "frac").replace("tfrac", "frac")
    text = " ".join(LAYOUT.sub(" ", text).split())
    return TIGHT.sub(lambda match: match[1] or match[2], text)
