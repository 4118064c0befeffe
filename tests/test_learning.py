"""The promise of the embedded default, kept from beginning to end."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_grpo_tiny_learns_to_calculate_and_keeps_showing_its_steps(tmp_path):
    from test_train import torchrun

    result = torchrun("recipe=grpo_tiny", "run.dir=run", "seed=7", cwd=tmp_path, cache=tmp_path / "cache")
    assert result.returncode == 0, result.stdout
    before, after = (
        json.loads((tmp_path / "run" / "evaluations" / f"{step:06d}.json").read_text())["arithmetic"]
        for step in (0, 70)
    )
    assert before["num_problems"] == after["num_problems"] >= 200
    assert before["avg"] <= 0.35
    assert after["avg"] >= 0.80
    assert after["terms"]["think_format"] > 0.95  # a non-empty <think>, then an answer
    assert before["terms"]["arithmetic_steps"] < 0.75
    assert after["terms"]["arithmetic_steps"] > 0.9  # what RL taught: the steps themselves
