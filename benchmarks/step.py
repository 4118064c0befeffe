"""One GRPO step, ours beside TRL's GRPOTrainer: same model, prompts, lengths and hyperparameters, step by step in turn.

    python benchmarks/step.py --work 1m --threads 1        # also 10m, 135m, update-135m, all
    python benchmarks/step.py --quick                      # the smallest, under a minute
    python benchmarks/step.py --work 135m --model DIR --prompts gsm8k/train.jsonl

Ours is the trainer's own step: sampling, rewards in worker processes, update, weights handed to the sampler, records
and metrics written. TRL runs at its best on a CPU: one micro-batch where it fits, no gradient checkpointing, beta 0,
its fused AdamW, bf16 autocast where that is faster, the faster of its two ways to generate (`--trl-batching` takes the
other), and our allocator settings, which help it too. CPU seconds are of the process and its live children.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PHASES = ("rollout_s", "score_s", "update_s")
FIXED = ("update-135m",)  # works whose completions are given, so that the update alone is compared


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="1m", help="1m, 10m, 135m, update-135m, or all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm-ups", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the smallest work, three repeats")
    parser.add_argument("--model", help="a Hugging Face directory in place of random weights")
    parser.add_argument("--prompts", help="a JSONL with `question` in each line")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="to train in, both sides, in place of the best"
    )
    parser.add_argument(
        "--trl-batching", action="store_true", help="TRL generates by transformers' continuous batching"
    )
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)  # a worker of the command
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---------------------------------------------------------------------------------------------------------------------
# The two sides: each does one step when told, and says what it took


class Ours:
    """The trainer's step, with ourselves as the batches and as the sink of its metrics."""

    def __init__(self, work: Any, model: str, texts: list[str], directory: Path, fixed: bool) -> None:
        from data.problem import Problem, ask
        from rl.config import TrainConfig
        from rl.experience import Prompt
        from rl.policy import load_tokenizer
        from rl.tracking import Tracker
        from rl.trainer import Run

        self.work, self.step_number, self.metrics = work, 0, {}
        self.tokenizer = load_tokenizer(model)
        self.prompts = [
            Prompt(Problem(str(i), ask(text), "", "x"), i, text, tuple(self.tokenizer(text)["input_ids"]))
            for i, text in enumerate(texts)
        ]
        self.parts = self._parts(model, fixed)
        self.config = TrainConfig(steps=1000)
        self.config.batch.prompts = work.prompts
        self.config.batch.tokens_per_micro_batch = work.tokens_per_micro_batch
        self.config.sampling = {"completions": work.completions, "max_tokens": work.max_tokens}
        (directory / "rollouts").mkdir()
        self.run = Run(directory, {}, Tracker([self]), None)

    def _parts(self, model: str, fixed: bool) -> Any:
        import torch

        from rl.algorithms.grpo import GRPO
        from rl.collect import Collector
        from rl.config import CollectConfig, OptimizerConfig
        from rl.engine import PolicyEngine
        from rl.policy import load_model
        from rl.rollout.native import NativeRollout
        from rl.scoring import Scorer, reward_terms
        from rl.trainer import Parts

        policy = PolicyEngine(
            load_model(model, "float32"), engine="ddp", optimizer=OptimizerConfig(lr=1e-6), steps=1000,
            autocast=self.work.dtype == "bfloat16",
        )  # fmt: skip
        rollout: Any = Given(self.prompts, self.work)
        if not fixed:
            rollout = NativeRollout(model, self.tokenizer, self.work.rollout_dtype, torch.device("cpu"))
        reward = {"parity": {"fn": f"{ROOT}/benchmarks/works.py:parity"}}
        return Parts(
            collector=Collector(
                stream=self, settings=CollectConfig(), outcome="parity", slots=self.work.prompts,
                completions=self.work.completions, seed=0, steps=1000,
            ),
            rollout=rollout, scoring=Scorer(reward_terms(reward)), policy=policy,
            algorithm=GRPO(clip_high=0.28), tokenizer=self.tokenizer, held_out={}, correct="parity",
        )  # fmt: skip

    # As the stream of prompts: all of them in turn.

    @property
    def sizes(self) -> dict[str, int]:
        return {"x": len(self.prompts)}

    def source(self, index: int) -> str:
        return "x"

    def candidate(self, source: str, place: int) -> Any:
        return self.prompts[place % len(self.prompts)].problem

    def prompt(self, problem: Any, index: int) -> Any:
        return replace(self.prompts[int(problem.id)], index=index)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """The run's metrics come here."""
        self.metrics = metrics

    def close(self) -> None:
        """A sink has it."""

    def step(self) -> dict[str, float]:
        from rl.trainer import train_step

        train_step(self.step_number, self.config, self.parts, self.run)
        self.step_number += 1
        tokens = self.metrics["rollout/completion_tokens"] * self.work.prompts * self.work.completions
        found = {phase: self.metrics.get(f"time/{phase}", 0.0) for phase in PHASES}
        return found | {"tokens": tokens}


