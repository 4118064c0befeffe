"""Trajectories, loss weights and packing: what every trained token weighs, however the batch is cut."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from rl import update
from rl.algorithms import TokenPass
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.grpo import GRPO
from rl.batch import (
    MicroBatch,
    Trajectory,
    build_micro_batches,
    by_token_budget,
    empty_micro_batch,
    micro_batch,
    padding_fraction,
    trajectory,
)
from rl.experience import Group, ScoredGroup
from rl.update import with_advantages

NORMALIZATIONS = ["token", "sequence", "constant"]
MAX_TOKENS = 20  # of a completion


def draw_trajectories(count: int, seed: int = 0) -> list[Trajectory]:
    draw = random.Random(seed)
    items = []
    for i in range(count):
        size = draw.randint(1, MAX_TOKENS)
        prompt = [draw.randrange(100) for _ in range(draw.randint(1, 9))]
        answer = [draw.randrange(100) for _ in range(size)]
        items.append(trajectory(prompt, answer, [-1 - i / 10] * size, 0.0 if i % 4 == 3 else draw.gauss(0, 1)))
    return items


def on_ranks(shares: list[list[Trajectory]], normalization, budget: int = 60, skip: bool = False):
    """build_micro_batches as each of several ranks would see it: every gather brings all ranks' values together."""
    counts = [(sum(len(item.completion_ids) for item in share), len(share)) for share in shares]
    used = [[item for item in share if not (skip and item.advantages[0] == 0)] for share in shares]
    sizes = [len(by_token_budget(share, budget)) for share in used]

    def one(rank: int) -> list[MicroBatch]:
        rounds = iter([counts, sizes])

        def gather(own):
            everyone = next(rounds)
            assert everyone[rank] == own
            return everyone

        return build_micro_batches(
            shares[rank], normalization, tokens_per_micro_batch=budget, max_completion_tokens=MAX_TOKENS,
            gather=gather, skip_without_advantage=skip,
        )  # fmt: skip

    return [one(rank) for rank in range(len(shares))]


def weighted_sum(batches: list[MicroBatch]) -> float:
    """sum(loss_weights * a token's loss), the loss a made-up function of what the token is."""
    total = 0.0
    for batch in batches:
        token_loss = batch.advantages.double() * batch.token_ids * (1 + batch.positions) + batch.rollout_logprobs
        total += float((batch.loss_weights.double() * token_loss).sum())
    return total


# ---------------------------------------------------------------------- groups to trajectories


def trajectories(groups, algorithm):
    rows = with_advantages(*update.trajectories(groups), algorithm, gather=None)
    return [item for row in rows for item in row]


def scored_group(rewards, make_prompt, make_completion) -> ScoredGroup:
    completions = tuple(make_completion(text) for text in "abcdefgh"[: len(rewards)])
    return ScoredGroup(Group(make_prompt(), completions), tuple(rewards), {"right": tuple(rewards)})


def test_a_trajectory_is_the_completion_with_its_prompt_and_its_advantage(make_prompt, make_completion):
    items = trajectories([scored_group([1.0, 0.0, 0.0, 0.0], make_prompt, make_completion)], DrGRPO())
    assert [item.advantages[0] for item in items] == [0.75, -0.25, -0.25, -0.25]
    assert [list(item.completion_ids) for item in items] == [[97], [98], [99], [100]]
    assert all(tuple(item.prompt_ids) == (1, 2, 3) and item.length == 4 for item in items)


@pytest.mark.parametrize("algorithm", [GRPO(), DrGRPO()])
def test_a_completion_without_a_reward_leaves_no_trace(algorithm, make_prompt, make_completion):
    with_it = scored_group([1.0, math.nan, 0.0, 0.5], make_prompt, make_completion)
    items = trajectories([with_it], algorithm)
    assert [list(item.completion_ids) for item in items] == [[97], [99], [100]]
    alone = scored_group([1.0, 0.0, 0.5], make_prompt, make_completion)
    assert [i.advantages[0] for i in items] == [i.advantages[0].item() for i in trajectories([alone], algorithm)]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_completion_without_a_reward_is_not_in_the_totals_that_weights_divide_by(
    normalization, make_prompt, make_completion
):
    rewards = {"abcdefgh": math.nan, "abc": 1.0, "d": 0.0}
    groups = []
    for texts in (list(rewards), ["abc", "d"]):
        completions = tuple(make_completion(text) for text in texts)
        scores = tuple(rewards[text] for text in texts)
        groups.append(ScoredGroup(Group(make_prompt(), completions), scores, {"right": scores}))
    found, alone = (on_ranks([trajectories([group], GRPO())], normalization)[0] for group in groups)
    assert [batch.loss_weights.tolist() for batch in found] == [batch.loss_weights.tolist() for batch in alone]
    expected = {"token": [1 / 4] * 4, "sequence": [1 / 6] * 3 + [1 / 2], "constant": [1 / 40] * 4}[normalization]
    assert found[0].loss_weights[found[0].loss_mask].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_groups_and_trajectories_are_left_as_they_were(normalization, make_prompt, make_completion):
    groups = [scored_group([1.0, math.nan, 0.0, 0.5], make_prompt, make_completion)]
    groups_before = copy.deepcopy(groups)
    items = trajectories(groups, GRPO())
    assert repr(groups) == repr(groups_before)  # by text: a NaN is not equal to itself

    items += draw_trajectories(9)
    items_before, order = copy.deepcopy(items), list(map(id, items))
    on_ranks([items], normalization, skip=True)
    by_token_budget(items, 60)  # sorts, but not its argument
    assert repr(items) == repr(items_before)
    assert list(map(id, items)) == order


