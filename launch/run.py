"""A composed recipe becomes parts, and the parts a run. What can be refused is refused before a model loads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from transformers.utils import logging as transformers_logging

from data.batches import Batches
from data.examples import worked_examples
from data.mixing import Mixture
from data.problem import Problem
from data.prompts import PromptBuilder, split_by_length
from launch import build_ops, models
from launch.problems import load_data_sets, load_problems, weights
from launch.report import print_report
from rewards.math_answer import extract_answer
from rl import checkpoint, distributed
from rl.algorithms import Algorithm
from rl.algorithms.distill import Distill
from rl.algorithms.gdpo import GDPO
from rl.algorithms.pass_at_k import PassAtK
from rl.algorithms.raft import RAFTPlusPlus
from rl.algorithms.topr import TOPR
from rl.binding import build
from rl.checkpoint import Checkpoint
from rl.collect import Collector
from rl.collect_state import CollectState, read_state
from rl.config import CollectConfig, TrainConfig, batch_arithmetic, differences, typed
from rl.console import Console
from rl.difficulty import Difficulty, check_questions, read_pass_rates
from rl.engine import PolicyEngine
from rl.experience import Prompt
from rl.policy import load_tokenizer
from rl.scoring import Scorer, reward_terms
from rl.selection import Position, Stream, in_range
from rl.tracking import JsonLines, Sink, TensorBoard, Tracker, Wandb
from rl.trainer import Parts, Run, train

MIN_FREE_BYTES = 1 << 27
# Settings that may change between a checkpoint and its resume: none changes what a step computes.
# The first three change memory and speed; floating-point sums come in another order, so not to the last bit.
FREE_TO_CHANGE = (
    "batch.tokens_per_micro_batch.",
    "model.gradient_checkpointing.",
    "model.compile.",
    "resume",
    "run.",
    "eval.",
    "checkpoint.",
    "tracking.",
    "scoring.",
)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a recipe reads, checked."""

    stream: Stream
    difficulty: Difficulty  # known before the run
    held_out: Mapping[str, list[Prompt]]
    tokenizer: Any
    prompts: PromptBuilder


def run_recipe(composed: DictConfig) -> None:
    """Collective: one run, from the composed recipe to final/ and its closing table."""
    transformers_logging.disable_progress_bar()
    config = typed(composed)
    directory = run_directory(config)
    resolved: Any = OmegaConf.to_container(composed, resolve=True)
    say(batch_arithmetic(config, distributed.world_size()))
    if config.engine.name != "ddp":
        with build_problems_in_words():
            build_ops.ensure_built()
    distributed.start()
    with distributed.together():
        algorithm = build(config.algorithm, "algorithm")
        check_algorithm(config, algorithm)
        terms = reward_terms(config.rewards)
        previous = resumable(directory, config, resolved)
        base = models.base_model(config)
        models.check_length(config, base)
        models.check_experts(config, base)
        inputs = read_inputs(config, base)
    with contextlib.ExitStack() as stack:
        with distributed.together():
            scorer = stack.enter_context(Scorer(terms, **vars(config.scoring)))
            scorer.check(first_prompt(inputs.stream))
            stack.enter_context(prepared(directory, resolved))
        finished = previous is not None and is_finished(directory, config, previous)
        if finished:
            say(f"{directory} holds this run, finished. Another run.dir starts a new one.")
        else:
            path = models.starting_model(config, base, inputs.tokenizer, inputs.prompts)
            parts = build_parts(config, path, algorithm, inputs, scorer)
            finished = go(config, directory, resolved, parts, previous)
    if not finished:
        say(f"stopped; resume=auto goes on from {directory / 'checkpoints'}")
    elif distributed.rank() == 0:
        print_report(directory)
    distributed.stop()


def check_algorithm(config: TrainConfig, algorithm: Algorithm) -> None:
    """What an algorithm needs of the rest of the recipe. ValueError naming the key to change."""
    name = type(algorithm).__name__
    if isinstance(algorithm, GDPO) and not config.scoring.normalize_terms:
        raise ValueError(f"{name} is about terms that are each in their own scale: set scoring.normalize_terms=true")
    if isinstance(algorithm, PassAtK) and config.params.completions <= algorithm.k:
        raise ValueError(
            f"{name} with algorithm.k={algorithm.k} needs more completions than that, or every advantage is 0: "
            f"sampling.completions={config.params.completions}"
        )
    if isinstance(algorithm, Distill | RAFTPlusPlus | TOPR) and config.collect.dynamic:
        raise ValueError(
            f"{name} learns from groups of equal reward too, which dynamic sampling drops: set collect.dynamic=false"
        )


