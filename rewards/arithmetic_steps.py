"""How much of a written calculation is right: says what a policy that answers better has learned."""

from __future__ import annotations

import re

from data.problem import Problem
from rl.experience import Completion, Prompt

STEP = re.compile(r"(-?[0-9]{1,9})([+-][0-9]{1,9})=(-?[0-9]{1,9})")


def arithmetic_steps(problem: Problem, completion: Completion, *, prompt: Prompt) -> float:
    """Right steps in <think>, as a fraction of the steps that are needed or written, whichever are more.

    metadata["start"] is the first number, metadata["operations"] what is done to it in turn: ["+8", "-3"]. The k-th
    line is right if it applies the k-th operation to the total of the line before and calculates correctly, so an early
    mistake is counted once. Lines after the first that is not of the form 7+8=15 count as wrong. No <think>: 0.
    """
    thinking = (prompt.prefix + completion.text).partition("<think>")[2].partition("</think>")[0]
    lines = [line for line in thinking.split("\n") if line.strip()]
    operations = problem.metadata["operations"]
    right, total = 0, int(problem.metadata["start"])
    for line, operation in zip(lines, operations, strict=False):
        step = STEP.fullmatch(line.strip())
        if step is None:
            break
        before, applied, after = int(step[1]), step[2], int(step[3])
        right += before == total and applied == operation and after == before + int(applied)
        total = after
    return right / max(len(lines), len(operations))
