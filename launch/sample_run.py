"""A composed recipe becomes samples of its problems: who samples what, in which order, and what is refused before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from transformers.utils import logging as transformers_logging

from data.batches import ALL, Batches
from data.problem import Problem
from data.prompts import PromptBuilder
from launch import models
from launch.problems import load_problems
from launch.progress import Progress
from launch.run import fitting, held_out_prompts, prepared, prompt_builder, say
from launch.sample_files import (
    PASS_RATES,
    PassRate,
    add,
    check_lineage,
    done_before,
    key_of,
    set_aside,
    waiting_groups,
    write_lineage,
)
from launch.sample_report import report
from launch.whole_files import naming
from rl import distributed
from rl.binding import build
from rl.collect import shares
from rl.config import SampleRun, typed
from rl.console import duration
from rl.experience import Group, Prompt, SamplingParams, ScoredGroup
from rl.policy import Policy, load_model, named_tensors, probe_logprobs
from rl.rollout import ProvesWeights, RolloutEngine
from rl.scoring import RewardBroken, Scorer, reward_terms
from rl.stopping import StopSignals
from rl.trainer import EVAL_SEED


@dataclass(frozen=True, kw_only=True)
class Task:
    """What there is to do: every rank knows all of it."""

    directory: Path
    prompts: Sequence[Prompt]  # in order
    params: SamplingParams
    seed: int
    outcome: str  # the reward that says right or wrong
    per_write: int  # prompts, all ranks together


def run_samples(composed: DictConfig, default: Path) -> None:
    """Collective: from the composed recipe to pass_rates.jsonl and the closing table. default: where it goes unless
    the recipe says."""
    transformers_logging.disable_progress_bar()
    config = typed(composed)
    assert isinstance(config, SampleRun)
    directory = Path(config.sample.dir or default).expanduser()
    params = sampling_params(config)
    resolved: Any = OmegaConf.to_container(composed, resolve=True)
    distributed.start()
    with distributed.together():
        terms = reward_terms(config.rewards)
        base = models.base_model(config)
        models.check_length(config, base)
        prompts, builder = all_prompts(config, base)
    with ExitStack() as stack:
        with distributed.together():
            scorer = stack.enter_context(Scorer(terms, **vars(config.scoring)))
            scorer.check(prompts[0])
            lineage: dict[str, Any] = {}
            if distributed.rank() == 0:  # the others come when it may already have been written to
                lineage = lineage_of(config, base, params, prompts)
                check_lineage(directory, lineage)
            stack.enter_context(prepared(directory, resolved, "sample.dir"))
        task = Task(
            directory=directory,
            prompts=prompts,
            params=params,
            seed=seed_of(config),
            outcome=config.collect.outcome or config.correct,
            per_write=config.sample.prompts or config.batch.prompts,
        )
        with distributed.together():
            rates: list[PassRate] = []
            if distributed.rank() == 0:
                write_lineage(directory, lineage)
                rates = done_before(directory, [key_of(prompt) for prompt in prompts], task.outcome)
        goal = min(len(prompts), config.sample.limit or len(prompts))
        if go(config, base, task, rates, goal, scorer, builder):
            close(directory, rates)
        else:
            say(f"stopped after {distributed.gather(len(rates))[0]:,} problems; the same command goes on")
    distributed.stop()


# ---------------------------------------------------------------------- what is sampled


def sampling_params(config: SampleRun) -> SamplingParams:
    """ValueError for several completions that would all be the same."""
    of_eval = config.sample.problems == "eval"
    params = config.eval_params if of_eval else config.params
    params = replace(params, completions=config.sample.completions or params.completions)
    if params.temperature == 0 and params.completions > 1:
        key = "eval.sampling" if of_eval else "sampling"
        raise ValueError(
            f"{key}.temperature=0 makes all {params.completions} completions of a problem equal: "
            f"take sample.completions=1, or {key}.temperature=1.0"
        )
    return params


def seed_of(config: SampleRun) -> int:
    """Of the draws. Training and evaluation of one seed draw other numbers."""
    seed = config.seed if config.sample.seed is None else config.sample.seed
    return seed + (EVAL_SEED if config.sample.problems == "eval" else 0)


def all_prompts(config: SampleRun, base: str) -> tuple[list[Prompt], PromptBuilder]:
    """In the order in which a run comes to them in its first epoch, with the indices that they have there, so that its
    first policy samples the same completions and rollout=replay finds them. Data sets with weights are shuffled
    together here: their weights are about how often a problem comes again."""
    needs_train = config.sample.problems == "train" or config.data.few_shot
    problems = load_problems(config.data.train, "data.train") if needs_train else []
    builder = prompt_builder(config, base, problems)
    if config.sample.problems == "eval":
        if not config.eval.data:
            raise ValueError(
                "sample.problems=eval needs eval.data, which names no data set; take sample.problems=train"
            )
        prompts = [prompt for own in held_out_prompts(config, builder).values() for prompt in own]
    else:
        kept = fitting(builder, problems, "data.train")
        stream = Batches(kept, builder.build, prompts_per_step=config.batch.prompts, seed=config.seed)
        prompts = [stream.prompt(stream.candidate(ALL, place), place) for place in range(len(kept))]
    check_unique([prompt.problem for prompt in prompts], f"{'data.train' if needs_train else 'eval.data'}")
    return prompts, builder


def check_unique(problems: Sequence[Problem], key: str) -> None:
    """ValueError where source and id, by which pass rates are told apart, name two problems."""
    seen = set()
    for problem in problems:
        name = (problem.source, problem.id)
        if name in seen:
            raise ValueError(
                f"{key}: two problems of source {problem.source} are called {problem.id}; pass rates are told by "
                "source and id: give each data set a `source` of its own, or leave one out"
            )
        seen.add(name)


def lineage_of(config: SampleRun, base: str, params: SamplingParams, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """All that decides what is sampled and what it is worth. The code of rewards is not in it."""
    return {
        "problems": config.sample.problems,
        "prompts": digest_of(prompts),
        "model": {"weights": models.fingerprint(base), "dtype": config.model.dtype},
        "cold_start": asdict(config.cold_start) if config.cold_start.steps else None,
        "rollout": config.rollout.get("_target_"),
        "sampling": asdict(params),
        "seed": seed_of(config),
        "rewards": config.rewards,
        "outcome": config.collect.outcome or config.correct,
        "normalize_terms": config.scoring.normalize_terms,
    }


def digest_of(prompts: Sequence[Prompt]) -> str:
    """Of every prompt's tokens, and of what the rewards know of its problem."""
    found = hashlib.sha256()
    for prompt in prompts:
        problem = prompt.problem
        plain = [problem.source, problem.id, prompt.index, prompt.token_ids, problem.answer, dict(problem.metadata)]
        found.update(json.dumps(plain, default=str).encode())
    return found.hexdigest()[:16]