class Given:
    """A rollout engine that samples nothing: the completions of the work."""

    def __init__(self, prompts: list[Any], work: Any) -> None:
        from benchmarks.works import completions_of
        from rl.experience import Completion, Group

        ids = iter(completions_of(work, len(prompts) * work.completions))
        self.groups = {
            prompt.index: Group(
                prompt,
                tuple(
                    Completion("", own, [-1.0] * len(own), "length", 0)
                    for own in (next(ids) for _ in range(work.completions))
                ),
            )
            for prompt in prompts
        }

    def generate(self, prompts: Any, params: Any, seed: int, **_: Any) -> list[Any]:
        return [replace(self.groups[int(prompt.problem.id)], prompt=prompt) for prompt in prompts]

    def load_weights(self, weights: Any, policy_step: int) -> None:
        """Needs none."""

    def awake(self) -> Any:
        return contextlib.nullcontext()


class TRL:
    """GRPOTrainer.train() in a thread of its own, let go one optimizer step at a time."""

    def __init__(self, work: Any, model: str, texts: list[str], directory: Path, fixed: bool, batching: bool) -> None:
        from rl.engine import keep_freed_memory

        keep_freed_memory()
        self.go: Any = queue.Queue()
        self.done: Any = queue.Queue()
        self.seconds: dict[str, float] = defaultdict(float)
        self.tokens = 0
        self.trainer = timed_trainer(self, work, model, texts, fixed, trl_settings(work, directory, batching))
        threading.Thread(target=self._train, daemon=True).start()

    def _train(self) -> None:
        try:
            self.trainer.train()
        except BaseException as error:
            self.done.put(error)

    @contextlib.contextmanager
    def time(self, phase: str) -> Any:
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start

    def step(self) -> dict[str, float]:
        self.seconds.clear()
        start = time.perf_counter()
        self.go.put(None)
        error = self.done.get()
        if error is not None:
            raise error
        total = time.perf_counter() - start
        before_update = self.seconds["rollout_s"] + self.seconds["score_s"]
        return {**self.seconds, "update_s": total - before_update, "tokens": float(self.tokens)}


def trl_settings(work: Any, directory: Path, batching: bool) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(directory), use_cpu=True, bf16=work.dtype == "bfloat16", report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, max_steps=1000, shuffle_dataset=False,
        per_device_train_batch_size=work.prompts * work.completions // work.trl_micro_batches,
        gradient_accumulation_steps=work.trl_micro_batches, num_generations=work.completions,
        max_completion_length=work.max_tokens, temperature=1.0, learning_rate=1e-6, lr_scheduler_type="constant",
        max_grad_norm=1.0, beta=0.0, loss_type="dapo", epsilon=0.2, epsilon_high=0.28,
        gradient_checkpointing=False, use_transformers_continuous_batching=batching,
    )  # fmt: skip