@contextlib.contextmanager
def build_problems_in_words() -> Iterator[None]:
    """No compiler, or one that fails, is something that a user can mend."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def go(
    config: TrainConfig, directory: Path, resolved: Mapping[str, Any], parts: Parts, previous: Checkpoint | None
) -> bool:
    """Collective: trains, from the previous checkpoint if there is one. False if it was asked to stop."""
    next_step = 0
    if previous is not None:
        parts.policy.load(previous.directory / "engine")
        next_step = previous.step
        parts.collector.state = read_state(previous.directory)
        say(f"going on from {previous.directory}")
    console = None
    sinks: list[Sink] = []
    if distributed.rank() == 0:
        console = Console(config.steps, first_step=next_step, sample_every=config.tracking.sample_every)
        sinks = [*file_sinks(config, directory, resolved, next_step), console]
    with Tracker(sinks) as tracker:
        run = Run(directory, resolved, tracker, console)
        run.next_step = next_step
        try:
            return train(config, parts, run)
        except distributed.FailedTogether as error:
            raise distributed.FailedTogether(f"{error}\n{what_is_left(directory)}") from error


def what_is_left(directory: Path) -> str:
    """For the end of an error message: what is on disk and how to go on."""
    kept = checkpoint.complete(directory / "checkpoints")
    rollouts = f"what was sampled is in {directory / 'rollouts'}"
    return f"{rollouts}; resume=auto goes on from {kept[-1] if kept else 'the start'}"


def file_sinks(config: TrainConfig, directory: Path, resolved: Mapping[str, Any], next_step: int) -> list[Sink]:
    sinks: list[Sink] = [JsonLines(directory / "metrics.jsonl", next_step)]
    if config.tracking.tensorboard:
        sinks.append(TensorBoard(directory / "tensorboard", next_step))
    if config.tracking.wandb:
        sinks.append(Wandb(directory, config.tracking.project, directory.name, resolved))
    return sinks


# ---------------------------------------------------------------------- the run directory


def run_directory(config: TrainConfig) -> Path:
    """run.dir, or outputs/<recipe>; each job of a --multirun gets a subdirectory named by what it sweeps over."""
    hydra = HydraConfig.get()
    directory = Path(config.run.dir or f"outputs/{hydra.runtime.choices['recipe']}")
    if hydra.mode == RunMode.MULTIRUN:
        typed_in = OverridesParser.create().parse_overrides([a for a in sys.argv[1:] if not a.startswith("-")])
        swept = {override.key_or_group for override in typed_in if override.is_sweep_override()}
        mine = [text for text in hydra.overrides.task if text.partition("=")[0].lstrip("+") in swept]
        directory /= ",".join(mine).replace("/", "_") or "0"
    return directory.expanduser()


def resumable(directory: Path, config: TrainConfig, resolved: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint to go on from; None for a new run. ValueError for a directory that holds a run, unless told to."""
    if config.resume == "never":
        kept = checkpoint.complete(directory / "checkpoints")
        if kept or (directory / "metrics.jsonl").exists():
            end = "finished" if (directory / "final").exists() else "stopped"
            at = f"{end} after step {kept[-1].name[len('step_') :]}" if kept else "stopped before its first checkpoint"
            raise ValueError(
                f"{directory} already holds a run, {at}. resume=auto goes on with it; "
                f"run.dir=<another directory> starts anew beside it; nothing is ever overwritten"
            )
        return None
    newest = checkpoint.newest(directory / "checkpoints")
    if newest is not None:
        depends_on_steps = config.optimizer.schedule != "constant" or config.collect.curriculum.width > 0
        free = FREE_TO_CHANGE + (() if depends_on_steps else ("steps",))
        changed = {
            key: pair for key, pair in differences(newest.config, resolved).items() if not f"{key}.".startswith(free)
        }
        checkpoint.check_resumable(newest, changed)
    return newest


def is_finished(directory: Path, config: TrainConfig, previous: Checkpoint) -> bool:
    return previous.step >= config.steps and (directory / "final" / "config.json").exists()


