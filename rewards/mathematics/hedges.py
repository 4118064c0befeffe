r"""Words beside a claim that put another one beside it: "\boxed{5} or maybe 6", "5 if x > 0, else 6".

Only what stands next to the claim is read, at most REACH characters: whatever the text, the time is bounded.
"""

from __future__ import annotations

import re

from rewards.mathematics import languages
from rewards.mathematics.denials import NEUTRAL_WORDS, REACH, nothing_follows


def word_set(*lines: str) -> frozenset[str]:
    """The words of the lines."""
    return frozenset(" ".join(lines).split())


NUMBER = r"[-\u2212]?\$?(?:[0-9]{1,30}(?:,[0-9]{3}){0,9}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})(?:/[0-9]{1,30})?%?"

TRIGGERS = word_set(
    "or maybe perhaps possibly unless alternatively otherwise could might may actually rather mean meant else should",
    "wait no and oops scratch kidding joking correction typo misread reflection thought edit",
)
FILLERS = word_set(
    "but if not sure then it its this that would can also is be was were are even i think guess believe the answer",
    "value result equals equal to either just so sorry let me say well hmm x y n s now one choice option final correct",
    "equivalently simply however more precisely exactly oh my a that's meant on second though although true real",
    "actual right",
)
LINKS = TRIGGERS | FILLERS
MAX_WORDS = 12
GLUE = re.compile(r"[\s$*_(),.:;!?=\\\])'-]*+")
WORD = re.compile(r"(?a)[a-zA-Z]++")
SYMBOLS = frozenset("xynXYNAS")  # not words unless they are x in "x = 6"
EQUALS = re.compile(r"\s*+=")
VALUE = re.compile(NUMBER)
OFFERING = word_set("or maybe perhaps possibly unless")
CONTRASTS = word_set("but however though although")
TAKEN_BACK = word_set("correction scratch oops edit typo kidding")
WRAPPER = re.compile(r"\\(?:boxed|fbox|text(?:bf)?|mathrm|mathbf)\{")
GENUINE = word_set("correct right true real actual")
ROUNDED = word_set("about approximately approx roughly around nearly almost circa")
PROSE = re.compile(r"(?:(?<![\\a-zA-Z])[a-zA-Z]{3,30}\b[^\\]*?){2}")
OPERATOR = re.compile(r"[a-zA-Z]|[ $]*+(?:[-+*/^=_({]|\\(?:cdot|times|div|pm|[dt]?frac|sqrt|pi))")
UNIT = re.compile(r"(?a) ?[a-zA-Z]{2,20}(?=[ $*_)]{0,4}(?:[.,;?!\n]|\Z))")
BRACKETED = re.compile(r"(?ai)[ $*_\\]*+\([ $]*+or\b")
FORMULA = re.compile(r"[ $*_:]*+(?P<value>[^\n;?!]{1,80}?)(?=[.,]?(?:\s*+\Z|\n|[;?!]|[.,]\s))")
OPENERS = OFFERING | {"if"}
WORD_OR_DIGIT = re.compile(r"[^\W_]")
MATHEMATICS = re.compile(r"[\\^_=+<>]|\d|^[ $]*+[a-zA-Z][ $]*+\Z")
LISTED_AFTER = re.compile(
    rf"(?ai)[ \t$*_\\)]*+(?:\([0-9.]{{1,5}} ?\\?%\))?[,;/|&+^-][ \t$*_\\(]*+(?P<value>{NUMBER})(?P<after>[^\n]{{0,40}})"
)
OTHER_BEFORE = re.compile(
    rf"(?ai)(?P<value>{NUMBER})(?:[\s$*_),.\\]*+(?:or|and maybe|or maybe|or perhaps|or possibly|or even|and/or)"
    r"[\s$*_(\\]*+|[ $*_),.\\]*+[/|][ $*_(\\]*+)(?:(?:x|y|n)\s*+=\s*+)?+\Z"
)
BETWEEN_BEFORE = re.compile(rf"(?ai)\bbetween[\s$*_(\\]++(?P<value>{NUMBER})[\s$*_),\\]*+and[\s$*_(\\]*+\Z")
OTHERWISE = re.compile(  # ", otherwise 6", ", in which case 6", "; if x < 0, 6"
    rf"(?ai)\s*+(?:[^\n.]|\.(?=[0-9])){{0,100}}?"
    r"(?:[,;(]\s?(?:and |or |but )?(?:otherwise|else|in which case|in that case|if not)|"
    rf";\s?(?:assuming|if|when|for)\b[^;,.\n]{{1,60}}?(?:,| it is| it's))\s"
    rf"(?:it(?:'s| is| would be) |the answer is )?[\s$]{{0,3}}(?P<value>{NUMBER})"
)
BY_CASE = re.compile(  # "5 for even n and 6 for odd n"
    rf"(?ai)[ $*_)]*+(?:for|when|if|under|assuming)\s[^.\n]{{1,60}}?(?:\band|,|;|\bbut)\s\$?(?P<value>{NUMBER})\$?\s"
    r"(?:for|when|if|under|assuming|otherwise)\b"
)
IN_BRACKETS = re.compile(  # "5 (if rounded down), 6 (if rounded up)"
    rf"(?ai)[ $*_]{{0,4}}\([^()\n]{{1,60}}\)[,;]? ?(?:and |or )?\$?(?P<value>{NUMBER})\$? \("
)
TEX_TEXT = re.compile(r"\\text(?:rm|bf|it)?\{([^{}]*)\}")
TEX_SPACE = re.compile(r"\\(?:q?quad(?![a-z])|[ ,;!])")
MIGHT_BE = re.compile(
    rf"(?ai)\b(?:it|this|that|answer|value) (?:might|could|may)(?: (?:also|well|instead|perhaps|even))* be [\s$]{{0,3}}"
    rf"(?P<value>{NUMBER})"
)
FOR_THE_DOUBTER = re.compile(rf"(?ai)(?<![0-9.])(?P<value>{NUMBER})\$? if (?:you|not|this|that|it is not|i am|i'm)\b")
ASKED = re.compile(rf"[ $*_)]*+\?++\s*+(?P<value>{NUMBER})[ $*_)]*+\?")  # "5? 6?"
MEASURED = re.compile(rf"(?ai){NUMBER} [a-z]{{1,20}}(?:,? and|,)? {NUMBER} [a-z]{{1,20}}")  # "3 hours and 30 minutes"
FITS = r"(?:possible|correct|right|valid|fine|acceptable"
ALSO = re.compile(
    rf"(?ai)(?<![0-9.])(?P<value>{NUMBER}|(?-i:\b[A-J]\b))[\s$*_)]{{0,4}}"
    rf"(?:(?:is|are|would|could|might|may|can)? ?(?:be )?also ?(?:be )?{FITS}|an? |works?|the )|"
    rf"(?:is|would be|are) (?:equally|just as)|(?:is|would be|are) {FITS}) (?:too|as well)|works (?:too|as well)|"
    r"is (?:(?:my|a|an|the) )?(?:candidate|(?:second |other |next )?guess|option|another|second|alternative|other|"
    r"possibility)\b|would be my\b)"
)
FOREIGN_OR = re.compile(rf"(?ai)[\s$*_),.\uff0c\\]*+(?:{languages.OR})[\s$*_(\\]*+(?P<value>{NUMBER})")
PERHAPS_BEFORE = re.compile(  # "It is 1/2, or perhaps 1/3. So: "
    rf"(?ai)(?<![0-9.])(?P<value>{NUMBER})[ $*_),]{{0,4}}(?:or |and )?(?:perhaps|maybe|possibly) "
    rf"(?:it(?:'s| is) |even )?[$(]?(?P<other>{NUMBER})[ $*_)]{{0,4}}[.;!?\n]{NEUTRAL_WORDS}\Z"
)
AMENDED = re.compile(  # "I made an error. It should be 73."
    rf"(?ai)(?:\b(?:error|mistake|slip|wrong|incorrect|oops|wait|actually)\b|{languages.WRONG})(?s:.){{0,160}}?"
    rf"(?:(?:should|ought to) (?:be|have been)|(?:true|correct|right|actual) (?:value|answer|result|total|number) is|"
    rf"{languages.SHOULD_BE})[\s:$*]{{0,4}}(?P<value>{NUMBER})|"
    rf"\b(?:error|mistake|slip|wrong|incorrect|oops|wait|actually)\b[^\n]{{0,160}}?(?<![0-9.])(?P<right>{NUMBER})\$? "
    r"is (?:right|correct)\b"
)
ACCEPTED = re.compile(rf"(?ai)\b(?:accept|allow)(?:able|ed)?(?: also| as well)?:? \$?(?P<value>{NUMBER})")
IN_A_ROW_BEFORE = re.compile(rf"(?:\A|[\s,])\$?(?P<value>{NUMBER})[\s$,]++\Z")  # of "16 17 18"
IN_A_ROW_AFTER = re.compile(rf"[\s$,]++(?P<value>{NUMBER})(?![0-9a-zA-Z])")
ENDED = re.compile(r"(?ai)[\s$*_)\]\\]*+(?:[.,;?!<](?![0-9])|\Z|\n|[a-z]{2,20}[\s*_]*+(?:[.,;?!]|\Z))")
HEDGED = re.compile(r"(?ai)\b(?:or|maybe|perhaps|possibly|either|and/or)\b")


