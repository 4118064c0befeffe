"""Answers given in a sentence: "the answer is ...", "final answer: ..."."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest

from rewards.mathematics import languages
from rewards.mathematics.claims import BOX, MAX_ANSWER_CHARS, MAX_CLAIMS, Claim, is_plain, plain_ones, stripped
from rewards.mathematics.hedges import HEDGED, NUMBER, word_set
from rewards.mathematics.visible import quoted

ANSWER_WORD = re.compile(
    rf"(?ai)(?<![a-z</])(?:answers?+|ans|(?<=correct )(?:option|choice)|{languages.ANSWER})(?![a-z])"
)
TO_WHAT = r"(?: to (?:the|this|your|that) (?:question|problem|above))?"
IS = re.compile(
    rf"(?ai){TO_WHAT}[\s*_`]{{0,8}}+"
    rf"(?:[-=]>|[:={languages.COLON}]|\u2192|[-\u2013\u2014]\s(?=[0-9$\\])|"
    r"(?:is|are|(?:will|must|would|should) be|equals)\b|(?:turns|works|comes) (?:out )?to(?: be)?\b|"
    rf"{languages.IS})[\s*_`:={languages.COLON}]{{0,12}}+"
)
HEADING = re.compile(r"(?ai)[*_`: ]{0,6}+\n[\s*_`]{0,12}+(?!is\b|are\b)")  # the answer stands below
HEADING_BEFORE = re.compile(r"(?ai)[\s#*_`0-9.)]*+(?:(?:the|final|my|correct)[ ]++){0,3}\Z")
FILLERS = re.compile(
    r"(?ai)(?:(?:, )?(?:therefore|thus|then|hence|clearly|simply|just|indeed|exactly|obviously|given by|equal to|"
    r"equals|now|a total of|not [-$0-9./]{1,20},? (?:but|it is|it's|rather))\b[\s,:*_]{0,4}+)+"
)
LINE_WORDS = re.compile(r"[a-zA-Z'\u2019\u00c0-\u024f\u0400-\u04ff]++")
OTHER_CLAIM = re.compile(rf"{BOX.pattern}|<answer>")
OWN = word_set(
    "the final correct my our right numerical numeric required desired exact so thus hence and therefore best only",
    "simplified actual true real overall",
    languages.OWN,
)
OTHER = word_set(  # "another answer is 6"
    "another other alternative alternate second secondary backup fallback different possible"
)
INVERTED = re.compile(
    r"(?ai)(?<![0-9a-z.\\{])(?<!if )(?<!if \$)(?<!whether )(?<!whether \$)\$?"
    rf"(?P<value>{NUMBER}(?: [a-z]{{1,20}})?)\$? "
    r"(?:is|as) (?:the|our|my) (?:final |correct |right )?answer\b"
    r"(?! (?:of )?(?:my|his|her|their)\b| to (?!the|this|that|your|our)|[\s$*_)]*+\?)"  # "the answer my friend gave"
)
BEGINNING = re.compile(r"(?ai)(?:[\s.,;]{1,9}(?:the|so|final|my|correct|and|or|thus|hence)){1,5}\s{0,9}\Z")
SUPPOSED = word_set("if whether unless when", languages.IF)
SUPPOSING = re.compile(  # in the same clause, however many words follow
    r"(?ai)\b(?:suppos(?:e|ing)|assum(?:e|ing)|says?|said|claim(?:s|ed))\b[^.,;:!?\n]*+\Z"
)
SUPPOSED_BEFORE = re.compile(languages.SUPPOSED_BEFORE)
SENTENCE_END = re.compile(
    "|".join(
        (
            r"(?<!\bsq)[.!?](?=[*_)\]\"'$]{0,4}(?:\s|\Z))",
            rf"\n|{languages.STOP}",
            r"[,;](?=\s{1,9}(?!import\b|and\s{1,9}(?:[0-9$\\(-]|[a-zA-Z]\b))(?:[a-zA-Z]{2}|i\.e))",  # not "2, and 3"
            r"\s\((?!mod\b)(?=[a-zA-Z]{2}|[^()\n\\]{1,60}\s[a-zA-Z]{2})",
            r"\s(?=(?:because|since|which|so|as|therefore|where|when|after|for)\s)",
            r"\sand\s(?=(?:we|so|the|this|that|it|thus|hence|not)\b)",
            r"\s-\s(?=[a-zA-Z]{2})|\s(?:--|---|\u2013|\u2014)\s",
        )
    )
)
# "3 bolts of fabric", "18 dollars a day": what follows the unit says nothing more of the number.
AFTER_UNIT = re.compile(
    rf"(?ai)(\$?{NUMBER} ?(?!(?:out|more|less|times|percent)\b)[a-z]{{3,20}}) "
    r"(?:of|from|a|an|per|in|for|to|on|at|by|each|every|with|left|away)\b[a-z '\u2019-]*+"
)
DISPLAY = (("$$", "$$"), (r"\[", r"\]"))
DESCRIPTION = re.compile(r"[a-z][a-z ,'\u2019-]*+")
DENIAL = re.compile(r"(?:incorrect|wrong|false|not)\b")
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


def phrases(text: str) -> list[Claim]:
    """What follows each "the answer is" and "answer:" up to the end of its sentence."""
    found = sorted([*_following(text, _own_answer), *_inverted(text)], key=lambda claim: claim.start)
    plain = plain_ones(found)
    if plain and not plain_ones(found[-1:]) and _describes(found[-1].text):
        found = found[: found.index(plain[-1]) + 1]  # "The answer is 5. ... The answer is reasonable."
    return _not_retracted(text, found)


def other_phrases(text: str) -> list[Claim]:
    """What follows "another answer is", "a possible answer is" and the like."""
    return _following(text, _other_answer)


def _following(text: str, is_meant: Callable[[str, int], bool]) -> list[Claim]:
    found = []
    words = list(ANSWER_WORD.finditer(text))[-MAX_CLAIMS:]
    for match, following in zip_longest(words, words[1:]):
        verb = IS.match(text, match.end()) or _heading(text, match)
        if verb is None or not is_meant(text, match.start()) or quoted(text, match.start()):
            continue
        start = verb.end()
        if filler := FILLERS.match(text, start):
            start = filler.end()
        content, end = _sentence(
            text, start, following.start() if following and IS.match(text, following.end()) else len(text)
        )
        content = before_other_claim(content)
        if content:
            found.append(Claim(content, start, end))
    return found


def _inverted(text: str) -> list[Claim]:
    """17 of "17 is the answer", "we get 17 as the answer"."""
    matches = list(INVERTED.finditer(text))[-MAX_CLAIMS:]
    return [
        Claim(match["value"], match.start("value"), match.end("value"))
        for match in matches
        if not (SUPPOSING.search(text, max(0, match.start() - 60), match.start()) or quoted(text, match.start()))
    ]


def before_other_claim(content: str) -> str:
    r"""The content, or what of it stands before a box or block in it, if that is a value: "6" of "6 \boxed{5}"."""
    other = OTHER_CLAIM.search(content)
    if other is None:
        return content
    before = content[: other.start()].strip(" .,;:*$")
    return before if is_plain(before) and before[-1:].isalnum() else ""


def _heading(text: str, word: re.Match[str]) -> re.Match[str] | None:
    """The end of the line "### Final answer" whose last word this is, if it is such a line."""
    line = text[text.rfind("\n", max(0, word.start() - 40), word.start()) + 1 : word.start()][-40:]
    return HEADING.match(text, word.end()) if HEADING_BEFORE.match(line) else None


def _own_answer(text: str, at: int) -> bool:
    """Whether the word "answer" there begins a claim: "the final answer", not "a possible answer", "if the answer"."""
    words = _words_before(text, at)
    if SUPPOSED_BEFORE.search(text, max(0, at - 12), at) or SUPPOSING.search(text, max(0, at - 60), at):
        return False
    return not words or (words[-1] in OWN and not SUPPOSED.intersection(words))


def _other_answer(text: str, at: int) -> bool:
    words = _words_before(text, at)
    return bool(words) and words[-1] in OTHER and not SUPPOSED.intersection(words)


def _words_before(text: str, at: int) -> list[str]:
    """The last three words before the place, in its line and sentence."""
    line = text[max(0, at - 60) : at]
    line = line[line.rfind("\n") + 1 :].rstrip(" \t*_")
    return [word.lower() for word in LINE_WORDS.findall(line)[-3:]] if line[-1:].isalpha() else []


def _sentence(text: str, start: int, stop: int) -> tuple[str, int]:
    """What stands from `start` to the end of the sentence, or to the next answer; and where that ends."""
    rest = text[start : min(start + MAX_ANSWER_CHARS, stop)]
    for opening, closing in DISPLAY:
        if rest.startswith(opening) and (end := rest.find(closing, len(opening))) > 0:
            return stripped(rest[len(opening) : end]), start + end + len(closing)
    match = SENTENCE_END.search(rest)
    end = match.start() if match else len(rest)
    if start + end == stop < len(text):  # "5, or the answer is 6"
        end = len(BEGINNING.sub("", rest))
    content = rest[:end].replace("** ", " ")  # of "**5** apples"
    content = stripped(content.strip(" *_`").rstrip(" .*_`!?"))
    measured = AFTER_UNIT.fullmatch(content)
    return measured[1] if measured else content, start + end


def _not_retracted(text: str, claims: list[Claim]) -> list[Claim]:
    """The claims after the last one that the text itself calls a mistake before it makes another."""
    for index in range(len(claims) - 1, 0, -1):
        if retracted(text, claims[index - 1], claims[index]):
            return claims[index:]
    return claims


def retracted(text: str, claim: Claim, later: Claim) -> bool:
    """Whether the text takes the claim back before it comes to the later one."""
    between = text[claim.end : later.start].lower()
    return any(word in between for word in RETRACTIONS)


def rivals(text: str, last: str) -> bool:
    """Whether what an earlier sentence gives as the answer is a value of its own: a number, or equally few words."""
    return is_plain(text) or (not is_plain(last) and not _describes(text) and len(text.split()) <= 4)


def _describes(text: str) -> bool:
    """Whether it says how the answer is, not what it is, and does not take it back."""
    return DESCRIPTION.fullmatch(text) is not None and not HEDGED.search(text) and not DENIAL.match(text)