# ---------------------------------------------------------------------- sampling


def go(
    config: SampleRun,
    base: str,
    task: Task,
    rates: list[PassRate],
    goal: int,
    scorer: Scorer,
    builder: PromptBuilder,
) -> bool:
    """Collective: samples up to `goal` problems; rank 0 adds to `rates`. False if it was asked to stop before."""
    first = done = distributed.gather(len(rates))[0]
    if done >= goal:
        say(f"{task.directory} has all {done:,} problems")
        return True
    say(
        f"{goal - done:,} problems x {task.params.completions} completions"
        + (f", after {done:,} problems that are done" if done else "")
    )
    rollout = sampler(config, models.starting_model(config, base, builder.tokenizer, builder), builder)
    started_s, tokens = time.monotonic(), 0
    with Progress("problems", goal) as progress, StopSignals(say_stopping) as stopping:
        while done < goal:
            if stopping.asked():
                return False
            chunk = task.prompts[done : min(goal, done + task.per_write)]
            own: list[ScoredGroup] = []
            try:
                with distributed.together():
                    own = sampled(task, done, chunk, rollout, scorer)
            except distributed.FailedTogether:
                if own:  # another rank's error
                    set_aside(task.directory, done, done + len(chunk), distributed.rank(), own)
                raise
            everyone = distributed.gather(own)
            with distributed.together():
                if distributed.rank() == 0:
                    groups = [group for share in everyone for group in share]
                    with naming("sample.dir", task.directory):
                        rates += add(task.directory, done, groups, task.outcome)
                    tokens += sum(len(one.token_ids) for group in groups for one in group.group.completions)
            done += len(chunk)
            if distributed.rank() == 0:
                passed_s = time.monotonic() - started_s
                progress.at(done, words(rates, tokens / passed_s, passed_s / (done - first) * (goal - done)))
    return True


