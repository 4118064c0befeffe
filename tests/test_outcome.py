"""What a group says of its problem: told by the outcome term, from the completions that are trained on."""

from __future__ import annotations

import math

import pytest

from rl.experience import Failure, Group, ScoredGroup
from rl.outcome import visit, without_truncated

NAN = math.nan


@pytest.fixture
def make_group(make_prompt, make_completion):
    def make(outcomes, rewards=None, ends=None, failures=()):
        """`outcomes` of the term "right"; rewards are these, and something that always differs."""
        rewards = rewards or [value + i / 100 for i, value in enumerate(outcomes)]
        ends = ends or ["stop"] * len(outcomes)
        done = tuple(make_completion("a", finish_reason=end) for end in ends)
        terms = {"right": tuple(outcomes), "length": tuple(i / 100 for i in range(len(outcomes)))}
        return ScoredGroup(Group(make_prompt(), done), tuple(rewards), terms, tuple(failures))

    return make


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [
        ([1, 0, 0], "informative"),
        ([1, 1, 1], "all_right"),
        ([0, 0, 0], "all_wrong"),
        ([0.5, 0.5], "all_wrong"),  # none is right
        ([0.5, 0.0], "informative"),
        ([2, 2], "all_right"),
        ([1], "all_right"),
        ([NAN, NAN], "unscored"),
        ([NAN, 1, 1], "all_right"),
    ],
)
def test_a_group_teaches_where_outcomes_differ_and_not_where_only_the_sum_does(outcomes, kind, make_group):
    group = make_group(outcomes)
    assert group.informative == (sum(not math.isnan(value) for value in outcomes) > 1)
    assert visit(group, "right").kind == kind


def test_a_completion_that_is_not_trained_on_does_not_make_a_group_informative(make_group):
    assert visit(make_group([1, 0, 0], rewards=[NAN, 0.1, 0.2]), "right").kind == "all_wrong"
    cut = make_group([0, 1, 1], ends=["length", "stop", "stop"])
    assert visit(cut, "right").kind == "informative"
    assert visit(cut, "right", drop_truncated=True).kind == "all_right"
    assert visit(make_group([0, 0], ends=["length"] * 2), "right", drop_truncated=True).kind == "unscored"


def test_attempts_are_what_was_graded_or_had_no_answer(make_group):
    failures = [
        Failure("right", 1, "no_answer", ""),
        Failure("right", 2, "timeout", ""),
        Failure("length", 3, "error", ""),
    ]
    found = visit(make_group([1, NAN, NAN, 0, 1], failures=failures), "right")
    assert (found.attempts, found.right) == (4, 2)  # of the time-out nobody knows
    assert (found.source, found.id) == ("sums", "sums/train/1")


def test_a_completion_without_an_answer_that_counts_as_0_is_an_attempt_too(make_group):
    found = visit(make_group([1, 0], failures=[Failure("right", 1, "no_answer", "")]), "right")
    assert (found.kind, found.attempts, found.right) == ("informative", 2, 1)


def test_cut_completions_lose_their_reward_for_the_update_only(make_group):
    group = make_group([0, 1, 1], rewards=[0.0, 1.0, 1.5], ends=["length", "stop", "stop"])
    (masked,) = without_truncated([group])
    assert math.isnan(masked.rewards[0])
    assert masked.rewards[1:] == (1.0, 1.5)
    assert masked.terms == group.terms
    assert group.rewards == (0.0, 1.0, 1.5)
