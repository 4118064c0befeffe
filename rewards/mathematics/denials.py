r"""Words and signs beside a claim that make it no claim: "not \boxed{5}", "less than \boxed{5}", "2\cdot\boxed{5}".

Only what stands next to the claim is read, at most REACH characters: whatever the text, the time is bounded.
"""

from __future__ import annotations

import re

REACH = 160


def any_of(*lines: str) -> str:
    """A group of alternatives: what the lines hold between their bars."""
    return f"(?:{'|'.join(lines)})"


NOT = r"(?:is|was|are|were|does|do|did|ca|could|wo|would|should|ai|has|have)n['\u2019]?t"
NEGATOR = any_of(
    f"not|never|cannot|neither|nor|{NOT}|nobody|no one|hardly|unlikely|impossible (?:that|for)|untrue|wrong|incorrect",
    "false|bad|mistaken(?:ly)?|unlike|rejects?|rejected|refuses?|refused|den(?:y|ies)|rules? out|ruled out",
    "instead of|rather than|other than|far from|nowhere near|no longer|rejecting",
    "(?:anything|everything|(?:all|every|any)(?: (?:numbers?|values?|integers?))?) (?:but|except)(?: for)?",
    "(?<!no )(?<!not )(?<!without )(?<!beyond )(?<!any )doubt(?:s|ful)?",
)
BETWEEN = any_of(  # what may stand between the denial and what it denies
    "be|been|equal|equals|to|the|that|it|this|(?:true|correct|right|possible) that|answer|value|result|is|was|would",
    "among|(?:one|any) of|could|can|should|will|believe|accept|say|said|claim|think|thought|simply|just|a|as|x|y|n",
)
END = r"[\s$*_:(\\\"]*+\Z"
NEGATED_BEFORE = re.compile(rf"(?ai)\b({NEGATOR})(?:[\s'*_}}]++{BETWEEN}\b){{0,8}}([\s$*_(:=\\}}]*+)\Z")
ADJECTIVES = frozenset(("wrong", "incorrect", "false", "bad"))
NAMING = re.compile(r"[\s*_]*+(?::|(?:is|was)\b)")  # "that is wrong: \boxed{5}", "the one that is false is \boxed{5}"
IS_IT = r"(?:which|that|this|it|but|is|was|are|would|be|definitely|clearly|the|answer|(?-i:an?))\b[\s*_]*+"
REFUTED = any_of(
    rf"(?:not|cannot|{NOT})\b[\s*_]*+(?:(?:the|a|my|our|quite|be)\b[\s*_]*+){{0,8}}"
    r"(?:correct|right|answer|true|final|solution|it|what|satisfy|work|fit|hold|solve|match)\b",
    r"fails?\b|contradicts?\b|what (?:a|an|some|most|many|people|students)\b",
)
NEGATED_AFTER = re.compile(
    rf"(?ai)[\s$*_().,;:\\\]]*+(?:(?:{IS_IT}){{0,8}}(?:does )?{REFUTED}|"
    rf"(?:{IS_IT}){{1,8}}(?:wrong|incorrect|false|mistaken|(?:common |typical |obvious )?(?:trap|mistake|lie|joke))\b|"
    r"(?:wrong|incorrect|false)[\s*_]*+(?:[.!,;)]|\Z|because))|[ $*_)]*+[\u2717\u2718\u274c\u2716]"
)
QUESTIONED_AFTER = re.compile(r"(?ai)[\s$*_)\\\]]*+\?[?!\s*]*+(?:no|nope|nah|not|wrong|never)\b")
SOMEBODY = any_of(
    "one|some(?: people| students)?|many(?: people| students)?|people|students?|naive[a-z]*+",
    "someone|somebody|others|friend|teacher|book|internet|wikipedia|google|who|he|she|they",
)
SAYS = "(?:thinks?|says?|guess|guesses|writes?|claims?|believes?|(?:might|may|could|would|often) answer|concludes?)"
MISTAKE = "(?:mistake|error|trap|misconception|fallacy)s? (?:is|are|was|would be)(?: to| that)?(?: [a-z]++)?"
TEMPTED = "tempt(?:ed|ing) to [a-z]++|an? (?:mistake|error) to [a-z]++"
WONDER = "(?:wonder(?:ing)?|unsure|not sure|uncertain|unclear|(?:do|does)(?: not|n['\u2019]t) know)(?: if| whether)"
ACCORDING = f"according to (?:my |the |a |some )?(?:text)?(?:{SOMEBODY}|answer key|solution manual|chatgpt),?"
ASKING = re.compile(  # "Could it be \\boxed{5}?"
    r"(?ai)(?:\A|[.!?\n])\s*+(?:(?:so|then|but|hmm|now),? )?"
    r"(?:could|can|is|are|might|would|should|may|what if|how about)\b[^.!?\n]*+\Z"
)
ASKED = re.compile(r"(?ai)[\s$*_)\\\]]*+\?(?!\s*+(?:yes|yep|indeed|correct|right|it is|exactly))")
ATTRIBUTED = re.compile(  # "one might think", "a common mistake is to say"
    rf"(?ai)\b(?:{SOMEBODY}(?: [a-z]++){{0,3}}? {SAYS}|{MISTAKE}|{TEMPTED}|{WONDER}|{ACCORDING})"
    rf"(?: {BETWEEN}){{0,6}}{END}"
)
AMONG = re.compile(  # "my guesses:", "top three answers:"
    r"(?ai)\b(?:my|possible|potential|likely|top|best|the|candidate)(?: (?:two|three|four|five|[2-9]))? "
    rf"(?:guesses|candidates|possibilities|contenders|bets)(?: are| include)?[\s-]*+{END}"
)
SUBJECT = "(?:answer|value|result|solution|total|it|this|that)"
IS = r"(?:['\u2019]s| (?:is|was|must be|has to be|should be|will be|lies|seems|appears))"
BOUND = "(?:at least|at most|no (?:more|less|fewer) than|up to|one of|between)"
COMPARISON = any_of(
    "(?:less|greater|more|fewer|bigger|smaller|larger|higher|lower) than|above|below|under|over|close to|near|off by",
    "twice|double|triple|half(?: of)?|an? multiple of",
    "(?:the )?(?:opposite|negative|negation|reciprocal|inverse|square|cube|square root|double|half|neighbou?r) of",
)
COMPARED = re.compile(  # a bound of the answer, or what it is to be worked out of
    rf"(?ai)\b(?:{SUBJECT}{IS}(?: [a-z]++)?? {COMPARISON}|answer{IS}(?: [a-z]++)?? {BOUND}|answer exceeds|"
    rf"(?<!no )(?:less|greater|more|fewer|bigger|smaller|larger|higher|lower) than|complement of){END}"
)
WORKED_ON = re.compile(  # -\boxed{5}, 2\cdot\boxed{5}, \sqrt{\boxed{5}}: the box is a part of something else
    any_of(
        r"[0-9]|0\.|(?:\A|[=$(])\s?[0-9.]{1,20}\s[-\u2212]\s|[0-9a-zA-Z)}] [<>]\s?|\\[lg]t\s?|\u274c\s?",
        r"[-\u2212\u00ac]|[0-9)}\]]\s?[+/]\s?|[0-9]\s?\*\s?|\^\s?\{?|!=\s?|\u2260\s?|\\not\s?=\s?",
        r"\\(?:cdot|times|div|pm|mp|neg|lnot|sim|neq?|notin|setminus)\s{0,3}|\\overline\{|\\sqrt(?:\[[^][]{0,9}\])?\{?",
        r"\\[dtc]?frac\{?|\\[dtc]?frac\{[^{}]{0,40}\}\{|\\(?:ln|log|sin|cos|tan|exp)\s?[({]?",
    )
    + r"\Z"
)
WORKED_ON_AFTER = re.compile(
    r"!+\s?(?:\$|\\[)\]])|[$ ]{0,2}(?:plus|minus|times|divided by|squared|cubed)(?![a-z])|"
    r"[$ ]{0,2}[-+] ?(?:\\(?!text|q?quad)[a-z]+|[b-hj-z](?![a-zA-Z]))|"
    r"[ $]?\\(?:cdot|times|div|pm|pi|sqrt|frac)(?![a-z])|[xyznki](?![a-zA-Z])|\.[0-9]|\^(?!\{?\\circ)"
)
EQUATED = re.compile(r"[\s$)}]*+(?:[-+*/][\s$]*+[0-9.]{1,20}[\s$]*+)?=")  # 4 + \boxed{3} = 7 fills in a blank
IF_WOULD_BE = re.compile(rf"(?ai)\bif\b[^.!?\n]{{0,120}}\b(?:would|could|might)(?: have)? be(?:en)?{END}")
WOULD_BE = re.compile(rf"(?ai)\b(?:would|could|might)(?: only)?(?: have)? be(?:en)?{END}")
HAD_BEEN = re.compile(rf"(?ai)\bif\b[^.!?\n]{{0,80}}?\b(?:had|were)\b[^.!?\n]{{0,80}}\bwould(?: have)? be(?:en)?{END}")
BUT_AFTER = re.compile(r"(?ai)[\s$*_)\\\].,;a-z]{0,30}?[.,;\n]\s*+(?:but|however|yet|in fact|instead|since)\b")
IF_AFTER = re.compile(r"(?ai)[\s$*_)\\\]]*+(?:only )?(?:if|had|were|unless|in case)\b")
UNREAL_AFTER = re.compile(
    rf"(?ai)[\s$*_)\\\].,;]*+(?:(?:but|however|yet),? )?(?:{SUBJECT}|she|he|they|we|which)(?: [a-z]++)? ?"
    rf"(?:{NOT}|(?:is|was|did|does|do|are|were) (?:not|never))\b"
)
NEUTRAL_WORDS = (
    r"(?:[\s$*_(:=\\#]++|(?:so|thus|hence|therefore|then|the|our|final|correct|answer|value|is|are|we|get|have|x)\b)*+"
)
# A clause of these words alone denies nothing: most do, so it is looked for first.
NEUTRAL = re.compile(rf"(?ai){NEUTRAL_WORDS}\Z")
ANSWER_GIVEN = any_of(
    "(?:the )?(?:above|previous|preceding|boxed|my)(?: (?:above|previous|boxed|final|answer|result|value|box)){0,3}+",
    "the (?:answer|result|value) above",
)
WITHDRAWN = re.compile(  # "Disregard that answer.", "The above is incorrect."
    r"(?ai)\b(?:ignore|disregard|forget|discard|retract|withdraw)\b(?: (?:all|everything|of|what))*+ "
    rf"(?:{ANSWER_GIVEN}|(?:that|this)(?: (?:answer|result|value|box))?+|I (?:said|wrote))(?= ?(?:[.!,;\n]|\Z))|"
    rf"\b(?<!if )(?<!unless ){ANSWER_GIVEN} (?:is|was)(?: (?:actually|completely|probably|simply))? "
    r"(?:wrong|incorrect|mistaken|not (?:correct|right)|false)\b"
)
UNCOMMITTED = re.compile(
    r"(?ai)\b(?:(?:can(?:no|['\u2019])t|could not) (?:decide|choose)|toss-?up|flip a coin|coin flip)\b"
)
TORN = re.compile(r"(?ai)\b(?:torn|hesitat(?:e|ing)|wavering|undecided) between\b")
MAX_AFTERTHOUGHT_CHARS = 2000
STRUCK = ("~~", "<s>", "<del>", "<strike>", "\\sout{", "\\st{", "\\cancel{", "\\xcancel{", "\\bcancel{", "phantom{")


