r"""Finding the one answer that a completion commits itself to.

An answer is claimed in one of five ways, in this order of precedence:

    \boxed{...}, \boxed 5, \fbox{...}      braces matched
    <answer> ... </answer>
    #### ...                               the rest of the line, as GSM8K writes it
    the answer is ... / final answer: ...  the rest of the sentence
    the last number                        only if asked for

Only what follows the last </think> is read, and only what the completion says itself: no comments, no code blocks, no
quotations. A completion that claims several answers has not answered: the last claim is `Extracted.answer`, the claims
that differ from it in writing are `Extracted.others`, and whoever compares has to find all of them equal to the gold
(1/2 and 0.5 are) or together equal to it (the parts of a set). A claim that is denied beside it, is hidden, or says
nothing makes `refused` true.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, NamedTuple

from rewards.mathematics.hedges import HEDGED, NUMBER, alternatives, negated, word_set
from rewards.mathematics.visible import INVISIBLE, ZERO_WIDTH, after_thinking, quoted, visible

MAX_ANSWER_CHARS = 1000  # a longer answer is no answer
MAX_CLAIMS = 64  # of each kind are read, the last ones
MAX_OTHERS = 15  # more different claims than these are a list of candidates, whatever they are

Source = Literal["boxed", "block", "hashes", "phrase", "last_number"]

BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
PLACEHOLDERS = frozenset(
    (
        "",
        "...",
        r"\ldots",
        r"\dots",
        "?",
        "_",
        "answer",
        "your answer",
        "final answer",
        "your final answer",
        "answer here",
    )
)
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace \{ is text, not structure
BARE_END = re.compile(r"[\s$,;]|\\[)\]]|\.(?:\s|\Z)")  # where \boxed 5 ends
HASHES = re.compile(r"^[ \t]*+####(?!#)", re.MULTILINE)
ANSWER_WORD = re.compile(r"(?ai)\banswers?+(?![a-z])")
TO_WHAT = r"(?: to (?:the|this|your|that) (?:question|problem|above))?"
IS = re.compile(rf"(?ai){TO_WHAT}[\s*_`]{{0,8}}+(?:[:=]|(?:is|are|will be|must be|would be)\b)[\s*_`:=]{{0,12}}+")
HEADING = re.compile(r"(?ai)[*_`: ]{0,6}+\n[\s*_`]{0,12}+(?!is\b|are\b)")  # the answer stands below
HEADING_BEFORE = re.compile(r"(?ai)[\s#*_`0-9.)]*+(?:(?:the|final|my|correct)[ ]++){0,3}\Z")
FILLERS = re.compile(
    r"(?ai)(?:(?:therefore|thus|then|hence|clearly|simply|just|indeed|exactly|obviously|given by|equal to|equals|now)\b"
    r"[\s,:*_]{0,4}+)+"
)
LINE_WORDS = re.compile(r"(?a)[a-zA-Z'\u2019]++")
OWN = word_set("the final correct my our right numerical numeric required desired exact so thus hence and therefore")
BEGINNING = re.compile(r"(?ai)(?:[\s.,;]{1,9}(?:the|so|final|my|correct|and|or|thus|hence)){1,5}\s{0,9}\Z")
SUPPOSED = word_set("if whether suppose assuming assume unless when say says said claims claimed")
SENTENCE_END = re.compile(
    r"[.!?](?=[*_)\]\"'$]{0,4}(?:\s|\Z))|\n|\s\((?=[a-zA-Z]{2})"
    r"|[,;](?=\s{1,9}(?!(?:or|and)\s{1,9}(?:[0-9$\\(-]|[a-zA-Z]\b))[a-zA-Z]{2})"  # "18, because ..." ends at the comma
    r"|\s(?=(?:because|since|which|so|as|therefore|where|when|after|for)\s)|\s[-\u2013\u2014]{1,3}\s(?=[a-zA-Z]{2})"
)
DISPLAY = (("$$", "$$"), (r"\[", r"\]"))
LAST_NUMBER = re.compile(r"-?[0-9][0-9,]{0,40}(?:\.[0-9]{1,40})?(?:/[0-9]{1,40})?%?")
PLAIN_NUMBER = re.compile(rf"(?ai)(?:[a-z]\s*+=\s*+)?{NUMBER}(?: ?(?P<unit>[a-z]{{2,20}}))?(?: [a-z]{{2,20}})?")
PLAIN_TEX = re.compile(r"(?:\\(?:[dt]?frac|sqrt|pi|cdot|times|left|right|%)|[0-9+\-*/^_{}(),. ])+")
COMPARING = word_set("more less times than plus minus or and to percent of in by as over when if hundred dozen")
WORDS = re.compile(r"(?a)[a-zA-Z'\u2019]++")
OWN = word_set("the final correct my our right numerical numeric required desired exact so thus hence and therefore")
BEGINNING = re.compile(r"(?ai)(?:[\s.,;]{1,9}(?:the|so|final|my|correct|and|or|thus|hence)){1,5}\s{0,9}\Z")
SUPPOSED = word_set("if whether suppose assuming assume unless when say says said claims claimed")
SENTENCE_END = re.compile(
    r"[.!?](?=[*_)\]\"'$]{0,4}(?:\s|\Z))|\n|\s\((?=[a-zA-Z]{2})"
    r"|[,;](?=\s{1,9}(?!(?:or|and)\s{1,9}(?:[0-9$\\(-]|[a-zA-Z]\b))[a-zA-Z]{2})"  # "18, because ..." ends at the comma
    r"|\s(?=(?:because|since|which|so|as|therefore|where|when|after|for)\s)|\s[-\u2013\u2014]{1,3}\s(?=[a-zA-Z]{2})"
)
DISPLAY = (("$$", "$$"), (r"\[", r"\]"))
LAST_NUMBER = re.compile(r"-?[0-9][0-9,]{0,40}(?:\.[0-9]{1,40})?(?:/[0-9]{1,40})?%?")
PLAIN_NUMBER = re.compile(rf"(?ai)(?:[a-z]\s*+=\s*+)?{NUMBER}(?: ?(?P<unit>[a-z]{{2,20}}))?(?: [a-z]{{2,20}})?")
PLAIN_TEX = re.compile(r"(?:\\(?:[dt]?frac|sqrt|pi|cdot|times|left|right|%)|[0-9+\-*/^_{}(),. ])+")
COMPARING = frozenset(
    [
        "more",
        "less",
        "times",
        "than",
        "plus",
        "minus",
        "or",
        "and",
        "to",
        "percent",
        "of",
        "in",
        "by",
        "as",
        "over",
        "when",
        "if",
        "hundred",
        "dozen",
    ]
)
WORDS = re.compile(r"[a-z][a-z ,'\u2019-]*+")


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a completion claims. Exactly one of `answer` and `reason` is set."""

    answer: str | None  # the claim that counts, as it is written
    source: Source | None = None
    others: tuple[str, ...] = ()  # claims beside it that are written differently, in the order of the text
    parts: tuple[str, ...] = ()  # those claims of the same kind, `answer` included, which may be parts of one answer
    reason: str = ""  # why there is no answer
    refused: bool = False  # something is claimed, but it commits to nothing: that is wrong, not "no answer"


