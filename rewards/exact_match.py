"""Exact match on questions whose answer is a few words."""

from __future__ import annotations

from data.problem import Problem
from rewards.answer_text import answers, golds, normalised
from rl.experience import Completion, Prompt, Verdict


def exact_match(
    problem: Problem, completion: Completion, *, prompt: Prompt | None = None, whole: bool = False
) -> float:
    r"""SQuAD's exact match: 1.0 if the answer is one of the golds up to case, punctuation, articles and spaces.

        EM = max over golds g of [ normalised(answer) = normalised(g) ]     arXiv:1606.05250, section 6.1

    The golds are problem.answer and metadata["answers"]. The answer is what the completion claims by \boxed{},
    <answer>, #### or "the answer is", and else all that follows its thinking; with whole=True always the latter.
    Several different claims are wrong.
    """
    accepted = {normalised(gold) for gold in golds(problem)}
    if not accepted:
        return Verdict(state="bad_gold", reason="the problem has no answer")
    given = answers(completion.text, prefix=prompt.prefix if prompt else "", whole=whole)
    if isinstance(given, Verdict):
        return given
    return Verdict(float(all(normalised(one) in accepted for one in given)))