def test_a_group_without_any_reward_gives_no_trajectories(make_prompt, make_completion):
    assert trajectories([scored_group([math.nan, math.nan], make_prompt, make_completion)], GRPO()) == []


# ---------------------------------------------------------------------- one micro-batch


def test_a_micro_batch_by_hand():
    batch = micro_batch(
        [trajectory([5, 6], [7], [-0.5], 2.0), trajectory([8], [9, 10], [-1.0, -2.0], -3.0)], [0.5, 0.1]
    )
    assert batch.token_ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 2]
    assert batch.sequence_ids.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.cu_seqlens.tolist() == [0, 3, 6]
    assert batch.lengths == [3, 3]
    assert batch.loss_mask.tolist() == [False, False, True, False, True, True]
    assert batch.rollout_logprobs.tolist() == [0, 0, -0.5, 0, -1, -2]
    assert batch.advantages.tolist() == [0, 0, 2, 0, -3, -3]
    assert_close(batch.loss_weights, torch.tensor([0, 0, 0.5, 0, 0.1, 0.1]))


def test_a_micro_batch_has_the_types_it_promises_and_keeps_them_on_another_device():
    dtypes = {
        "token_ids": torch.int64, "positions": torch.int64, "sequence_ids": torch.int64, "cu_seqlens": torch.int32,
        "parents": torch.int64,
        "loss_mask": torch.bool, "rollout_logprobs": torch.float32, "advantages": torch.float32,
        "loss_weights": torch.float32, "old_logprobs": torch.float32, "ref_logprobs": torch.float32,
        "selected": torch.bool, "experts": torch.int16,
    }  # fmt: skip
    items = [
        replace(
            item,
            scores=TokenPass(*[torch.ones(n) * i for i in range(4)]),
            selected=torch.ones(n) > 0,
            experts=torch.ones(item.length, 3, 2, dtype=torch.int16),
        )
        for item in draw_trajectories(3)
        for n in [len(item.completion_ids)]
    ]
    batch = micro_batch(items, [0.1, 0.2, 0.3])
    moved = batch.to("meta")
    assert set(dtypes) == set(MicroBatch.__slots__)
    for name, dtype in dtypes.items():
        assert (getattr(batch, name).dtype, getattr(batch, name).device.type) == (dtype, "cpu"), name
        assert (getattr(moved, name).dtype, getattr(moved, name).device.type) == (dtype, "meta"), name
        assert getattr(batch, name).shape == getattr(moved, name).shape, name


def test_every_completion_token_keeps_its_own_rollout_logprob_when_lengths_are_sorted():
    draw = random.Random(2)
    items = []
    for i in range(12):
        tokens = [1000 * (i + 1) + t for t in range(draw.randint(1, MAX_TOKENS))]  # each token once in the batch
        items.append(trajectory([0] * draw.randint(1, 5), tokens, [-token / 16 for token in tokens], float(i + 1)))
    (batches,) = on_ranks([items], "token")
    for batch in batches:
        tokens = batch.token_ids[batch.loss_mask].double()
        assert_close(batch.rollout_logprobs[batch.loss_mask].double(), -tokens / 16, rtol=0, atol=0)
        assert_close(batch.advantages[batch.loss_mask].double(), (tokens / 1000).floor(), rtol=0, atol=0)
    trained = [token for batch in batches for token in batch.token_ids[batch.loss_mask].tolist()]
    assert sorted(trained) == sorted(token for item in items for token in item.completion_ids)


def test_an_empty_micro_batch_weighs_nothing_and_has_a_token_to_compute():
    batch = empty_micro_batch()
    assert batch.loss_weights.tolist() == [0, 0]
    assert batch.loss_mask.tolist() == [False, True]


# ---------------------------------------------------------------------- weights


