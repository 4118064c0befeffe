"""Where the thinking ends and the answer begins, for the rewards that judge one of the two."""

from __future__ import annotations

from rewards.mathematics.visible import THINK_TAG, after_thinking
from rl.experience import Completion, Prompt


def split_thinking(prompt: Prompt, completion: Completion) -> tuple[str, str]:
    """(thinking, answer) of what the template (prompt.prefix) and the policy wrote together, tags left out.

    The answer is what follows the last </think>; there is none while a <think> is open. A text without tags is all
    answer. What stands before the first <think> belongs to neither.
    """
    text = prompt.prefix + completion.text
    tags = list(THINK_TAG.finditer(text))
    if not tags:
        return "", text
    answer = after_thinking(text)
    start = 0 if any(tags[0].groups()) else tags[0].end()
    end = len(text) if answer is None else tags[-1].start()
    return THINK_TAG.sub(" ", text[start:end]), answer or ""
