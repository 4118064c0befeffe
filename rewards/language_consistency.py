"""The share of the thinking that is in the language it should be in, against drifting into another."""

from __future__ import annotations

from typing import Literal

from data.problem import Problem
from rewards.languages import known_languages, main_language, words_by_language
from rewards.thinking import split_thinking
from rl.experience import Completion, Prompt, Verdict

QUESTION_SURE = 0.5  # a question is short, and the language most probable for it is the best there is


def language_consistency(
    problem: Problem,
    completion: Completion,
    *,
    prompt: Prompt,
    language: str = "auto",
    part: Literal["thinking", "answer", "both"] = "thinking",
) -> float:
    """Words of the target language / words, in the thinking.

        reward = Num(Words_target) / Num(Words)     DeepSeek-R1, arXiv:2501.12948v2, language consistency reward

    language: an ISO 639-1 code such as "en" or "zh", or "auto" for the language of the question. `part`: what is
    judged. Maths, code, LaTeX, numbers and addresses are no words; sentences and scripts are told apart, see
    rewards/languages.py. Words whose language cannot be told do not count.

    no_answer where there is no thinking; undecided where it has no words, only words of no certain language, or the
    question's language is unclear. The paper found that this reward costs a little accuracy and makes the thinking
    readable. Raises ValueError for a language that is not known.
    """
    if language != "auto" and language not in known_languages():
        raise ValueError(f"language must be auto or one of {', '.join(known_languages())}, got {language!r}")
    thinking, answer = split_thinking(prompt, completion)
    text = {"thinking": thinking, "answer": answer, "both": f"{thinking}\n{answer}"}[part]
    if not text.strip():
        return Verdict(state="no_answer", reason=f"no {part}")
    target = language if language != "auto" else main_language(problem.question, sure=QUESTION_SURE)
    if not target:
        return Verdict(state="undecided", reason="the language of the question is unclear; give the option language")
    counts = words_by_language(text, expected=target)
    total = sum(number for name, number in counts.items() if name)
    if not total:
        return Verdict(state="undecided", reason=f"no words of a certain language in the {part}")
    return counts.get(target, 0.0) / total
