"""Reward functions of every form: how each is told, what it is given, what counts as a value and what as a failure."""

from __future__ import annotations

import asyncio

import pytest

from rl.reward_forms import Failed, bind


@pytest.fixture
def score(make_prompt, make_completion):
    """The outcomes of a function for texts, the form's way: one call each or one for all."""

    def score(function, *texts, options=None, terms=None, **prompt):
        bound = bind(function, options or {})
        completions = tuple(make_completion(text) for text in texts)
        arguments = make_prompt(**prompt), completions, terms or {}
        return asyncio.run(bound.call_async(*arguments)) if bound.is_async else bound.call(*arguments)

    return score


def plain(outcomes):
    return [outcome if isinstance(outcome, Failed) else float(outcome) for outcome in outcomes]


def ours(problem, completion):
    return len(completion.text)


def test_ours(score):
    assert plain(score(ours, "a", "bcd")) == [1.0, 3.0]
