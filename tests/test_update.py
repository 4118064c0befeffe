"""Several optimizer steps on one batch: proper old log-probabilities, whole groups, the same sums."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from data.problem import Problem, ask
from rl.algorithms import EntropyControl
from rl.algorithms.entropy import TopEntropy
from rl.algorithms.grpo import GRPO
from rl.algorithms.reinforce import ReinforcePlusPlus
from rl.batch import build_micro_batches
from rl.config import BatchConfig, OptimizerConfig
from rl.engine import PolicyEngine
from rl.experience import Completion, Group, Prompt, ScoredGroup
from rl.policy import load_model
from rl.tiny import build_tiny_model
from rl.update import cut, trajectories, update, with_advantages, with_scores

MAX_TOKENS = 12


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("update") / "model", hidden=32, layers=1, heads=2, kv_heads=1)


def alone(value):
    return [value]


def engine_of(model_path, reference=False, **optimizer):
    # With this eps AdamW's step is about lr x gradient: with a small one rounding decides the signs of tiny gradients.
    settings = OptimizerConfig(**{"lr": 1e-2, "eps": 1.0, "warmup_steps": 0, "max_grad_norm": 1e9, **optimizer})
    frozen = load_model(str(model_path), "float32") if reference else None
    model = load_model(str(model_path), "float32")
    return PolicyEngine(model, engine="ddp", optimizer=settings, steps=100, reference=frozen)


@pytest.fixture(scope="module")
def groups(model_path):
    """Five groups of four, one reward missing; the sampler's log-probabilities are a little off."""
    draw, found = random.Random(0), []
    for index in range(5):
        tokens = lambda count: [draw.randrange(5, 60) for _ in range(count)]  # noqa: E731
        prompt = Prompt(Problem(f"t/{index}", ask("q"), "4", "t"), index, "q", tuple(tokens(3)))
        sizes = [draw.randint(2, MAX_TOKENS) for _ in range(4)]
        done = tuple(Completion("a", tokens(n), [-4.0] * n, "stop", 0) for n in sizes)
        rewards = [draw.choice([0.0, 0.5, 1.0]) for _ in range(4)]
        rewards[0] = math.nan if index == 2 else 1.0
        rewards[1] = 0.0
        found.append(ScoredGroup(Group(prompt, done), tuple(rewards), {"right": tuple(rewards)}))
    return found


def run(model_path, groups, algorithm=None, engine=None, **batch):
    engine = engine or engine_of(model_path, reference=algorithm is not None and algorithm.uses_reference)
    tally = update(
        groups, engine, algorithm or GRPO(), BatchConfig(tokens_per_micro_batch=60, **batch),
        max_completion_tokens=MAX_TOKENS, gather=alone,
    )  # fmt: skip
    return engine, tally.reduce(alone)


def weights(engine):
    return torch.cat([parameter.detach().flatten() for parameter in engine.model.parameters()])


def test_one_update_takes_no_pass_before_it(model_path, groups, monkeypatch):
    engine = engine_of(model_path)
    monkeypatch.setattr(engine, "scores", lambda batches: pytest.fail("a pass too many"))
    run(model_path, groups, engine=engine)
    assert engine.step == 1


