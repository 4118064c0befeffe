"""Every metric: its name, unit, how ranks are joined, and what a bad value means. One table, and the sums behind it.

A name is `stage/what`. `<term>`, `<dataset>` and `<source>` stand for one word, the `k` of `avg@k` for a number. No
other name can be logged. docs/metrics.md is `table_markdown()`.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from rl.experience import ScoredGroup, State

Reduction = Literal["mean", "sum", "max", "last"]
Gather = Callable[[object], list[object]]  # all_gather of one picklable object a rank, in the order of ranks
Sums = Mapping[str, tuple[float, float]]  # name -> (sum of weight * value, sum of weights)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str  # may hold <term>, <dataset> and @k
    unit: str
    reduction: Reduction  # over the values of a step and over ranks; "last" is for a value that all ranks share
    meaning: str
    bad: str  # which values are a bad sign, and of what


METRICS = (
    Metric(
        "reward/mean",
        "reward",
        "mean",
        "The weighted sum of all terms, over the completions that every term could score.",
        "Flat from the start: see group/informative_fraction. Rising while eval accuracy falls: a reward is gamed.",
    ),
    Metric(
        "reward/std",
        "reward",
        "mean",
        "Population standard deviation of the rewards inside a group, averaged over groups.",
        "Near 0: the completions of a prompt are all equally good, and nothing is learned.",
    ),
    Metric(
        "reward/<term>",
        "reward",
        "mean",
        "One reward term before weighting, over the completions that it could score.",
        "One term rising while the one you care about does not: its weight is too high.",
    ),
    Metric(
        "reward/failed_fraction",
        "fraction of completions",
        "mean",
        "Completions that some term could not score (error or time-out). They are not trained on.",
        "Above 0.01: a grader is broken or its deadline too short. The reasons are in rollouts/<step>.jsonl.",
    ),
    Metric(
        "reward/<term>/failed_fraction",
        "fraction of completions",
        "mean",
        "Completions that this term could not score.",
        "Above 0.01: this grader is the broken one.",
    ),
    Metric(
        "reward/<term>/std",
        "reward",
        "mean",
        "Population standard deviation of this term inside a group, averaged over groups.",
        "Far above that of the other terms, times its weight: it drowns them. See scoring.normalize_terms.",
    ),
    Metric(
        "reward/<term>/constant_fraction",
        "fraction of groups",
        "mean",
        "Groups in which this term has the same value for all completions: there it teaches nothing.",
        "Near 1 for the term you care about: what is learned comes from the others.",
    ),
    Metric(
        "reward/<term>/<state>_fraction",
        "fraction of completions",
        "mean",
        "Completions by what became of them: ok, wrong, no_answer, undecided, timeout, error, bad_gold.",
        "bad_gold above 0: the data has answers that cannot be read. timeout, error: see failed_fraction. "
        "no_answer near 1: the format is not known yet, or not what the reward looks for.",
    ),
    Metric(
        "reward/<term>/seconds_p50",
        "s",
        "mean",
        "Median time of a call of this term, for one completion.",
        "Times the completions of a step, over scoring.workers: what scoring costs.",
    ),
    Metric(
        "reward/<term>/seconds_p99",
        "s",
        "max",
        "What 99 in 100 calls of this term did not exceed, on the slowest rank.",
        "Near scoring.deadline_s: some completions hang the grader, or the deadline is short.",
    ),
    Metric(
        "eval/<dataset>/avg@k",
        "fraction",
        "last",
        "Accuracy: the fraction of right completions among k a problem, averaged over problems.",
        "Falling over several evaluations: over-optimised reward, too high a learning rate, or collapse.",
    ),
    Metric(
        "eval/<dataset>/pass@k",
        "fraction",
        "last",
        "Chance that at least one of k completions is right (unbiased estimate, arXiv:2107.03374).",
        "Falling while avg@k rises: the policy loses variety. Watch policy/entropy.",
    ),
    Metric(
        "eval/<dataset>/maj@k",
        "fraction",
        "last",
        "Problems whose most common answer among k completions is right.",
        "Below avg@k: wrong answers agree with each other more than right ones.",
    ),
    Metric(
        "eval/<dataset>/ci_low",
        "fraction",
        "last",
        "Lower end of the 95 % interval of avg@k over problems.",
        "Intervals of two evaluations overlap: the difference may be chance. Use more problems.",
    ),
    Metric(
        "eval/<dataset>/ci_high",
        "fraction",
        "last",
        "Upper end of the 95 % interval of avg@k over problems.",
        "As for ci_low.",
    ),
    Metric(
        "eval/<dataset>/completion_tokens",
        "tokens",
        "last",
        "Mean length of a completion in evaluation.",
        "Near the limit of tokens: answers are cut. Near 0: the policy stopped reasoning.",
    ),
    Metric(
        "eval/<dataset>/truncated_fraction",
        "fraction of completions",
        "last",
        "Completions of the evaluation that were cut at the limit of tokens.",
        "Above 0.1: accuracy is limited by the length allowed, not by the policy.",
    ),
    Metric(
        "eval/<dataset>/failed_fraction",
        "fraction of completions",
        "last",
        "Completions of the evaluation that some term could not score. Without the term that says right: not right.",
        "Above 0: accuracy is too low by at most this much; mend the reward. The reasons are in evaluations/.",
    ),
    Metric(
        "eval/<dataset>/reward/<term>",
        "reward",
        "last",
        "Mean of one reward term in evaluation, those of weight 0 too: what the accuracy is made of.",
        "A part of the answer that stays low is what holds accuracy down.",
    ),
    Metric(
        "rollout/completion_tokens",
        "tokens",
        "mean",
        "Mean length of a sampled completion, its end-of-sequence token included.",
        "Rising to sampling.max_tokens: rambling, or reasoning that needs more room. Falling to a few: collapse.",
    ),
    Metric(
        "rollout/truncated_fraction",
        "fraction of completions",
        "mean",
        "Sampled completions that were cut at sampling.max_tokens.",
        "Above 0.2: raise sampling.max_tokens, or the policy has lost its end-of-sequence token.",
    ),
    Metric(
        "group/informative_fraction",
        "fraction of groups",
        "mean",
        "Groups in which two completions differ in reward. Only these have a gradient.",
        "Near 0: the problems are all too hard (reward low) or too easy (reward high). Change the data.",
    ),
    Metric(
        "collect/rounds",
        "count",
        "last",
        "Rounds of sampling in this step, see docs/sampling.md.",
        "Above 3: each round waits for its longest completion; raise collect.oversample.",
    ),
    Metric(
        "collect/filled_fraction",
        "fraction of completions",
        "last",
        "Completions of the batch, of batch.prompts x sampling.completions.",
        "Below 1: collect.max_rounds was reached; the problems are too hard or too easy for the policy.",
    ),
    Metric(
        "collect/dropped_fraction",
        "fraction of groups",
        "last",
        "Groups that were sampled and will not be trained on, of those and the batch's. In <step>.dropped.jsonl.",
        "Above 0.7: most of the sampling is for nothing. Filter by collect.pass_rate, or change the data.",
    ),
    Metric(
        "collect/all_right_fraction",
        "fraction of groups",
        "last",
        "Groups sampled in this step whose completions are all right.",
        "Near 1: the problems are too easy.",
    ),
    Metric(
        "collect/all_wrong_fraction",
        "fraction of groups",
        "last",
        "Groups sampled in this step whose completions are all wrong.",
        "Near 1: the problems are too hard, or the reward is broken.",
    ),
    Metric(
        "collect/reused_fraction",
        "fraction of groups",
        "last",
        "Groups of the batch that were sampled by weights before the current ones (collect.reuse).",
        "Near 1: collect.oversample is too large.",
    ),
    Metric(
        "collect/age",
        "optimizer steps",
        "last",
        "Optimizer steps between sampling and training, averaged over the groups of the batch.",
        "Growing: see mismatch/kl_rollout, and correct with algorithm.mismatch.",
    ),
    Metric(
        "data/pass_rate",
        "fraction of completions",
        "last",
        "Right completions among those sampled in this step, whatever became of their groups.",
        "Near 0 or 1: nothing to learn. With a filter or a curriculum it says as much of the choice as of the policy.",
    ),
    Metric(
        "data/tried_fraction",
        "fraction of problems",
        "last",
        "Training problems with a pass rate, before this step.",
        "Near 0 under a curriculum: it knows nothing to choose by; give it collect.pass_rates.",
    ),
    Metric(
        "data/skipped_fraction",
        "fraction of problems",
        "last",
        "Problems passed over for their pass rate, of those looked at in this step.",
        "Near 1: hardly a problem fits collect.pass_rate or the curriculum.",
    ),
    Metric(
        "data/<source>_fraction",
        "fraction of prompts",
        "last",
        "Prompts of this step from one data set, where data.train gives weights.",
        "Far from its weight over many steps: a mistake of ours.",
    ),
    Metric(
        "policy/entropy",
        "nats per token",
        "mean",
        "Mean entropy of the policy's next-token distribution over trained tokens.",
        "Falling to near 0 early: variety is gone; raise algorithm.clip_high or lower the learning rate. "
        "Rising without end: the policy falls apart.",
    ),
    Metric(
        "policy/entropy_coef",
        "advantage per nat",
        "last",
        "Weight of the entropy bonus in this update. Under algorithm.entropy_target 0 while the entropy is above it.",
        "At algorithm.entropy_coef_max for long, the entropy still falling: raise that, or lower the learning rate.",
    ),
    Metric(
        "policy/kl_ref",
        "nats per token",
        "mean",
        "KL divergence of the policy from the frozen reference. Absent when no term uses the reference.",
        "A jump: a destructive update. Steady growth is normal.",
    ),
    Metric(
        "policy/clip_high_fraction",
        "fraction of tokens",
        "mean",
        "Trained tokens whose gain was cut: advantage above 0, importance ratio above 1 + clip_high.",
        "Above 0.2: updates too large, or too many per batch. Exactly 0 is right with one update per batch.",
    ),
    Metric(
        "policy/clip_low_fraction",
        "fraction of tokens",
        "mean",
        "Trained tokens whose gain was cut: advantage below 0, importance ratio below 1 - clip_low.",
        "As for clip_high_fraction.",
    ),
    Metric(
        "policy/dual_clip_fraction",
        "fraction of tokens",
        "mean",
        "Trained tokens of bad completions whose cost was bounded by algorithm.dual_clip.",
        "Above 0.01: the policy has moved far from the one that sampled.",
    ),
    Metric(
        "policy/selected_fraction",
        "fraction of tokens",
        "mean",
        "Trained tokens that the algorithm's rule over the batch chose (LossInputs.selected).",
        "Far from the algorithm's fraction: the rule does not do what you think.",
    ),
    Metric(
        "mismatch/weight",
        "ratio",
        "mean",
        "The weight with which algorithm.mismatch makes up for a sampler that differs from the trainer.",
        "Far from 1: sampler and trainer compute differently. See mismatch/kl_rollout.",
    ),
    Metric(
        "mismatch/masked_fraction",
        "fraction of tokens",
        "mean",
        "Trained tokens that algorithm.mismatch leaves out.",
        "Above 0.05: much of what was sampled is thrown away.",
    ),
    Metric(
        "mismatch/truncated_fraction",
        "fraction of tokens",
        "mean",
        "Trained tokens whose weight was cut at algorithm.mismatch_high.",
        "Above 0.01: as for mismatch/weight.",
    ),
    Metric(
        "mismatch/off_policy_fraction",
        "fraction of tokens",
        "mean",
        "Trained tokens of bad completions left out for algorithm.off_policy_threshold.",
        "Above 0.1: too many updates on one batch, or stale samples.",
    ),
    Metric(
        "policy/loss",
        "weighted reward",
        "sum",
        "The loss of the whole batch: each rank gives its part, sum(loss_weight * token_loss).",
        "Not a number. Otherwise tells little: with one update per batch it is near 0 whatever is learned.",
    ),
    Metric(
        "mismatch/kl_rollout",
        "nats per token",
        "mean",
        "KL divergence between the sampler's distribution and the trainer's, on the sampled tokens.",
        "Above 0.01: the rollout engine has stale weights, or computes otherwise (precision, template).",
    ),
    Metric(
        "moe/max_load",
        "ratio",
        "last",
        "Trained tokens of the busiest expert over the mean of its layer, averaged over layers (MaxVio + 1).",
        "Growing towards experts / experts per token: all tokens go to the same experts. See docs/moe.md.",
    ),
    Metric(
        "moe/unused_fraction",
        "fraction of experts",
        "last",
        "Experts to which no trained token of the batch went.",
        "Growing: capacity is lost, and an unused expert gets no gradient. A few are normal in a small batch.",
    ),
    Metric(
        "moe/router_entropy",
        "nats per token",
        "mean",
        "Mean entropy of the routers' distributions over experts, over trained tokens and layers.",
        "Near 0: routers are certain of one expert and change with difficulty. Near log(experts): they know nothing.",
    ),
    Metric(
        "moe/aux_loss",
        "loss",
        "last",
        "Load-balancing loss over the batch, before model.moe.router_aux_coef. Experts per token at balance.",
        "Growing to the number of experts: the coefficient is too small.",
    ),
    Metric(
        "moe/sequence_aux_loss",
        "loss",
        "last",
        "Load-balancing loss inside each completion, before model.moe.sequence_aux_coef. Above 1 in short ones.",
        "Growing: as for moe/aux_loss.",
    ),
    Metric(
        "moe/routing_disagreement",
        "fraction",
        "mean",
        "Trained tokens and layers whose router would have taken other experts than it is told to, by routing replay.",
        "Above 0.1 with model.moe.routing_replay=rollout: sampler and trainer compute differently, or stale weights.",
    ),
    Metric(
        "optim/grad_norm",
        "norm",
        "last",
        "Norm of the whole gradient, before clipping.",
        "Spikes of ten times its usual value: instability. 0: no informative group. Not a number: stop.",
    ),
    Metric(
        "optim/lr",
        "learning rate",
        "last",
        "Learning rate used by this step.",
        "0 after the first step: the schedule has run out.",
    ),
    Metric(
        "update/micro_batches",
        "count",
        "max",
        "Forward and backward passes in this step, on the rank that had most.",
        "Many, each with few tokens: raise the token budget if memory allows.",
    ),
    Metric(
        "update/padding_fraction",
        "fraction of tokens",
        "mean",
        "Padding among the rows of attention; the rest of the pass has none where segments are packed.",
        "Above 0.3: lengths within a micro-batch vary too much, or the model is of a family that pads all its rows.",
    ),
    Metric(
        "time/rollout_s",
        "s",
        "max",
        "Sampling of completions, on the slowest rank.",
        "More than 0.8 of the step: use a faster rollout engine or shorter completions.",
    ),
    Metric(
        "time/score_s",
        "s",
        "max",
        "Waiting for rewards after sampling has ended, on the slowest rank.",
        "Near a deadline: a grader hangs on some answers.",
    ),
    Metric(
        "time/update_s",
        "s",
        "max",
        "Log-probabilities, forward, backward and optimizer, on the slowest rank.",
        "Growing at equal length: see update/padding_fraction, or memory is short.",
    ),
    Metric(
        "time/sync_s",
        "s",
        "max",
        "Handing the new weights to the rollout engine.",
        "More than 0.1 of the step: weights travel by a slow way.",
    ),
    Metric(
        "time/step_s",
        "s",
        "max",
        "The whole step, on the slowest rank.",
        "More than the sum of its parts: time goes to evaluation, checkpoints or waiting.",
    ),
    Metric(
        "throughput/tokens_per_s",
        "tokens/s",
        "sum",
        "Completion tokens sampled and trained on per second of the step, all ranks together.",
        "Falling at equal length: see time/*.",
    ),
)


@functools.cache
def _regex(pattern: str) -> re.Pattern[str]:
    escaped = re.sub(r"<[a-z]+>", "[^/]+", re.escape(pattern))
    return re.compile(re.sub(r"@k$", r"@(k|[0-9]+)", escaped))


@functools.cache
def find_metric(name: str) -> Metric:
    """The row of the table for a name; ValueError with the nearest match for a name that the table lacks."""
    exact = [metric for metric in METRICS if metric.name == name]
    fitting = exact or [metric for metric in METRICS if _regex(metric.name).fullmatch(name)]
    if not fitting:
        near = difflib.get_close_matches(name, [metric.name for metric in METRICS], n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown metric {name!r}, did you mean {near!r}? Names are in METRICS of rl/metrics.py")
    return fitting[0]


class Tally:
    """The values of one step on one rank. Add them, then reduce over ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # name -> (value or weighted sum, sum of weights)

    def add(self, name: str, values: float | Iterable[float], weight: float = 1.0) -> None:
        """Adds one value or several, each with this weight. "sum" adds weight * value; "max", "last" ignore it.

        No values at all still make the name known: a mean of nothing is NaN. An unknown name is a ValueError.
        """
        reduction = find_metric(name).reduction
        numbers = [float(values)] if isinstance(values, int | float) else [float(value) for value in values]
        entries = [(number * weight if reduction in ("mean", "sum") else number, weight) for number in numbers]
        earlier = [self._sums[name]] if name in self._sums else []
        self._sums[name] = _join(reduction, earlier + entries)

    def add_sums(self, sums: Sums) -> None:
        """Adds sums made elsewhere, in the update for example: name -> (sum of weight * value, sum of weights)."""
        for name, entry in sums.items():
            earlier = [self._sums[name]] if name in self._sums else []
            self._sums[name] = _join(find_metric(name).reduction, [*earlier, entry])

    def merge(self, other: Tally) -> None:
        """Adds everything that another tally of this rank holds."""
        self.add_sums(other._sums)

    def reduce(self, gather: Gather) -> dict[str, float]:
        """Collective. The values over all ranks, in the table's order; every rank gets the same, in float64."""
        per_rank = cast(list[dict[str, tuple[float, float]]], gather(dict(self._sums)))
        order = {metric.name: row for row, metric in enumerate(METRICS)}
        names = sorted(
            {name for sums in per_rank for name in sums}, key=lambda name: (order[find_metric(name).name], name)
        )
        return {name: _value(name, [sums[name] for sums in per_rank if name in sums]) for name in names}


