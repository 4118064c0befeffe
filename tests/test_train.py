"""Claims about launch/train.py, each shown by a real run through torchrun."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from rl.record import read_rollouts
from rl.tiny import build_tiny_model
from rl.tracking import read_metrics

ROOT = Path(__file__).resolve().parents[1]
METRICS = {  # the names that issue trackers, notebooks and other programs read
    *("reward/mean", "reward/math_answer", "reward/think_format", "group/informative_fraction"),
    *("rollout/completion_tokens", "rollout/truncated_fraction", "policy/entropy", "policy/clip_high_fraction"),
    *("policy/clip_low_fraction", "mismatch/kl_rollout", "optim/grad_norm", "optim/lr", "throughput/tokens_per_s"),
    *("time/rollout_s", "time/score_s", "time/update_s", "time/sync_s"),
}


def start(*overrides: str, ranks: int = 1, cwd: Path = ROOT, cache: Path) -> subprocess.Popen[str]:
    """launch/train.py in a process group of its own, both outputs in one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "REASONING_RL_CACHE": str(cache)}
    return subprocess.Popen(
        [*command, str(ROOT / "launch" / "train.py"), *overrides],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def torchrun(*overrides: str, ranks: int = 1, cwd: Path = ROOT, cache: Path) -> subprocess.CompletedProcess[str]:
    """A whole run of launch/train.py, at most ten minutes."""
    process = start(*overrides, ranks=ranks, cwd=cwd, cache=cache)
    try:
        output, _ = process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def gsm8k_file(path: Path, first: int) -> Path:
    """Twelve problems in GSM8K's own format."""
    rows = [
        {
            "question": f"Ann has {n} pens and buys {n + 1} more. How many pens has she now?",
            "answer": f"She has {n} + {n + 1} = <<{n}+{n + 1}={2 * n + 1}>>{2 * n + 1} pens.\n#### {2 * n + 1}",
        }
        for n in range(first, first + 12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_grpo_math_trains_a_local_model_on_a_local_file_on_two_zero2_ranks(tmp_path):
    model = build_tiny_model(tmp_path / "model", hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64)
    (tmp_path / "mine.py").write_text("def shortness(problem, completion):\n    return -len(completion.text)\n")
    directory = tmp_path / "run"
    result = torchrun(
        "recipe=grpo_math",
        f"+rewards.shortness.fn={tmp_path / 'mine.py'}:shortness",
        f"model.path={model}", f"run.dir={directory}", "model.dtype=float32", "steps=3",
        f"data.train.gsm8k.path={gsm8k_file(tmp_path / 'train.jsonl', 1)}",
        f"eval.data.gsm8k.path={gsm8k_file(tmp_path / 'test.jsonl', 50)}",
        "batch.prompts=4", "sampling.completions=4", "sampling.max_tokens=24", "eval.sampling.max_tokens=24",
        "data.max_prompt_tokens=900", "checkpoint.every=2", "checkpoint.keep=1",
        ranks=2, cache=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "4 prompts x 4 completions = 16 completions a step, 8 a rank" in result.stdout
    assert "before and after training" in result.stdout

    rows = read_metrics(directory / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    for row in rows[:3]:
        assert set(row) >= METRICS
        assert row["mismatch/kl_rollout"] < 1e-4  # the sampler had the trainer's weights, after each update too
        assert row["optim/grad_norm"] >= 0
    assert "eval/gsm8k/avg@1" in rows[0]
    assert "eval/gsm8k/avg@1" in rows[3]

    groups = [read_rollouts(directory / "rollouts" / f"{step:06d}.jsonl") for step in range(3)]
    assert [len(step) for step in groups] == [4, 4, 4]
    assert len({scored.group.prompt.problem.id for step in groups for scored in step}) == 12  # one epoch, no repeats
    assert {done.policy_step for scored in groups[2] for done in scored.group.completions} == {2}

    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["step_3"]
    final = AutoModelForCausalLM.from_pretrained(directory / "final")
    started = AutoModelForCausalLM.from_pretrained(model)
    assert AutoTokenizer.from_pretrained(directory / "final").chat_template
    moved = [not a.equal(b) for a, b in zip(final.parameters(), started.parameters(), strict=True)]
    assert any(moved)
    assert (directory / "curves.png").stat().st_size > 10_000
    assert (directory / "config.yaml").exists()


@pytest.mark.slow
def test_a_reward_of_ones_own_is_learned_and_shown(tmp_path):
    (tmp_path / "my_rewards.py").write_text(
        "def sevens(problem, completion):\n    return completion.text.count('7') / max(1, len(completion.text))\n"
    )
    directory = tmp_path / "run"
    result = torchrun(
        "recipe=grpo_tiny", "run.dir=run", "steps=12", "batch.prompts=8", "sampling.max_tokens=24",
        "cold_start.steps=0", "eval.data.arithmetic.size=4", "eval.every=0", "optimizer.lr=3e-3",
        "+rewards.sevens.fn=my_rewards.py:sevens", "+rewards.sevens.weight=2",
        cwd=tmp_path, cache=tmp_path / "cache",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    shares = [row["reward/sevens"] for row in read_metrics(directory / "metrics.jsonl") if "reward/sevens" in row]
    assert shares[-1] > shares[0] + 0.2, shares
    assert "sevens 0" in result.stdout  # in the sampled completion's line of rewards
    scored = read_rollouts(directory / "rollouts" / "000011.jsonl")[0]
    assert scored.rewards[0] == pytest.approx(2 * scored.terms["sevens"][0] + scored.terms["math_answer"][0])


@pytest.mark.slow
def test_completions_that_were_cut_keep_their_rewards_and_move_no_weight(tmp_path):
    (tmp_path / "mine.py").write_text("def variety(problem, completion):\n    return len(set(completion.text))\n")
    result = torchrun(
        "recipe=grpo_tiny", "run.dir=run", "steps=1", "cold_start.steps=0", "batch.prompts=4", "sampling.max_tokens=3",
        "eval.data.arithmetic.size=4", "+rewards.variety.fn=mine.py:variety", "optimizer.lr=1e-2",
        "collect.drop_truncated=true", cwd=tmp_path, cache=tmp_path / "cache",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    first, _ = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert first["rollout/truncated_fraction"] == 1
    assert first["reward/std"] > 0
    assert first["optim/grad_norm"] == 0
    scored = read_rollouts(tmp_path / "run" / "rollouts" / "000000.jsonl")
    assert not any(math.isnan(reward) for group in scored for reward in group.rewards)


@pytest.mark.slow
def test_zero3_lora_kl_and_gradient_checkpointing_go_together(tmp_path):
    (tmp_path / "mine.py").write_text("def variety(problem, completion):\n    return len(set(completion.text))\n")
    result = torchrun(
        "recipe=grpo_tiny", "run.dir=run", "steps=2", "cold_start.steps=0", "batch.prompts=4", "sampling.max_tokens=16",
        "eval.data.arithmetic.size=4", "+rewards.variety.fn=mine.py:variety", "optimizer.lr=1e-2", "engine=zero3",
        "algorithm=dr_grpo", "algorithm.beta=0.01", "model.lora.rank=4", "model.gradient_checkpointing=true",
        ranks=2, cwd=tmp_path, cache=tmp_path / "cache",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    first, second, _ = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert first["policy/kl_ref"] == pytest.approx(0, abs=1e-6)  # the adapters begin as nothing
    assert second["policy/kl_ref"] > 1e-6
    assert second["mismatch/kl_rollout"] < 1e-4  # the sampler has the merged adapters
