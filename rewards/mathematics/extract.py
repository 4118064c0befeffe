r"""Finding the one answer that a completion commits itself to.

An answer is claimed in one of six ways, in this order of precedence:

    \boxed{...}, \boxed 5, \fbox{...}      braces matched
    <answer> ... </answer>
    #### ...                               the rest of the line, as GSM8K writes it
    the answer is ... / final answer: ...  the rest of the sentence
    Therefore, she sold 72.  / 72          the last sentence or the whole text, only if asked for
    the last number                        only if asked for

Only what follows the last </think> is read, and only what the completion says itself: no comments, no code blocks, no
quotations. A completion that claims several answers has not answered: the last claim is `Extracted.answer`, the claims
that differ from it in writing are `Extracted.others`, and whoever compares has to find all of them equal to the gold
(1/2 and 0.5 are) or together equal to it (the parts of a set). A claim that is denied beside it, is hidden, or says
nothing makes `refused` true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rewards.mathematics.asked import of_another
from rewards.mathematics.claims import (
    BOX,
    MAX_ANSWER_CHARS,
    MAX_CLAIMS,
    Claim,
    different,
    is_plain,
    plain_ones,
    stripped,
    value_ones,
)
from rewards.mathematics.conclusions import conclusion, whole
from rewards.mathematics.denials import negated, withdrawn, worked_on
from rewards.mathematics.hedges import alternatives, word_set
from rewards.mathematics.sentences import ANSWER_WORD, before_other_claim, other_phrases, phrases, retracted, rivals
from rewards.mathematics.visible import HIDDEN_STYLE, INVISIBLE, after_thinking, quoted, visible

MAX_OTHERS = 15  # more different claims than these are a list of candidates, whatever they are

Source = Literal["boxed", "block", "hashes", "phrase", "conclusion", "last_number"]

PLACEHOLDERS = word_set("... \\ldots \\dots ? _ answer") | {"", "your answer", "final answer", "answer here"}
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace \{ is text, not structure
BARE_END = re.compile(r"[\s$,;]|\\[)\]]|\.(?:\s|\Z)")  # where \boxed 5 ends
LABEL = re.compile(r"(?ai)\A\\text(?:bf)?\{\s*(?:the )?(?:final )?answer(?: is)?[\s:]*\}[\s:]*")  # \text{Answer: }5
ANSWER_TAG = re.compile(r"(?ai)<(/?)(?:final[_ -]?)?answer\s{0,3}>")
LETTER_BEFORE = re.compile(r"(?a)(?<![a-zA-Z0-9\\+*/^)}-])\s*+([a-zA-Z])\s?=\s?\Z")
HASHES = re.compile(r"(?<!#)####(?!#)")
LAST_NUMBER = re.compile(r"(?:(?<![0-9a-zA-Z)])[-\u2212])?[0-9][0-9,]{0,40}(?:\.[0-9]{1,40})?(?:/[0-9]{1,40})?%?")


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a completion claims. Exactly one of `answer` and `reason` is set."""

    answer: str | None  # the claim that counts, as it is written
    source: Source | None = None
    others: tuple[str, ...] = ()  # claims beside it that are written differently, in the order of the text
    parts: tuple[str, ...] = ()  # the claims of its kind, itself included: they may be parts of one answer
    named: tuple[str, ...] = ()  # the parts as "x = 2", "y = 1", where each is the value of a letter of its own
    reason: str = ""  # why there is no answer
    refused: bool = False  # something is claimed, but it commits to nothing: that is wrong, not "no answer"


