"""Reasoning in a <think> block, then the answer."""

from __future__ import annotations

from data.problem import Problem
from rl.experience import Completion, Prompt

THINK = ("<think>", "</think>")
ANSWER = ("<answer>", "</answer>")


def think_format(problem: Problem, completion: Completion, *, prompt: Prompt, require_answer: bool = True) -> float:
    """1.0 for one non-empty <think> block, then one non-empty <answer> block, and nothing else but white space.

    Judged together with `prompt.prefix`, so that it makes no difference whether the template or the policy wrote the
    opening <think>. With `require_answer=False` any text after </think> will do as the answer. Linear in the length
    of the text: str.count and str.partition, no regular expression.
    """
    text = (prompt.prefix + completion.text).strip()
    if any(text.count(tag) != 1 for tag in THINK):
        return 0.0
    before, _, rest = text.partition("<think>")
    thought, closed, rest = rest.partition("</think>")
    if before or not closed or not thought.strip():
        return 0.0
    return float(_one_answer_block(text, rest.strip()) if require_answer else bool(rest.strip()))


def _one_answer_block(text: str, rest: str) -> bool:
    """Whether `rest`, what follows </think>, is one non-empty <answer> block, and the only one in the whole text."""
    if any(text.count(tag) != 1 for tag in ANSWER):
        return False
    if not (rest.startswith("<answer>") and rest.endswith("</answer>")):
        return False
    return bool(rest.removeprefix("<answer>").removesuffix("</answer>").strip())