def negated(text: str, start: int, end: int) -> bool:
    r"""Whether the words beside the claim text[start:end] deny it, suppose it, or only compare with it.

    >>> negated("It is not 5.", 10, 11), negated("5 is not the answer", 0, 1), negated("It is 5, not 6.", 6, 7)
    (True, True, False)
    >>> negated("It is less than 5.", 16, 17), negated("It would be 5 if x were 2.", 12, 13)
    (True, True)
    """
    before = text[max(0, start - REACH) : start]
    if before.rstrip(" $*").lower().endswith(STRUCK):
        return True
    clause = before[max(before.rfind(mark) for mark in ".,;?!\n") + 1 :]
    if _denied_before(clause):
        return True
    if ASKED.match(text, end) and ASKING.search(before):
        return True
    return not nothing_follows(text, end) and (_denied_after(text, end) or _supposed(before, text, end))


def nothing_follows(text: str, end: int) -> bool:
    """Whether the text ends there, but for punctuation."""
    return len(text) - end <= REACH and not text[end:].strip("\n\t ().:;,$*_\\]")


def withdrawn(text: str, start: int, end: int) -> bool:
    """Whether the text takes the claim text[start:end] back, however far behind it, or will not decide for it.

    >>> withdrawn("It is 5. On reflection, disregard that answer.", 6, 7), withdrawn("5, I can't decide", 0, 1)
    (True, True)
    """
    before = text[max(0, start - REACH) : start]
    if TORN.search(before) or UNCOMMITTED.search(before):
        return True
    if nothing_follows(text, end):
        return False
    after = text[end : end + MAX_AFTERTHOUGHT_CHARS]
    return bool(WITHDRAWN.search(after) or UNCOMMITTED.search(after[:REACH]))


