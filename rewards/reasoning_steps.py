"""Visible steps: a slope towards worked-out reasoning for a policy that blurts."""

from __future__ import annotations

import re

from data.problem import Problem
from rl.experience import Completion, Prompt

# "Step 1:", "1. " or "1) ", "- " or "* " at the start of a line; "First," and its kind anywhere.
MARKER = re.compile(
    r"\bstep[ ]?[0-9]{1,3}\b|^[ \t]*(?:[0-9]{1,3}[.)]|[-*])[ \t]|\b(?:first|second|third|next|then|finally|therefore),",
    re.IGNORECASE | re.MULTILINE,
)


def reasoning_steps(problem: Problem, completion: Completion, *, prompt: Prompt, steps: int = 3) -> float:
    """min(1, number of step markers / steps), over the whole completion; after open-r1's reasoning_steps_reward.

    A marker is "Step 1", a numbered or bulleted line, or "First,", "Second,", "Third,", "Next,", "Then,", "Finally,",
    "Therefore,". (open-r1 finds a numbered line only at the very start of the text, for want of a flag.) It counts
    marks, not thoughts: a list of anything earns it, so keep its weight small and drop it once steps are usual.
    Raises ValueError for steps below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    text = prompt.prefix + completion.text
    return min(1.0, sum(1 for _ in MARKER.finditer(text)) / steps)
