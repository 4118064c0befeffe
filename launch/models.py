"""The models a run starts from: given, built on the spot, and cold-started; each built once and cached."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig

from data.problem import Problem
from data.prompts import PromptBuilder
from rl import distributed
from rl.algorithms.sft import SFT
from rl.batch import Trajectory, build_micro_batches, trajectory
from rl.binding import build, locate
from rl.config import LoraConfig, MoEConfig, TrainConfig
from rl.engine import PolicyEngine
from rl.policy import check_model_path, compile_layers, load_model, local_or_hub
from rl.routers import FAMILIES as MOE_FAMILIES

SAY_EVERY = 50  # steps of a cold start
MODEL_FILES = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")  # that decide what a model writes
PROBES, PROBE_BYTES = 256, 1 << 16  # blocks of a file that tell it from another


def cache() -> Path:
    """Where built models are kept: $REASONING_RL_CACHE, or ~/.cache/reasoning-rl."""
    return Path(os.environ.get("REASONING_RL_CACHE") or Path.home() / ".cache" / "reasoning-rl")


def base_model(config: TrainConfig) -> str:
    """Collective: the recipe's model.path, checked, or the directory in which model.build has built one."""
    if config.model.path is not None:
        check_model_path(config.model.path)
        return config.model.path
    section = config.model.build
    directory = cache() / f"built-{digest(section, config.seed, source(section))}"
    partial = directory.with_name(f".{directory.name}.{os.getpid()}")
    with distributed.together():
        if distributed.rank() == 0 and not directory.is_dir():
            build(section, "model.build", directory=partial, seed=config.seed)
            partial.rename(directory)
    return str(directory)


def check_length(config: TrainConfig, base: str) -> None:
    """ValueError where prompt and completion together outgrow the positions that the model knows."""
    known = getattr(AutoConfig.from_pretrained(local_or_hub(base)), "max_position_embeddings", None)
    longest = config.data.max_prompt_tokens + max(config.params.max_tokens, config.eval_params.max_tokens)
    if known is not None and longest > known:
        raise ValueError(
            f"data.max_prompt_tokens={config.data.max_prompt_tokens} and max_tokens of sampling or eval.sampling make "
            f"{longest} tokens, but the model knows {known} positions; lower sampling.max_tokens"
        )


def check_experts(config: TrainConfig, base: str) -> None:
    """ValueError where model.moe asks for what the model or the sampler does not have."""
    moe, family = config.model.moe, AutoConfig.from_pretrained(local_or_hub(base)).model_type
    if family in MOE_FAMILIES and config.model.lora.rank and config.model.lora.targets == "all-linear":
        raise ValueError(
            f"model.lora.targets=all-linear: of a {family}, peft would adapt the weights of its experts too, which "
            "cannot be merged here for the sampler. Name modules, for example model.lora.targets=o_proj"
        )
    if moe == MoEConfig():
        return
    if family not in MOE_FAMILIES:
        raise ValueError(
            f"model.moe is for mixtures of experts of the families {', '.join(MOE_FAMILIES)}, and {base} is a "
            f"{family}: leave its keys as they were"
        )
    if moe.bias_speed and family != "deepseek_v3":
        raise ValueError(
            f"model.moe.bias_speed={moe.bias_speed} moves a bias that {family} does not have: take "
            "model.moe.router_aux_coef"
        )
    sampler = locate(config.rollout["_target_"], "rollout")
    if moe.routing_replay == "rollout" and "record_routing" not in inspect.signature(sampler).parameters:
        raise ValueError(
            f"model.moe.routing_replay=rollout needs the experts that the sampler chose, which {sampler.__name__} does "
            "not tell: take rollout=native or rollout=hf, or model.moe.routing_replay=old"
        )


def starting_model(config: TrainConfig, base: str, tokenizer: Any, prompts: PromptBuilder) -> str:
    """Collective: the base, or what the cold start has made of it. The result is cached by all that it depends on."""
    section = config.cold_start
    if section.steps == 0:
        return base
    known = digest(asdict(section), asdict(config.data), base, contents(base), config.seed, source(section.data))
    directory = cache() / f"cold-start-{known}"
    exists = any(distributed.gather(directory.is_dir()))
    if distributed.rank() == 0:
        print(f"cold start: {'cached in ' + str(directory) if exists else f'{section.steps} supervised steps'}")
    if not exists:
        engine = cold_start(config, base, prompts)
        partial = directory.with_name(f".{directory.name}.{os.getpid()}")
        with distributed.together():
            engine.save_model(partial, tokenizer)
            if distributed.rank() == 0:
                shutil.rmtree(directory, ignore_errors=True)
                partial.rename(directory)
    return str(directory)


