"""What only a GPU can show. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from test_train import torchrun

from rl.tracking import read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]


@pytest.mark.parametrize("engine", ["ddp", "zero2", "zero3", "zero3_offload"])
@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-4), ("bfloat16", 1e-2)])
def test_a_gpu_trains_and_the_sampler_keeps_up(engine, dtype, most, tmp_path):
    (tmp_path / "mine.py").write_text("def variety(problem, completion):\n    return len(set(completion.text))\n")
    result = torchrun(
        "recipe=grpo_tiny", "run.dir=run", "steps=3", "cold_start.steps=20", "eval.data.arithmetic.size=8",
        "+rewards.variety.fn=mine.py:variety", f"engine={engine}", f"model.dtype={dtype}", "rollout.offload=true",
        "algorithm.beta=0.01", cwd=tmp_path, cache=tmp_path / "cache",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    for row in read_metrics(tmp_path / "run" / "metrics.jsonl")[:3]:
        assert row["mismatch/kl_rollout"] < most
        assert row["optim/grad_norm"] > 0
