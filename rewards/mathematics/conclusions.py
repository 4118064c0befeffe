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
SUMMING_UP = re.compile(r"(?ai)\b(?:in total|altogether|in all)\b")  # which conclude wherever they stand
SENTENCES = re.compile(r"(?<=[.!?])[\s*_]+(?=[A-Z\\$*])")
BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")
FORMULAS = re.compile(r"\$([^$\n]{1,80})\$|\\\(([^\n]{1,80}?)\\\)")
WHOLE_FORMULA = re.compile(r"\$\$?([^$\n]{1,80})\$\$?|\\\(([^\n]{1,80}?)\\\)|\\\[([^\n]{1,80}?)\\\]")
NAMED = re.compile(  # "The sum of 17 and 25 is 42"
    r"(?ai)[\s*_]*+(?:(?:so|therefore|thus|hence),? )?(?:the|its|his|her|their|our|this|it)\b"
    r"(?P<subject>[^=\n]{3,200})(?<= )(?:is|are|was|were|equals) (?P<value>[^\n ][^\n]{0,80})"
)
LABELLED = re.compile(  # "Total: 48 + 24 = 72 clips"
    r"(?ai)[\s_#-]*+(?:the |grand |final ){0,2}+(?:total|sum|result|solutions?)(?: [a-z]{1,20}){0,6}+ ?:"
    r"(?:[^=\n]{1,80}=){0,4}+(?P<value>[^=\n]{1,80})"
)
SET_OFF = re.compile(
    r"^[ \t]*(?:\*\*([^*\n]{1,80})\*\*|\$\$([^$\n]{1,80})\$\$|\\\[([^\n]{1,80}?)\\\])[ .]*$", re.MULTILINE
)
MAX_SET_OFF_CHARS = 20_000
WORKING = re.compile(  # of "48 + 24 = 72 clips" and of "f(4) = 14" what leads to the value
    r"(?a)(?:(?<![0-9a-zA-Z.])[a-zA-Z]\([0-9a-z]{1,9}\) ?= ?)?+"
    r"(?:\$?[0-9][0-9.,]{0,20}(?: ?[-+*/\u00d7\u00f7\u2212] ?\$?[0-9][0-9.,]{0,20}){1,9} ?= ?)?+(?=[-$0-9])"
)
NAMED_VALUES = re.compile(r",? and |, ")  # "x = 2 and x = 3"
LETTER_IS = re.compile(r"(?a)[ $*]*+[a-zA-Z](?:_[0-9])? ?= ?")
BRACKET = re.compile(r"\*\* ?\([^()\n]{1,40}\)\Z")  # "**3/8** (37.5%)"
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
    if is_plain(inner.replace("=", "+")) or _is_value(inner.partition(" (")[0] if inner.endswith(")") else inner):
        return Claim(inner, start, start + len(content))
    return None


def conclusion(text: str) -> Claim | None:
    """What the last line or sentence comes to: 72 in "Therefore, she sold 72 clips." and "Total: 48 + 24 = **72**"."""
    line = text.rstrip()
    line = line[line.rfind("\n") + 1 :]
    if len(line) > 4 * MAX_SENTENCE_CHARS:
        return None
    sentence = SENTENCES.split(line)[-1]
    if not sentence or len(sentence) > MAX_SENTENCE_CHARS:
        return None
    start = text.rindex(sentence)
    for found in (_labelled(line), _set_off(text, line), _in_bold(sentence), _inferred(sentence)):
        if found:
            return Claim(found, start, start + len(sentence))
    if named := NAMED.fullmatch(sentence.rstrip(" .!")):
        return _stated(named, start)
    return None


def _labelled(line: str) -> str | None:
    """72 of "**Total:** 48 + 24 = **72**"."""
    labelled = LABELLED.fullmatch(line.replace("*", "").rstrip(" .!"))
    if labelled is None or _doubtful(line):
        return None
    value, listed = labelled["value"].strip(), line.replace("*", "").partition(":")[2].strip(" .")
    return listed if _are_values(listed) else value if _is_value(value) else None


def _set_off(text: str, line: str) -> str | None:
    """x = 5 of a last line that is nothing but "**x = 5**" or "$$x = 5$$", if no other line is such a one."""
    lines = list(SET_OFF.finditer(text[-MAX_SET_OFF_CHARS:]))
    if len(lines) != 1 or lines[0].group().strip() != line.strip():
        return None
    value = next(group for group in lines[0].groups() if group).strip(" .$")
    return value if _is_value(value.rpartition("=")[2]) and not _doubtful(value) else None


def _in_bold(sentence: str) -> str | None:
    """60 mph of "The speed is **60 mph**."; of a sentence that begins with "so" or the like, wherever it stands."""
    bold = BOLD.findall(sentence)
    if len(bold) != 1 or len(WORDS.findall(sentence)) < 3 or _doubtful(sentence):
        return None
    value = str(bold[0]).rstrip(".:").strip(" $")
    if not _is_value(value):
        return None
    end = sentence.rstrip(" .!")
    if bracket := BRACKET.search(end):
        return value + bracket.group().removeprefix("**")
    alone = _concludes(sentence) and not any(map(str.isdigit, BOLD.sub("", sentence)))
    return value if end.endswith("**") or alone else None


def _inferred(sentence: str) -> str | None:
    """72 clips of "Therefore, she sold 72 clips."."""
    if not _concludes(sentence) or "**" in sentence:
        return None
    listed = sentence[begin.end() :].strip(" ,.") if (begin := CONCLUDING.match(sentence)) else ""
    return listed if _are_values(listed) else value_in_prose(sentence)


def _stated(named: re.Match[str], start: int) -> Claim | None:
    """42 of "The sum of 17 and 25 is 42", and 1/2 of "The probability is 1/2, or 0.5", which offers the rest."""
    value = named["value"]
    first, _, other = value.partition(", or ")
    written = first.strip(" *")
    if _doubtful(named["subject"]) or not (
        _is_value(written) or _are_values(written) or (JOINED.fullmatch(first) and "$" in first)
    ):
        return None
    if other and not _is_value(other):
        return None
    begin = start + named.start("value")
    return Claim(written, begin, begin + len(first))


def value_in_prose(sentence: str) -> str | None:
    """The one number or formula of a sentence that doubts nothing, with the word behind it; None if there are several.

    >>> value_in_prose("She sold 72 clips altogether."), value_in_prose("It is 72 or so."), value_in_prose("It is $x$.")
    ('72 clips', None, 'x')
    """
    if len(sentence) > MAX_SENTENCE_CHARS or _doubtful(sentence) or not PROSE_CHARS.fullmatch(sentence):
        return None
    sentence = WORKING.sub("", sentence)
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


def _are_values(text: str) -> bool:
    """Whether it is "x = 2 and x = 3", with dollar signs or without."""
    parts = NAMED_VALUES.split(text)
    return len(parts) > 1 and all(LETTER_IS.match(part) and _is_value(LETTER_IS.sub("", part)) for part in parts)


def _concludes(sentence: str) -> bool:
    return bool(CONCLUDING.match(sentence) or SUMMING_UP.search(sentence))


def _doubtful(text: str) -> bool:
    words = {word.lower().replace("\u2019", "'") for word in WORDS.findall(text) if word != "May"}
    return not DOUBTS.isdisjoint(words) or any(word.endswith("n't") for word in words)