@contextlib.contextmanager
def prepared(directory: Path, resolved: Mapping[str, Any], key: str = "run.dir") -> Iterator[None]:
    """Makes the directory, writes config.yaml, and keeps a second run out of it. ValueError where that cannot be.

    key: what a user changes to take another directory.
    """
    if distributed.rank() != 0:
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("a+")
    except OSError as error:
        raise ValueError(f"{key}={directory} cannot be written: {error.strerror}; choose another {key}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ValueError(
                f"{key}={directory} is in use by a run that has not ended, process {lock.read()}; wait or end it"
            ) from error
        lock.truncate(0)
        print(os.getpid(), end="", file=lock, flush=True)
        (directory / "config.yaml").write_text(yaml.safe_dump(dict(resolved), sort_keys=False))
        free_bytes = shutil.disk_usage(directory).free
        if free_bytes < MIN_FREE_BYTES:
            raise ValueError(
                f"{key}={directory} has {free_bytes >> 20} MB of disk left, a run needs {MIN_FREE_BYTES >> 20} MB"
            )
        yield


# ---------------------------------------------------------------------- data and parts


def read_inputs(config: TrainConfig, base: str) -> Inputs:
    """Problems and prompts; those longer than data.max_prompt_tokens are counted and left out."""
    shares = weights(config.data.train)
    data_sets = load_data_sets(config.data.train, "data.train")
    train_problems = [problem for problems in data_sets.values() for problem in problems]
    prompts = prompt_builder(config, base, train_problems)
    kept = fitting(prompts, train_problems, "data.train")
    held_out = held_out_prompts(config, prompts)
    warn_of_overlap(kept, held_out)
    if shares is None:
        stream: Stream = batches_of(kept, prompts, config)
    else:
        stream = mixture_of(data_sets, kept, shares, prompts, config)
    difficulty = Difficulty() if config.collect.pass_rates is None else known_before(config.collect, kept)
    return Inputs(stream=stream, difficulty=difficulty, held_out=held_out, tokenizer=prompts.tokenizer, prompts=prompts)


def prompt_builder(config: TrainConfig, base: str, train_problems: list[Problem]) -> PromptBuilder:
    """What makes prompts of problems; worked examples are the first of data.train."""
    return PromptBuilder(
        tokenizer=load_tokenizer(base),
        template=config.data.template,
        max_tokens=config.data.max_prompt_tokens,
        system=config.data.system,
        wording=config.data.wording,
        prefill=config.data.prefill,
        examples=worked_examples(train_problems, config.data.few_shot) if config.data.few_shot else (),
    )


def held_out_prompts(config: TrainConfig, prompts: PromptBuilder) -> dict[str, list[Prompt]]:
    """Evaluation set -> its prompts."""
    held_out = {}
    for name in config.eval.data:
        problems = load_problems({name: config.eval.data[name]}, "eval.data")[: config.eval.limit]
        held_out[name] = [prompts.build(p, i) for i, p in enumerate(fitting(prompts, problems, f"eval.data.{name}"))]
    return held_out


def batches_of(problems: list[Problem], prompts: PromptBuilder, config: TrainConfig) -> Batches:
    """All problems alike."""
    batches = Batches(problems, prompts.build, prompts_per_step=config.batch.prompts, seed=config.seed)
    say(f"{len(problems):,} training problems, {batches.epoch(config.steps):.2g} epochs in {config.steps} steps")
    return batches


def mixture_of(
    data_sets: Mapping[str, list[Problem]],
    kept: list[Problem],
    shares: Mapping[str, float],
    prompts: PromptBuilder,
    config: TrainConfig,
) -> Mixture:
    """Each data set in the share of its weight."""
    fits = {id(problem) for problem in kept}
    sources = {}
    for number, (name, problems) in enumerate(data_sets.items(), start=1):
        own = [problem for problem in problems if id(problem) in fits]
        if not own:
            raise ValueError(f"data.train.{name}: no prompt is within data.max_prompt_tokens={prompts.max_tokens}")
        sources[name] = Batches(
            own, prompts.build, prompts_per_step=config.batch.prompts, seed=config.seed, number=number
        )
    mixture = Mixture(sources, shares, seed=config.seed)
    for name, epochs in mixture.epochs(config.steps * config.batch.prompts).items():
        size, share = mixture.sizes[name], mixture.shares[name]
        say(f"{name}: {share:.0%} of the prompts, {size:,} problems, {epochs:.2g} epochs in {config.steps} steps")
    return mixture


