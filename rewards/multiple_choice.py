r"""Accuracy on multiple choice: the letter of the right option, however it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from data.problem import Problem
from rewards.answer_text import normalised
from rewards.mathematics.denials import negated
from rewards.mathematics.extract import extract_answer
from rewards.mathematics.visible import after_thinking, visible
from rl.experience import Completion, Prompt, Verdict

LETTERS = "ABCDEFGHIJ"
GoldKind = Literal["auto", "letter", "index", "text"]

MAX_NAMED = 64  # places where an option is named are read, the last ones
MARKUP = re.compile(r"\\(?:text|textbf|mathbf|mathrm|bf|rm)\b|[{}$*_`\\]")
OPTION = re.compile(
    r"(?:(?i:the )?(?i:option|choice|answer) )?[(\[]?([A-J])[)\]]?(?:[).:,]| ?[-\u2013\u2014] )?(?:\s+|\Z)"
)
BARE_OPTION = re.compile(r"(?:\(([A-Ja-j])\)|\[([A-Ja-j])\]|([A-Ja-j])\)?)[.:]?")
CHOSEN = re.compile(  # ways to name the option that are no "the answer is"
    r"(?:(?i:(?:correct|right|best) (?:option|choice|answer) (?:is|would be):? ?)|(?i:i (?:choose|pick|select) ))"
    r"(?:(?i:option|choice) )?[\s*(\[]{0,4}([A-J])\b(?!['\u2019])|"
    r"(?i:option|choice) [*(\[]{0,3}([A-J])[*)\]]{0,3} (?i:is) (?i:the )?(?i:correct|right|best)\b|"
    r"(?:(?<![A-Za-z'\u2019,] )|(?<=[Ss]o )|(?<=[Tt]hus )|(?<=efore )|(?<=efore, )|(?<=ence ))\b([A-J])[*)\]]{0,3} is "
    r"(?:the )?(?i:(?:final |correct |right |best ){0,2}(?:answer|option|choice)\b|correct\b|right\b)"
)
SAID = re.compile(r"(?i:\banswer(?: is|:)) ?[*(\[]{0,3}([A-J])\b(?!['\u2019])[)*\]]{0,3}(?:[.,;]|\s|\Z)")
AMENDED = (
    re.compile(  # "no wait, C", "Actually, it is C.", "Hmm, C is better", and a letter alone behind an answer block
        r"(?i:\b(?:wait|actually|hmm|oops|correction|rather|sorry)\b)[\s,.:*]{0,4}"
        r"(?:(?i:no|it is|it's|the answer is|make that|that's|i mean)[\s,:*]{1,4}){0,2}\(?([A-J])\b(?!['\u2019])\)?"
        r"(?=[*\s]{0,3}(?:[.,;!]|\Z|\n)| (?:is|was) (?:better|right|correct|best))|"
        r"</answer>\s*\(?([A-J])\)?[.\s]*\Z"
    )
)
EXPLAINED = re.compile(
    r"(?i:\banswer(?: is|:)) ?[*(\[]{0,3}[A-J][)*\]]{0,3} \(([^()\n]{1,80})\)"
)  # "answer: B (Paris)"
SEVERAL = re.compile(r"(?:or|and|/|,|&|(?i:option|choice))\s*\(?[A-J]\b")
LISTED = re.compile(r"(?:^|[\s*])\(([A-J])\)|^[\s*]{0,6}([A-J])[).:](?=\s|\Z)", re.MULTILINE)


def multiple_choice(
    problem: Problem, completion: Completion, *, prompt: Prompt | None = None, gold: GoldKind = "auto"
) -> float:
    r"""1.0 if the completion names the right option and no other, 0.0 if it names another or several.

    `metadata["choices"]` holds the options: texts in order, {letter: text}, or {"label": [...], "text": [...]}. It may
    be missing; then the gold is a letter and answers are letters, A to J.

    gold: what problem.answer is: a "letter", an "index" from 0 (as in MMLU, arXiv:2009.03300), or the "text" of an
    option. "auto" takes a letter as a letter, a text that is one of the choices as that choice, and a number as index.

    An option is named by \boxed{B}, <answer>, #### or "the answer is": as B, (B), "B) Paris", "option B" or by its
    text; and else by "option B is correct", by the completion being nothing but the option, or by the only option that
    it lists. A letter with the text of another option is wrong. Raises ValueError for choices that cannot be read.
    """
    choices = _choices(problem)
    right = _gold(problem.answer.strip(), choices, gold)
    if right is None:
        return Verdict(state="bad_gold", reason=f"the gold {problem.answer[:40]!r} names none of the choices")
    prefix = prompt.prefix if prompt else ""
    found = extract_answer(completion.text, problem.question, prefix=prefix)
    if found.refused:
        return Verdict(0.0, reason=found.reason)
    text = visible(after_thinking(prefix + completion.text) or "", problem.question).text
    if found.answer is not None:
        named = {_option(claim, choices) for claim in (found.answer, *found.others)}
        named |= set(SAID.findall(text)) if found.source != "phrase" else set()
        named |= _amended(text) | {_by_text(words, choices) for words in EXPLAINED.findall(text)} - {None}
        return Verdict(float(named == {right}))
    named = {letter for letter in _named(text, choices) | _amended(text) if not choices or letter in choices}
    if not named:
        return Verdict(state="no_answer", reason=found.reason)
    return Verdict(float(named == {right}))


def _choices(problem: Problem) -> dict[str, str]:
    """Letter -> text of the option; empty if the problem does not say."""
    choices = problem.metadata.get("choices")
    if choices is None:
        return {}
    if isinstance(choices, Mapping):
        if "text" in choices:
            labels = choices.get("label") or LETTERS[: len(choices["text"])]
            choices = dict(zip(labels, choices["text"], strict=True))
        by_label = {str(label).strip("() .").upper(): str(text) for label, text in choices.items()}
        if all(label.isdigit() for label in by_label):  # ARC labels some questions 1 to 4
            return dict(zip(LETTERS, by_label.values(), strict=False))
        return by_label
    if isinstance(choices, str) or not isinstance(choices, Sequence) or len(choices) > len(LETTERS):
        raise ValueError(
            f"problem {problem.id}: metadata['choices'] must be at most {len(LETTERS)} texts or a mapping from letter "
            f"to text, got {choices!r}"
        )
    return dict(zip(LETTERS, map(str, choices), strict=False))


def _gold(answer: str, choices: Mapping[str, str], kind: GoldKind) -> str | None:
    """The letter of the right option."""
    if kind not in ("auto", "letter", "index", "text"):
        raise ValueError(f"multiple_choice: gold must be auto, letter, index or text, got {kind!r}")
    known = list(choices) or list(LETTERS)
    letter = answer.strip("() .").upper()
    if kind in ("auto", "letter") and letter in known:
        return letter
    if kind in ("auto", "text") and (found := _by_text(answer, choices)):
        return found
    if kind in ("auto", "index") and answer.isascii() and answer.isdigit() and int(answer[:3]) < len(known):
        return known[int(answer[:3])]
    return None


def _by_text(text: str, choices: Mapping[str, str]) -> str | None:
    """The letter of the one option whose text this is, in the same words; None if there is none or several."""
    exact = [letter for letter, choice in choices.items() if choice.strip() == text.strip()]
    words = normalised(text)
    same = exact or [letter for letter, choice in choices.items() if words and normalised(choice) == words]
    return same[0] if len(same) == 1 else None


def _option(claim: str, choices: Mapping[str, str]) -> str | None:
    """The letter that a claim names; None if it names none or more than one."""
    if by_text := _by_text(claim, choices):
        return by_text
    text = MARKUP.sub("", claim).strip().rstrip(".")
    if match := BARE_OPTION.fullmatch(text):
        return str(match[1] or match[2] or match[3]).upper()
    if by_text := _by_text(text, choices):
        return by_text
    match = OPTION.match(text)
    if match is None:
        return None
    letter, rest = match.group(1), text[match.end() :].strip()
    if rest and letter in choices:  # "B) Paris": the words must be that option's
        return letter if _by_text(rest, choices) == letter else None
    marked = match.group().strip()[-1] in ").:,]-"
    several = LISTED.search(rest) or SEVERAL.match(rest) or BARE_OPTION.fullmatch(rest)
    return letter if not rest or (marked and not several and not choices) else None


def _amended(text: str) -> set[str | None]:
    """The options that an afterthought puts in place of another."""
    return {letter for match in AMENDED.finditer(text) for letter in match.groups() if letter}


def _named(text: str, choices: Mapping[str, str]) -> set[str | None]:
    """The options that a completion names without claiming an answer."""
    if len(text) < 1000 and (whole := _option(text.strip(), choices)):
        return {whole}
    if chosen := list(CHOSEN.finditer(text))[-MAX_NAMED:]:
        kept = [match for match in chosen if not _taken_back(text, match.start(), match.end())]
        return {letter for match in kept for letter in match.groups() if letter} or {None}
    listed = list(LISTED.finditer(text))[-MAX_NAMED:]
    kept = [match for match in listed if not _taken_back(text, match.start(), match.end())]
    if listed and not kept:
        return {None}  # "not (B)"
    return {letter for match in kept for letter in _listed(text, match, choices)}


def _listed(text: str, match: re.Match[str], choices: Mapping[str, str]) -> set[str | None]:
    """The letter of an item of a list, and that of the option whose text stands behind it."""
    rest = text[match.end() : match.end() + 200].partition("\n")[0]
    by_text = _by_text(MARKUP.sub("", rest), choices)
    return {match[1] or match[2], *([by_text] if by_text else [])}


def _taken_back(text: str, start: int, end: int) -> bool:
    return text[end : end + 1] == "?" or negated(text, start, end)
