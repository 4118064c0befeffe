"""Run by torchrun from tests: updates a tiny policy on given trajectories and writes down what came out.

torchrun --nproc_per_node=2 tests/update_on_ranks.py '{"engine": "zero2", "out": "DIR", ...}'
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402

from rl import distributed  # noqa: E402
from rl.algorithms.dr_grpo import DrGRPO  # noqa: E402
from rl.algorithms.grpo import GRPO  # noqa: E402
from rl.batch import Trajectory, build_micro_batches  # noqa: E402
from rl.config import LoraConfig, OptimizerConfig  # noqa: E402
from rl.engine import PolicyEngine  # noqa: E402
from rl.policy import load_model  # noqa: E402

ALGORITHMS = {"grpo": GRPO(), "grpo_kl": GRPO(beta=0.1), "dr_grpo": DrGRPO()}


def trajectories(step: int, count: int = 12, vocabulary: int = 200) -> list[Trajectory]:
    """A batch of one step, all ranks together: lengths and advantages of every size, some of them 0."""
    draw = random.Random(step)
    batch = []
    for i in range(count):
        prompt = [draw.randrange(vocabulary) for _ in range(draw.randint(3, 9))]
        answer = [draw.randrange(vocabulary) for _ in range(draw.randint(1, 25))]
        batch.append(Trajectory(prompt, answer, [-5.0] * len(answer), 0.0 if i % 5 == 4 else draw.gauss(0, 1)))
    return batch


def main(settings: dict) -> None:
    distributed.start()
    torch.manual_seed(0)
    algorithm = ALGORITHMS[settings["algorithm"]]
    model = load_model(settings["model"], settings.get("dtype", "float32"))
    if settings.get("lora"):
        from launch.models import with_lora

        model = with_lora(model, LoraConfig(rank=4))
    optimizer = OptimizerConfig(lr=1e-3, warmup_steps=2, max_grad_norm=0.05)
    reference = load_model(settings["model"], "float32") if algorithm.uses_reference else None
    engine = PolicyEngine(model, engine=settings["engine"], optimizer=optimizer, steps=10, reference=reference)
    if settings.get("load"):
        engine.load(Path(settings["load"]))
    rows = []
    for step in range(engine.step, settings["steps"]):
        share = trajectories(step)[distributed.rank() :: distributed.world_size()]
        batches = build_micro_batches(
            share, algorithm.normalization, tokens_per_micro_batch=settings["tokens"], max_completion_tokens=25,
            gather=distributed.gather, skip_without_advantage=settings.get("skip", False),
        )  # fmt: skip
        rows.append(engine.update(batches, algorithm).reduce(distributed.gather))
    if settings.get("save"):
        engine.save(Path(settings["save"]))
    weights = {name: tensor.clone() for name, tensor in engine.weights()}
    if distributed.rank() == 0:
        out = Path(settings["out"])
        out.mkdir(parents=True, exist_ok=True)
        (out / "rows.json").write_text(json.dumps(rows))
        torch.save(weights, out / "weights.pt")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