def known_before(settings: CollectConfig, problems: list[Problem]) -> Difficulty:
    """What collect.pass_rates says of these problems; ValueError if it speaks of others, or leaves none to sample."""
    file = settings.pass_rates
    assert file is not None
    path = Path(file).expanduser()
    read = read_pass_rates(path)
    known = read.of(problems)
    if not len(known):
        raise ValueError(
            f"collect.pass_rates={file} has {len(read)} problems and none of data.train: "
            "they are told by `source` and `id`, as in rollouts/"
        )
    check_questions(path, problems)
    foreign = len(read) - len(known)
    say(
        f"collect.pass_rates: {len(known):,} of {len(problems):,} training problems have a pass rate, the others are "
        "sampled as they come" + (f"; {foreign:,} of the file are not in data.train" if foreign else "")
    )
    if settings.pass_rate is not None:
        rates = [known.rate(problem) for problem in problems]
        outside = sum(not in_range(rate, settings.pass_rate) for rate in rates)
        if outside == len(problems) and not settings.revisit:
            raise ValueError(
                f"collect.pass_rate={list(settings.pass_rate)} leaves no problem to sample: all {outside} of "
                f"data.train are outside it by collect.pass_rates={file}; widen it, or set collect.revisit above 0"
            )
        say(f"collect.pass_rate={list(settings.pass_rate)}: {outside:,} of {len(problems):,} problems are outside it")
    return known


def first_prompt(stream: Stream) -> Prompt:
    """One to try the rewards on."""
    return stream.prompt(stream.candidate(stream.source(0), 0), 0)


def warn_of_overlap(problems: list[Problem], held_out: Mapping[str, list[Prompt]]) -> None:
    """Accuracy on problems that were trained on says nothing."""
    trained = {problem.question for problem in problems}
    for name, prompts in held_out.items():
        seen = sum(prompt.problem.question in trained for prompt in prompts)
        if seen:
            say(f"warning: {seen} of {len(prompts)} problems of eval.data.{name} are also in data.train")


def fitting(prompts: PromptBuilder, problems: list[Problem], key: str) -> list[Problem]:
    kept, dropped = split_by_length(prompts, problems)
    if dropped:
        say(f"{key}: {len(dropped)} of {len(problems)} prompts are longer than data.max_prompt_tokens and left out")
    if not kept:
        raise ValueError(
            f"{key}: all {len(dropped)} prompts are longer than data.max_prompt_tokens={prompts.max_tokens}; raise it"
        )
    return kept


def build_parts(config: TrainConfig, path: str, algorithm: Algorithm, inputs: Inputs, scorer: Scorer) -> Parts:
    """Collective: the models, and the engines around them."""
    policy_model = models.policy_model(config, path)
    needs_reference = algorithm.uses_reference and not config.model.lora.rank
    policy = PolicyEngine(
        policy_model,
        engine=config.engine.name,
        optimizer=config.optimizer,
        steps=config.steps * config.batch.updates,
        temperature=config.params.temperature,
        reference=models.reference_model(config, path) if needs_reference else None,
        autocast=config.engine.name == "ddp" and config.model.dtype == "bfloat16",
        moe=config.model.moe,
    )
    rollout = build(
        config.rollout, "rollout",
        model_path=path, tokenizer=inputs.tokenizer, dtype=config.model.dtype, device=policy.device,
        record_routing=config.model.moe.routing_replay == "rollout",
    )  # fmt: skip
    return Parts(
        collector=Collector(
            stream=inputs.stream,
            settings=config.collect,
            outcome=config.collect.outcome or config.correct,
            slots=config.batch.prompts,
            completions=config.params.completions,
            seed=config.seed,
            steps=config.steps,
            updates=config.batch.updates,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            gather=distributed.gather,
            state=CollectState(Position(0, {}), inputs.difficulty),
        ),
        rollout=rollout,
        scoring=scorer,
        policy=policy,
        algorithm=algorithm,
        tokenizer=inputs.tokenizer,
        held_out=inputs.held_out,
        correct=config.correct,
        extract=extract_answer,
    )


def say(text: str) -> None:
    """A line on rank 0."""
    if distributed.rank() == 0:
        print(text, flush=True)