def timed_trainer(side: TRL, work: Any, model: str, texts: list[str], fixed: bool, settings: Any) -> Any:
    """GRPOTrainer that waits for side.go before a step, and says what its sampling and scoring took."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOTrainer

    from benchmarks.works import completions_of, parity

    class Turns(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            side.go.get()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            side.done.put(None)

    class Timed(GRPOTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *rest: Any, **options: Any) -> Any:
            with side.time("rollout_s"):
                if fixed:
                    found = completions_of(work, len(prompt_ids)), None
                else:
                    found = super()._generate_single_turn(prompt_ids, *rest, **options)
            side.tokens = sum(map(len, found[0]))
            return found

        def _calculate_rewards(self, *arguments: Any, **options: Any) -> Any:
            with side.time("score_s"):
                return super()._calculate_rewards(*arguments, **options)

    return Timed(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), reward_funcs=parity, args=settings,
        train_dataset=Dataset.from_dict({"prompt": texts}),
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"), callbacks=[Turns()],
    )  # fmt: skip


def side(options: argparse.Namespace) -> None:
    """The worker: a line on stdin is a step, the answer a line of JSON."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print
    import torch

    from benchmarks import machine
    from benchmarks.works import WORKS, prompts_of

    torch.set_num_threads(options.threads)
    work = replace(WORKS[options.work], dtype=options.dtype or WORKS[options.work].dtype)
    texts = prompts_of(work, options.model, options.prompts, 8 * work.prompts)
    directory = Path(options.directory)
    common = (work, options.model, texts, directory, options.work in FIXED)
    one: Any = Ours(*common) if options.side == "ours" else TRL(*common, options.trl_batching)
    resting = 0.0
    for _ in sys.stdin:
        machine.forget_peak()
        wall, cpu = time.perf_counter(), machine.cpu_seconds()
        found = one.step()
        found |= {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": machine.cpu_seconds() - cpu,
            "peak_gb": machine.peak_gb(),
        }
        if not resting:  # after the first step: weights and optimizer are there
            machine.trim()
            resting = machine.resident_gb()
        answers.write(json.dumps(found | {"extra_gb": found["peak_gb"] - resting}) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# The command


class Worker:
    def __init__(self, name: str, options: argparse.Namespace, model: str, directory: Path) -> None:
        directory.mkdir()
        command = [sys.executable, __file__, "--side", name, "--work", options.work, "--threads", str(options.threads)]
        command += ["--model", model, "--directory", str(directory)]
        command += ["--prompts", options.prompts] if options.prompts else []
        command += ["--dtype", options.dtype] if options.dtype else []
        command += ["--trl-batching"] if options.trl_batching else []
        threads = str(options.threads)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "0",
        }
        self.log = (directory / "log").open("w")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment
        )

    def step(self) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"a side ended: {Path(self.log.name).read_text()[-3000:]}")
        return json.loads(answer)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def compare(options: argparse.Namespace) -> dict[str, float]:
    """Prints the table of one work and gives its ratios."""
    import torch

    from benchmarks import machine
    from benchmarks.works import WORKS, build

    torch.set_num_threads(options.threads)
    work = WORKS[options.work]
    print(f"\n{options.work}, {options.threads} threads: {work}\n{machine.describe()}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or build(work, Path(scratch) / "model")
        workers = {name: Worker(name, options, model, Path(scratch) / name) for name in ("ours", "trl")}
        try:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
            for repeat in range(-options.warm_ups, options.repeats):
                for name in list(workers) if repeat % 2 else reversed(workers):
                    step = workers[name].step()
                    if repeat >= 0:
                        found[name].append(step)
                    print(
                        f"  {name:>4} {'warm-up' if repeat < 0 else repeat + 1}: {step['wall_s']:.2f} s",
                        file=sys.stderr,
                        flush=True,
                    )
        finally:
            for worker in workers.values():
                worker.stop()
    return report(options, work, found)


def report(options: argparse.Namespace, work: Any, found: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    from benchmarks import machine
    from benchmarks.roofline import least_seconds

    middle = {name: {key: median(step[key] for step in steps) for key in steps[0]} for name, steps in found.items()}
    per_token = {
        name: {key: median(step[key] / step["tokens"] for step in steps) for key in steps[0]}
        for name, steps in found.items()
    }
    bounds = least_seconds(work, middle["ours"]["tokens"], machine.roofs())
    rows, ratios = [], {}
    for key in ("rollout_s", "score_s", "update_s", "wall_s", "cpu_s"):
        row: dict[str, Any] = {"what": key, "ours": middle["ours"][key], "TRL": middle["trl"][key]}
        if per_token["ours"][key] > 0 and per_token["trl"][key] > 0:
            row["TRL / ours, per token"] = per_token["trl"][key] / per_token["ours"][key]
            ratios[key] = row["TRL / ours, per token"]
        if key in bounds and middle["ours"][key] > 0:
            row["limit of this machine"] = bounds[key]
            row["ours at"] = f"{bounds[key] / middle['ours'][key]:.0%} of it"
        rows.append(row)
    for key in ("tokens", "peak_gb", "extra_gb"):
        rows.append({"what": key, "ours": middle["ours"][key], "TRL": middle["trl"][key]})
    if options.work in FIXED:
        ratios["extra_memory"] = middle["ours"]["extra_gb"] / middle["trl"]["extra_gb"]
    machine.print_table(rows)
    return {f"{options.work}/{key}": value for key, value in ratios.items()}


def main() -> None:
    options = arguments()
    if options.side:
        side(options)
        return
    if options.quick:
        options.work, options.repeats = "1m", min(options.repeats, 3)
    names = ("1m", "10m", "135m", "update-135m") if options.work == "all" else (options.work,)
    ratios: dict[str, float] = {}
    for name in names:
        ratios |= compare(argparse.Namespace(**vars(options) | {"work": name}))
    from benchmarks import machine

    machine.print_json({"threads": options.threads, **ratios})


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
