"""What the tests of reward functions share: functions made of text, and a short way to score texts by any function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rl.experience import Completion, Prompt
from rl.reward_forms import Outcome, bind


def function_of(parameters: str, body: str = "None", prefix: str = "", **names: Any) -> Any:
    """A function with these parameters ("a, b=1, **more") that returns what `body` says, of these names."""
    scope = dict(names)
    exec(f"{prefix}def f({parameters}): return {body}", scope)
    return scope["f"]


def score_with(make_prompt: Callable[..., Prompt], make_completion: Callable[..., Completion]) -> Any:
    """The outcomes of a function for some texts, for a prompt with such fields."""

    def score(function: Any, *texts: str, options: Any = None, terms: Any = None, **prompt: Any) -> tuple[Outcome, ...]:
        bound = bind(function, options or {})
        arguments = make_prompt(**prompt), tuple(make_completion(text) for text in texts), terms or {}
        return asyncio.run(bound.call_async(*arguments)) if bound.is_async else bound.call(*arguments)

    return score