def test_the_first_of_several_updates_is_the_update_alone(model_path, groups):
    """The old log-probabilities of a pass are those of the update's own pass, so the gradient is the same."""
    engine, row = run(model_path, groups)
    again = engine_of(model_path)
    rows, rewards = trajectories(groups)
    rows = with_scores(rows, again, GRPO(), 60, alone)
    items = [item for row in with_advantages(rows, rewards, GRPO(), alone) for item in row]
    batches = build_micro_batches(
        items, "token", tokens_per_micro_batch=60, max_completion_tokens=MAX_TOKENS, gather=alone,
        share_prompts=again.shares_prompts,
    )  # fmt: skip
    second = again.update(batches, GRPO(), is_scored=True).reduce(alone)
    assert second["optim/grad_norm"] == pytest.approx(row["optim/grad_norm"], rel=1e-5)
    assert torch.allclose(weights(engine), weights(again), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mismatch", ["none", "token_truncate"])
def test_groups_that_an_earlier_policy_sampled_have_their_distance_in_the_mismatch(model_path, groups, mismatch):
    """collect.reuse: the ratio begins at 1 all the same, whether the old log-probabilities come from the update's own
    pass or from one before it, and both give the same update."""
    sampler, _ = run(model_path, groups)
    stale = []
    for row, group in zip(with_scores(trajectories(groups)[0], sampler, GRPO(), 60, alone), groups, strict=True):
        of = {id(item.completion_ids): item.scores.old_logprobs.tolist() for item in row}
        done = tuple(replace(one, logprobs=of.get(id(one.token_ids), one.logprobs)) for one in group.group.completions)
        stale.append(replace(group, group=replace(group.group, completions=done)))
    algorithm, found = GRPO(mismatch=mismatch), []
    for is_scored in (False, True):
        engine = engine_of(model_path)
        for _ in range(3):  # the policy moves on
            run(model_path, groups, engine=engine)
        rows, rewards = trajectories(stale)
        if is_scored:
            rows = with_scores(rows, engine, algorithm, 60, alone)
        items = [item for row in with_advantages(rows, rewards, algorithm, alone) for item in row]
        batches = build_micro_batches(
            items, "token", tokens_per_micro_batch=60, max_completion_tokens=MAX_TOKENS, gather=alone,
            share_prompts=engine.shares_prompts,
        )  # fmt: skip
        found.append((engine.update(batches, algorithm, is_scored=is_scored).reduce(alone), weights(engine)))
    (own, own_weights), (before, before_weights) = found
    for row in (own, before):
        assert row["policy/clip_high_fraction"] == row["policy/clip_low_fraction"] == 0
        assert row["mismatch/kl_rollout"] > 1e-6
    assert own["mismatch/kl_rollout"] == pytest.approx(before["mismatch/kl_rollout"], rel=1e-3)
    assert own["optim/grad_norm"] == pytest.approx(before["optim/grad_norm"], rel=1e-5)
    assert torch.allclose(own_weights, before_weights, rtol=0, atol=1e-6)


def test_old_log_probabilities_are_those_before_the_first_update(model_path, groups):
    """Four epochs at a large rate: ratios leave the clip range, which they cannot where old is always current."""
    _, once = run(model_path, groups)
    _, often = run(model_path, groups, engine=engine_of(model_path, eps=1e-8), epochs=4)
    assert once["policy/clip_high_fraction"] == once["policy/clip_low_fraction"] == 0
    assert often["policy/clip_high_fraction"] > 0
    assert often["policy/clip_low_fraction"] > 0


def test_two_mini_batches_are_two_updates_on_halves_of_the_groups(model_path, groups):
    together, _ = run(model_path, groups, mini_batches=2)
    one_by_one = engine_of(model_path)
    for half in (groups[:2], groups[2:]):
        run(model_path, half, engine=one_by_one)
    assert together.step == one_by_one.step == 2
    start = weights(engine_of(model_path))
    moved, apart = (weights(one_by_one) - start).norm(), (weights(one_by_one) - weights(together)).norm()
    assert apart < 0.05 * moved  # not equal: the second half's ratios are near 1 only, and its old is before both


@pytest.mark.parametrize(("size", "parts"), [(5, 2), (8, 3), (4, 4), (3, 4)])
def test_mini_batches_share_all_groups_and_cut_none(size, parts):
    rows = [[index] for index in range(size)]
    found = [cut(rows, parts, number) for number in range(parts)]
    assert [row for part in found for row in part] == rows
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_reference_is_run_once_for_all_updates(model_path, groups, monkeypatch):
    engine, calls = engine_of(model_path, reference=True), []
    run_reference = engine.reference_logprobs
    monkeypatch.setattr(engine, "reference_logprobs", lambda batches: calls.append(1) or run_reference(batches))
    _, row = run(model_path, groups, algorithm=GRPO(beta=0.1), engine=engine, epochs=3, mini_batches=2)
    assert len(calls) == 1
    assert engine.step == 6
    assert row["policy/kl_ref"] > 0


def test_the_scores_of_a_pass_come_back_to_their_own_completions(model_path, groups):
    engine = engine_of(model_path)
    rows, _ = trajectories(groups)
    together = with_scores(rows, engine, GRPO(), 60, alone)
    for row in rows:
        for item in row:
            (alone_,) = with_scores([[item]], engine, GRPO(), 10_000, alone)[0]
            (found,) = [
                other for several in together for other in several if other.completion_ids is item.completion_ids
            ]
            assert torch.allclose(found.scores.old_logprobs, alone_.scores.old_logprobs, atol=1e-5)
            assert torch.allclose(found.scores.entropy, alone_.scores.entropy, atol=1e-5)
            assert found.scores.rollout_logprobs.tolist() == [-4.0] * len(item.completion_ids)


def test_an_algorithm_that_chooses_tokens_trains_on_those_alone(model_path, groups):
    _, row = run(model_path, groups, algorithm=TopEntropy(fraction=0.25))
    assert row["policy/selected_fraction"] == pytest.approx(0.25, abs=0.02)


def test_a_kl_in_the_reward_costs_a_pass_and_moves_the_weights(model_path, groups):
    engine = engine_of(model_path, reference=True)
    run(model_path, groups, algorithm=ReinforcePlusPlus(beta=0.1), engine=engine)
    first = weights(engine)
    _, row = run(model_path, groups, algorithm=ReinforcePlusPlus(beta=0.1), engine=engine)
    assert engine.step == 2
    assert not torch.equal(first, weights(engine))
    assert row["policy/kl_ref"] > 0


def test_an_entropy_bonus_raises_the_entropy_of_answers_without_an_advantage(model_path, groups):
    equal = [ScoredGroup(one.group, (1.0,) * 4, {"right": (1.0,) * 4}) for one in groups]
    engine, algorithm = engine_of(model_path), GRPO(entropy_coef=1.0)
    rows = [run(model_path, equal, algorithm, engine, skip_without_advantage=True)[1] for _ in range(3)]
    entropies = [row["policy/entropy"] for row in rows]
    assert entropies == sorted(entropies)
    assert entropies[2] > entropies[0] + 1e-4
    assert rows[0]["policy/loss"] == pytest.approx(-entropies[0], rel=1e-5)
    assert rows[0]["policy/entropy_coef"] == 1


CONTROLLED = GRPO(entropy_target=100.0, entropy_coef=0.1, entropy_delta=0.25, entropy_coef_max=0.5)


def test_each_update_moves_the_weight_of_the_bonus_and_the_next_one_applies_it(model_path, groups):
    engine, row = run(model_path, groups, CONTROLLED)
    assert row["policy/entropy_coef"] == 0  # nothing was known
    assert engine.entropy_control == EntropyControl(0.35, row["policy/entropy"])
    _, row = run(model_path, groups, CONTROLLED, engine)
    assert row["policy/entropy_coef"] == 0.35
    plain, without = run(model_path, groups)
    assert "policy/entropy_coef" not in without
    assert plain.entropy_control is None
    run(model_path, groups, engine=plain)
    assert not torch.equal(weights(engine), weights(plain))  # the bonus was in the second update
    several, _ = run(model_path, groups, CONTROLLED, epochs=2, mini_batches=2)
    assert several.step == 4
    assert several.entropy_control.coef == 0.5


def test_above_its_target_a_controlled_bonus_is_no_bonus_to_the_last_bit(model_path, groups):
    engine, plain = engine_of(model_path), engine_of(model_path)
    for _ in range(2):
        run(model_path, groups, GRPO(entropy_target=1e-3, entropy_coef=5e-3), engine)
        run(model_path, groups, GRPO(), plain)
    assert engine.entropy_control.coef == pytest.approx(0.0048)
    assert torch.equal(weights(engine), weights(plain))


def test_a_batch_without_a_token_leaves_the_weight_of_the_bonus_where_it_is(model_path, groups):
    engine, _ = run(model_path, groups, CONTROLLED)
    before = engine.entropy_control
    empty = [ScoredGroup(one.group, (math.nan,) * 4, {"right": (math.nan,) * 4}) for one in groups]
    run(model_path, empty, CONTROLLED, engine)
    assert engine.entropy_control == before


def test_the_weight_of_the_bonus_is_in_the_checkpoint(model_path, groups, tmp_path):
    engine, _ = run(model_path, groups, CONTROLLED)
    engine.save(tmp_path)
    again = engine_of(model_path)
    again.load(tmp_path)
    assert again.entropy_control == engine.entropy_control
    for both in (engine, again):
        run(model_path, groups, CONTROLLED, both)
    assert torch.equal(weights(engine), weights(again))


def test_a_batch_in_which_nothing_has_a_reward_is_an_update_of_nothing(model_path, groups):
    empty = [ScoredGroup(one.group, (math.nan,) * 4, {"right": (math.nan,) * 4}) for one in groups]
    engine = engine_of(model_path)
    before = weights(engine)
    for settings in ({}, {"epochs": 2}):
        run(model_path, empty, engine=engine, **settings)
    assert torch.equal(before, weights(engine))


def test_a_reference_follows_the_policy_when_it_is_told_to(model_path, groups):
    engine, algorithm = engine_of(model_path, reference=True), GRPO(beta=0.1)
    first = [parameter.clone() for parameter in engine._reference_model.parameters()]
    _, row = run(model_path, groups, algorithm=algorithm, engine=engine)
    assert row["policy/kl_ref"] == pytest.approx(0, abs=1e-6)
    engine.refresh_reference(decay=0.75)
    for before, now, own in zip(first, engine._reference_model.parameters(), engine.model.parameters(), strict=True):
        assert torch.allclose(now, 0.75 * before + 0.25 * own, atol=1e-7)
    engine.refresh_reference(decay=0.0)
    _, row = run(model_path, groups, algorithm=algorithm, engine=engine)
    assert row["policy/kl_ref"] == pytest.approx(0, abs=1e-6)


def test_a_reference_that_has_moved_is_in_the_checkpoint(model_path, groups, tmp_path):
    engine, algorithm = engine_of(model_path, reference=True), GRPO(beta=0.1)
    run(model_path, groups, algorithm=algorithm, engine=engine)
    engine.refresh_reference(decay=0.0)
    engine.save(tmp_path)
    again = engine_of(model_path, reference=True)
    again.load(tmp_path)
    for one, other in zip(engine._reference_model.parameters(), again._reference_model.parameters(), strict=True):
        assert torch.equal(one, other)
    for both in (engine, again):
        run(model_path, groups, algorithm=algorithm, engine=both)
    assert torch.equal(weights(engine), weights(again))