def sampled(
    task: Task, start: int, chunk: Sequence[Prompt], rollout: RolloutEngine, scorer: Scorer
) -> list[ScoredGroup]:
    """This rank's share of a chunk, in order."""
    places = shares([1] * len(chunk), distributed.world_size())[distributed.rank()]
    prompts = [chunk[place] for place in places]
    waiting = waiting_groups(task.directory, start, prompts)
    fresh = [prompt for prompt, group in zip(prompts, waiting, strict=True) if group is None]
    new: Iterator[Group] = iter(())
    if fresh:
        with rollout.awake():
            new = iter(
                rollout.generate(
                    fresh, task.params, task.seed, finished=lambda i, _, done: scorer.begin(fresh[i], done)
                )
            )
    groups = [next(new) if group is None else group for group in waiting]
    try:
        return scorer.score(groups)
    except RewardBroken as error:
        file = set_aside(task.directory, start, start + len(chunk), distributed.rank(), error.scored)
        raise RewardBroken(f"{error}; the completions are in {file}, the same command scores them again") from error


def sampler(config: SampleRun, path: str, builder: PromptBuilder) -> RolloutEngine:
    """Collective: the recipe's rollout engine, with the weights of the model at `path`."""
    rollout: RolloutEngine = build(
        config.rollout, "rollout",
        model_path=path, tokenizer=builder.tokenizer, dtype=config.model.dtype, device=distributed.local_device(),
        record_routing=False,
    )  # fmt: skip
    if isinstance(rollout, ProvesWeights):  # it samples from a copy that it cannot see: of these weights?
        policy = Policy(load_model(path, config.model.dtype), temperature=1.0).eval()
        with distributed.together():
            rollout.load_weights(named_tensors(policy.model), policy_step=0)
        with torch.no_grad():
            expected = probe_logprobs(policy, rollout.probe_ids, "cpu")
        with distributed.together():
            rollout.check_weights(expected, config.model.dtype)
    return rollout


# ---------------------------------------------------------------------- what a person sees


def say_stopping() -> None:
    say("stopping after the problems under way (Ctrl-C again: at once, without them)")


def words(rates: Sequence[PassRate], tokens_per_s: float, left_s: float) -> str:
    attempts = sum(one.attempts for one in rates)
    solved = f"{sum(one.right for one in rates) / attempts:.1%}" if attempts else "?"
    return f"  pass rate {solved}  tokens/s {tokens_per_s:,.0f}  left {duration(left_s)}"


def close(directory: Path, rates: Sequence[PassRate]) -> None:
    """The table, on rank 0."""
    if distributed.rank() == 0:
        print("\n".join(report(rates)))
        print(f"\ncompletions are in {directory / 'rollouts'}; a run takes the pass rates by")
        print(f"collect.pass_rates={directory / PASS_RATES} collect.pass_rate=[LOW,HIGH]", flush=True)
