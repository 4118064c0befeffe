r"""Answers that nothing announces: the completion is nothing but the value, or its last sentence concludes with it."""

from __future__ import annotations

import re

from rewards.mathematics.claims import Claim, is_plain, stripped
from rewards.mathematics.hedges import NUMBER, word_set
from rewards.mathematics.sentences import AFTER_UNIT

MAX_SENTENCE_CHARS = 300

DOUBTS = word_set(
    "not no never cannot or maybe perhaps possibly might could may can between than least most if unless except guess",
    "guesses unsure either any all half twice double dozen hundred thousand million billion wrong incorrect false but",
    "mistake some say says said think believe probably likely roughly nearly almost about around approximately example",
    "suppose assume whether neither nor instead question asks unclear unknown unlikely doubt other another would",
)
WORDS = re.compile(r"(?a)[a-zA-Z]++(?:['\u2019][a-zA-Z]++)?")
CONCLUDING = re.compile(
    r"(?ai)[\s*_]*+(?:so|therefore|thus|hence|in total|altogether|in conclusion|finally|consequently|as a result|"
    r"this means)\b"
)
SENTENCES = re.compile(r"(?<=[.!?])[\s*_]+(?=[A-Z\\$*])")
BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")
FORMULAS = re.compile(r"\$([^$\n]{1,80})\$|\\\(([^\n]{1,80}?)\\\)")
WHOLE_FORMULA = re.compile(r"\$\$?([^$\n]{1,80})\$\$?|\\\(([^\n]{1,80}?)\\\)|\\\[([^\n]{1,80}?)\\\]")
NAMED = re.compile(  # "The sum of 17 and 25 is 42"
    r"(?ai)[\s*_]*+(?:(?:so|therefore|thus|hence),? )?(?:the|its|his|her|their|our|this|it)\b"
    r"(?P<subject>[^=\n]{3,200})(?<= )(?:is|are|was|were|equals) (?P<value>[^=\n ][^\n]{0,80})"
)
JOINED = re.compile(r"(?:\$[^$\n]{1,40}\$(?:,? and |, )?){1,6}")
PROSE_CHARS = re.compile(r"[\w\s.,'\u2019$%:!()*\\{}^/=+-]*+")
LONE_NUMBER = re.compile(rf"(?<![0-9a-zA-Z.,\\]){NUMBER}(?![0-9a-zA-Z\\])")
OPTION_OR_WORD = re.compile(r"(?a)\(?[A-J]\)?|[A-Za-z][a-z]{1,20}")


def whole(text: str) -> Claim | None:
    """The completion itself, if it is one line that holds a value and nothing else: "60", "$x = 2$", "60 mph."."""
    content = stripped(text)
    if not content or len(content) > 100 or "\n" in content:
        return None
    start = text.index(content)
    inner = content.strip("*_").rstrip(".!").strip("*_ ")
    if formula := WHOLE_FORMULA.fullmatch(inner):
        inner = next(group for group in formula.groups() if group)
        return Claim(inner.strip(), start, start + len(content)) if not _doubtful(inner) else None
    if is_plain(inner.replace("=", "+")) or _is_value(inner):
        return Claim(inner, start, start + len(content))
    return None


def conclusion(text: str) -> Claim | None:
    """What the last sentence comes to: the number of "Therefore, she sold 72 clips.", "The speed is **60 mph**."."""
    line = text.rstrip()
    line = line[line.rfind("\n") + 1 :]
    if len(line) > 4 * MAX_SENTENCE_CHARS:
        return None
    sentence = SENTENCES.split(line)[-1]
    if not sentence or len(sentence) > MAX_SENTENCE_CHARS:
        return None
    start = text.rindex(sentence)
    bold = BOLD.findall(sentence)
    if bold:
        value = bold[0].rstrip(".:").strip(" $")
        said = _is_value(value) and len(bold) == 1 and sentence.rstrip(" .!").endswith("**") and not _doubtful(sentence)
        return Claim(value, start, start + len(sentence)) if said and len(WORDS.findall(sentence)) > 2 else None
    if CONCLUDING.match(sentence) and (value := value_in_prose(sentence)):
        return Claim(value, start, start + len(sentence))
    if (named := NAMED.fullmatch(sentence.rstrip(" .!"))) and not _doubtful(sentence):
        value = named["value"].strip(" *")
        if _is_value(value) or (JOINED.fullmatch(value) and "$" in value):
            return Claim(value, start, start + len(sentence))
    return None


def value_in_prose(sentence: str) -> str | None:
    """The one number or formula of a sentence that doubts nothing, with the word behind it; None if there are several.

    >>> value_in_prose("She sold 72 clips altogether."), value_in_prose("It is 72 or so."), value_in_prose("It is $x$.")
    ('72 clips', None, 'x')
    """
    if len(sentence) > MAX_SENTENCE_CHARS or _doubtful(sentence) or not PROSE_CHARS.fullmatch(sentence):
        return None
    formulas = list(FORMULAS.finditer(sentence))
    if formulas:
        outside = FORMULAS.sub("", sentence)
        if len(formulas) > 1 or any(char.isdigit() or char == "\\" for char in outside):
            return None
        return str(formulas[0][1] or formulas[0][2]).strip()
    numbers = list(LONE_NUMBER.finditer(sentence))
    if len(numbers) != 1 or "\\" in sentence or sum(map(str.isdigit, LONE_NUMBER.sub("", sentence))):
        return None
    word = re.compile(r"(?a) ([a-zA-Z]{1,20})\b(?! per\b)").match(sentence, numbers[0].end())
    return numbers[0].group() + (f" {word[1]}" if word else "")


def _is_value(text: str) -> bool:
    text = text.strip(" $.")
    return is_plain(text) or bool(AFTER_UNIT.fullmatch(text) or OPTION_OR_WORD.fullmatch(text))


def _doubtful(text: str) -> bool:
    words = {word.lower().replace("\u2019", "'") for word in WORDS.findall(text)}
    return not DOUBTS.isdisjoint(words) or any(word.endswith("n't") for word in words)
