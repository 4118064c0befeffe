"""The loop: roll out, score, update, hand the weights over; evaluate and save now and then."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rl import checkpoint, distributed
from rl.algorithms import Algorithm
from rl.collect import Collected, Collector, Sample, Scoring, collect
from rl.collect_state import write_state
from rl.config import TrainConfig
from rl.console import Console
from rl.curves import draw_curves
from rl.engine import PolicyEngine
from rl.evaluate import Evaluation, Extract, evaluate
from rl.experience import Prompt, ScoredGroup
from rl.metrics import Tally, rollout_tally
from rl.outcome import without_truncated
from rl.record import write_rollouts
from rl.rollout import ProvesWeights, RolloutEngine
from rl.scoring import RewardBroken
from rl.stopping import StopSignals
from rl.tracking import Tracker
from rl.update import update

CURVES_EVERY = 10  # steps
EVAL_SEED = 1_000_003  # evaluation draws other numbers than training from the same recipe seed


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a recipe was built into."""

    collector: Collector
    rollout: RolloutEngine
    scoring: Scoring
    policy: PolicyEngine
    algorithm: Algorithm
    tokenizer: Any
    held_out: Mapping[str, Sequence[Prompt]]  # evaluation set -> its prompts, all ranks together
    correct: str  # the reward that says right or wrong in evaluation
    extract: Extract | None = None  # finds the answer that votes in maj@k


class Run:
    """One run directory: its steps done, its clocks, where its metrics go, and whether it was asked to stop."""

    def __init__(self, directory: Path, config: Mapping[str, Any], tracker: Tracker, console: Console | None) -> None:
        """Only rank 0 has a console, and sinks in its tracker."""
        self.directory, self.config, self.tracker, self.console = directory, config, tracker, console
        self.next_step = 0
        self._seconds: dict[str, float] = defaultdict(float)
        self.stopping = StopSignals(self._say_stopping)

    @contextlib.contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Adds the seconds inside to time/<phase>_s of this step."""
        start = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - start

    def clocks(self) -> Tally:
        """The seconds of each phase since the last call."""
        tally = Tally()
        for phase, seconds in self._seconds.items():
            tally.add(f"time/{phase}_s", seconds)
        self._seconds.clear()
        return tally

    def _say_stopping(self) -> None:
        if self.console is not None:
            self.console.say("stopping after this step, with a checkpoint (Ctrl-C again: at once, without one)")


def train(config: TrainConfig, parts: Parts, run: Run) -> bool:
    """Collective: from run.next_step to the end. False if it was asked to stop before. The state is saved either way,
    also when a reward or the sampling fails on any rank."""
    sync(parts, parts.policy.step)
    finished = True
    with run.stopping:
        for step in range(run.next_step, config.steps):
            try:
                if _is_due(step, config.eval.every) or step == 0:
                    evaluate_and_log(step, config, parts, run)
                train_step(step, config, parts, run)
            except distributed.FailedTogether:
                save(config, parts, run)
                raise
            if run.stopping.asked():
                finished = False
                break
            if _is_due(run.next_step, config.checkpoint.every):
                save(config, parts, run)
    save(config, parts, run)
    if finished:
        evaluate_and_log(config.steps, config, parts, run)
        save_final(parts, run)
    if distributed.rank() == 0:
        draw_curves(run.directory / "metrics.jsonl", run.directory / "curves.png")
    return finished


def train_step(step: int, config: TrainConfig, parts: Parts, run: Run) -> None:
    """Collective: one batch of prompts, one update."""
    with run.time("step"):
        collected = parts.collector.step(step, parts.policy.step, sampler(step, config, parts, run))
        record(step, collected, run)
        with run.time("update"):
            tally = update(
                without_truncated(collected.groups) if config.collect.drop_truncated else collected.groups,
                parts.policy,
                parts.algorithm,
                config.batch,
                max_completion_tokens=config.params.max_tokens,
                gather=distributed.gather,
            )
            if _is_due(step + 1, config.reference.every):
                parts.policy.refresh_reference(config.reference.decay)
            # What a checkpoint holds from here on.
            run.next_step, parts.collector.state = step + 1, collected.after
        with run.time("sync"):
            sync(parts, parts.policy.step)
    tally.merge(collected.tally)
    tally.merge(rollout_tally(collected.sampled))
    tally.add("reward/mean", [])  # a row of training has it, also where all groups were sampled before
    log(step, tally, collected.sampled, run)


def sampler(step: int, config: TrainConfig, parts: Parts, run: Run) -> Sample:
    """What a round of this step samples with."""
    before: list[ScoredGroup] = []

    def sample(prompts: Sequence[Prompt], sizes: Sequence[int], is_first: bool) -> list[ScoredGroup]:
        with distributed.together(), keeping_what_was_sampled(step, run, before):
            groups = collect(
                prompts,
                parts.rollout,
                parts.scoring,
                config.params,
                seed=config.seed,
                time=run.time,
                sizes=sizes,
                continued=not is_first,
            )
        before.extend(groups)
        return groups

    return sample


def sync(parts: Parts, step: int) -> None:
    """Collective: the sampler gets the weights of policy step `step`, and shows, where it can, that it has them.

    FailedTogether where it computes with others: sampling from stale weights would be silent.
    """
    with distributed.together():
        parts.rollout.load_weights(parts.policy.weights(), policy_step=step)
    if isinstance(parts.rollout, ProvesWeights):
        expected = parts.policy.probe(parts.rollout.probe_ids)
        with distributed.together():
            parts.rollout.check_weights(expected, parts.policy.dtype)


def log(step: int, tally: Tally, groups: Sequence[ScoredGroup], run: Run) -> None:
    """Collective: one row of metrics over all ranks, to every sink. groups: what this rank sampled in the step."""
    num_tokens = sum(len(done.token_ids) for scored in groups for done in scored.group.completions)
    tally.merge(run.clocks())
    metrics = tally.reduce(distributed.gather)
    metrics["throughput/tokens_per_s"] = sum(distributed.gather(num_tokens)) / metrics["time/step_s"]
    with distributed.together():  # on rank 0 a disk may be full
        run.tracker.log(step, metrics)
    if run.console is not None:
        run.console.show_sample(step, groups)
        if _is_due(step + 1, CURVES_EVERY):
            draw_curves(run.directory / "metrics.jsonl", run.directory / "curves.png")


def record(step: int, collected: Collected, run: Run) -> None:
    """Collective: rollouts/<step>.jsonl, before the update, so that what was sampled is on disk whatever comes; what is
    not to be trained on is in <step>.dropped.jsonl."""
    with distributed.together():
        if distributed.rank() == 0:
            write_rollouts(run.directory / "rollouts" / f"{step:06d}.jsonl", collected.batch)
            if collected.dropped:
                write_rollouts(run.directory / "rollouts" / f"{step:06d}.dropped.jsonl", collected.dropped)


@contextlib.contextmanager
def keeping_what_was_sampled(step: int, run: Run, before: Sequence[ScoredGroup] = ()) -> Iterator[None]:
    """A reward that ends the run leaves this rank's completions in rollouts/<step>.broken.<rank>.jsonl, with those of
    the step's rounds before."""
    try:
        yield
    except RewardBroken as error:
        path = run.directory / "rollouts" / f"{step:06d}.broken.{distributed.rank()}.jsonl"
        write_rollouts(path, [*before, *error.scored])
        raise RewardBroken(f"{error}; the completions of this step are in {path}", error.scored) from error