class Claim(NamedTuple):
    """A piece of the text that is put forward as the answer."""

    text: str
    start: int
    end: int


def extract_answer(text: str, question: str = "", *, prefix: str = "", allow_last_number: bool = False) -> Extracted:
    r"""The answer that a completion gives. Linear in the length of the text; raises for no text.

    question: repeated word for word in the completion, it is not the completion's own claim.
    prefix: the beginning of the answer that the template wrote, often "<think>".
    allow_last_number: without any claim the last number counts.

    >>> extract_answer(r"<think>\boxed{1}</think> So it is \boxed{\frac{1}{2}}.").answer
    '\\frac{1}{2}'
    >>> extract_answer("5 + 7 = 12. The answer is 12.").answer
    '12'
    >>> extract_answer(r"\boxed{5} or maybe 6").others
    ('6',)
    """
    final = after_thinking(prefix + text)
    if final is None:
        return Extracted(None, reason="the thinking does not end")
    shown = visible(final, question)
    boxes, cut_off = _boxes(shown.text)
    if cut_off:
        return Extracted(None, reason=r"the last \boxed{ does not end")
    if boxes and _is_placeholder(boxes[-1].text):
        return Extracted(None, reason=r"the last \boxed{} holds nothing")
    boxes = [box for box in boxes if not _is_placeholder(box.text)]
    blocks = _blocks(shown.text)
    hashes = _hashes(shown.text)
    phrases = _phrases(shown.text)
    hidden = [box.text for box in _boxes(shown.hidden)[0]] if shown.hidden else []
    weak = [*_plain(hashes), *_plain(phrases)]
    if boxes:
        return _settled(shown.text, "boxed", boxes, [*blocks, *weak], hidden)
    if blocks:
        return _settled(shown.text, "block", blocks, weak, hidden)
    if hashes:
        return _settled(shown.text, "hashes", hashes, _plain(phrases), hidden)
    if phrases:
        return _settled(shown.text, "phrase", phrases, [], hidden)
    if allow_last_number and (found := _last_number(shown.text)):
        return _settled(shown.text, "last_number", [found], [], [])
    return Extracted(None, reason="no answer was found")


