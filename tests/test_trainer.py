"""The trainer's hand-over of weights: whom it asks for a proof, and what a wrong one does."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from rl.config import OptimizerConfig
from rl.distributed import FailedTogether
from rl.engine import PolicyEngine
from rl.experience import Failure, Group, ScoredGroup
from rl.policy import load_model
from rl.record import read_rollouts
from rl.scoring import RewardBroken
from rl.tiny import build_tiny_model
from rl.trainer import keeping_what_was_sampled, sync


class Plain:
    """The method of a researcher's own engine that sync needs."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def load_weights(self, weights, policy_step):
        self.given += [(policy_step, {name for name, _ in weights})]


class Proving(Plain):
    """One that computes log-probabilities of its own; here it is told which."""

    probe_ids = (1, 2, 3)

    def __init__(self, computed: list[float]) -> None:
        super().__init__()
        self.computed = computed

    def check_weights(self, expected, dtype):
        if expected != self.computed:
            raise RuntimeError(f"{self.computed} is not what the {dtype} policy computes")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = build_tiny_model(tmp_path_factory.mktemp("trainer") / "model", hidden=32, layers=1, heads=2, kv_heads=1)
    return PolicyEngine(load_model(str(path), "float32"), engine="ddp", optimizer=OptimizerConfig(), steps=1)


def test_an_engine_of_three_methods_gets_the_weights_and_is_asked_for_nothing_else(policy):
    rollout = Plain()
    sync(SimpleNamespace(rollout=rollout, policy=policy), 7)
    assert rollout.given == [(7, {name for name, _ in policy.model.named_parameters()})]


def test_an_engine_that_can_prove_its_weights_is_held_against_the_policys_probe(policy):
    right = policy.probe(Proving.probe_ids)
    assert len(right) == 2
    assert max(right) < 0
    rollout = Proving(right)
    sync(SimpleNamespace(rollout=rollout, policy=policy), 7)
    assert [step for step, _ in rollout.given] == [7]
    rollout.computed = [right[0], right[1] + 0.1]
    with pytest.raises(FailedTogether, match="is not what the float32 policy computes"):
        sync(SimpleNamespace(rollout=rollout, policy=policy), 8)


def test_a_reward_that_ends_the_run_does_not_take_what_was_sampled_with_it(tmp_path, make_prompt, make_completion):
    group = Group(make_prompt(), (make_completion("a"), make_completion("b")))
    failure = Failure("mine", 1, "error", "KeyError")
    scored = ScoredGroup(group, (1.0, math.nan), {"mine": (1.0, math.nan)}, (failure,))
    with pytest.raises(RewardBroken, match=r"mine fails; .* are in .*000007\.broken\.0\.jsonl"):  # noqa: SIM117
        with keeping_what_was_sampled(7, SimpleNamespace(directory=tmp_path)):
            raise RewardBroken("mine fails", [scored])
    (kept,) = read_rollouts(tmp_path / "rollouts" / "000007.broken.0.jsonl")
    assert [completion.text for completion in kept.group.completions] == ["a", "b"]
    assert kept.failures == (failure,)
