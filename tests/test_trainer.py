"""The trainer's hand-over of weights: whom it asks for a proof, and what a wrong one does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rl.distributed import FailedTogether
from rl.trainer import sync


class Plain:
    """The method of a researcher's own engine that sync needs."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def load_weights(self, weights, policy_step):
        self.given += [(policy_step, dict(weights))]


class Proving(Plain):
    """One that computes log-probabilities of its own; here it is told which."""

    probe_ids = (1, 2, 3)

    def __init__(self, computed: list[float]) -> None:
        super().__init__()
        self.computed = computed

    def check_weights(self, expected, dtype):
        if expected != self.computed:
            raise RuntimeError(f"{self.computed} is not the {dtype} policy's {expected}")


def parts_with(rollout: Plain) -> Any:
    policy = SimpleNamespace(
        weights=lambda: iter([("w", torch.ones(1))]), probe=lambda ids: [-0.5 * i for i in ids[1:]], dtype="float32"
    )
    return SimpleNamespace(rollout=rollout, policy=policy)


def test_an_engine_of_three_methods_gets_the_weights_and_is_asked_for_nothing_else():
    rollout = Plain()
    sync(parts_with(rollout), 7)
    assert rollout.given == [(7, {"w": torch.ones(1)})]


def test_an_engine_that_can_prove_its_weights_is_held_against_the_policys_probe():
    rollout = Proving([-1.0, -1.5])
    sync(parts_with(rollout), 7)
    assert [step for step, _ in rollout.given] == [7]
    rollout.computed = [-1.0, -1.6]
    with pytest.raises(FailedTogether, match=r"\[-1.0, -1.6\] is not the float32 policy's \[-1.0, -1.5\]"):
        sync(parts_with(rollout), 8)
