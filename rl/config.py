"""Typed settings of a run, one dataclass per section of a recipe, and the checks between sections.

A section that names its code by `_target_` (algorithm, rollout, each data set and reward) is a plain mapping here;
rl/binding.py holds it against the signature of that code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rl.binding import check_choice, check_options, nearest
from rl.experience import SamplingParams

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
ENGINES = ("ddp", "zero1", "zero2", "zero3", "zero3_offload")


def at_least(section: str, settings: Any, **smallest: float) -> None:
    """ValueError naming the key of a setting that is below the smallest value it can have."""
    for name, bound in smallest.items():
        if not getattr(settings, name) >= bound:
            raise ValueError(f"{section}.{name} must be {bound:g} or more, got {getattr(settings, name)}")


@dataclass(kw_only=True)
class RunConfig:
    dir: str | None = None  # null: outputs/<recipe>


@dataclass(kw_only=True)
class LoraConfig:
    """Low-rank adapters through peft (arXiv:2106.09685); rank 0 trains the whole model."""

    rank: int = 0
    alpha: int = 32  # the adapters' output is scaled by alpha / rank
    targets: str = "all-linear"  # names such as q_proj,v_proj, or peft's word for every linear layer but the head

    def __post_init__(self) -> None:
        at_least("model.lora", self, rank=0, alpha=1)


@dataclass(kw_only=True)
class MoEConfig:
    """Mixtures of experts: what keeps all experts in use, and whose choice of experts an update takes. docs/moe.md.

    Off by default: a loss that is not the reward's pulls the policy elsewhere, and RL on a trained model moves its
    routers little. Watch moe/max_load.
    """

    router_aux_coef: float = 0.0  # of the load-balancing loss over the trained tokens of the batch; costs a pass more
    sequence_aux_coef: float = 0.0  # of the same inside each completion (DeepSeek-V3: 1e-4)
    bias_speed: float = 0.0  # step of the bias that evens DeepSeek-V3's load without a loss (its pre-training: 1e-3)
    # Whose choice of experts an update takes. none: its own; old: that of the pass for old_logprobs, which several
    # updates of a batch have; rollout: the sampler's, in that pass too.
    routing_replay: str = "none"

    def __post_init__(self) -> None:
        at_least("model.moe", self, router_aux_coef=0, sequence_aux_coef=0, bias_speed=0)
        check_choice("model.moe.routing_replay", self.routing_replay, ("none", "old", "rollout"))

    @property
    def balances(self) -> bool:
        """Whether tokens without an advantage matter too."""
        return max(self.router_aux_coef, self.sequence_aux_coef, self.bias_speed) > 0


@dataclass(kw_only=True)
class ModelConfig:
    path: str | None = None  # a Hugging Face directory or hub name; null: built by `build`
    build: dict[str, Any] = field(default_factory=dict)  # _target_ writes a model into a directory
    dtype: str = "float32"
    # transformers' attn_implementation; null: ours, which shares prompts, for families that it knows, else its default
    attention: str | None = None
    gradient_checkpointing: bool = False
    compile: bool = False  # torch.compile of each layer of the update; not with zero3
    lora: LoraConfig = field(default_factory=LoraConfig)
    moe: MoEConfig = field(default_factory=MoEConfig)

    def __post_init__(self) -> None:
        check_choice("model.dtype", self.dtype, ("float32", "bfloat16"))


@dataclass(kw_only=True)
class EngineConfig:
    name: str = "ddp"

    def __post_init__(self) -> None:
        check_choice("engine.name", self.name, ENGINES)


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW, and its learning rate as a pure function of the step."""

    lr: float = 1e-6
    schedule: str = "constant"  # after the warm-up: constant, or linear or cosine down to 0 at the last step
    warmup_steps: int = 10  # the rate rises linearly from lr / warmup_steps
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        check_choice("optimizer.schedule", self.schedule, ("constant", "linear", "cosine"))
        if not 0 < self.lr < math.inf:
            raise ValueError(f"optimizer.lr must be above 0, got {self.lr}")
        for name in ("max_grad_norm", "eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"optimizer.{name} must be above 0, got {getattr(self, name)}")
        at_least("optimizer", self, warmup_steps=0, weight_decay=0)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas must be two numbers in [0, 1), got {list(self.betas)}")

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of the update number `step` (from 0) of `steps`."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        done = max(0.0, (step - self.warmup_steps) / max(1, steps - self.warmup_steps))
        decay = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
        return self.lr * warm * decay[self.schedule]


@dataclass(kw_only=True)
class BatchConfig:
    prompts: int = 32  # a step, all ranks together; each gives sampling.completions completions
    tokens_per_micro_batch: int = 8192  # of one forward pass, prompts included: once for a group where they are shared
    # Leave completions of advantage 0 out of the passes: same gradient in less time; policy/* then speak of the rest.
    skip_without_advantage: bool = False
    mini_batches: int = 1  # parts of a step's groups, with an optimizer step for each
    epochs: int = 1  # passes over a step's groups; more than one optimizer step takes a pass more, for old_logprobs

    def __post_init__(self) -> None:
        at_least("batch", self, prompts=1, tokens_per_micro_batch=1, mini_batches=1, epochs=1)

    @property
    def updates(self) -> int:
        """Optimizer steps in a step."""
        return self.mini_batches * self.epochs


@dataclass(kw_only=True)
class CurriculumConfig:
    """From easy to hard: a problem of pass rate q is drawn in proportion to exp(-(c - (1 - q))^2 / (2 width^2)), where
    c = (step / steps)^exponent. The Gaussian scheduler of E2H Reasoner, arXiv:2506.06632, with a problem's difficulty
    1 - q in place of a data set's level."""

    width: float = 0.0  # its sigma, in units of the pass rate; 0: no curriculum
    exponent: float = 1.0  # below 1: hard problems come sooner

    def __post_init__(self) -> None:
        at_least("collect.curriculum", self, width=0)
        if not 0 < self.exponent < math.inf:
            raise ValueError(f"collect.curriculum.exponent must be above 0, got {self.exponent}")


@dataclass(kw_only=True)
class GroupSizesConfig:
    """More completions where a problem is hard, fewer problems for it: the completions of a step stay as many."""

    hard_below: float = 0.0  # pass rate; 0: no problem is hard
    times: int = 2  # a hard problem gets this many times sampling.completions

    def __post_init__(self) -> None:
        at_least("collect.group_sizes", self, times=2)
        if not 0 <= self.hard_below <= 1:
            raise ValueError(f"collect.group_sizes.hard_below must be in [0, 1], got {self.hard_below}")


@dataclass(kw_only=True)
class CollectConfig:
    """Which problems a step samples, and which of their groups it trains on. docs/sampling.md."""

    dynamic: bool = False  # sample until there are batch.prompts groups whose outcomes differ (DAPO)
    outcome: str | None = None  # the reward that says right or wrong; null: eval.correct, else the first
    max_rounds: int = 10  # of sampling in a step; after them the batch is what there is
    oversample: float = 1.0  # prompts of a round, in units of what is lacking
    reuse: bool = False  # informative groups beyond what a step needs wait for the next
    max_age: int | None = None  # optimizer steps that such a group may be behind; null: those of one step
    drop_truncated: bool = False  # completions cut at sampling.max_tokens stay out of the loss
    pass_rates: str | None = None  # a file of pass rates that were measured before, see rl/difficulty.py
    pass_rate: list[float] | None = None  # [lowest, highest] of the problems to sample; unknown ones always are
    revisit: float = 0.05  # how often a problem outside pass_rate is sampled nevertheless
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    group_sizes: GroupSizesConfig = field(default_factory=GroupSizesConfig)

    def __post_init__(self) -> None:
        at_least("collect", self, max_rounds=1)
        if not 1 <= self.oversample < math.inf:
            raise ValueError(f"collect.oversample must be 1 or more, got {self.oversample}")
        if not 0 <= self.revisit <= 1:
            raise ValueError(f"collect.revisit must be in [0, 1], got {self.revisit}")
        bounds = self.pass_rate
        if bounds is not None and not (len(bounds) == 2 and 0 <= bounds[0] <= bounds[1] <= 1):
            raise ValueError(f"collect.pass_rate must be [lowest, highest] within [0, 1], got {list(bounds)}")
        if not self.dynamic and self.oversample > 1:
            raise ValueError(f"collect.oversample={self.oversample} is for collect.dynamic=true, which drops groups")
        if self.reuse and not (self.dynamic and self.oversample > 1):
            raise ValueError(
                "collect.reuse=true needs collect.dynamic=true and collect.oversample above 1: else no group is left"
            )
        if self.max_age is not None:
            at_least("collect", self, max_age=1)

    @property
    def chooses(self) -> bool:
        """Whether the problems to sample depend on their pass rates."""
        return self.pass_rate is not None or self.curriculum.width > 0 or self.group_sizes.hard_below > 0

    @property
    def is_plain(self) -> bool:
        """Whether a step is the next batch.prompts problems, each trained on whatever became of it."""
        return not (self.dynamic or self.chooses)


@dataclass(kw_only=True)
class DataConfig:
    template: str = "chat"
    system: str | None = None
    wording: str = "{question}"  # what the user's message says; papers add "Please reason step by step" and such
    prefill: str = ""  # text with which the template opens the answer, "<think>" for example
    few_shot: int = 0  # worked examples of the few_shot template, from the first training problems
    max_prompt_tokens: int = 1024  # longer prompts are counted and left out at the start
    # name -> {_target_: a function to list[Problem], options}; with `weight` in each, its share of the prompts
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least("data", self, few_shot=0, max_prompt_tokens=1)


@dataclass(kw_only=True)
class ScoringConfig:
    workers: int = 1  # processes a rank
    deadline_s: float = 2.0  # for one completion under one reward, from when a worker takes it
    memory_mb: int = 2048  # of a worker, beyond what its imports take
    normalize_terms: bool = False  # each term in standard deviations of its group before it is weighted (GDPO)

    def __post_init__(self) -> None:
        at_least("scoring", self, workers=1, memory_mb=64)
        if not 0 < self.deadline_s < math.inf:
            raise ValueError(f"scoring.deadline_s must be a positive number of seconds, got {self.deadline_s}")


@dataclass(kw_only=True)
class ReferenceConfig:
    """How the reference model of a KL follows the policy; only for an algorithm that uses one."""

    every: int = 0  # steps between refreshes; 0: it stays as it was (DeepSeek-R1-Zero: 400, arXiv:2501.12948, 2.2.1)
    decay: float = 0.0  # reference <- decay x reference + (1 - decay) x policy; 0: it becomes the policy

    def __post_init__(self) -> None:
        at_least("reference", self, every=0)
        if not 0 <= self.decay < 1:
            raise ValueError(f"reference.decay must be in [0, 1), got {self.decay}")


@dataclass(kw_only=True)
class EvalConfig:
    every: int = 0  # steps between evaluations; 0: only before the first and after the last
    data: dict[str, Any] = field(default_factory=dict)  # as data.train, held out
    limit: int | None = None  # problems of each data set
    correct: str | None = None  # the reward that says right or wrong; null: the first of `rewards`
    pass_k: int = 0  # k of pass@k; 0: as many as are sampled
    sampling: dict[str, Any] = field(default_factory=dict)  # over SamplingParams; its own, not the training's

    def __post_init__(self) -> None:
        check_options(SamplingParams, self.sampling, "eval.sampling")
        at_least("eval", self, every=0, pass_k=0)
        if self.limit is not None:
            at_least("eval", self, limit=1)


@dataclass(kw_only=True)
class CheckpointConfig:
    every: int = 0  # steps; 0: only when the run ends or is stopped
    keep: int = 2  # the newest; older ones are deleted

    def __post_init__(self) -> None:
        at_least("checkpoint", self, every=0, keep=1)


@dataclass(kw_only=True)
class TrackingConfig:
    wandb: bool = False  # offline unless logged in
    project: str = "reasoning-rl"
    tensorboard: bool = True
    sample_every: int = 10  # steps between completions shown in the console; 0: never

    def __post_init__(self) -> None:
        at_least("tracking", self, sample_every=0)


@dataclass(kw_only=True)
class ColdStartConfig:
    """Supervised steps on worked examples before the RL; 0 steps: none. Its result is cached."""

    steps: int = 0
    examples: int = 64  # a step
    data: dict[str, Any] = field(default_factory=dict)  # _target_: a function to list[(Problem, answer text)]
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        at_least("cold_start", self, steps=0, examples=1)


@dataclass(kw_only=True)
class TrainConfig:
    """One run of launch/train.py."""

    seed: int = 0
    steps: int = 100
    resume: str = "never"  # never: refuse a directory with a run in it; auto: go on from its newest checkpoint
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    cold_start: ColdStartConfig = field(default_factory=ColdStartConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    algorithm: dict[str, Any] = field(default_factory=dict)
    rollout: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    batch: BatchConfig = field(default_factory=BatchConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    rewards: dict[str, Any] = field(default_factory=dict)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def check(self) -> None:
        """What the sections need of each other. ValueError naming the key to change."""
        check_choice("resume", self.resume, ("never", "auto"))
        check_options(SamplingParams, self.sampling, "sampling")
        for name in ("seed", "steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.params.temperature == 0 and self.params.completions > 1:
            raise ValueError("sampling.temperature=0 makes all completions of a group equal; use 1.0 to train")
        if self.eval.pass_k > self.eval_params.completions:
            raise ValueError(
                f"eval.pass_k={self.eval.pass_k} needs as many completions of a problem, "
                f"eval.sampling.completions={self.eval_params.completions}"
            )
        if self.eval.correct is not None:
            check_choice("eval.correct", self.eval.correct, self.rewards)
        if self.collect.outcome is not None:
            check_choice("collect.outcome", self.collect.outcome, self.rewards)
        if self.collect.max_age is not None and self.collect.max_age < self.batch.updates:
            raise ValueError(
                f"collect.max_age={self.collect.max_age} optimizer steps is less than the {self.batch.updates} of one "
                "step (batch.mini_batches x batch.epochs), so no group would ever be used again"
            )
        if self.model.compile and self.engine.name.startswith("zero3"):
            raise ValueError(
                f"model.compile=true does not go with engine={self.engine.name}, which gathers weights as each layer "
                "is called: take engine=zero2, or model.compile=false"
            )
        if self.model.moe.routing_replay == "old" and self.batch.updates == 1:
            raise ValueError(
                "model.moe.routing_replay=old replays what a pass before the updates chose, and with one update of a "
                "batch there is none: take rollout, or batch.epochs or batch.mini_batches above 1"
            )
        if self.reference.every and self.model.lora.rank:
            raise ValueError(
                f"reference.every={self.reference.every} does not go with model.lora.rank={self.model.lora.rank}, "
                "where the base model under the adapters is the reference: take reference.every=0, or model.lora.rank=0"
            )
        if self.reference.decay and self.engine.name != "ddp" and self.model.dtype == "bfloat16":
            raise ValueError(
                f"reference.decay={self.reference.decay} would be lost in bfloat16's rounding: take engine=ddp, which "
                "keeps float32 weights, model.dtype=float32, or reference.decay=0"
            )
        if self.model.path is None and not self.model.build:
            raise ValueError("model.path must name a Hugging Face directory or a hub model, got null")

    @property
    def correct(self) -> str:
        """The reward that says right or wrong in evaluation."""
        return self.eval.correct or next(iter(self.rewards))

    @property
    def params(self) -> SamplingParams:
        return SamplingParams(**self.sampling)

    @property
    def eval_params(self) -> SamplingParams:
        try:
            return SamplingParams(**self.eval.sampling)
        except ValueError as error:
            raise ValueError(f"eval.{error}") from error


@dataclass(kw_only=True)
class SampleConfig:
    """launch/sample.py: which problems, how many completions of each, and where they go."""

    dir: str | None = None  # null: outputs/<recipe>-samples
    problems: str = "train"  # or eval: those of eval.data, under eval.sampling
    limit: int | None = None  # the first so many, in the order in which a run of this seed comes to them
    completions: int | None = None  # of a problem; null: sampling.completions
    seed: int | None = None  # of the draws; null: the recipe's, and completions are those of the run's first policy
    prompts: int | None = None  # sampled between two writes to disk, all ranks together; null: batch.prompts

    def __post_init__(self) -> None:
        check_choice("sample.problems", self.problems, ("train", "eval"))
        for name, smallest in (("limit", 1), ("completions", 1), ("seed", 0), ("prompts", 1)):
            if getattr(self, name) is not None:
                at_least("sample", self, **{name: smallest})


@dataclass(kw_only=True)
class SampleRun(TrainConfig):
    """One run of launch/sample.py: a recipe, and what it samples of it."""

    sample: SampleConfig = field(default_factory=SampleConfig)


def batch_arithmetic(config: TrainConfig, world_size: int) -> str:
    """What a step consists of, in words; ValueError where the ranks cannot share it."""
    prompts, group = config.batch.prompts, config.params.completions
    if prompts % world_size:
        best = max(1, round(prompts / world_size)) * world_size
        raise ValueError(
            f"batch.prompts={prompts} cannot be shared equally by {world_size} ranks; "
            f"the nearest value that can is batch.prompts={best} "
            f"({best} prompts x {group} completions = {best * group} completions a step, "
            f"{best * group // world_size} a rank)"
        )
    if config.batch.mini_batches > prompts // world_size:
        raise ValueError(
            f"batch.mini_batches={config.batch.mini_batches} is more than the {prompts // world_size} prompts of a "
            f"rank, and a group is never cut: take at most batch.mini_batches={prompts // world_size}"
        )
    times = config.collect.group_sizes.times
    if config.collect.group_sizes.hard_below > 0 and times > prompts // world_size:
        raise ValueError(
            f"collect.group_sizes.times={times} makes a group of {times * group} completions, more than the "
            f"{prompts // world_size * group} of a rank: take at most {prompts // world_size}, or more batch.prompts"
        )
    rank_completions = prompts * group // world_size
    longest = config.data.max_prompt_tokens + config.params.max_tokens
    passes = math.ceil(rank_completions / max(1, config.batch.tokens_per_micro_batch // longest))
    return (
        f"{prompts} prompts x {group} completions = {prompts * group} completions a step, {rank_completions} a rank, "
        f"at most {passes} micro-batches of {config.batch.tokens_per_micro_batch:,} tokens"
        + (f", {config.batch.updates} updates" if config.batch.updates > 1 else "")
    )


# ---------------------------------------------------------------------- from recipes and overrides to a TrainConfig


PROGRAMS = {"train": TrainConfig, "sample": SampleRun}  # of launch/, and what each takes


def register() -> None:
    """Makes `recipe=NAME` reach recipes/NAME.yaml, and the schema check every key of it."""
    store = ConfigStore.instance()
    quiet = [{"override hydra/job_logging": "disabled"}, {"override hydra/hydra_logging": "disabled"}]
    hydra = {"run": {"dir": "."}, "sweep": {"dir": ".", "subdir": "."}, "output_subdir": None, "job": {"chdir": False}}
    for program, schema in PROGRAMS.items():
        node = {"defaults": [f"{program}_schema", {"recipe": "???"}, "_self_", *quiet], "hydra": hydra}
        store.store(name=f"{program}_schema", node=schema)
        store.store(name=program, node=node)
    for file in sorted(RECIPES.glob("*.yaml")):
        store.store(group="recipe", name=file.stem, node=yaml.safe_load(file.read_text()), package="_global_")


def compose_recipe(overrides: Sequence[str], program: str = "train") -> DictConfig:
    """The recipe with its overrides, as that program takes it. ValueError with the nearest match for a recipe or key
    that does not exist."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(RECIPES), version_base="1.3"):
        try:
            return compose(program, overrides=list(overrides))
        except MissingConfigException as error:
            raise ValueError(_explain_missing(error)) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(_explain_override(error, overrides, program)) from error


def summaries() -> dict[str, str]:
    """Each recipe and the first line of its header."""
    return {file.stem: file.read_text().split("\n")[0].removeprefix("# ") for file in sorted(RECIPES.glob("*.yaml"))}


def _explain_missing(error: MissingConfigException) -> str:
    group, _, wanted = str(error.missing_cfg_file or "").rpartition("/")
    options = error.options or [file.stem for file in sorted((RECIPES / group).glob("*.yaml"))]
    return f"there is no {group or 'recipe'} {wanted!r}.{nearest(wanted, options)} There are: {', '.join(options)}"


def _explain_override(error: Exception, overrides: Sequence[str], program: str) -> str:
    """Hydra's own words, led by the key that is unknown and the nearest one that is not."""
    words = str(error).split("\nSet the environment variable")[0].strip()
    cause = f": {error.__cause__}".split("\n")[0] if error.__cause__ is not None else ""
    recipe = [override for override in overrides if override.startswith("recipe=")]
    if not recipe:
        return f"name a recipe: recipe=<name>. There are: {', '.join(summaries())}"
    known = set(flat_keys(compose(program, overrides=recipe)))
    for override in overrides:
        key = override.partition("=")[0]
        if key[:1].isalpha() and key not in known and "/" not in key and key != "recipe":
            return f"there is no key {key} in this recipe.{nearest(key, known)} (A new key is added by +{override})"
    return words.splitlines()[0] + cause


def flat_keys(config: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a config, sections included."""
    keys = []
    for name in map(str, config) if isinstance(config, DictConfig) else ():
        keys.append(f"{prefix}{name}")
        if not OmegaConf.is_missing(config, name):
            keys += flat_keys(config[name], f"{prefix}{name}.")
    return keys


def typed(config: DictConfig) -> TrainConfig:
    """The same settings as dataclasses, each checked by its own section."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ValueError(f"{missing[0]} is not set and has no default: add {missing[0]}=VALUE")
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, TrainConfig)
    settings.check()
    return settings


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two resolved configs differ -> (old, new)."""
    found = {}
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found.update(differences(before, after, f"{prefix}{name}."))
        elif before != after:
            found[f"{prefix}{name}"] = (before, after)
    return found