def alternatives(text: str, start: int, end: int) -> list[str]:
    r"""Numbers that the words beside the claim text[start:end] offer in its place.

    >>> alternatives("It is 5 or maybe 6.", 6, 7), alternatives("5, or 10/2", 0, 1), alternatives("5 and so on", 0, 1)
    (['6'], ['10/2'], [])
    """
    found: list[str] = []
    before = text[max(0, start - REACH) : start]
    for expression in (OTHER_BEFORE, BETWEEN_BEFORE, PERHAPS_BEFORE):
        if match := expression.search(before):
            found += match.groups()
    if nothing_follows(text, end):
        return found
    after = text[end : end + REACH]
    if "\\" in after:
        after = TEX_SPACE.sub(" ", TEX_TEXT.sub(r" \1 ", after))
    if offered := _offered(after, for_words=MATHEMATICS.search(WRAPPER.sub("", text[start:end])) is None):
        found.append(offered)
    elif (listed := LISTED_AFTER.match(after)) and ENDED.match(listed["after"]):
        found.append(listed["value"])
    for expression in (OTHERWISE, ASKED, BY_CASE, IN_BRACKETS):
        if (match := expression.match(after)) and (expression is not OTHERWISE or ENDED.match(after, match.end())):
            found.append(match["value"])
    if (left := IN_A_ROW_BEFORE.search(before[-40:])) and (right := IN_A_ROW_AFTER.match(after)):
        found += [left["value"], right["value"]]
    if foreign := FOREIGN_OR.match(after):
        found.append(foreign["value"])
    for expression in (MIGHT_BE, FOR_THE_DOUBTER, AMENDED, ACCEPTED):
        if match := expression.search(after):
            found.append(next(value for value in match.groups() if value))
    if also := ALSO.search(after):
        found.append(also["value"])
    if after[:1].isdigit():  # \boxed{5}6
        found.append(after[:1])
    return found


