"""From rewards to advantages: each estimator beside a slow one from its paper, and what must not change them."""

from __future__ import annotations

import itertools
import math
import statistics
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rl.advantages import (
    batch_normalized,
    batch_scaled_to_mean_one,
    group_centred,
    group_normalized,
    leave_one_out,
    pass_at_k,
    penalty_before,
)
from rl.algorithms import TokenPass
from rl.algorithms.dapo import DAPO
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.entropy import ClipCov, KLCov, TopEntropy
from rl.algorithms.gdpo import GDPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.gspo import GSPO
from rl.algorithms.pass_at_k import PassAtK
from rl.algorithms.raft import RAFT
from rl.algorithms.reinforce import ReinforcePlusPlus, ReinforcePlusPlusBaseline
from rl.algorithms.rloo import RLOO
from rl.algorithms.topr import TOPR
from rl.credit import needs_passes, token_advantages

REWARDS = torch.tensor([1.0, 0.0, 0.25, 0.0, 1.0, 0.5], dtype=torch.float64)
FRACTIONS = [(0.1, 8), (0.3, 6), (0.7, 8), (1.1, 7)]  # equal rewards whose mean in floating point is another number


def doubles(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def alone(value: object) -> list[object]:
    """The gather of a single rank."""
    return [value]


def on_ranks(size: int, work: Callable[[int, Any], Any]) -> list[Any]:
    """work(rank, gather) on `size` ranks, as threads that meet in each gather."""
    slots: list[Any] = [None] * size
    results: list[Any] = [None] * size
    barrier = threading.Barrier(size)

    def run(rank: int) -> None:
        def gather(value: object) -> list[object]:
            slots[rank] = value
            barrier.wait(timeout=20)
            everyone = list(slots)
            barrier.wait(timeout=20)
            return everyone

        results[rank] = work(rank, gather)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return results


# ---------------------------------------------------------------------- in a group


def test_leave_one_out_by_hand():
    # the others' means: 1/3, 2/3, 2/3, 2/3
    assert_close(leave_one_out(doubles([1, 0, 1, 0])), doubles([2 / 3, -2 / 3, 2 / 3, -2 / 3]))
    assert leave_one_out(doubles([0.7])).tolist() == [0.0]


def slow_leave_one_out(rewards: list[float]) -> list[float]:
    """Ahmadian et al., arXiv:2402.14740: R_i - 1/(k-1) sum_(j != i) R_j."""
    result = []
    for i, reward in enumerate(rewards):
        others = [other for j, other in enumerate(rewards) if j != i]
        result.append(reward - sum(others) / len(others))
    return result


@pytest.mark.parametrize("rewards", [REWARDS, REWARDS * 3 - 1, doubles([0.3, 0.1])])
def test_leave_one_out_is_the_papers_loop(rewards):
    assert_close(leave_one_out(rewards), doubles(slow_leave_one_out(rewards.tolist())), rtol=1e-9, atol=1e-15)


def test_a_leave_one_out_baseline_leaves_the_expected_gradient_as_it_is():
    # One token of three, two samples: every pair of them, exactly.
    logits = doubles([0.3, -0.2, 0.5]).requires_grad_()
    logprobs = logits.log_softmax(-1)
    reward = doubles([1.0, 0.0, 0.4])
    (exact,) = torch.autograd.grad((logprobs.exp() * reward).sum(), logits, retain_graph=True)
    estimate = torch.zeros(())
    for pair in itertools.product(range(3), repeat=2):
        drawn = list(pair)
        weight = logprobs.exp()[drawn].prod().detach()
        estimate = estimate + weight * (leave_one_out(reward[drawn]) * logprobs[drawn]).mean()
    assert_close(torch.autograd.grad(estimate, logits)[0], exact, rtol=1e-10, atol=1e-14)


def slow_pass_at_k(rewards: list[float], k: int) -> list[float]:
    """From the definition: over every subset of k, its best; the mean of those that a completion is in."""
    subsets = list(itertools.combinations(range(len(rewards)), k))
    best = [max(rewards[i] for i in subset) for subset in subsets]
    mean, std = statistics.fmean(best), statistics.pstdev(best)
    own = [statistics.fmean(b for b, s in zip(best, subsets, strict=True) if i in s) for i in range(len(rewards))]
    return [(value - mean) / (std + 1e-6) for value in own]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "rewards", [[1.0, 0, 0.25, 0, 1, 0.5], [0.0, 0, 0, 0, 1, 0], [1.0, 1, 0, 0, 0, 0, 0], [3.0, -1, 2, 2, 0.5, 7]]
)
def test_pass_at_k_is_the_mean_over_all_subsets(rewards, k):
    assert_close(pass_at_k(doubles(rewards), k), doubles(slow_pass_at_k(rewards, k)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("size", "right", "k"), [(8, 1, 4), (8, 3, 4), (8, 4, 4), (16, 2, 8), (6, 3, 2)])
def test_pass_at_k_of_right_and_wrong_is_the_papers_closed_form(size, right, k):
    # Chen et al., arXiv:2508.10751: the group's mean, its deviation, and the two advantages.
    wrong = size - right
    mean = 1 - math.comb(wrong, k) / math.comb(size, k)
    std = math.sqrt(mean * (1 - mean))
    positive = (1 - mean) / std
    negative = (1 - mean - math.comb(wrong - 1, k - 1) / math.comb(size - 1, k - 1)) / std
    expected = doubles([positive] * right + [negative] * wrong)
    assert_close(pass_at_k(doubles([1.0] * right + [0.0] * wrong), k, eps=0.0), expected, rtol=1e-9, atol=1e-12)
    assert positive > 0 > negative


def test_pass_at_1_is_grpo():
    assert_close(pass_at_k(REWARDS, 1), group_normalized(REWARDS), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rewards", [[1.0, 1, 1, 1, 1, 0, 0, 0], [0.3] * 8, [0.1] * 5])
def test_where_the_best_of_k_is_always_the_same_there_is_nothing_to_learn(rewards):
    assert pass_at_k(doubles(rewards), 4).tolist() == [0.0] * len(rewards)


def test_a_group_of_no_more_than_k_has_one_subset_and_no_advantage():
    assert pass_at_k(doubles([1.0, 0.0, 0.0, 0.0]), 4).tolist() == [0.0] * 4
    assert pass_at_k(doubles([1.0, 0.0]), 4).tolist() == [0.0] * 2
    with pytest.raises(ValueError, match=r"algorithm\.k must be 1 or more, got 0"):
        PassAtK(k=0)


# ---------------------------------------------------------------------- properties, of every estimator

IN_A_GROUP = [
    group_normalized,
    group_centred,
    leave_one_out,
    *(algorithm.advantages for algorithm in (GRPO(), DAPO(), DrGRPO(), RLOO(), GSPO(), PassAtK(k=3), GDPO())),
    ReinforcePlusPlusBaseline().advantages,
]


@pytest.mark.parametrize(("value", "size"), FRACTIONS)
@pytest.mark.parametrize("estimator", IN_A_GROUP)
def test_equal_rewards_give_exactly_zero(estimator, value, size):
    assert estimator(torch.full((size,), value, dtype=torch.float64)).tolist() == [0.0] * size


@pytest.mark.parametrize("estimator", IN_A_GROUP)
def test_advantages_of_a_group_sum_to_zero(estimator):
    for rewards in (REWARDS, REWARDS.flip(0) * 3, REWARDS + 0.1):
        advantages = estimator(rewards)
        assert advantages.dtype == torch.float64
        assert abs(float(advantages.sum())) < 1e-12
        assert advantages.abs().max() > 0.1


@pytest.mark.parametrize("estimator", IN_A_GROUP)
def test_a_shift_of_all_rewards_changes_nothing_and_the_order_goes_along(estimator):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_close(estimator(REWARDS + 17.5), estimator(REWARDS), rtol=1e-9, atol=1e-12)
    assert_close(estimator(REWARDS[order]), estimator(REWARDS)[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", IN_A_GROUP)
def test_a_better_reward_never_has_a_smaller_advantage(estimator):
    assert (estimator(REWARDS.sort().values).diff() >= -1e-12).all()


def test_topr_and_raft_have_a_preference_without_a_group():
    # A = r - baseline; and 1 for what is right. Both learn from a group of right answers.
    assert TOPR(baseline=0.5).advantages(doubles([1, 0, 1])).tolist() == [0.5, -0.5, 0.5]
    assert RAFT().advantages(doubles([1, 0.5, 0])).tolist() == [1.0, 0.0, 0.0]
    assert RAFT(threshold=0.5).advantages(doubles([1, 0.5, 0])).tolist() == [1.0, 1.0, 0.0]


# ---------------------------------------------------------------------- over the batch


def slow_batch_normalized(advantages: list[list[float]], per: str) -> list[list[float]]:
    """REINFORCE++, arXiv:2501.03262: (A - mean) / std over all tokens; GDPO, arXiv:2601.05242: over all completions."""
    values = [a for row in advantages for a in row] if per == "token" else [row[0] for row in advantages]
    mean = sum(values) / len(values)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [[(a - mean) / (std + 1e-8) for a in row] for row in advantages]


ROWS = [[0.3] * 4, [-1.2] * 1, [0.9] * 7, [0.0] * 2, [2.5] * 3]


@pytest.mark.parametrize("per", ["token", "completion"])
def test_batch_normalisation_is_the_papers_loop(per):
    expected = slow_batch_normalized(ROWS, per)
    for ours, theirs in zip(batch_normalized([doubles(row) for row in ROWS], alone, per), expected, strict=True):
        assert_close(ours, doubles(theirs), rtol=1e-9, atol=1e-15)


def test_batch_normalisation_gives_mean_0_and_variance_1_over_what_it_counts():
    by_token = torch.cat(batch_normalized([doubles(row) for row in ROWS], alone, "token"))
    by_completion = torch.stack([row[0] for row in batch_normalized([doubles(r) for r in ROWS], alone, "completion")])
    for values in (by_token, by_completion):
        assert abs(float(values.mean())) < 1e-12
        assert_close(float(values.square().mean()), 1.0, rtol=1e-6, atol=0)


@pytest.mark.parametrize("per", ["token", "completion"])
@pytest.mark.parametrize("cuts", [(2,), (0,), (1, 3), (5,)])
def test_batch_normalisation_does_not_depend_on_the_ranks(per, cuts):
    whole = batch_normalized([doubles(row) for row in ROWS], alone, per)
    edges = [0, *cuts, len(ROWS)]
    shares = [[doubles(row) for row in ROWS[a:b]] for a, b in itertools.pairwise(edges)]  # a share may be empty
    parts = on_ranks(len(shares), lambda rank, gather: batch_normalized(shares[rank], gather, per))
    for ours, expected in zip([row for part in parts for row in part], whole, strict=True):
        assert_close(ours, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("value", "size"), FRACTIONS)
def test_a_batch_of_equal_advantages_is_exactly_zero(value, size):
    rows = [torch.full((length,), value, dtype=torch.float64) for length in range(1, size)]
    for per in ("token", "completion"):
        assert all((row == 0).all() for row in batch_normalized(rows, alone, per))
    assert batch_normalized([], alone) == []


def test_raft_divides_by_the_accepted_share():
    rows = [doubles([1, 1, 1]), doubles([0]), doubles([1, 1]), doubles([0, 0])]  # 5 of 8 tokens, 2 of 4 completions
    assert [row[0].item() for row in batch_scaled_to_mean_one(rows, alone)] == [1.6, 0, 1.6, 0]
    assert [row[0].item() for row in batch_scaled_to_mean_one(rows, alone, "completion")] == [2, 0, 2, 0]
    nothing = batch_scaled_to_mean_one([doubles([0, 0])], alone)
    assert nothing[0].tolist() == [0, 0]


# ---------------------------------------------------------------------- rewards to tokens: rl/credit.py


def made_up_pass(length: int, seed: int) -> TokenPass:
    draw = torch.Generator().manual_seed(seed)
    old, rollout, entropy, ref = (torch.rand(length, generator=draw, dtype=torch.float64) for _ in range(4))
    return TokenPass(old_logprobs=-3 * old, rollout_logprobs=-3 * rollout, entropy=2 * entropy, ref_logprobs=-3 * ref)


GROUPS = [doubles([1.0, 0.0, 0.25]), doubles([0.5, 0.1, 0.5]), doubles([0.0, 1.0])]
LENGTHS = [[5, 1, 3], [2, 7, 4], [3, 6]]
PASSES = [[made_up_pass(c, 10 * i + j) for j, c in enumerate(row)] for i, row in enumerate(LENGTHS)]


def test_without_any_ability_each_token_has_its_completions_advantage():
    assert not needs_passes(GRPO())
    result = token_advantages(GRPO(), GROUPS, LENGTHS, None, alone)
    for rewards, lengths, rows in zip(GROUPS, LENGTHS, result, strict=True):
        for value, length, row in zip(group_normalized(rewards).tolist(), lengths, rows, strict=True):
            assert row.tolist() == [value] * length


SLOW_KL = {"k1": lambda d: d, "k2": lambda d: d * d / 2, "k3": lambda d: math.exp(-d) - 1 + d}


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_a_kl_in_the_reward_is_taken_before_the_group_is_compared(estimator):
    algorithm = RLOO(beta=0.3, kl_estimator=estimator)
    assert needs_passes(algorithm)
    result = token_advantages(algorithm, GROUPS, LENGTHS, PASSES, alone)
    for rewards, passes, rows in zip(GROUPS, PASSES, result, strict=True):
        paid = []  # arXiv:2402.14740: R = r - beta log(pi / pi_ref), of the whole answer
        for reward, scores in zip(rewards.tolist(), passes, strict=True):
            pairs = zip(scores.old_logprobs.tolist(), scores.ref_logprobs.tolist(), strict=True)
            paid.append(reward - 0.3 * sum(SLOW_KL[estimator](old - ref) for old, ref in pairs))
        for value, row in zip(slow_leave_one_out(paid), rows, strict=True):
            assert_close(row, torch.full_like(row, value), rtol=1e-9, atol=1e-13)


def test_reinforce_plus_plus_pays_from_each_token_on_and_normalises_over_all_tokens():
    result = token_advantages(ReinforcePlusPlus(beta=0.3), GROUPS, LENGTHS, PASSES, alone)
    rows = []  # arXiv:2501.03262: A_t = r - beta sum_(i = t)^T KL(i), KL(i) = log(pi_old / pi_ref)
    for rewards, passes in zip(GROUPS, PASSES, strict=True):
        for reward, scores in zip(rewards.tolist(), passes, strict=True):
            kl = [o - r for o, r in zip(scores.old_logprobs.tolist(), scores.ref_logprobs.tolist(), strict=True)]
            rows.append([reward - 0.3 * sum(kl[t:]) for t in range(len(kl))])
    flat = [row for group in result for row in group]
    for ours, theirs in zip(flat, slow_batch_normalized(rows, "token"), strict=True):
        assert_close(ours, doubles(theirs), rtol=1e-9, atol=1e-12)
    assert len(set(flat[0].tolist())) > 1


def test_gdpo_normalises_over_completions_and_reinforce_plus_plus_baseline_over_tokens():
    centred = [a - rewards.mean().item() for rewards in GROUPS for a in rewards.tolist()]
    rows = [[a] * c for a, c in zip(centred, [c for row in LENGTHS for c in row], strict=True)]
    for algorithm, per in ((GDPO(), "completion"), (ReinforcePlusPlusBaseline(), "token")):
        result = token_advantages(algorithm, GROUPS, LENGTHS, None, alone)
        for ours, theirs in zip([r for g in result for r in g], slow_batch_normalized(rows, per), strict=True):
            assert_close(ours, doubles(theirs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "algorithm", [GRPO(beta=0.1, kl_in="reward"), DrGRPO(beta=0.1, kl_in="reward"), GSPO(beta=0.1, kl_in="reward")]
)
def test_any_algorithm_can_have_its_kl_in_the_reward(algorithm):
    result = token_advantages(algorithm, GROUPS, LENGTHS, PASSES, alone)
    without = token_advantages(type(algorithm)(), GROUPS, LENGTHS, None, alone)
    assert all(len(set(row.tolist())) == 1 for group in result for row in group)
    assert all(abs(float(sum(row[0] for row in group))) < 1e-12 for group in result)
    assert max(abs(float(a[0] - b[0])) for x, y in zip(result, without, strict=True) for a, b in zip(x, y, strict=True)) > 0.01  # fmt: skip  # noqa: E501


def test_what_was_paid_before_a_token():
    assert penalty_before(doubles([1, 2, 4])).tolist() == [0, 1, 3]


BATCHWISE = [
    ReinforcePlusPlus(),
    ReinforcePlusPlus(beta=0.2),
    ReinforcePlusPlusBaseline(),
    GDPO(),
    RAFT(threshold=0.5),
    RLOO(beta=0.2),
    GRPO(),
]


@pytest.mark.parametrize("algorithm", BATCHWISE, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_token_advantages_do_not_depend_on_the_ranks(algorithm, cut):
    whole = token_advantages(algorithm, GROUPS, LENGTHS, PASSES, alone)
    shares = [slice(0, cut), slice(cut, 3)]

    def work(rank: int, gather: Any) -> list[list[Tensor]]:
        part = shares[rank]
        return token_advantages(algorithm, GROUPS[part], LENGTHS[part], PASSES[part], gather)

    parts = on_ranks(2, work)
    for ours, expected in zip(parts[0] + parts[1], whole, strict=True):
        for a, b in zip(ours, expected, strict=True):
            assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("algorithm", [ReinforcePlusPlus(), ReinforcePlusPlusBaseline(), GDPO()])
def test_a_batch_of_equal_rewards_has_exactly_no_advantage(algorithm):
    equal = [torch.full((3,), 0.1, dtype=torch.float64), torch.full((2,), 0.1, dtype=torch.float64)]
    for group in token_advantages(algorithm, equal, [[4, 2, 7], [1, 3]], None, alone):
        assert all((row == 0).all() for row in group)


@pytest.mark.parametrize("algorithm", [ReinforcePlusPlus(), ReinforcePlusPlusBaseline(), GDPO()])
def test_a_shift_of_every_reward_of_the_batch_changes_nothing(algorithm):
    base = token_advantages(algorithm, GROUPS, LENGTHS, None, alone)
    shifted = token_advantages(algorithm, [rewards + 5 for rewards in GROUPS], LENGTHS, None, alone)
    for a, b in zip([r for g in base for r in g], [r for g in shifted for r in g], strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------- which tokens


FLAT = [scores for group in PASSES for scores in group]
ADVANTAGES = [torch.full_like(scores.old_logprobs, (-1.0) ** i * (1 + i)) for i, scores in enumerate(FLAT)]
SELECTING = [ClipCov(fraction=0.2, cov_low=0.1, cov_high=9.0), KLCov(fraction=0.2), TopEntropy(fraction=0.3)]


def slow_covariance() -> list[float]:
    """Cui et al., arXiv:2505.22617: the centred product of log-probability and advantage, over all tokens."""
    pairs = [
        (logprob, a)
        for scores, advantages in zip(FLAT, ADVANTAGES, strict=True)
        for logprob, a in zip(scores.old_logprobs.tolist(), advantages.tolist(), strict=True)
    ]
    mean_logprob = sum(logprob for logprob, _ in pairs) / len(pairs)
    mean_advantage = sum(a for _, a in pairs) / len(pairs)
    return [(logprob - mean_logprob) * (a - mean_advantage) for logprob, a in pairs]


def test_kl_cov_holds_the_largest_covariances():
    chosen = torch.cat(SELECTING[1].select(FLAT, ADVANTAGES, alone)).tolist()
    count = int(0.2 * len(chosen))
    threshold = sorted(slow_covariance())[-count]
    assert chosen == [value >= threshold for value in slow_covariance()]
    assert sum(chosen) == count == 6


def test_clip_cov_drops_a_few_of_those_between_its_bounds():
    kept = torch.cat(SELECTING[0].select(FLAT, ADVANTAGES, alone)).tolist()
    between = [0.1 < value < 9.0 for value in slow_covariance()]
    dropped = [not keep for keep in kept]
    assert sum(dropped) == int(0.2 * len(kept)) < sum(between)
    assert all(inside for inside, drop in zip(between, dropped, strict=True) if drop)


def test_top_entropy_keeps_the_most_uncertain_tokens():
    kept = torch.cat(SELECTING[2].select(FLAT, ADVANTAGES, alone)).tolist()
    entropy = [value for scores in FLAT for value in scores.entropy.tolist()]
    least_kept = min(value for value, keep in zip(entropy, kept, strict=True) if keep)
    assert all(value < least_kept for value, keep in zip(entropy, kept, strict=True) if not keep)
    assert abs(sum(kept) / len(kept) - 0.3) < 1 / len(kept)


@pytest.mark.parametrize("algorithm", SELECTING, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("cut", [0, 3, 7])
def test_the_choice_of_tokens_does_not_depend_on_the_ranks(algorithm, cut):
    assert needs_passes(algorithm)
    whole = algorithm.select(FLAT, ADVANTAGES, alone)
    shares = [slice(0, cut), slice(cut, None)]
    parts = on_ranks(2, lambda rank, gather: algorithm.select(FLAT[shares[rank]], ADVANTAGES[shares[rank]], gather))
    assert [row.tolist() for part in parts for row in part] == [row.tolist() for row in whole]
    assert [len(row) for row in whole] == [len(scores.entropy) for scores in FLAT]
