"""Partial credit for the tags of the format: a slope towards `think_format` for a policy that does not know it yet."""

from __future__ import annotations

from data.problem import Problem
from rl.experience import Completion, Prompt

TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def tag_count(problem: Problem, completion: Completion, *, prompt: Prompt) -> float:
    """0.25 for each of <think>, </think>, <answer>, </answer> that occurs exactly once.

    Judged together with `prompt.prefix`: a <think> that the template wrote counts as one. The order of the tags does
    not matter here.
    """
    text = prompt.prefix + completion.text
    return sum(text.count(tag) == 1 for tag in TAGS) / len(TAGS)
