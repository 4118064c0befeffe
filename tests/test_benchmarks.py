"""The benchmarks run and end with a line of JSON. What they measure is not asserted: machines differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def last_line(*command: str) -> dict[str, float]:
    run = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_step_beside_trls():
    ratios = last_line("benchmarks/step.py", "--quick", "--repeats", "1")
    assert {"1m/rollout_s", "1m/update_s", "1m/wall_s", "1m/cpu_s"} <= ratios.keys()
    assert all(value > 0 for value in ratios.values())


@pytest.mark.slow
def test_sampling_beside_transformers():
    ratios = last_line("benchmarks/rollout.py", "--quick", "--repeats", "1")
    assert ratios["native / generate"] > 0


@pytest.mark.slow
def test_log_probabilities_beside_all_logits_at_once():
    ratios = last_line("benchmarks/logprobs.py", "--quick", "--repeats", "1")
    assert 0 < ratios["49152/memory"] < 1  # memory, unlike time, is the same everywhere
    assert ratios["49152/time"] > 0


def test_routing_replayed_beside_routing_left_alone():
    ratios = last_line("benchmarks/routing.py", "--completions", "4")
    assert len(ratios) == 4
    assert all(ratio < 0.5 for ratio in ratios.values())


@pytest.mark.slow
def test_scoring_with_hangs_beside_scoring_without():
    found = last_line("benchmarks/scoring.py", "--quick")
    assert found["sleep / none"] > 0
    assert (found["ok"], found["error"]) == (2000 - 200 - 14, 200 + 14)