def _offered(after: str, for_words: bool) -> str | None:
    """What "or maybe it is", "no wait, the answer should be" and the like lead to: a number, a formula, or words.

    Words are offered for words only: "5, or so it seems".
    """
    position = 0
    words: list[str] = []
    while len(words) <= MAX_WORDS:
        glue = GLUE.match(after, position)
        assert glue is not None
        start = glue.end()
        word = WORD.match(after, start)
        if word is None or word.group().lower() not in LINKS:
            break
        if word.group() in SYMBOLS and not EQUALS.match(after, word.end()):
            break
        words.append(word.group().lower())
        position = word.end()
    if words[-1:] == ["not"] and "if" not in words:  # "and not 6"
        return None
    corrected = not CONTRASTS.isdisjoint(words) and not GENUINE.isdisjoint(words)  # "but the correct value is 6"
    hedging = corrected or not OFFERING.isdisjoint(words) or {"if", "not"} <= set(words)
    if not hedging and TRIGGERS.isdisjoint(words):
        return None
    start -= 1 if after[start - 1 : start] == "-" else 0
    value = VALUE.match(after, start)
    if value and (ENDED.match(after, value.end()) or (hedging and not OPERATOR.match(after, value.end()))):
        if measured := MEASURED.match(after, start):
            return measured.group()
        unit = UNIT.match(after, value.end())
        return after[start : unit.end() if unit else value.end()]
    in_brackets = BRACKETED.match(after) is not None
    replaced = for_words and (not TAKEN_BACK.isdisjoint(words) or {"no", "wait"} <= set(words))  # "no wait, Paris"
    formula = FORMULA.match(after, position) if hedging or replaced else None
    if formula is None or "\\boxed" in formula["value"] or not WORD_OR_DIGIT.search(formula["value"]):
        return None
    written = formula["value"].strip(" $*_,:").removesuffix(")" if in_brackets else "").strip(" $")
    if (first := WORD.match(written)) and first.group().lower() in ROUNDED:
        return None
    formal = MATHEMATICS.search(written) is not None and not PROSE.search(written)
    if in_brackets or formal or (for_words and words[0] in OPENERS) or (replaced and written.count(" ") < 3):
        return written
    return None