def test_the_weights_of_two_answers_of_one_and_three_tokens_by_hand():
    items = [trajectory([0], [1], [0.0], 1.0), trajectory([0], [1, 2, 3], [0.0] * 3, 1.0)]
    expected = {"token": [1 / 4, 1 / 4], "sequence": [1 / 2, 1 / 6], "constant": [1 / 40, 1 / 40]}
    for normalization in NORMALIZATIONS:
        ((batch,),) = on_ranks([items], normalization)
        weights = {batch.lengths[int(n)]: float(w) for n, w in zip(batch.sequence_ids, batch.loss_weights, strict=True)}
        assert [weights[2], weights[4]] == pytest.approx(expected[normalization])


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_weights_of_all_ranks_sum_to_one_or_to_the_used_fraction(normalization, num_ranks):
    items = draw_trajectories(13)
    ranks = on_ranks([items[rank::num_ranks] for rank in range(num_ranks)], normalization)
    total = sum(float(batch.loss_weights.double().sum()) for batches in ranks for batch in batches)
    used = sum(len(item.completion_ids) for item in items) / (len(items) * MAX_TOKENS)
    assert total == pytest.approx(used if normalization == "constant" else 1.0, rel=1e-6)
    assert 0.1 < used < 0.9


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_order_packing_micro_batches_and_ranks_change_nothing(normalization):
    items = draw_trajectories(14)
    (whole,) = on_ranks([items], normalization, budget=10**6)
    assert len(whole) == 1
    shuffled = random.Random(5).sample(items, len(items))
    for shares in ([items], [shuffled], [items[::2], items[1::2]], [shuffled[:1], shuffled[1:]], [items, []]):
        for budget in (1, 60, 150):
            ranks = on_ranks(shares, normalization, budget)
            assert sum(map(weighted_sum, ranks)) == pytest.approx(weighted_sum(whole), rel=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_trajectories_left_out_for_want_of_an_advantage_still_count_in_the_weights(normalization):
    items = draw_trajectories(14)
    (every,), (some,) = on_ranks([items], normalization), on_ranks([items], normalization, skip=True)
    kept = {tuple(item.completion_ids): item for item in items if item.advantages[0]}
    assert sum(len(batch.lengths) for batch in some) == len(kept) < len(items)

    def weights(batches: list[MicroBatch]) -> dict[tuple[int, ...], float]:
        found = {}
        for batch in batches:
            for n in range(len(batch.lengths)):
                own = (batch.sequence_ids == n) & batch.loss_mask
                found[tuple(batch.token_ids[own].tolist())] = float(batch.loss_weights[own][0])
        return found

    assert weights(some) == {key: value for key, value in weights(every).items() if key in kept}


# ---------------------------------------------------------------------- packing


def test_every_trajectory_is_in_exactly_one_micro_batch_within_the_budget():
    items = draw_trajectories(30)
    parts = by_token_budget(items, 60)
    assert sorted(map(id, items)) == sorted(id(item) for part in parts for item in part)
    assert all(max(i.length for i in part) * len(part) <= 60 for part in parts)
    assert len(parts) > 7


def test_a_budget_can_be_used_to_the_last_token():
    three = [trajectory([0] * 5, [1] * 15, [0.0] * 15, 1.0) for _ in range(3)]
    assert [len(part) for part in by_token_budget(three, 60)] == [3]
    assert [len(part) for part in by_token_budget(three, 59)] == [2, 1]
    assert by_token_budget([], 60) == []


def test_a_trajectory_longer_than_the_budget_has_a_micro_batch_of_its_own():
    long, short = trajectory([0] * 50, [1] * 50, [0.0] * 50, 1.0), trajectory([0], [1], [0.0], 1.0)
    assert by_token_budget([short, long, short], 60) == [[long], [short, short]]


def test_lengths_fall_from_one_micro_batch_to_the_next_so_little_is_padding():
    items = draw_trajectories(200)
    ((*batches,),) = on_ranks([items], "token", budget=200)
    assert all(min(a.lengths) >= max(b.lengths) for a, b in pairwise(batches))
    padded = sum(max(batch.lengths) * len(batch.lengths) for batch in batches)
    assert padding_fraction(padded, batches) < 0.08


def test_padding_fraction_by_hand():
    batch = micro_batch([trajectory([0], [1], [0.0], 1.0), trajectory([0], [1, 2, 3], [0.0] * 3, 1.0)], [1.0, 1.0])
    assert padding_fraction(8, [batch]) == 0.25  # 6 tokens in two rows of 4


def test_every_rank_has_as_many_micro_batches_as_the_busiest():
    items = draw_trajectories(20)
    first, second = on_ranks([items[:17], items[17:]], "token", budget=40)
    assert len(first) == len(second) > 7
    assert float(second[-1].loss_weights.sum()) == 0
    first, second = on_ranks([[], []], "token")
    assert len(first) == len(second) == 1


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_batch_in_which_nothing_was_scored_is_one_pass_that_weighs_nothing(normalization):
    ((batch,),) = on_ranks([[]], normalization)
    assert float(batch.loss_weights.sum()) == 0


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_rank_left_with_nothing_to_learn_pads_and_the_other_ranks_weights_stay(normalization):
    items = draw_trajectories(12)
    idle = [trajectory(item.prompt_ids, item.completion_ids, item.rollout_logprobs, 0.0) for item in items[:4]]
    every, some = (on_ranks([items, idle], normalization, skip=skip) for skip in (False, True))
    assert len(some[0]) == len(some[1]) > 1
    assert all(float(batch.loss_weights.sum()) == 0 for batch in some[1])

    def gained(ranks: list[list[MicroBatch]]) -> float:
        return sum(float((b.loss_weights.double() * b.advantages * b.token_ids).sum()) for rank in ranks for b in rank)

    assert gained(some) == pytest.approx(gained(every), rel=1e-6)
    assert abs(gained(some)) > 1e-3
