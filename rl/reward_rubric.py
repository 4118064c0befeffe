"""A verifiers Rubric as one reward: the weighted sum of its functions, called as a Rubric calls them.

With one difference: where a Rubric logs what a function raised and scores 0.0, here the completion has no value.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rl.experience import Completion, Prompt, Verdict
from rl.reward_arguments import verifiers_columns, verifiers_state
from rl.reward_values import Failed, Outcome, failed, outcome, outcomes

State = dict[str, Any]


def is_rubric(value: object) -> bool:
    """Whether it is a verifiers Rubric; told without importing verifiers, which takes seconds."""
    return any(
        kind.__name__ == "Rubric" and kind.__module__.partition(".")[0] == "verifiers" for kind in type(value).__mro__
    )


def is_grouped(rubric: Any) -> bool:
    """Whether one of its functions wants the whole group."""
    return any(part._is_group_func(function) for part, function, _ in parts(rubric))


async def score(rubric: Any, prompt: Prompt, completions: Sequence[Completion]) -> tuple[Outcome, ...]:
    """The sum over its functions of weight * value, one for each completion; Failed where one with a weight failed.

    Functions go in their order, as later ones may read what earlier ones left in the state; one with weight 0 is a
    metric: it is called, and what becomes of it does not matter.
    """
    states = [verifiers_state(prompt, completion) for completion in completions]
    totals: list[Outcome] = [Verdict(0.0)] * len(states)
    for part, function, weight in parts(rubric):
        call = _call_for_all if part._is_group_func(function) else _call_for_each
        values = await call(part, function, states)
        if weight:
            totals = [_sum(total, weight, value) for total, value in zip(totals, values, strict=True)]
    return tuple(totals)


def parts(rubric: Any) -> Iterator[tuple[Any, Callable[..., Any], float]]:
    """(rubric, function, weight) of a Rubric, or of all in a RubricGroup."""
    if inner := getattr(rubric, "rubrics", None):
        for part in inner:
            yield from parts(part)
        return
    for function, weight in zip(rubric.funcs, rubric.weights, strict=True):
        yield rubric, function, float(weight)


def _sum(total: Outcome, weight: float, value: Outcome) -> Outcome:
    if isinstance(total, Failed):
        return total
    if isinstance(value, Failed) or not value.graded:
        return value
    return outcome(total + weight * value)


async def _call_for_each(rubric: Any, function: Callable[..., Any], states: Sequence[State]) -> Sequence[Outcome]:
    async def one(state: State) -> Outcome:
        try:
            return outcome(await _call(function, _objects(rubric, state)))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return failed(error)

    return await asyncio.gather(*map(one, states))


async def _call_for_all(rubric: Any, function: Callable[..., Any], states: Sequence[State]) -> Sequence[Outcome]:
    objects = {**verifiers_columns(states), **rubric.class_objects}
    for provider in getattr(rubric, "group_score_object_providers", ()):
        objects |= provider(states)
    return outcomes(await _call(function, objects), len(states))


async def _call(function: Callable[..., Any], objects: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        objects = {name: value for name, value in objects.items() if name in parameters}
    value = function(**objects)
    return await value if inspect.isawaitable(value) else value


def _objects(rubric: Any, state: State) -> Mapping[str, Any]:
    """What one rollout offers to a function: newer versions of verifiers say it themselves."""
    if hasattr(rubric, "score_objects"):
        offered: Mapping[str, Any] = rubric.score_objects(state)
        return offered
    named = {name: state[name] for name in ("prompt", "completion", "answer", "info", "task")}
    return {**state["input"], **named, "state": state, **rubric.class_objects}
