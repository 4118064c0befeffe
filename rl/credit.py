"""From the rewards of groups to an advantage for each token: the part that may look beyond one group.

    G  completions of one prompt        C  tokens of one completion

Algorithms without the abilities of rl/algorithms (PenalizesTokens, NormalizesBatch, SelectsTokens) need none of the
passes that come before the first update; needs_passes says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rl.advantages import penalty_before
from rl.algorithms import Algorithm, NeedsEntropy, NormalizesBatch, PenalizesTokens, SelectsTokens, TokenPass
from rl.metrics import Gather


def needs_passes(algorithm: Algorithm) -> bool:
    """Whether log-probabilities are needed before the advantages, or before the first update: a pass more."""
    return _penalizes(algorithm) is not None or isinstance(algorithm, SelectsTokens)


def learns_from_advantages_alone(algorithm: Algorithm) -> bool:
    """Whether a completion whose advantages are all 0 has no gradient, so that batch.skip_without_advantage may leave
    it out: neither a reference nor an entropy in the loss, nor a rule for chosen tokens."""
    needs_entropy = isinstance(algorithm, NeedsEntropy) and algorithm.needs_entropy
    return not (algorithm.uses_reference or needs_entropy or isinstance(algorithm, SelectsTokens))


def token_advantages(
    algorithm: Algorithm,
    rewards: Sequence[Tensor],
    lengths: Sequence[Sequence[int]],
    passes: Sequence[Sequence[TokenPass]] | None,
    gather: Gather,
) -> list[list[Tensor]]:
    """Collective where the algorithm looks at the whole batch. Of each group and completion -> [C] float64.

    rewards: [G] float64 of each of this rank's groups, without NaN; lengths: C of each completion; passes: of each
    completion, None where needs_passes is False.
    """
    result = []
    for row, (values, sizes) in enumerate(zip(rewards, lengths, strict=True)):
        result.append(_of_group(algorithm, values, sizes, None if passes is None else passes[row]))
    if not isinstance(algorithm, NormalizesBatch):
        return result
    flat = iter(algorithm.batch_advantages([one for group in result for one in group], gather))
    return [[next(flat) for _ in group] for group in result]


def _of_group(
    algorithm: Algorithm, rewards: Tensor, lengths: Sequence[int], passes: Sequence[TokenPass] | None
) -> list[Tensor]:
    penalizes = _penalizes(algorithm)
    if penalizes is None:
        advantages = algorithm.advantages(rewards)
        return [value.expand(size) for value, size in zip(advantages, lengths, strict=True)]
    assert passes is not None, "a penalty needs the log-probabilities before the first update"
    penalties = [penalizes.token_penalty(scores).double() for scores in passes]
    advantages = algorithm.advantages(rewards - torch.stack([penalty.sum() for penalty in penalties]))
    paid = [penalty_before(penalty) if penalizes.pays_to_go else torch.zeros_like(penalty) for penalty in penalties]
    return [value + before for value, before in zip(advantages, paid, strict=True)]


def _penalizes(algorithm: Algorithm) -> PenalizesTokens | None:
    """The algorithm as one that takes something from the reward at each token, if its settings make it one."""
    return algorithm if isinstance(algorithm, PenalizesTokens) and algorithm.penalizes_tokens else None