def worked_on(text: str, start: int, end: int) -> bool:
    r"""Whether the box text[start:end] is a part of a larger formula that nothing equates: "2\cdot\boxed{5}".

    >>> worked_on(r"2\cdot\boxed{5}", 6, 15), worked_on(r"2 + \boxed{3} = 5", 4, 13), worked_on(r"5 = \boxed{5}", 4, 13)
    (True, False, False)
    """
    before = text[max(0, start - 60) : start]
    line = before[before.rfind("\n") + 1 :]
    worked = WORKED_ON.search(line) or WORKED_ON_AFTER.match(text, end)
    return worked is not None and not EQUATED.match(text, end, end + REACH)


def _denied_before(clause: str) -> bool:
    """Whether the clause that leads to a claim denies it, gives it to somebody else, or compares with it."""
    if NEUTRAL.match(clause):
        return False
    for match in NEGATED_BEFORE.finditer(clause):
        subject = clause[: match.start()].strip(" *_-")  # of "the false statement is": what is false is meant
        if not (match[1].lower() in ADJECTIVES and subject and NAMING.match(clause, match.end(1))):
            return True
    return any(expression.search(clause) for expression in (ATTRIBUTED, AMONG, COMPARED))


def _denied_after(text: str, end: int) -> bool:
    stop = end + REACH
    return bool(NEGATED_AFTER.match(text, end, stop) or QUESTIONED_AFTER.match(text, end, stop))


def _supposed(before: str, text: str, end: int) -> bool:
    """Whether the claim would hold in another case: "it would be 5 if x were 2", "if x were 2, 5. But it is not.\""""
    if WOULD_BE.search(before) and IF_AFTER.match(text, end, end + REACH):
        return True
    if HAD_BEEN.search(before) and BUT_AFTER.match(text, end, end + REACH):
        return True
    return bool(IF_WOULD_BE.search(before) and UNREAL_AFTER.match(text, end, end + REACH))
