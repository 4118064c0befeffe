r"""What of a completion counts as its answer's text: behind the thinking, in sight, and said by the completion itself.

Everything here is str.find, str.split or an expression whose repetitions are possessive or bounded: time is linear in
the length of the text, whatever the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

WINDOW_CHARS = 100_000  # only the end of a longer text is read: what came before it cannot become the answer
MIN_QUESTION_CHARS = 12  # a shorter question is not cut out of the text: "2 + 2" may well be part of the working

# <think>, <thinking>, <seed:think>; Magistral's [THINK]; Kimi's; OpenThoughts'; gpt-oss' channels; s1's turns.
THINK_TAG = re.compile(
    r"(?a)<(/?)(?i:seed:)?(?i:think(?:ing)?)\s{0,3}>|\[(/?)THINK\]|\u25c1(/?)think\u25b7|<\|(?:begin|(end))_of_thought\|>|"
    r"<\|channel\|>(?:analysis|(final))<\|message\|>|<\|im_start\|>(?:think|(answer))\b"
)
SCRATCH = ("reasoning", "scratchpad", "thought", "thoughts", "reflection", "analysis")  # what they hold is no answer
SCRATCH_TAG = re.compile(rf"(?ai)<(/?)(?:{'|'.join(SCRATCH)})\s{{0,3}}>")
SPECIAL_TOKENS = re.compile(
    r"(?:\s{0,9}(?:<\|[a-z0-9_]{2,30}\|>|</s>|<eos>|<(?:end_of_turn|end_of_text)>|<\uff5c[a-z\u2581_]{2,40}\uff5c>)){1,9}\s*+\Z"
)
TEX_QUOTE = re.compile(r"``?[^`'\"\n]{0,80}['\"]")  # `so' and ``so", as TeX has them
HIDING = (("<!--", "-->"), (r"\iffalse", r"\fi"), (r"\begin{comment}", r"\end{comment}"))
TEX_COMMENT = re.compile(r"^[ \t]*+%[^\n]*+", re.MULTILINE)
LINK_COMMENT = re.compile(
    r"^\[[^]\n]{0,80}\]:[ \t]{1,4}(?:#|<>)[ \t][^\n]*+", re.MULTILINE
)  # Markdown's [//]: # (hidden)
HIDDEN_STYLE = re.compile(
    r"(?ai)\\(?:text)?color\{white\}|color\s*+:\s*+(?:white|transparent|#fff)|opacity\s*+:\s*+0(?!\.[1-9])|"
    r"display\s*+:\s*+none|visibility\s*+:\s*+hidden|font-size\s*+:\s*+0|<[a-z]{1,10} hidden\b"
)
# Zero-width and direction marks: a text with them between its letters does not read as it is shown.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
OPENING = re.compile(r'(?<![^\s(\[:])"(?=\S)')
EXAMPLE = re.compile(  # words before what is shown as a form to fill in
    r"(?ai)\b(?:(?:format|template|form) {1,3}(?:is|like|as)|e\.g\.|for example|such as|for instance|example)"
    r"[\s:,$*(]*+\Z"
)
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"  # harmless at the ends of an answer, where models do leave them


class Visible(NamedTuple):
    """The text to search, and what was written so that a reader does not see it."""

    text: str
    hidden: str = ""


def after_thinking(text: str) -> str | None:
    """What follows the last </think>; None if a <think> is still open, for then there is no answer yet.

    >>> after_thinking("<think>2 + 2 is 4</think> It is 4.")
    ' It is 4.'
    >>> after_thinking("<think>It is 4.") is None
    True
    """
    end, opened = 0, False
    for tag in THINK_TAG.finditer(text):
        opened = not any(tag.groups())
        end = tag.end()
    return None if opened else text[end:]


def without_comments(text: str) -> str:
    """The text without what HTML and TeX comments hide."""
    for opening, closing in HIDING:
        if opening in text:
            text = _without(text, opening, closing, [])
    return text


def visible(text: str, question: str = "") -> Visible:
    """The completion's own words: without comments, code blocks, quotations of others and the question repeated."""
    text = _ended(text[-WINDOW_CHARS:])
    if "<" in text:
        text = _without_scratch(text)
    if len(question) >= MIN_QUESTION_CHARS and question in text:
        text = text.replace(question, " ")
    hidden: list[str] = []
    for opening, closing in HIDING:
        if opening in text:
            text = _without(text, opening, closing, hidden)
    if "%" in text:
        hidden += TEX_COMMENT.findall(text)
        text = TEX_COMMENT.sub("", text)
    if "]:" in text:
        hidden += LINK_COMMENT.findall(text)
        text = LINK_COMMENT.sub("", text)
    if "```" in text:
        text = "\n".join(text.split("```")[::2])
    if text.startswith(">") or "\n>" in text:
        text = _without_quoted_lines(text)
    return Visible(text, "\n".join(hidden))


def quoted(text: str, at: int) -> bool:
    """Whether the place lies between quotation marks or within `code` of its line, or is shown as a format."""
    before = text[text.rfind("\n", max(0, at - 300), at) + 1 : at][-300:]
    if EXAMPLE.search(before[-40:]):
        return True
    line_end = text.find("\n", at, at + 300)
    after = text[at : line_end if line_end >= 0 else at + 300]
    if "`" in before or '"' in before:
        before = TEX_QUOTE.sub("", before)
        if "`" in after and before.count("`") % 2:
            return True
        opening = max((mark.start() for mark in OPENING.finditer(before)), default=-1)
        if '"' in after and opening >= 0 and '"' not in before[opening + 1 :]:
            return True
    left, right = "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"
    return right in after and before.rfind(left) > before.rfind(right)


def _ended(text: str) -> str:
    """The text without the tokens that end a turn."""
    if text.rstrip()[-1:] != ">":
        return text
    return text[:-300] + SPECIAL_TOKENS.sub("", text[-300:])


def _without_scratch(text: str) -> str:
    """The text without <reasoning>...</reasoning> and its like; one never closed takes the rest with it."""
    kept, start, opened = [], 0, False
    for tag in SCRATCH_TAG.finditer(text):
        if not opened and not tag[1]:
            kept.append(text[start : tag.start()])
        opened, start = not tag[1], tag.end()
    return " ".join(kept) + ("" if opened else text[start:])


def _without(text: str, opening: str, closing: str, hidden: list[str]) -> str:
    """The text without what lies between the two marks, which goes to `hidden`; one never closed hides the rest."""
    first, *pieces = text.split(opening)
    shown = [first]
    for piece in pieces:
        inside, _, outside = piece.partition(closing)
        hidden.append(inside)
        shown.append(outside)
    return " ".join(shown)


def _without_quoted_lines(text: str) -> str:
    """Markdown's "> ..." is a quotation where something follows it, and an answer set off where nothing does."""
    lines = text.split("\n")
    own = [index for index, line in enumerate(lines) if line.strip() and not line.startswith(">")]
    last_own = own[-1] if own else -1
    return "\n".join(
        line.lstrip("> ") if index > last_own else line
        for index, line in enumerate(lines)
        if index > last_own or not line.startswith(">")
    )