def _settled(text: str, source: Source, claims: list[Claim], beside: list[Claim], hidden: list[str]) -> Extracted:
    """The last claim as the answer, unless it or its surroundings say that it is none."""
    last = claims[-1]
    if len(last.text) > MAX_ANSWER_CHARS:
        return Extracted(None, reason=f"the answer is longer than {MAX_ANSWER_CHARS} characters")
    if INVISIBLE.search(last.text):
        return Extracted(None, reason="invisible characters in the answer", refused=True)
    strong = claims if source != "phrase" else claims[-1:]
    if any(negated(text, claim.start, claim.end) for claim in strong):
        return Extracted(None, reason="the answer is denied", refused=True)
    parts = _different([claim.text for claim in claims])
    offered = [value for claim in strong[-MAX_OTHERS:] for value in alternatives(text, claim.start, claim.end)]
    beside = [claim for claim in beside if not _retracted(text, claim, last)]
    if source == "phrase":
        claims = [claim for claim in claims[:-1] if _rivals(claim.text, last.text)] + claims[-1:]
    others = _different([*(claim.text for claim in (*claims, *beside)), *offered, *hidden, last.text])[:-1]
    if len(others) > MAX_OTHERS:
        return Extracted(None, reason="many different answers", refused=True)
    return Extracted(last.text, source, tuple(others), tuple(parts))


def _different(texts: Iterable[str]) -> list[str]:
    """The texts that differ by more than spaces and dollar signs, each where it last occurs."""
    last = {re.sub(r"[\s$]++", "", text): (index, text) for index, text in enumerate(texts)}
    return [text for _, text in sorted(last.values())]


def _boxes(text: str) -> tuple[list[Claim], bool]:
    r"""The outermost \boxed{...}, at most the last MAX_CLAIMS, and whether the last one was cut off."""
    found: list[Claim] = []
    end, cut_off = 0, False
    for match in list(BOX.finditer(text))[-MAX_CLAIMS:]:
        if match.start() < end:
            continue  # within another box
        cut_off = False
        start = match.end()
        while start < len(text) and text[start] in " \t\n" and start - match.end() < 3:
            start += 1
        if text[start : start + 1] == "{":
            closed = _closing_brace(text, start + 1)
            if closed is None:
                cut_off = True
                continue
            content, end = text[start + 1 : closed], closed + 1
        else:
            stop = BARE_END.search(text, start, start + 100)
            end = stop.start() if stop else min(len(text), start + 100)
            content = text[start:end]
            if not (any(char.isdigit() or char == "\\" for char in content) or len(content) == 1):
                continue  # the word \boxed in a sentence
        if not quoted(text, match.start()):
            found.append(Claim(_stripped(content), match.start(), end))
    return found, cut_off


def _closing_brace(text: str, start: int) -> int | None:
    """Where the brace opened before `start` is closed; None if it is not, or too far away to hold an answer."""
    depth = 1
    for token in BRACE.finditer(text, start, start + MAX_ANSWER_CHARS + 1):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return token.start()
    return None


def _is_placeholder(text: str) -> bool:
    r"""Whether a box shows where an answer goes: \boxed{}, \boxed{...}, \boxed{\text{your answer}}."""
    return text.removeprefix(r"\text{").rstrip("}").strip().lower() in PLACEHOLDERS


def _stripped(text: str) -> str:
    """Without white space and marks of no width at both ends."""
    return text.strip(string.whitespace + ZERO_WIDTH)


def _blocks(text: str) -> list[Claim]:
    """The contents of <answer>...</answer>; where one is a sentence, the answer that the sentence gives."""
    pieces = text.split("</answer>")[-MAX_CLAIMS - 1 :]
    found, position = [], len(text) - len("</answer>".join(pieces))
    for piece in pieces[:-1]:
        opening = piece.rfind("<answer>")
        end = position + len(piece)
        if opening >= 0:
            content = piece[opening + len("<answer>") :].strip()
            if content and not BOX.search(content):  # a box within is a claim already
                inner = [*_hashes(content), *_phrases(content)]
                claim = inner[-1].text if inner else content
                found.append(Claim(_stripped(claim), position + opening, end + len("</answer>")))
        position = end + len("</answer>")
    return found


def _hashes(text: str) -> list[Claim]:
    """The rest of each line that begins with ####; of headings, those that hold a number and nothing else."""
    if "####" not in text:
        return []
    found = []
    for match in list(HASHES.finditer(text))[-MAX_CLAIMS:]:
        end = text.find("\n", match.end())
        end = len(text) if end < 0 else end
        content = _stripped(text[match.end() : end].strip(" \t*"))
        if content and not BOX.search(content) and not ANSWER_WORD.search(content[:100]):
            found.append(Claim(content, match.start(), end))
    return found if len(found) < 2 or _plain([found[-1]]) == [] else _plain(found)