def evaluate_and_log(step: int, config: TrainConfig, parts: Parts, run: Run) -> dict[str, Evaluation]:
    """Collective: every held-out set under the weights after `step` updates; also to evaluations/<step>.json."""
    results = {}
    for name, prompts in parts.held_out.items():
        share = prompts[distributed.rank() :: distributed.world_size()]
        with distributed.together():
            groups = collect(
                share,
                parts.rollout,
                parts.scoring,
                config.eval_params,
                seed=config.seed + EVAL_SEED,
                time=lambda phase: nullcontext(),
            )
        results[name] = evaluate(
            groups, correct=parts.correct, extract=parts.extract, pass_k=config.eval.pass_k, gather=distributed.gather
        )
    metrics = {key: value for name, result in results.items() for key, value in result.metrics(name).items()}
    with distributed.together():
        if metrics:
            run.tracker.log(step, metrics)
        if distributed.rank() == 0 and results:
            write_evaluations(run.directory, step, results)
    return results


def write_evaluations(directory: Path, step: int, results: Mapping[str, Evaluation]) -> None:
    """evaluations/<step>.json, and the sample completions beside it."""
    path = directory / "evaluations" / f"{step:06d}.json"
    path.parent.mkdir(exist_ok=True)
    plain = {name: asdict(replace(result, groups=())) for name, result in results.items()}
    path.write_text(json.dumps(plain, indent=1))
    write_rollouts(path.with_suffix(".samples.jsonl"), [g for result in results.values() for g in result.groups])


def save(config: TrainConfig, parts: Parts, run: Run) -> None:
    """Collective: the state after run.next_step updates."""
    checkpoint.save(
        run.directory / "checkpoints", run.next_step, parts.policy, parts.tokenizer, run.config,
        keep=config.checkpoint.keep, write_more=lambda directory: write_state(directory, parts.collector.state),
    )  # fmt: skip


def save_final(parts: Parts, run: Run) -> None:
    """Collective: final/, whole or not at all."""
    final, partial = run.directory / "final", run.directory / ".final.partial"
    with distributed.together():
        if distributed.rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
    with distributed.together():
        parts.policy.save_model(partial, parts.tokenizer)
        if distributed.rank() == 0:
            shutil.rmtree(final, ignore_errors=True)  # of the same run, before it was given more steps
            partial.rename(final)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step > 0 and step % every == 0
