r"""Accuracy on problems whose answer is a number, a formula, a set, an interval, a word: anything with one right value.

    reward = 1 if the one answer that the completion commits itself to equals the gold, else 0

as the accuracy reward of DeepSeek-R1 (arXiv:2501.12948, section 2.2). Which answer that is: rewards/mathematics/
extract.py; what equal means: rewards/mathematics/compare.py. Usable without the rest of the framework:

    python -c "from rewards.math_answer import grade; print(grade('1/2', r'So it is \boxed{0.5}.'))"
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from data.problem import Problem
from rewards.mathematics import extract
from rewards.mathematics.claims import MAX_ANSWER_CHARS
from rewards.mathematics.compare import compare
from rewards.mathematics.conclusions import value_in_prose
from rewards.mathematics.echo import evasion
from rl.experience import Completion, Prompt, Verdict

Verifier = Literal["own", "math_verify"]

PROSE_WORD = re.compile(r"(?a)(?<![\\a-zA-Z])[a-zA-Z]{2,}")
OPERATOR = re.compile(r"[+*/^=<>|]|(?<=[\w)}]) ?-|- ")

OR = re.compile(r"\s(?:or|\\text\{\s?or\s?\})\s")
MAX_GOLD_CHARS = 4000
MAX_SOLUTION_CHARS = 20_000  # of a longer one the answer is not kept for the next time
OPTION = re.compile(r"\(?[A-J]\)?")
NAMED_OPTION = re.compile(r"\(?([A-J])[).:] ?(?![^\n]{0,200}(?:\b[A-J][).]|\b(?:or|and) [A-J]\b))[^\n]{1,200}")
EXPLAINED = re.compile(r"([^()\n]{1,60}?) \(([^()\n]{1,60})\)")
LABEL = re.compile(r"(?a)\\(?:text|mathrm|textbf|mathbf)\{[^{}=]{2,40}\}\s*|[a-zA-Z][a-zA-Z ]{1,40}")
TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{")


def math_answer(
    problem: Problem,
    completion: Completion,
    *,
    prompt: Prompt | None = None,
    allow_last_number: bool = False,
    verifier: Verifier = "own",
) -> float:
    r"""1.0 if the answer of the completion equals the problem's, 0.0 if it does not; see `grade` for what is neither.

    `problem.answer` may be the answer itself or a worked solution that ends in "#### 18" or holds \boxed{18}.
    allow_last_number: without any claim of an answer, the last number counts. verifier: "own" compares as
    rewards/mathematics does; "math_verify" as Hugging Face's math-verify does, for comparison with published runs.
    """
    prefix = prompt.prefix if prompt else ""
    return grade(
        problem.answer,
        completion.text,
        question=problem.question,
        prefix=prefix,
        allow_last_number=allow_last_number,
        verifier=verifier,
    )


def grade(
    gold: str,
    text: str,
    *,
    question: str = "",
    prefix: str = "",
    allow_last_number: bool = False,
    verifier: Verifier = "own",
) -> Verdict:
    r"""The verdict on a completion: 1.0 (ok) or 0.0 (wrong), or a state without a value.

    no_answer  the completion claims none, or has not ended its thinking
    undecided  the comparison found neither equality nor a difference within its limits
    bad_gold   the gold is empty or cannot be read
    A completion that claims several different answers, or only repeats the expression that the question asks to work
    out, is wrong. `question` and `prefix` (what the template wrote of the answer, "<think>") may be left out.

    >>> grade("1/2", r"So it is \boxed{0.5}.")
    Verdict(1.0, state='ok', reason='')
    >>> grade("5", "The answer is 5 or 6.").state
    'wrong'
    >>> grade("5", "I cannot tell.")
    Verdict(0.0, state='no_answer', reason='no answer was found')
    """
    expected = gold_answer(gold) if len(gold) <= MAX_SOLUTION_CHARS else gold_answer.__wrapped__(gold)
    if len(expected) > MAX_GOLD_CHARS:  # nor do the caches hold it
        return Verdict(state="bad_gold", reason=f"the gold is longer than {MAX_GOLD_CHARS} characters")
    if not expected or _compared(expected, expected, verifier).state != "ok":
        return Verdict(state="bad_gold", reason=f"the gold {_short(gold)} cannot be read")
    found = extract.extract_answer(text, question, prefix=prefix, allow_last_number=allow_last_number, unannounced=True)
    if found.answer is None:
        return Verdict(state="wrong" if found.refused else "no_answer", reason=found.reason)
    answer = found.answer
    if OPTION.fullmatch(expected) and (named := NAMED_OPTION.fullmatch(_bare_text(answer))):
        found = replace(found, answer=named[1])  # "(B) Paris" names B
    elif reason := evasion(answer, expected, question):
        return Verdict(0.0, reason=f"{_short(answer)} {reason}")
    return _judged(expected, found, verifier)


def extract_answer(text: str, *, allow_last_number: bool = False) -> str | None:
    r"""The answer that a completion gives, for a vote; None if it gives none or several that are written differently.

    >>> extract_answer(r"<think>\boxed{1}</think> So it is \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> extract_answer("5 + 7 = 12. The answer is 12.")
    '12'
    """
    found = extract.extract_answer(text, allow_last_number=allow_last_number, unannounced=True)
    if found.answer is None or any(compare(found.answer, other).state != "ok" for other in found.others):
        return None
    return found.answer


@lru_cache(maxsize=4096)
def gold_answer(gold: str) -> str:
    r"""The answer alone where the gold is a worked solution; empty if the solution holds none.

    >>> gold_answer("She sold 4 + 14 = 18.\n#### 18"), gold_answer(r"Then $x = \boxed{3}$."), gold_answer("x + 1")
    ('18', '3', 'x + 1')
    """
    if "####" in gold:
        return gold.rpartition("####")[2].strip().partition("\n")[0].strip()
    if "\\boxed" not in gold and "\\fbox" not in gold and "<answer>" not in gold and len(gold.split()) < 8:
        return gold.strip()
    found = extract.extract_answer(gold)
    if found.answer is None:
        return "" if "boxed" in gold else gold.strip()
    different = [part for part in found.parts[:-1] if compare(found.answer, part).state != "ok"]
    return ", ".join([*different, found.answer])


def _judged(gold: str, found: extract.Extracted, verifier: Verifier) -> Verdict:
    """The answer held against the gold; where it is right, so must be everything else that is claimed."""
    assert found.answer is not None
    verdict = _compared(gold, found.answer, verifier)
    if verdict.state != "ok" and len(found.parts) < 2 and _read_otherwise(gold, found, verifier):
        verdict = Verdict(1.0)
    if verdict.state != "ok":
        return Verdict(1.0) if _together(gold, found, verifier) else verdict
    for other in found.others:
        beside = _compared(gold, other, verifier)
        if beside.state != "ok" and _compared(found.answer, other, verifier).state != "ok":  # "1.5 hours or 90 minutes"
            reason = f"{_short(other)} is claimed beside {_short(found.answer)}"
            return Verdict(state="undecided" if beside.state == "undecided" else "wrong", reason=reason)
    return verdict


def _together(gold: str, found: extract.Extracted, verifier: Verifier) -> bool:
    """Whether the claims are the parts of a gold of several values, or one value written twice ("3/4 or 0.75")."""
    if len(found.parts) > 1:
        only_parts = set(found.others) < set(found.parts)
        if only_parts and found.named and _compared(gold, ", ".join(found.named), verifier).state == "ok":
            return True
        # A comma binds more tightly than an "or": between alternatives it would join the last with the next first.
        between = " or " if any(OR.search(part) for part in found.parts) else ", "
        return only_parts and _compared(gold, between.join(found.parts), verifier).state == "ok"
    ways = OR.split(found.answer or "", maxsplit=4)
    return len(ways) > 1 and all(_compared(gold, way.strip("$ "), verifier).state == "ok" for way in ways)


def _read_otherwise(gold: str, found: extract.Extracted, verifier: Verifier) -> bool:
    """Whether the answer, as it cannot be read as it stands, is "72 (48 + 24)", "Sum = 48 + 24 = 72", or a sentence."""
    answer = found.answer or ""
    if match := EXPLAINED.fullmatch(answer):
        return all(_compared(gold, part.strip("$ "), verifier).state == "ok" for part in match.groups())
    label, _, rest = answer.partition("=")
    if "=" in rest and LABEL.fullmatch(label.strip("$ ")):
        return _compared(gold, rest.strip("$ "), verifier).state == "ok"
    has_words = answer.count(" ") > 1 and len(PROSE_WORD.findall(answer)) > 1
    is_prose = has_words and not OPERATOR.search(answer)  # unlike "4 + x"
    value = value_in_prose(answer) if found.source == "block" and is_prose else None
    return value is not None and _compared(gold, value, verifier).state == "ok"


def _compared(gold: str, answer: str, verifier: Verifier) -> Verdict:
    """The verdict on one answer, by the verifier that was asked for."""
    if len(answer) > MAX_ANSWER_CHARS and answer != gold:
        return Verdict(0.0, reason=f"the answer is longer than {MAX_ANSWER_CHARS} characters")
    if verifier == "own":
        return compare(gold, answer)  # which remembers what is worth it
    if verifier != "math_verify":
        raise ValueError(f"verifier must be own or math_verify, got {verifier!r}")
    return Verdict(float(gold == answer or _math_verify(gold, answer)))


def _bare_text(text: str) -> str:
    return TEXT.sub("", text).replace("}", "").strip("$ ")


def _math_verify(gold: str, answer: str) -> bool:
    """math-verify's judgement. What it cannot parse equals nothing.

    It can hang on formulas such as 3^{10^{9}}, and its own time-outs work in a main thread only, so they are off: the
    deadline of the process that calls the reward is what protects it.
    """
    from math_verify import verify

    expected, given = _parse_formula(gold), _parse_formula(answer)
    return bool(expected and given and verify(expected, given, timeout_seconds=None))


@lru_cache(maxsize=256)
def _parse_formula(text: str) -> list[Any]:
    """math-verify's parse. It wants formulas between dollar signs, even if the whole text is one."""
    from math_verify import parse

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they warn at every call that time-outs are off
    formula = text.strip().strip("$").removeprefix("\\(").removesuffix("\\)").rstrip(".")
    return list(parse(f"${formula}$", parsing_timeout=None))


def _short(text: str) -> str:
    """At most 60 characters of it, for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
