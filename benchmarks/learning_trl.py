"""TRL's GRPOTrainer on a recipe of ours: its model, problems in the same order, reward, rate and held-out evaluation.

    python benchmarks/learning_trl.py recipe=grpo_tiny model.path=DIR run.dir=DIR [key=value ...]

A worker of benchmarks/learning.py. TRL runs at its best on a CPU: one micro-batch without gradient checkpointing, no
KL, a new batch for each optimizer step, its fused AdamW, model.generate (its continuous batching took ten times as long
on the tiny model), the reward called in the process itself, and our allocator settings. model.dtype=bfloat16 is its
bf16 autocast. The recipe's warm-up is ours, as transformers' own has a first step of rate 0. Evaluation is ours, by our
sampler, and not timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main(overrides: list[str]) -> None:
    import torch

    from launch.run import read_inputs
    from rl.binding import build
    from rl.config import compose_recipe, typed
    from rl.engine import keep_freed_memory
    from rl.scoring import Scorer, reward_terms

    keep_freed_memory()
    config = typed(compose_recipe(overrides))
    assert config.model.path is not None
    assert config.run.dir is not None
    directory = Path(config.run.dir)
    directory.mkdir(parents=True, exist_ok=True)
    inputs = read_inputs(config, config.model.path)
    rollout = build(
        config.rollout, "rollout",
        model_path=config.model.path, tokenizer=inputs.tokenizer, dtype=config.model.dtype, device=torch.device("cpu"),
    )  # fmt: skip
    with Scorer(reward_terms(config.rewards)) as scorer:
        trainer(config, inputs, directory, judge(config, inputs, rollout, scorer, directory)).train()


def judge(config: Any, inputs: Any, rollout: Any, scorer: Any, directory: Path) -> Callable[[int, Any], None]:
    """Evaluates a model after so many steps, as our trainer does: same problems, same random numbers, same files."""
    from rl.collect import collect
    from rl.evaluate import evaluate
    from rl.trainer import EVAL_SEED, write_evaluations

    def evaluation(step: int, model: Any) -> None:
        rollout.load_weights(((name, value.detach()) for name, value in model.named_parameters()), policy_step=step)
        results = {}
        for name, prompts in inputs.held_out.items():
            groups = collect(
                prompts, rollout, scorer, config.eval_params, seed=config.seed + EVAL_SEED, time=lambda _: nullcontext()
            )
            results[name] = evaluate(groups, correct=config.correct)
        write_evaluations(directory, step, results)

    return evaluation


def trainer(config: Any, inputs: Any, directory: Path, evaluation: Callable[[int, Any], None]) -> Any:
    """GRPOTrainer under the recipe's settings, judged as often as the recipe says."""
    import torch
    from datasets import Dataset
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOTrainer

    prompts = [prompt for step in range(config.steps) for prompt in inputs.stream.at(step)]
    metrics = (directory / "metrics.jsonl").open("w")

    class Watch(TrainerCallback):
        """The clock runs from the beginning of each step to its end."""

        def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
            evaluation(0, model)

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            step_s = time.perf_counter() - self.start
            row = {"step": state.global_step - 1, "time/step_s": step_s, "completions": batch_size(config)}
            print(json.dumps(row), file=metrics, flush=True)
            if state.global_step == config.steps or (config.eval.every and state.global_step % config.eval.every == 0):
                evaluation(state.global_step, model)

    class Warmed(GRPOTrainer):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            rates = config.optimizer
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer, lambda step: rates.lr_at(step, config.steps) / rates.lr
            )
            return self.lr_scheduler

    return Warmed(
        AutoModelForCausalLM.from_pretrained(config.model.path, dtype=torch.float32),
        reward_funcs=reward(prompts), args=trl_settings(config, directory),
        train_dataset=Dataset.from_dict({"prompt": [p.text for p in prompts], "place": list(range(len(prompts)))}),
        processing_class=AutoTokenizer.from_pretrained(config.model.path, padding_side="left"), callbacks=[Watch()],
    )  # fmt: skip


def reward(prompts: list[Any]) -> Callable[..., list[float]]:
    """The recipe's only term with a weight, on the text that TRL decoded."""
    from rewards.math_answer import math_answer
    from rl.experience import Completion

    def right(completions: list[str], completion_ids: list[list[int]], place: list[int], **_: Any) -> list[float]:
        done = [
            Completion(text, ids, [0.0] * len(ids), "stop", 0)
            for text, ids in zip(completions, completion_ids, strict=True)
        ]
        verdicts = [math_answer(prompts[i].problem, one, prompt=prompts[i]) for i, one in zip(place, done, strict=True)]
        return [1.0 if verdict == 1.0 else 0.0 for verdict in verdicts]  # without an answer: wrong, as in the recipe

    return right


def batch_size(config: Any) -> int:
    return config.batch.prompts * config.params.completions


def trl_settings(config: Any, directory: Path) -> Any:
    from trl import GRPOConfig

    rates, algorithm = config.optimizer, config.algorithm
    return GRPOConfig(
        output_dir=str(directory), use_cpu=True, bf16=config.model.dtype == "bfloat16", seed=config.seed,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        max_steps=config.steps, shuffle_dataset=False,
        per_device_train_batch_size=batch_size(config), gradient_accumulation_steps=1,
        num_generations=config.params.completions, max_completion_length=config.params.max_tokens,
        temperature=config.params.temperature, top_p=1.0, top_k=0, beta=0.0, loss_type="dapo",
        epsilon=algorithm["clip_low"], epsilon_high=algorithm["clip_high"], gradient_checkpointing=False,
        learning_rate=rates.lr, weight_decay=rates.weight_decay, adam_beta1=rates.betas[0], adam_beta2=rates.betas[1],
        adam_epsilon=rates.eps, max_grad_norm=rates.max_grad_norm,
    )  # fmt: skip


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main(sys.argv[1:])