def _join(reduction: Reduction, entries: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Several (sum, weight) of one name as one."""
    if not entries:
        return (0.0 if reduction in ("mean", "sum") else math.nan), 0.0
    values = [value for value, _ in entries]
    weight = sum(weight for _, weight in entries)
    if reduction == "max":
        return (math.nan if any(map(math.isnan, values)) else max(values)), weight
    return (values[-1] if reduction == "last" else sum(values)), weight


def _value(name: str, entries: Sequence[tuple[float, float]]) -> float:
    reduction = find_metric(name).reduction
    total, weight = _join(reduction, entries)
    if reduction != "mean":
        return float(total)
    return total / weight if weight else math.nan


def rollout_tally(groups: Sequence[ScoredGroup]) -> Tally:
    """Reward, rollout and group metrics of one rank's scored groups.

    A completion without a reward is left out of reward/mean and reward/std, and one without a value of a term out of
    that term's mean; the other terms still count it. Lengths count every completion.
    """
    tally = Tally()
    for scored in groups:
        known = [reward for reward in scored.rewards if not math.isnan(reward)]
        tally.add("reward/mean", known)
        tally.add("reward/std", [statistics.pstdev(known)] if known else [])
        tally.add("reward/failed_fraction", [math.isnan(reward) for reward in scored.rewards])
        tally.add("group/informative_fraction", scored.informative)
        completions = scored.group.completions
        tally.add("rollout/completion_tokens", [len(completion.token_ids) for completion in completions])
        tally.add("rollout/truncated_fraction", [completion.finish_reason == "length" for completion in completions])
    for term in groups[0].terms if groups else ():
        _add_term(tally, term, groups)
    return tally


def _add_term(tally: Tally, term: str, groups: Sequence[ScoredGroup]) -> None:
    name = f"reward/{term}"
    if find_metric(name).name != "reward/<term>":
        raise ValueError(f"a reward cannot be called {term!r}, {name} is a metric of its own: rename rewards.{term}")
    for scored in groups:
        values = scored.terms[term]
        known = [value for value in values if not math.isnan(value)]
        tally.add(name, known)
        tally.add(f"{name}/std", [statistics.pstdev(known)] if known else [])
        tally.add(f"{name}/constant_fraction", [max(known) == min(known)] if known else [])
        tally.add(f"{name}/failed_fraction", [math.isnan(value) for value in values])
        states = scored.states(term)
        for state in get_args(State):
            tally.add(f"{name}/{state}_fraction", [found == state for found in states])
    seconds = sorted(second for scored in groups for second in scored.seconds.get(term, ()))
    if seconds:
        tally.add(f"{name}/seconds_p50", seconds[len(seconds) // 2])
        tally.add(f"{name}/seconds_p99", seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)])


def table_markdown() -> str:
    """docs/metrics.md."""
    joined = {"mean": "mean", "sum": "sum", "max": "largest", "last": "the same on all ranks"}
    lines = [
        "# Metrics",
        "",
        "Each step is one object in `metrics.jsonl`, and one point in wandb and TensorBoard, under these names.",
        "`<term>` is the name of a reward, `<dataset>` that of an evaluation set, `<source>` that of a training set,",
        "`k` a number of completions.",
        "A value that could not be computed is `null`. This page is made from `rl/metrics.py`:",
        "`python -c 'from rl.metrics import table_markdown; print(table_markdown(), end=\"\")' > docs/metrics.md`",
        "",
        "| name | unit | over values and ranks | what it is | bad sign |",
        "|---|---|---|---|---|",
    ]
    rows = (f"| `{m.name}` | {m.unit} | {joined[m.reduction]} | {m.meaning} | {m.bad} |" for m in METRICS)
    return "\n".join([*lines, *rows]) + "\n"