def _phrases(text: str) -> list[Claim]:
    """What follows each "the answer is" and "answer:" up to the end of its sentence."""
    found = []
    words = list(ANSWER_WORD.finditer(text))[-MAX_CLAIMS:]
    for match, following in zip_longest(words, words[1:]):
        verb = IS.match(text, match.end()) or _heading(text, match)
        if verb is None or not _own_answer(text, match.start()) or quoted(text, match.start()):
            continue
        start = verb.end()
        if filler := FILLERS.match(text, start):
            start = filler.end()
        content, end = _sentence(text, start, following.start() if following else len(text))
        if content and not BOX.search(content):
            found.append(Claim(content, start, end))
    plain = _plain(found)
    if plain and not _plain(found[-1:]) and _describes(found[-1].text):
        found = found[: found.index(plain[-1]) + 1]  # "The answer is 5. ... The answer is reasonable."
    return _not_retracted(text, found)


def _heading(text: str, word: re.Match[str]) -> re.Match[str] | None:
    """The end of the line "### Final answer" whose last word this is, if it is such a line."""
    line = text[text.rfind("\n", max(0, word.start() - 40), word.start()) + 1 : word.start()][-40:]
    return HEADING.match(text, word.end()) if HEADING_BEFORE.match(line) else None


def _own_answer(text: str, at: int) -> bool:
    """Whether the word "answer" there begins a claim: "the final answer", not "a possible answer", "if the answer"."""
    line = text[max(0, at - 60) : at]
    line = line[line.rfind("\n") + 1 :].rstrip(" \t*_")
    words = [word.lower() for word in LINE_WORDS.findall(line)[-3:]]
    if not words or not line[-1].isalpha():
        return True
    return words[-1] in OWN and not SUPPOSED.intersection(words)


def _sentence(text: str, start: int, stop: int) -> tuple[str, int]:
    """What stands from `start` to the end of the sentence, or to the next answer; and where that ends."""
    rest = text[start : min(start + MAX_ANSWER_CHARS, stop)]
    for opening, closing in DISPLAY:
        if rest.startswith(opening) and (end := rest.find(closing, len(opening))) > 0:
            return _stripped(rest[len(opening) : end]), start + end + len(closing)
    match = SENTENCE_END.search(rest)
    end = match.start() if match else len(rest)
    if start + end == stop < len(text):  # "5, or the answer is 6"
        end = len(BEGINNING.sub("", rest))
    return _stripped(rest[:end].strip(" *_`").rstrip(" .*_`!?")), start + end


def _plain(claims: Iterable[Claim]) -> list[Claim]:
    """Those that are a value by themselves: a number with or without a unit, or a formula of numbers in TeX."""
    return [claim for claim in claims if is_plain(claim.text)]


def is_plain(text: str) -> bool:
    text = text.strip(" $*()[].").removeprefix("\\").strip("( ")
    if not text or len(text) > 80 or not any(char.isdigit() for char in text):
        return False
    if match := PLAIN_NUMBER.fullmatch(text):
        return (match["unit"] or "").lower() not in COMPARING
    return PLAIN_TEX.fullmatch(text) is not None


def _rivals(text: str, last: str) -> bool:
    """Whether what an earlier sentence gives as the answer is a value of its own: a number, or words as short as it."""
    return is_plain(text) or (not is_plain(last) and not _describes(text) and len(text.split()) <= 4)


def _describes(text: str) -> bool:
    """Whether it says how the answer is, not what it is, and does not take it back."""
    return (
        WORDS.fullmatch(text) is not None
        and not HEDGED.search(text)
        and not re.match(r"(?:not|in)?correct|not\b", text)
    )


RETRACTIONS = (
    "wait",
    "actually",
    "mistake",
    "wrong",
    "incorrect",
    "correction",
    "error",
    "recheck",
    "no,",
    "no:",
    "no.",
)


def _not_retracted(text: str, claims: list[Claim]) -> list[Claim]:
    """The claims after the last one that the text itself calls a mistake before it makes another."""
    for index in range(len(claims) - 1, 0, -1):
        if _retracted(text, claims[index - 1], claims[index]):
            return claims[index:]
    return claims


def _retracted(text: str, claim: Claim, later: Claim) -> bool:
    """Whether the text takes the claim back before it comes to the later one."""
    between = text[claim.end : later.start].lower()
    return any(word in between for word in RETRACTIONS)


def _last_number(text: str) -> Claim | None:
    """The last number of the text."""
    tail = text[-5000:]
    matches = list(LAST_NUMBER.finditer(tail))
    if not matches:
        return None
    start, end = (position + len(text) - len(tail) for position in matches[-1].span())
    number = matches[-1].group().rstrip(",")
    return Claim(number, start, start + len(number) if number else end)
