"""Right or wrong: what a group says of its problem, and whether it has anything to teach. No torch here.

The outcome is one reward term (collect.outcome). The sum of all terms will not do: a group that is all wrong still
differs in length or format, and would look informative.

    G  completions of one prompt
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rl.experience import ScoredGroup

RIGHT = 1.0  # the least outcome of a right completion, as in evaluation
Kind = Literal["informative", "all_right", "all_wrong", "unscored"]


@dataclass(frozen=True, slots=True)
class Visit:
    """What one group says of its problem."""

    source: str
    id: str
    kind: Kind
    attempts: int  # completions that were graded, or had no answer to grade
    right: int


def visit(scored: ScoredGroup, outcome: str, *, drop_truncated: bool = False) -> Visit:
    """Small enough to send between ranks."""
    problem = scored.group.prompt.problem
    states = scored.states(outcome)
    tried = [
        value
        for value, state in zip(scored.terms[outcome], states, strict=True)
        if state in ("ok", "wrong", "no_answer")  # of an error or a time-out nobody knows
    ]
    right = sum(value >= RIGHT for value in tried)  # NaN is not
    kind = kind_of(trained_outcomes(scored, outcome, drop_truncated=drop_truncated))
    return Visit(problem.source, problem.id, kind, len(tried), right)


def trained_outcomes(scored: ScoredGroup, outcome: str, *, drop_truncated: bool) -> list[float]:
    """The outcomes of those completions that would be trained on."""
    columns = zip(scored.terms[outcome], scored.rewards, scored.group.completions, strict=True)
    return [
        value
        for value, reward, done in columns
        if not (math.isnan(value) or math.isnan(reward) or (drop_truncated and done.finish_reason == "length"))
    ]


def kind_of(outcomes: Sequence[float]) -> Kind:
    """DAPO keeps a group that is neither all right nor all wrong (arXiv:2503.14476, section 3.2, eq. 11); where the
    outcome has more values than two, one in which any two differ."""
    if not outcomes:
        return "unscored"
    if max(outcomes) > min(outcomes):
        return "informative"
    return "all_right" if outcomes[0] >= RIGHT else "all_wrong"


def without_truncated(groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
    """DAPO's overlong filtering (arXiv:2503.14476, section 3.4): completions that were cut have no reward.

    So they are neither trained on nor part of what the others are measured by. For the update alone: what is logged
    and recorded keeps their rewards.
    """
    return [
        replace(
            scored,
            rewards=tuple(
                math.nan if done.finish_reason == "length" else reward
                for done, reward in zip(scored.group.completions, scored.rewards, strict=True)
            ),
        )
        for scored in groups
    ]
