"""The answer as words: what exact_match and token_f1 share, as SQuAD's evaluation script defines it.

Rajpurkar et al., arXiv:1606.05250, section 6.1: punctuation and articles are ignored, and the score is the best over
the acceptable answers.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping

from data.problem import Problem
from rewards.mathematics.extract import extract_answer
from rewards.mathematics.visible import WINDOW_CHARS, after_thinking, without_comments
from rl.experience import Verdict

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = dict.fromkeys(map(ord, string.punctuation + "\u2018\u2019\u201c\u201d"))  # SQuAD's, and curly quotes
TEX_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|mathrm|mathbf|emph)\s?\{([^{}]*)\}")


def normalised(text: str) -> str:
    """Lower case, without punctuation, the articles a, an, the, and more than one space.

    >>> normalised("The  Eiffel-Tower, in Paris.")
    'eiffeltower in paris'
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def golds(problem: Problem) -> list[str]:
    """The acceptable answers: problem.answer and metadata["answers"], a list or SQuAD's {"text": [...]}.

    Empty ones are left out; ValueError if `answers` is neither.
    """
    more = problem.metadata.get("answers", ())
    more = more.get("text", ()) if isinstance(more, Mapping) else more
    if isinstance(more, str) or not isinstance(more, Iterable):
        raise ValueError(f"problem {problem.id}: metadata['answers'] must be a list of texts, got {more!r}")
    return [text for text in dict.fromkeys(map(str, (problem.answer, *more))) if text.strip()]


def answers(text: str, *, prefix: str, whole: bool) -> tuple[str, ...] | Verdict:
    """The answers that a completion claims, the last first; the whole of it if it claims none or `whole` says so.

    A Verdict where there is none: the thinking does not end, nothing follows it, or the answer is denied.
    """
    final = after_thinking(prefix + text)
    if final is None:
        return Verdict(state="no_answer", reason="the thinking does not end")
    if not whole:
        found = extract_answer(text, prefix=prefix)
        if found.refused:
            return Verdict(0.0, reason=found.reason)
        if found.answer is not None:
            return tuple(TEX_TEXT.sub(r"\1", claim) for claim in (found.answer, *found.others))
    final = without_comments(final[-WINDOW_CHARS:])
    if not final.strip():
        return Verdict(state="no_answer", reason="nothing is said")
    return (final.strip(),)
