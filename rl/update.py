"""One step's scored groups in, optimizer steps out: passes before the first, advantages, mini-batches, epochs.

    G  completions of one prompt        C  tokens of one completion

With one optimizer step for a batch (batch.mini_batches=1, batch.epochs=1) the log-probabilities before it are those of
the pass itself, and nothing is computed twice. With more of them, or for an algorithm that looks at the tokens before
its advantages are known, one pass over the whole batch comes first: proper old log-probabilities, and the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rl.algorithms import Algorithm, SelectsTokens, TokenPass
from rl.batch import MicroBatch, Trajectory, build_micro_batches, micro_batch, packed
from rl.config import BatchConfig
from rl.credit import learns_from_advantages_alone, needs_passes, token_advantages
from rl.engine import PolicyEngine
from rl.experience import Completion, Group, ScoredGroup
from rl.metrics import Gather, Tally
from rl.routers import of_trajectory


def update(
    groups: Sequence[ScoredGroup],
    policy: PolicyEngine,
    algorithm: Algorithm,
    batch: BatchConfig,
    *,
    max_completion_tokens: int,
    gather: Gather,
) -> Tally:
    """Collective: all optimizer steps on one batch, batch.mini_batches x batch.epochs of them."""
    rows, rewards = trajectories(groups, replays=policy.moe.routing_replay == "rollout")
    is_scored = batch.updates > 1 or needs_passes(algorithm)
    if is_scored:
        rows = with_scores(rows, policy, algorithm, batch.tokens_per_micro_batch, gather)
    rows = with_advantages(rows, rewards, algorithm, gather)
    skips = batch.skip_without_advantage and learns_from_advantages_alone(algorithm) and not policy.moe.balances
    tally = Tally()
    for mini_batch in [cut(rows, batch.mini_batches, number) for number in range(batch.mini_batches)] * batch.epochs:
        micro_batches = build_micro_batches(
            [item for row in mini_batch for item in row],
            algorithm.normalization,
            tokens_per_micro_batch=batch.tokens_per_micro_batch,
            max_completion_tokens=max_completion_tokens,
            gather=gather,
            share_prompts=policy.shares_prompts,
            skip_without_advantage=skips,
        )
        tally.merge(policy.update(micro_batches, algorithm, is_scored=is_scored))
    return tally


def trajectories(groups: Sequence[ScoredGroup], replays: bool = False) -> tuple[list[list[Trajectory]], list[Tensor]]:
    """The completions that have a reward, group by group, and these rewards, [G] float64; no advantages yet.

    A completion that a grader failed on is left out, also from what its group's advantages are measured by.
    replays: with the experts that the sampler chose.
    """
    rows, rewards = [], []
    for scored in groups:
        pairs = zip(scored.group.completions, scored.rewards, strict=True)
        known = [(done, reward) for done, reward in pairs if not math.isnan(reward)]
        if known:
            rows.append([_trajectory(scored.group, one, replays) for one, _ in known])
            rewards.append(torch.tensor([reward for _, reward in known], dtype=torch.float64))
    return rows, rewards


def _trajectory(group: Group, one: Completion, replays: bool) -> Trajectory:
    experts = of_trajectory(group, one) if replays else None
    return Trajectory(
        group.prompt.token_ids, one.token_ids, one.logprobs, torch.zeros(len(one.token_ids)), experts=experts
    )


def with_scores(
    rows: Sequence[Sequence[Trajectory]],
    policy: PolicyEngine,
    algorithm: Algorithm,
    tokens_per_micro_batch: int,
    gather: Gather,
) -> list[list[Trajectory]]:
    """Collective: the trajectories with what the policy, and the reference where it is used, say of their tokens.

    With model.moe.routing_replay=old also with the experts that the policy chose.
    """
    parts = packed([item for row in rows for item in row], tokens_per_micro_batch, policy.shares_prompts, gather)
    batches = [micro_batch(part, [0.0] * len(part), policy.shares_prompts) for part in parts]
    of_policy = policy.scores(batches)
    of_reference = policy.reference_logprobs(batches) if algorithm.uses_reference else [None] * len(batches)
    found: dict[int, TokenPass] = {}
    chosen: dict[int, Tensor] = {}
    for part, batch, scores, reference in zip(parts, batches, of_policy, of_reference, strict=True):
        columns = [_columns(batch, values) for values in (scores.logprobs, batch.rollout_logprobs, scores.entropy)]
        references = [None] * len(part) if reference is None else _columns(batch, reference)
        for item, *values in zip(part, *columns, references, strict=True):
            found[id(item)] = TokenPass(*values)
        if policy.moe.routing_replay == "old" and scores.experts is not None:
            chosen |= zip(map(id, part), batch.whole_trajectories(scores.experts.cpu()), strict=True)
    return [
        [replace(item, scores=found[id(item)], experts=chosen.get(id(item), item.experts)) for item in row]
        for row in rows
    ]


def _columns(batch: MicroBatch, values: Tensor) -> list[Tensor]:
    return batch.per_trajectory(values.cpu())


def with_advantages(
    rows: Sequence[Sequence[Trajectory]], rewards: Sequence[Tensor], algorithm: Algorithm, gather: Gather
) -> list[list[Trajectory]]:
    """Collective where the algorithm looks at the whole batch."""
    scores = [[item.scores for item in row if item.scores is not None] for row in rows]
    lengths = [[len(item.completion_ids) for item in row] for row in rows]
    advantages = token_advantages(algorithm, rewards, lengths, scores if needs_passes(algorithm) else None, gather)
    known = [
        [replace(item, advantages=own) for item, own in zip(row, group, strict=True)]
        for row, group in zip(rows, advantages, strict=True)
    ]
    if not isinstance(algorithm, SelectsTokens):
        return known
    flat = [item for row in known for item in row]
    passes = [item.scores for item in flat if item.scores is not None]
    chosen = iter(algorithm.select(passes, [item.advantages for item in flat], gather))
    return [[replace(item, selected=next(chosen)) for item in row] for row in known]


def cut(rows: Sequence[Sequence[Trajectory]], parts: int, number: int) -> Sequence[Sequence[Trajectory]]:
    """The mini-batch of this number: groups stay whole, and as many come to each as can be. They are in the order of
    the prompts, which is random already, so no epoch needs an order of its own."""
    return rows[len(rows) * number // parts : len(rows) * (number + 1) // parts]
