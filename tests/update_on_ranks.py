"""Run by torchrun from tests: updates tiny policies on made-up trajectories and writes down what came out.

torchrun --nproc_per_node=2 tests/update_on_ranks.py '[{"engine": "zero2", "out": "DIR", ...}, ...]'

The settings run one after another: a start of torchrun costs more than all of their updates.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor, nn

from launch.build_ops import ensure_built
from rl import distributed, head
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.gspo import GSPO
from rl.batch import Trajectory, build_micro_batches, trajectory
from rl.config import LoraConfig, MoEConfig, OptimizerConfig
from rl.engine import PolicyEngine
from rl.policy import load_model, unwrapped

ALGORITHMS = {
    "grpo": GRPO(),
    "grpo_kl": GRPO(beta=0.1),
    "dr_grpo": DrGRPO(),
    "gspo": GSPO(),
    "entropy": GRPO(entropy_coef=0.5),
    # All tokens of the first batch have 5.1235 nats in the mean; of two ranks the one has 5.1198, the other 5.1261.
    "controlled": GRPO(entropy_coef=0.25, entropy_target=5.125, entropy_delta=0.5, entropy_coef_max=2.0),
}
LONGEST = 25  # tokens of a completion
PROBE = list(range(1, 13))
STEPS = 10  # of the whole run, as its schedule sees it


def trajectories(step: int, count: int = 12, vocabulary: int = 200) -> list[Trajectory]:
    """A batch of one step, all ranks together: four to a prompt, lengths and advantages of every size, some 0."""
    draw = random.Random(step)
    batch = []
    for i in range(count):
        if i % 4 == 0:
            prompt = [draw.randrange(vocabulary) for _ in range(draw.randint(3, 9))]
        answer = [draw.randrange(vocabulary) for _ in range(draw.randint(1, LONGEST))]
        batch.append(trajectory(prompt, answer, [-5.0] * len(answer), 0.0 if i % 5 == 4 else draw.gauss(0, 1)))
    return batch


def build_engine(settings: dict[str, Any]) -> PolicyEngine:
    torch.manual_seed(0)
    model: nn.Module = load_model(settings["model"], settings.get("dtype", "float32"))
    uses_reference = ALGORITHMS[settings["algorithm"]].uses_reference
    reference = load_model(settings["model"], "float32") if uses_reference and not settings.get("lora") else None
    if settings.get("lora"):
        from launch.models import with_lora

        model = with_lora(model, LoraConfig(rank=4))
    if settings.get("gradient_checkpointing"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    optimizer = OptimizerConfig(lr=1e-3, warmup_steps=2, max_grad_norm=0.05)
    return PolicyEngine(
        model, engine=settings["engine"], optimizer=optimizer, steps=STEPS, reference=reference,
        autocast=settings.get("autocast", False), moe=MoEConfig(**settings.get("moe", {})),
    )  # fmt: skip


def gradients(engine: PolicyEngine) -> dict[str, Tensor]:
    """Collective: the clipped gradient of a first step, as Adam's mean remembers it; exp_avg = (1 - beta1) gradient."""
    found = {}
    for name, parameter in engine.model.named_parameters():
        if engine.uses_deepspeed:
            from deepspeed.utils import safe_get_full_optimizer_state

            average = safe_get_full_optimizer_state(parameter, "exp_avg")
        else:
            average = engine.optimizer.optimizer.state[parameter]["exp_avg"]
        found[name] = average.clone() / (1 - engine.settings.betas[0])
    return found


def whole(engine: PolicyEngine, model: nn.Module) -> dict[str, Tensor]:
    """Collective: a model's parameters, gathered."""
    found = {}
    for name, parameter in model.named_parameters():
        with engine._gathered([parameter]):
            found[name] = parameter.detach().clone()
    return found


def run(settings: dict[str, Any]) -> None:
    """Collective: rows.json, gradients.pt of the first update, weights.pt and probed.json of the last, in "out".

    "refresh": the decay of a refresh of the reference after each update; then references.pt too, of each step the
    policy's weights and the reference's on the last rank, which has nothing that the first has not told it.
    """
    algorithm = ALGORITHMS[settings["algorithm"]]
    head.LOGITS_PER_CHUNK = settings.get("logits_per_chunk", 1 << 25)
    engine = build_engine(settings)
    if settings.get("sharded"):  # DeepSpeed leaves parameters of fewer than 1e5 elements whole
        assert unwrapped(engine.model).get_output_embeddings().weight.numel() == 0
    if settings.get("load"):
        engine.load(Path(settings["load"]))
    rows, first, refreshed = [], {}, []
    for step in range(engine.step, settings["steps"]):
        share = trajectories(step, settings.get("count", 12))[distributed.rank() :: distributed.world_size()]
        if settings.get("poisoned_rank") == distributed.rank():
            share[0] = replace(share[0], advantages=share[0].advantages + float("inf"))
        batches = build_micro_batches(
            share, algorithm.normalization, tokens_per_micro_batch=settings["tokens"], max_completion_tokens=LONGEST,
            gather=distributed.gather, skip_without_advantage=settings.get("skip", False),
            share_prompts=settings.get("share", True),
        )  # fmt: skip
        if settings.get("probe"):
            engine.probe(PROBE)
        rows.append(engine.update(batches, algorithm).reduce(distributed.gather))
        if "refresh" in settings:
            engine.refresh_reference(settings["refresh"])
            assert engine._reference_model is not None
            refreshed.append((whole(engine, engine.model), whole(engine, engine._reference_model)))
        if step == 0 and settings.get("gradients"):
            first = gradients(engine)
    if settings.get("save"):
        engine.save(Path(settings["save"]))
    weights = {name: tensor.clone() for name, tensor in engine.weights()}
    probed = engine.probe(PROBE)
    out = Path(settings["out"])
    if distributed.rank() == distributed.world_size() - 1:
        out.mkdir(parents=True, exist_ok=True)
        torch.save(refreshed, out / "references.pt")
    if distributed.rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        (out / "rows.json").write_text(json.dumps(rows))
        (out / "probed.json").write_text(json.dumps(probed))
        torch.save(first, out / "gradients.pt")
        torch.save(weights, out / "weights.pt")
    distributed.barrier()


def run_and_fail(settings: dict[str, Any]) -> None:
    """Collective: errors.json in settings["out"], what each rank raised."""
    said = None
    try:
        run(settings)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    everyone = distributed.gather(said)
    if distributed.rank() == 0:
        out = Path(settings["out"])
        out.mkdir(parents=True, exist_ok=True)
        (out / "errors.json").write_text(json.dumps(everyone))


def main(every: list[dict[str, Any]]) -> None:
    ensure_built()
    distributed.start()
    for settings in every:
        (run_and_fail if settings.get("fails") else run)(settings)
    distributed.stop()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
