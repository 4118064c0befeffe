"""Worked examples for few-shot prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data.problem import Problem


@dataclass(frozen=True, slots=True)
class Example:
    """A question with a solution that the policy may see."""

    question: str
    solution: str


def worked_examples(problems: Sequence[Problem], count: int) -> tuple[Example, ...]:
    """The first `count` problems that come with metadata["solution"], each ending in "The answer is 72."

    Take them from training problems. PromptBuilder leaves an example out of the prompt that asks its own question.
    """
    solved = [problem for problem in problems if isinstance(problem.metadata.get("solution"), str)]
    if len(solved) < count:
        raise ValueError(f"data.few_shot={count} needs as many problems with a worked solution, found {len(solved)}")
    return tuple(
        Example(problem.question, f"{problem.metadata['solution']}\nThe answer is {problem.answer}.")
        for problem in solved[:count]
    )