def extract_answer(
    text: str, question: str = "", *, prefix: str = "", allow_last_number: bool = False, unannounced: bool = False
) -> Extracted:
    r"""The answer that a completion gives. Linear in the length of the text; no text makes it raise.

    question: repeated word for word in the completion, it is not the completion's own claim.
    prefix: the beginning of the answer that the template wrote, often "<think>".
    allow_last_number: without any claim the last number counts.
    unannounced: without any claim a completion that is nothing but a value counts, or the value that its last sentence
        concludes with.

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
    if "<" in shown.text:
        shown = shown._replace(text=ANSWER_TAG.sub(r"<\1answer>", shown.text))
    boxes, cut_off = _boxes(shown.text)
    if cut_off:
        return Extracted(None, reason=r"the last \boxed{ does not end")
    if boxes and _is_placeholder(boxes[-1].text):
        return Extracted(None, reason=r"the last \boxed{} holds nothing")
    boxes = [box for box in boxes if not _is_placeholder(box.text)]
    if boxes and of_another(shown.text, boxes[-1].start, question):
        return Extracted(None, reason="the box holds another quantity than the one asked for", refused=True)
    blocks, hashes = _blocks(shown.text), _hashes(shown.text)
    sentences, other = _outside(phrases(shown.text), boxes), other_phrases(shown.text)
    hidden = [box.text for box in _boxes(shown.hidden)[0]] if shown.hidden else []
    if boxes:
        return _settled(shown.text, "boxed", boxes, blocks, [*hashes, *sentences, *other], hidden)
    if blocks:
        return _settled(shown.text, "block", blocks, [], [*hashes, *sentences, *other], hidden)
    if hashes:
        return _settled(shown.text, "hashes", hashes, [], [*sentences, *other], hidden)
    if sentences:
        return _settled(shown.text, "phrase", sentences, [], other, hidden)
    if unannounced and final.lstrip()[:1] != ">" and (found := whole(shown.text) or conclusion(shown.text)):
        return _settled(shown.text, "conclusion", [found], [], other, hidden)
    if allow_last_number and (found := _last_number(shown.text)):
        return _settled(shown.text, "last_number", [found], [], [], [])
    return Extracted(None, reason="no answer was found")


def _settled(
    text: str, source: Source, claims: list[Claim], beside: list[Claim], weak: list[Claim], hidden: list[str]
) -> Extracted:
    """The last claim as the answer, unless it or its surroundings say that it is none.

    Against it stand the other claims of its kind, those `beside` it, and of the `weak` ones those that are values.
    """
    last = claims[-1]
    if len(last.text) > MAX_ANSWER_CHARS:
        return Extracted(None, reason=f"the answer is longer than {MAX_ANSWER_CHARS} characters")
    if INVISIBLE.search(last.text) or HIDDEN_STYLE.search(text):
        return Extracted(None, reason="invisible text in the answer", refused=True)
    strong = claims if source != "phrase" else claims[-1:]
    if any(negated(text, claim.start, claim.end) for claim in strong) or withdrawn(text, last.start, last.end):
        return Extracted(None, reason="the answer is denied", refused=True)
    if source == "boxed" and any(worked_on(text, claim.start, claim.end) for claim in strong):
        return Extracted(None, reason="the box is a part of a larger formula", refused=True)
    offered = [value for claim in strong[-MAX_OTHERS:] for value in alternatives(text, claim.start, claim.end)]
    parts = different([*(claim.text for claim in claims), *offered])
    named = _named(text, claims) if source == "boxed" else ()
    if source == "phrase":
        claims = [claim for claim in claims[:-1] if rivals(claim.text, last.text) and not _denied(text, claim)]
    weak = [claim for claim in value_ones(weak) if not (retracted(text, claim, last) or _denied(text, claim))]
    against = [*claims, *beside, *weak]
    others = different([*(claim.text for claim in against), *offered, *hidden, last.text])[:-1]
    if len(others) > MAX_OTHERS:
        return Extracted(None, reason="many different answers", refused=True)
    return Extracted(last.text, source, tuple(others), tuple(parts), named)


def _denied(text: str, claim: Claim) -> bool:
    return negated(text, claim.start, claim.end)


def _named(text: str, claims: list[Claim]) -> tuple[str, ...]:
    r"""The boxes of "x = \boxed{2}, y = \boxed{1}" with their letters; none unless every letter is another."""
    letters = [LETTER_BEFORE.search(text, max(0, claim.start - 20), claim.start) for claim in claims]
    if not all(letters) or len({letter[1] for letter in letters if letter}) < max(2, len(claims)):
        return ()
    return tuple(f"{letter[1]} = {claim.text}" for letter, claim in zip(letters, claims, strict=True) if letter)


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
            content = LABEL.sub("", stripped(content))
            if content.endswith("\\") and not content.endswith("\\\\"):
                content = stripped(content[:-1])  # of "5\ "
            found.append(Claim(content, match.start(), end))
    return found, cut_off


def _outside(claims: list[Claim], boxes: list[Claim]) -> list[Claim]:
    r"""The claims that do not stand within a box, as \boxed{\text{The answer is }5} does."""
    return (
        [claim for claim in claims if not any(box.start < claim.start < box.end for box in boxes)] if boxes else claims
    )


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


def _blocks(text: str) -> list[Claim]:
    """The contents of <answer>...</answer>; where one is a sentence, the answer that the sentence gives."""
    pieces = text.split("</answer>")[-MAX_CLAIMS - 1 :]
    found, position = [], len(text) - len("</answer>".join(pieces))
    for piece in pieces[:-1]:
        before, opened, content = piece.rpartition("<answer>")
        opening, end, content = len(before), position + len(piece), stripped(content)
        if opened:
            unclosed = before.rpartition("<answer>")[2].strip() if "<answer>" in before else ""
            if is_plain(unclosed):  # <answer>5<answer>6</answer>
                found.append(Claim(unclosed, position, position + opening))
            beside = content[: box.start()].strip(" ,;|") if (box := BOX.search(content)) else ""
            if is_plain(beside) and beside[-1:].isalnum():  # <answer>4, \boxed{5}</answer>
                found.append(Claim(beside, position, position + opening))
            if content and not BOX.search(content):  # a box within is a claim already
                inner = [*_hashes(content), *phrases(content)]
                claim = inner[-1].text if inner else content
                found.append(Claim(stripped(claim).strip("`") or claim, position + opening, end + len("</answer>")))
        elif found and is_plain(content):  # <answer><answer>5</answer>6</answer>
            found.append(Claim(content, position, end))
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
        content = stripped(text[match.end() : end].strip(" \t*"))
        if word := ANSWER_WORD.search(content):  # "#### Final answer", "#### 6. The answer is 5"
            content = content[: word.start()].rpartition(".")[0] if is_plain(content[:1]) else ""
        content = before_other_claim(content)
        if content:
            found.append(Claim(content, match.start(), end))
    return found if len(found) < 2 or plain_ones([found[-1]]) == [] else plain_ones(found)


def _last_number(text: str) -> Claim | None:
    """The last number of the text."""
    tail = text[-5000:]
    matches = list(LAST_NUMBER.finditer(tail))
    if not matches:
        return None
    start, end = (position + len(text) - len(tail) for position in matches[-1].span())
    number = matches[-1].group().rstrip(",")
    return Claim(number, start, start + len(number) if number else end)