def contents(path: str) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change of each file of a model directory; nothing for a hub name."""
    directory = Path(local_or_hub(path))
    files = sorted(file for file in directory.glob("*") if file.is_file()) if directory.is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def fingerprint(path: str) -> str:
    """Of a model's contents: other weights, another fingerprint, wherever the directory lies. Of a hub model its name
    and commit.

    Hashes the size of each file and up to PROBES blocks spread over it. A training step moves some of the 32,768
    bfloat16 weights of a block, however many it leaves where they were.
    """
    directory = Path(local_or_hub(path))
    if not directory.is_dir():
        return f"{path}@{getattr(AutoConfig.from_pretrained(path), '_commit_hash', None)}"
    found = hashlib.sha256()
    for file in sorted(file for file in directory.glob("*") if file.suffix in MODEL_FILES and file.is_file()):
        size = file.stat().st_size
        found.update(f"{file.name} {size} ".encode())
        with file.open("rb") as data:
            for place in range(0, size, max(PROBE_BYTES, size // PROBES)):
                data.seek(place)
                found.update(data.read(PROBE_BYTES))
    return found.hexdigest()[:16]


def cold_start(config: TrainConfig, base: str, prompts: PromptBuilder) -> PolicyEngine:
    """Collective: supervised steps on worked examples, on the same engine and batches as the RL."""
    section = config.cold_start
    examples = build(section.data, "cold_start.data", seed=config.seed)
    engine = PolicyEngine(
        load_model(base, "float32"), engine="ddp", optimizer=section.optimizer, steps=section.steps
    )  # fmt: skip
    algorithm = SFT()
    for step in range(section.steps):
        micro_batches = build_micro_batches(
            example_trajectories(examples, step, section.examples, prompts),
            algorithm.normalization,
            tokens_per_micro_batch=config.batch.tokens_per_micro_batch,
            max_completion_tokens=config.params.max_tokens,
            gather=distributed.gather,
            share_prompts=engine.shares_prompts,
        )
        metrics = engine.update(micro_batches, algorithm).reduce(distributed.gather)
        if distributed.rank() == 0 and (step + 1) % SAY_EVERY == 0:
            loss = metrics["policy/loss"]
            print(f"cold start {step + 1}/{section.steps}  loss {loss:.3f} nats per token", flush=True)
    return engine


def example_trajectories(
    examples: Sequence[tuple[Problem, str]], step: int, count: int, prompts: PromptBuilder
) -> list[Trajectory]:
    """This rank's share of the worked examples of one step, in the order that the data has, over and over."""
    items = []
    for position in range(step * count + distributed.rank(), (step + 1) * count, distributed.world_size()):
        problem, answer = examples[position % len(examples)]
        answer_ids = prompts.encode_answer(answer)
        items.append(trajectory(prompts.build(problem, position).token_ids, answer_ids, [0.0] * len(answer_ids), 1.0))
    return items


def policy_model(config: TrainConfig, path: str) -> nn.Module:
    """The model to train, in the dtype its engine trains in: DDP keeps float32 weights and computes under autocast."""
    dtype = "float32" if config.engine.name == "ddp" else config.model.dtype
    model = load_model(path, dtype, config.model.attention)
    if config.model.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.model.compile:
        compile_layers(model)
    if not config.model.lora.rank:
        return model
    with torch.random.fork_rng(devices=[]):  # the adapters' start is drawn: by the run's seed, whatever drew before
        torch.manual_seed(config.seed)
        return with_lora(model, config.model.lora)


def with_lora(model: Any, lora: LoraConfig) -> nn.Module:
    """Adapters on the named layers; everything else is frozen. ValueError for layers that do not exist."""
    from peft import LoraConfig as PeftLora
    from peft import TaskType, get_peft_model

    model.enable_input_require_grads()
    # A list of names: peft takes a string, but for its word, as a pattern that the whole path of a module must match.
    targets = lora.targets if lora.targets == "all-linear" else lora.targets.split(",")
    settings = PeftLora(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, lora_dropout=0.0, task_type=TaskType.CAUSAL_LM
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise ValueError(f"model.lora.targets={lora.targets}: {error}") from error


def reference_model(config: TrainConfig, path: str) -> nn.Module:
    """The frozen model that the KL term compares with: the one the run starts from."""
    return load_model(path, config.model.dtype, config.model.attention)


def digest(*parts: Any) -> str:
    """A short name for everything given: other settings, another name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def source(section: Mapping[str, Any]) -> str:
    """The text of the module a section names, so that a change of its code is a change of the name."""
    if "_target_" not in section:
        return ""
    return inspect.getsource(inspect.getmodule(locate(section["_target_"], "model")) or build)
