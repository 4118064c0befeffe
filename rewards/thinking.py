"""Where the thinking ends and the answer begins."""

from __future__ import annotations

from rl.experience import Completion, Prompt

OPEN, CLOSE = "<think>", "</think>"


def split_thinking(prompt: Prompt, completion: Completion) -> tuple[str, str]:
    """(thinking, answer) of what the template (prompt.prefix) and the policy wrote together, tags left out.

    The answer is what follows the last </think>. A <think> that is never closed has no answer; a text without either
    tag is all answer. What stands before <think> belongs to neither.
    """
    text = prompt.prefix + completion.text
    thinking, closed, answer = text.rpartition(CLOSE)
    if not closed:
        before, opened, thinking = text.partition(OPEN)
        return (thinking, "") if opened else ("", before)
    return (thinking.partition(OPEN)[2] if OPEN in thinking else thinking), answer
