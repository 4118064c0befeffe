"""Overlap of words with the gold, for questions whose answer is a phrase."""

from __future__ import annotations

from collections import Counter

from data.problem import Problem
from rewards.answer_text import answers, golds, normalised
from rl.experience import Completion, Prompt, Verdict


def token_f1(problem: Problem, completion: Completion, *, prompt: Prompt | None = None, whole: bool = False) -> float:
    r"""SQuAD's F1: how far the bag of words of the answer and that of the best gold are the same; 0 to 1.

        F1 = 2 P R / (P + R),  P = common / words of the answer,  R = common / words of the gold

    (arXiv:1606.05250, section 6.1), over texts normalised as for exact_match, and the maximum over the golds,
    problem.answer and metadata["answers"]. Which text is the answer: as for exact_match; where a completion claims
    several, the worst of them counts.
    """
    accepted = [normalised(gold).split() for gold in golds(problem)]
    if not accepted:
        return Verdict(state="bad_gold", reason="the problem has no answer")
    given = answers(completion.text, prefix=prompt.prefix if prompt else "", whole=whole)
    if isinstance(given, Verdict):
        return given
    return Verdict(min(max(f1(normalised(one).split(), gold) for gold in accepted) for one in given))


def f1(answer: list[str], gold: list[str]) -> float:
    """The harmonic mean of precision and recall of two bags of words; 1 if both are empty.

    >>> f1(["in", "paris"], ["paris"])
    0.6666666666666666
    """
    if not answer or not gold:
        return float(answer == gold)
    common = sum((Counter(answer) & Counter(gold)).values())
    return 2 * common / (len(answer) + len(gold))
