"""Mixtures of experts: evenness by its formulas, the same however a batch is cut, and routing that is replayed."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import build
from test_engine import Result, torchrun
from test_train import torchrun as train
from torch import Tensor, nn
from torch.testing import assert_close
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func
from update_on_ranks import ALGORITHMS, build_engine
from update_on_ranks import trajectories as made

from data.problem import Problem, ask
from launch.models import check_experts, with_lora
from rl.algorithms import Normalization
from rl.algorithms.grpo import GRPO
from rl.algorithms.gspo import GSPO
from rl.batch import MicroBatch, Trajectory, build_micro_batches, micro_batch, trajectory
from rl.config import BatchConfig, LoraConfig, MoEConfig, OptimizerConfig, compose_recipe, typed
from rl.engine import PolicyEngine
from rl.experience import NOT_RECORDED, Completion, Group, Prompt, Routing, SamplingParams, ScoredGroup
from rl.moe import (
    OWN_CHOICE,
    bias_step,
    disagreement,
    expert_counts,
    load_balancing_loss,
    max_load,
    router_entropy,
    sequence_balance_loss,
    unused_fraction,
)
from rl.policy import Policy, is_packed, load_model, load_tokenizer, named_tensors
from rl.record import read_rollouts, write_rollouts
from rl.rollout.hf import HFRollout
from rl.rollout.native import NativeRollout
from rl.routers import FAMILIES, Routers, gate_weights, of_trajectory, recorded, replayable
from rl.tiny import build_tiny_moe
from rl.update import update

CPU = torch.device("cpu")
BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    return {family: build(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def path(request, models) -> str:
    return models[request.param]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trajectories(seed: int = 0) -> list[Trajectory]:
    """Four completions of each of two prompts."""
    source = random.Random(seed)
    items = []
    for _ in range(2):
        prompt = [source.randrange(300) for _ in range(source.randint(3, 9))]
        for _ in range(4):
            answer = [source.randrange(300) for _ in range(source.randint(2, 20))]
            items.append(trajectory(prompt, answer, [-5.0] * len(answer), source.gauss(0, 1)))
    return items


def batches(
    items: Sequence[Trajectory], tokens: int = 10_000, share: bool = True, normalization: Normalization = "sequence"
) -> list[MicroBatch]:
    return build_micro_batches(
        items, normalization, tokens_per_micro_batch=tokens, max_completion_tokens=20, gather=alone, share_prompts=share
    )


def alone(value: object) -> list[object]:
    return [value]


def engine_of(path: str, attention: str | None = None, lr: float = 1e-2, **moe: Any) -> PolicyEngine:
    torch.manual_seed(0)
    model = load_model(path, "float32", attention)
    return PolicyEngine(
        model, engine="ddp", optimizer=OptimizerConfig(lr=lr, warmup_steps=0), steps=10, moe=MoEConfig(**moe)
    )


# ---------------------------------------------------------------------- the formulas


def test_the_load_balancing_loss_is_the_sum_written_out():
    p, experts, mask = draw(6, 2, 4).softmax(-1), draw(6, 2, 4, seed=1).topk(2).indices, draw(6, seed=2) > 0.3
    shares = expert_counts(experts, mask, 4) / mask.sum()
    expected = 0.0
    for layer in range(2):
        for expert in range(4):
            tokens = [t for t in range(6) if mask[t]]
            share = sum(expert in experts[t, layer] for t in tokens) / len(tokens)
            expected += 4 / 2 * share * float(p[tokens, layer, expert].sum()) / len(tokens)
    assert_close(load_balancing_loss(p, mask, shares, int(mask.sum())), torch.tensor(expected, dtype=torch.float64))


def test_even_experts_cost_the_experts_per_token_and_a_collapse_the_number_of_experts():
    even, one = torch.full((8, 1, 4), 0.25), torch.eye(4)[[0] * 8].unsqueeze(1)
    everywhere = torch.ones(8, dtype=torch.bool)
    assert load_balancing_loss(even, everywhere, torch.full((1, 4), 0.5), 8) == 2.0  # 2 of 4 experts a token
    assert load_balancing_loss(one, everywhere, torch.tensor([[1.0, 0, 0, 0]]), 8) == 4.0
    experts, ids = torch.tensor([[[0, 1]], [[2, 3]]]).repeat(4, 1, 1), torch.zeros(8, dtype=torch.int64)
    assert sequence_balance_loss(even, experts, ids, everywhere, 1) == 1.0
    assert sequence_balance_loss(one, experts * 0 + torch.tensor([0, 1]), ids, everywhere, 1) == 2.0


@pytest.mark.parametrize("padded", [False, True])
def test_it_is_transformers_own_loss_layer_by_layer(padded):
    logits = [torch.randn(2 * 5, 6, generator=torch.Generator().manual_seed(layer)) for layer in range(3)]
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0] if padded else [1] * 5])
    theirs = torch.stack([load_balancing_loss_func((one,), 6, 2, mask) for one in logits]).mean()
    p, real = torch.stack(logits, dim=1).softmax(-1), mask.flatten().bool()
    shares = expert_counts(p.topk(2).indices, real, 6) / real.sum()
    assert_close(load_balancing_loss(p, real, shares, int(real.sum())), theirs)


def test_the_sequence_wise_loss_is_the_sum_written_out():
    p, experts = draw(9, 2, 4).softmax(-1), draw(9, 2, 4, seed=1).topk(2).indices
    ids, mask = torch.tensor([0, 0, 0, 2, 2, 2, 2, 3, 3]), torch.tensor([0, 1, 1, 0, 1, 1, 1, 1, 1]).bool()
    expected = 0.0
    for sequence in (0, 2, 3):
        tokens = [t for t in range(9) if mask[t] and ids[t] == sequence]
        for layer in range(2):
            for expert in range(4):
                share = 4 / (2 * len(tokens)) * sum(expert in experts[t, layer] for t in tokens)
                expected += share * float(p[tokens, layer, expert].mean()) / 2 / 3
    found = sequence_balance_loss(p, experts, ids, mask, 3)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_load_bias_entropy_and_disagreement_in_numbers():
    counts = torch.tensor([[6, 2, 0, 0], [2, 2, 2, 2]])
    assert max_load(counts) == (3 + 1) / 2
    assert unused_fraction(counts) == 2 / 8
    nothing = torch.zeros_like(counts)  # a batch without a trained token says nothing of the experts
    assert math.isnan(max_load(nothing))
    assert math.isnan(unused_fraction(nothing))
    # The mean is 2: the busy expert is made less attractive, the idle ones more, those at the mean are left alone.
    assert_close(bias_step(counts, 0.1), torch.tensor([[-0.1, 0, 0.1, 0.1], [0, 0, 0, 0]], dtype=torch.float64))
    p = torch.tensor([[[0.5, 0.5, 0, 0], [1, 0, 0, 0]]])
    assert_close(router_entropy(p), torch.tensor([2.0]).log() / 2)
    one, other = torch.tensor([[[0, 1], [2, 3]]]), torch.tensor([[[1, 0], [2, 1]]])
    assert disagreement(one, other) == 0.5  # an order is no difference


# ---------------------------------------------------------------------- one update, however it is cut


BALANCED: dict[str, float] = {"router_aux_coef": 0.1, "sequence_aux_coef": 0.1}
METRICS = ("moe/max_load", "moe/unused_fraction", "moe/router_entropy", "moe/aux_loss", "moe/sequence_aux_loss")


@pytest.mark.parametrize("attention", [None, "sdpa"])  # ours without padding; rows with padding that routers see
@pytest.mark.parametrize(("tokens", "share"), [(10_000, True), (50, True), (50, False)])
def test_balance_does_not_depend_on_packing_padding_or_micro_batches(path, attention, tokens, share):
    found = []
    for kind, size, shared in ((None, 10_000, False), (attention, tokens, share and attention is None)):
        engine = engine_of(path, kind, **BALANCED)
        cut = batches(trajectories(), size, shared)
        assert (len(cut) > 1) == (size < 10_000)
        metrics = engine.update(cut, GRPO()).reduce(alone)
        gradient = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
        found.append((metrics, gradient))
    assert is_packed(engine.model) == (attention is None)
    for name in METRICS:
        assert found[0][0][name] == pytest.approx(found[1][0][name], rel=1e-5), name
    assert found[0][0]["optim/grad_norm"] == pytest.approx(found[1][0]["optim/grad_norm"], rel=1e-4)


def test_a_coefficient_evens_what_is_uneven_and_without_one_nothing_is_added(path):
    items = [replace(item, advantages=item.advantages * 0) for item in trajectories()]  # the rewards say nothing
    for moe in ({}, {"router_aux_coef": 1.0}, {"sequence_aux_coef": 1.0}):
        engine = engine_of(path, lr=3e-3, **moe)
        rows = [engine.update(batches(items), GRPO()).reduce(alone) for _ in range(8)]
        if not moe:
            assert rows[0]["optim/grad_norm"] == 0
            assert "moe/aux_loss" not in rows[0]
            continue
        (name,) = [name for name in rows[0] if name.endswith("aux_loss")]
        assert rows[-1][name] < rows[0][name] - 0.02


def test_a_bias_evens_the_load_and_goes_where_the_weights_go(models, tmp_path):
    engine = engine_of(models["deepseek_v3"], lr=1e-9, bias_speed=0.02)
    before = engine.model.get_buffer(BIAS).clone()
    rows = [engine.update(batches(trajectories()), GRPO()).reduce(alone) for _ in range(20)]
    assert rows[-1]["moe/max_load"] < rows[0]["moe/max_load"] - 0.2
    moved = engine.model.get_buffer(BIAS) - before
    assert moved.abs().max() > 0.05
    assert_close((moved / 0.02).round(), moved / 0.02, rtol=0, atol=1e-3)  # whole steps

    tokenizer = load_tokenizer(str(build_tiny_moe(tmp_path / "tokenizer", hidden=32, heads=2, layers=1)))
    sampler = HFRollout(models["deepseek_v3"], tokenizer, "float32", CPU)
    with pytest.raises(ValueError, match=rf"no new weights came for 1 parameters, {BIAS}"):
        sampler.load_weights(engine.model.named_parameters(), policy_step=1)
    sampler.load_weights(engine.weights(), policy_step=1)
    engine.save_model(tmp_path / "saved", tokenizer)
    engine.save(tmp_path / "state")
    resumed = engine_of(models["deepseek_v3"])
    resumed.load(tmp_path / "state")
    for model in (sampler.model, load_model(str(tmp_path / "saved"), "float32"), resumed.model):
        assert torch.equal(model.get_buffer(BIAS), engine.model.get_buffer(BIAS))


def test_balance_wants_the_completions_that_teach_nothing_too(models):
    engine = engine_of(models["qwen3_moe"], router_aux_coef=0.1)
    groups = [scored(group_of([1, 2, 3], [[4, 5], [6, 7]]), rewards=(1.0, 1.0))]
    settings = BatchConfig(skip_without_advantage=True)
    metrics = update(groups, engine, GRPO(), settings, max_completion_tokens=4, gather=alone).reduce(alone)
    assert metrics["moe/aux_loss"] > 1.0


def group_of(prompt: list[int], answers: list[list[int]]) -> Group:
    made = tuple(Completion("a", answer, [-5.0] * len(answer), "stop", 0) for answer in answers)
    return Group(Prompt(Problem("p", ask("q"), "", "x"), 0, "q", tuple(prompt)), made)


def scored(group: Group, rewards: tuple[float, ...]) -> ScoredGroup:
    return ScoredGroup(group, rewards, {"reward": rewards})


# ---------------------------------------------------------------------- on ranks


@pytest.fixture(scope="module")
def on_two_ranks(models, tmp_path_factory) -> dict[str, Result]:
    directory = tmp_path_factory.mktemp("ranks")
    state = str(directory / "state")
    deepseek = {"model": models["deepseek_v3"], "engine": "zero2", "moe": BALANCED | {"bias_speed": 0.01}, "tokens": 60}
    return torchrun(
        2, directory, Path(models["qwen3_moe"]),
        {
            "qwen3_moe": {"engine": "ddp", "moe": BALANCED, "tokens": 60, "algorithm": "gspo"},
            "deepseek_v3": deepseek,
            "first_half": deepseek | {"steps": 2, "save": state},
            "second_half": deepseek | {"load": state},
            "zero3": deepseek | {"engine": "zero3"},
        },
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "family"), [("qwen3_moe", "qwen3_moe"), *[(n, "deepseek_v3") for n in ("deepseek_v3", "zero3")]]
)
def test_two_ranks_see_the_load_and_take_the_step_of_one(on_two_ranks, models, name, family):
    moe = BALANCED | ({"bias_speed": 0.01} if family == "deepseek_v3" else {})
    kind = "gspo" if family == "qwen3_moe" else "grpo"
    algorithm, engine = (
        ALGORITHMS[kind],
        build_engine({"model": models[family], "engine": "ddp", "algorithm": kind, "moe": moe}),
    )
    for step, theirs in enumerate(on_two_ranks[name].rows):
        cut = batches(made(step), normalization=algorithm.normalization)
        own = engine.update(cut, algorithm).reduce(alone)
        for metric in (*METRICS, "policy/loss", "optim/grad_norm"):
            assert theirs[metric] == pytest.approx(own[metric], rel=1e-4, abs=1e-6), (step, metric)
    for weight, tensor in engine.weights():
        assert_close(on_two_ranks[name].weights[weight], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_bias_is_resumed_under_deepspeed(on_two_ranks):
    whole, half = on_two_ranks["deepseek_v3"].weights, on_two_ranks["second_half"].weights
    assert torch.equal(whole[BIAS], half[BIAS])
    assert all(torch.equal(whole[name], half[name]) for name in whole)


# ---------------------------------------------------------------------- routing replay


def chosen(policy: Policy, batch: MicroBatch) -> Tensor:
    policy(batch)
    return policy.routers.routes().experts


def shaken(model: nn.Module, scale: float = 0.3) -> nn.Module:
    """Its routers choose otherwise."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for router in Routers(model).modules:
            router.weight.add_(scale * torch.randn(router.weight.shape, generator=generator))
    return model


def test_the_weights_of_a_routers_own_choice_are_its_own(path):
    model = load_model(path, "float32")
    hidden = torch.randn(7, 32)
    for router in Routers(model).modules:
        logits, weights, experts = router(hidden)
        assert torch.equal(gate_weights(router, logits, experts), weights)


def test_told_experts_are_weighed_by_the_families_formula(path):
    model, hidden = load_model(path, "float32"), torch.randn(7, 32)
    routers = Routers(model)
    top_k, is_qwen = routers.modules[0].top_k, "qwen3" in path
    told = torch.stack([torch.randperm(routers.num_experts)[:top_k] for _ in range(7 * len(routers))])
    told = told.view(7, len(routers), top_k)
    routers.watch(told.short())
    for layer, router in enumerate(routers.modules):
        logits, weights, experts = router(hidden)
        assert torch.equal(experts, told[:, layer])
        assert_close(logits, hidden @ router.weight.T)
        for t in range(7):
            scores = logits[t].exp() if is_qwen else 1 / (1 + (-logits[t]).exp())
            taken = scores[told[t, layer]]
            whole = taken if router.norm_topk_prob else scores if is_qwen else torch.ones(1)
            assert_close(weights[t], taken / whole.sum() * (1.0 if is_qwen else 2.5))


@pytest.mark.parametrize("attention", [None, "sdpa"])
def test_replayed_experts_are_taken_and_weighed_by_the_current_router(path, attention):
    batch = micro_batch(trajectories(), [1.0] * 8)
    policy, other = Policy(load_model(path, "float32", attention), 1.0), Policy(load_model(path, "float32"), 1.0)
    free, told = chosen(policy, batch), chosen(other, batch)
    assert torch.equal(free.sort(-1).values, told.sort(-1).values)  # padding is routed apart
    told = chosen(Policy(shaken(load_model(path, "float32")), 1.0), batch)
    assert 0.1 < float(disagreement(free, told).mean()) < 0.9
    told_batch = replace(batch, experts=told.short())
    logprobs = policy(told_batch)[0]
    routes = policy.routers.routes()
    assert torch.equal(routes.experts, told)
    assert not torch.equal(logprobs, policy(batch)[0])

    # Left to themselves in one row, the routers choose there as they would.
    half = told.short().index_fill(0, torch.arange(len(told) // 2), OWN_CHOICE)
    policy(replace(batch, experts=half))
    routes = policy.routers.routes()
    assert torch.equal(routes.experts[: len(told) // 2], routes.own[: len(told) // 2])
    assert torch.equal(routes.experts[len(told) // 2 :], told[len(told) // 2 :])


def test_replaying_ones_own_choice_changes_no_bit(path):
    batch = micro_batch(trajectories(), [1.0] * 8, share_prompts=True)
    policy = Policy(load_model(path, "float32"), 1.0)
    logprobs = policy(batch)[0]
    assert torch.equal(policy(replace(batch, experts=policy.routers.routes().experts.short()))[0], logprobs)


def test_the_gradient_reaches_the_router_through_replayed_experts_also_where_layers_run_twice(path):
    batch = micro_batch(trajectories(), [1.0] * 8, share_prompts=True)
    told = chosen(Policy(shaken(load_model(path, "float32")), 1.0), batch).short()
    plain = load_model(path, "float32")
    Policy(plain, 1.0)(replace(batch, experts=told), lambda logprobs, index, _: logprobs.sin().sum())[2].backward()
    assert float(plain.model.layers[1].mlp.gate.weight.grad.abs().max()) > 1e-3
    grads = []
    for checkpointing in (False, True):
        model = load_model(path, "float32")
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy = Policy(model, 1.0).train()
        loss = policy(replace(batch, experts=told), lambda logprobs, index, _: logprobs.sin().sum())[2]
        routes = policy.routers.routes()
        everywhere = torch.ones(len(told), dtype=torch.bool)
        counts = expert_counts(routes.experts, everywhere, policy.routers.num_experts)
        loss = loss + load_balancing_loss(routes.probabilities, everywhere, counts / len(told), len(told))
        loss.backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, grad in grads[0].items():
        assert_close(grads[1][name], grad, rtol=1e-5, atol=1e-6, msg=name)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, str]:
    """With a tokenizer, and rows that depend on what came before."""
    made = {}
    for family in FAMILIES:
        directory = tmp_path_factory.mktemp(f"tiny_{family}")
        shape = {"hidden": 64, "layers": 3, "heads": 2, "kv_heads": 1, "intermediate": 32, "seed": 1}
        made[family] = str(build_tiny_moe(directory, family=family, **shape))
    return made


def sampled(engine: Any, completions: int = 4, max_tokens: int = 24) -> list[Group]:
    texts = ["What is 1+2?", "Why?", "What is 9+8-7+6-5+4, and what is it twice?"]
    prompts = [
        Prompt(Problem(text, ask(text), "", "x"), i, text, tuple(engine.tokenizer(text)["input_ids"]))
        for i, text in enumerate(texts)
    ]
    return engine.generate(prompts, SamplingParams(completions=completions, max_tokens=max_tokens), seed=3)


@pytest.mark.parametrize(
    ("engine", "family"),
    [(HFRollout, "qwen3_moe"), (HFRollout, "deepseek_v3"), (NativeRollout, "qwen3_moe")],
)
@pytest.mark.parametrize("max_rows", [256, 5])
def test_a_sampler_tells_the_experts_that_the_trainer_would_choose(engine, family, max_rows, tiny):
    """Same weights, float32: its routing of prompts and completions, token by token, is that of the packed pass."""
    tokenizer = load_tokenizer(tiny[family])
    sampler = engine(tiny[family], tokenizer, "float32", CPU, max_rows=max_rows, record_routing=True)
    groups = sampled(sampler)
    policy = Policy(load_model(tiny[family], "float32"), 1.0)
    for group in groups:
        items = [trajectory(group.prompt.token_ids, c.token_ids, c.logprobs, 1.0) for c in group.completions]
        batch = micro_batch(items, [1.0] * len(items), share_prompts=True)
        own = batch.whole_trajectories(chosen(policy, batch).short())
        for completion, theirs in zip(group.completions, own, strict=True):
            told = of_trajectory(group, completion)
            assert told.shape == theirs.shape
            assert (told[-1] == OWN_CHOICE).all()
            assert torch.equal(told[:-1].sort(-1).values, theirs[:-1].sort(-1).values)
    silent = sampled(engine(tiny[family], tokenizer, "float32", CPU))
    assert {one.routing for group in silent for one in group.completions} == {NOT_RECORDED}
    assert [c.token_ids for g in silent for c in g.completions] == [c.token_ids for g in groups for c in g.completions]


def test_a_routing_is_kept_in_a_byte_an_expert_and_recorded_with_the_rollout(tmp_path):
    experts = torch.tensor([[[0, 255], [7, 3]], [[1, 2], [3, 4]]])
    routing = recorded(experts, 256)
    assert (routing.tokens, routing.layers, routing.top_k, len(routing.data)) == (2, 2, 2, 8)
    assert torch.equal(replayable(routing).long(), experts)
    wide = recorded(experts + 300, 1000)
    assert len(wide.data) == 16
    assert torch.equal(replayable(wide).long(), experts + 300)

    one = Completion("a", [1, 2, 3], [-1.0] * 3, "stop", 0, routing)
    plain = group_of([5, 6], [[1, 2]])
    group = Group(plain.prompt, (one,), wide)
    groups = [scored(group, (1.0,)), scored(plain, (0.0,))]
    write_rollouts(tmp_path / "0.jsonl", groups)
    assert read_rollouts(tmp_path / "0.jsonl") == groups
    assert "routing" not in json.loads((tmp_path / "0.jsonl").read_text().splitlines()[1])


def test_a_routing_of_other_tokens_than_the_completions_is_refused():
    with pytest.raises(ValueError, match=r"the routing of 2 tokens in 2 layers with 2 experts each needs 8 bytes"):
        Routing(2, 2, 2, b"123")
    two = Routing(2, 1, 1, b"12")
    with pytest.raises(
        ValueError, match=r"a completion of 2 tokens needs the routing of all but the last, got that of 2"
    ):
        Completion("a", [1, 2], [-1.0] * 2, "stop", 0, two)
    plain = group_of([5, 6, 7], [[1, 2]])
    with pytest.raises(ValueError, match=r"a prompt of 3 tokens needs the routing of each, got that of 2"):
        Group(plain.prompt, plain.completions, two)
    with pytest.raises(
        ValueError, match=r"problem p: model\.moe\.routing_replay=rollout needs the experts that the sampler"
    ):
        of_trajectory(plain, plain.completions[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("off", ["bfloat16", "weights"])
def test_replay_of_the_samplers_routing_takes_away_most_of_the_mismatch(family, off, tiny):
    """A sampler in bfloat16, or one whose routers are a little off, against a float32 trainer."""
    tokenizer = load_tokenizer(tiny[family])
    dtype = "bfloat16" if off == "bfloat16" else "float32"
    sampler = HFRollout(tiny[family], tokenizer, dtype, CPU, record_routing=True)
    if off == "weights":
        shaken(sampler.model, scale=0.02)
    groups = [scored(group, (1.0, 0.0) * 8) for group in sampled(sampler, completions=16)]
    found = {}
    for replay in ("none", "rollout"):
        engine = engine_of(tiny[family], lr=1e-9, routing_replay=replay)
        tally = update(groups, engine, GRPO(), BatchConfig(epochs=2), max_completion_tokens=24, gather=alone)
        found[replay] = tally.reduce(alone)
    assert 0.005 < found["rollout"]["moe/routing_disagreement"] < 0.5
    assert found["rollout"]["mismatch/kl_rollout"] < 0.5 * found["none"]["mismatch/kl_rollout"]


@pytest.mark.parametrize("algorithm", [GRPO(), GSPO()])
def test_the_old_routing_is_replayed_in_every_update_of_the_batch(path, algorithm):
    """Weights move between two updates, and tokens with them to other experts; told, they stay."""
    source = random.Random(1)
    answers = [[source.randrange(300) for _ in range(12)] for _ in range(6)]
    groups = [scored(group_of([1, 2, 3, 4], answers), (1.0, 0.0) * 3)]
    for replay in ("none", "old"):
        engine = engine_of(path, lr=0.02, routing_replay=replay)
        passes = []
        plain = engine._loss

        def watched(batch: MicroBatch, *rest: Any, plain: Any = plain, passes: Any = passes) -> Tensor:
            loss = plain(batch, *rest)
            passes.append(batch)
            return loss

        engine._loss = watched  # type: ignore[method-assign]
        settings = BatchConfig(epochs=4, tokens_per_micro_batch=10_000)
        metrics = update(groups, engine, algorithm, settings, max_completion_tokens=12, gather=alone).reduce(alone)
        assert len(passes) == 4
        if replay == "none":
            assert passes[0].experts is None
            assert "moe/routing_disagreement" not in metrics
        else:
            assert all(torch.equal(batch.experts, passes[0].experts) for batch in passes)
            assert torch.equal(chosen(Policy(load_model(path, "float32"), 1.0), passes[0]).short(), passes[0].experts)
            assert metrics["moe/routing_disagreement"] > 0.02


@pytest.mark.parametrize(("family", "query"), [("qwen3_moe", "q_proj"), ("deepseek_v3", "q_a_proj")])
def test_lora_on_modules_by_name_is_merged_for_the_sampler(family, query, models):
    path = models[family]
    plain = dict(named_tensors(load_model(path, "float32")))
    adapted = with_lora(load_model(path, "float32"), LoraConfig(rank=2, targets=f"o_proj,{query}"))
    engine = PolicyEngine(adapted, engine="ddp", optimizer=OptimizerConfig(), steps=1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.1)
    merged = {name: tensor.clone() for name, tensor in engine.weights()}
    assert merged.keys() == plain.keys()
    changed = {name.split(".")[-2] for name in plain if not torch.equal(merged[name], plain[name])}
    assert changed == {"o_proj", query}


# ---------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=tiny", "model.moe.router_aux_coef=0.01"], r"model\.moe is for mixtures of experts .* is a qwen2"),
        (["model=tiny_qwen3_moe", "model.lora.rank=4"], r"model\.lora\.targets=all-linear: of a qwen3_moe"),
        (["model=tiny_qwen3_moe", "model.moe.bias_speed=0.1"], r"model\.moe\.bias_speed=0\.1 moves a bias"),
        (
            ["model=tiny_qwen3_moe", "model.moe.routing_replay=rollout", "rollout=vllm"],
            r"routing_replay=rollout needs the experts that the sampler chose, which VLLMRollout does not tell",
        ),
    ],
)  # fmt: skip
def test_what_a_model_or_sampler_cannot_do_is_refused(overrides, message, tiny, path, tmp_path):
    from rl.tiny import build_tiny_model

    shape: dict[str, Any] = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1}
    is_dense = overrides[0] == "model=tiny"
    base = build_tiny_model(tmp_path, **shape) if is_dense else build_tiny_moe(tmp_path, **shape)
    config = typed(compose_recipe(["recipe=grpo_tiny", *overrides]))
    with pytest.raises(ValueError, match=message):
        check_experts(config, str(base))


def test_old_routing_without_an_earlier_pass_and_unknown_choices_are_refused():
    moe = ["recipe=grpo_tiny", "model=tiny_qwen3_moe"]
    with pytest.raises(
        ValueError, match=r"model\.moe\.routing_replay=old replays what a pass before the updates chose"
    ):
        typed(compose_recipe([*moe, "model.moe.routing_replay=old"]))
    assert typed(compose_recipe([*moe, "model.moe.routing_replay=old", "batch.epochs=2"])).model.moe.balances is False
    with pytest.raises(ValueError, match=r"model\.moe\.routing_replay must be one of none, old, rollout"):
        typed(compose_recipe([*moe, "model.moe.routing_replay=sampler"]))
    with pytest.raises(ValueError, match=r"model\.moe\.router_aux_coef must be 0 or more"):
        typed(compose_recipe([*moe, "model.moe.router_aux_coef=-1"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "ranks", "overrides"),
    [
        ("qwen3_moe", 1, ["algorithm=gspo", "model.moe.routing_replay=rollout", "model.moe.router_aux_coef=0.001"]),
        ("qwen3_moe", 1, ["algorithm=grpo", "model.moe.routing_replay=old", "batch.epochs=2"]),
        ("deepseek_v3", 1, ["algorithm=gspo", "model.moe.routing_replay=rollout"]),
        ("deepseek_v3", 2, ["algorithm=grpo", "engine=zero2", "model.moe.bias_speed=0.001"]),
    ],
)
def test_a_recipe_trains_a_tiny_mixture(family, ranks, overrides, tmp_path):
    small = ["+model.build.hidden=32", "+model.build.heads=2", "+model.build.kv_heads=1", "+model.build.layers=2"]
    small += ["steps=3", "cold_start.steps=3", "batch.prompts=4", "sampling.completions=4", "sampling.max_tokens=12"]
    small += ["eval.data.arithmetic.size=4", "eval.every=0", "optimizer.lr=1e-3", "+rewards.odd.fn=mine.py:odd"]
    (tmp_path / "mine.py").write_text(
        "def odd(problem, completion):\n    return float(sum(completion.token_ids) % 2)\n"
    )
    result = train(
        "recipe=grpo_tiny", f"model=tiny_{family}", "run.dir=run", *small, *overrides,
        ranks=ranks, cwd=tmp_path, cache=tmp_path / "cache",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "policy/loss" in row]
    assert len(rows) == 3
    assert all(1 <= row["moe/max_load"] <= 4 and row["optim/grad_norm"] > 0 for row in rows)
    assert all(row["mismatch/kl_rollout"] < 1e-6 for row in rows if "batch.epochs=2" not in overrides)
    if "model.moe.routing_replay=rollout" in overrides:
        assert all(row["moe/routing_disagreement"] < 0.01 for row in rows)
        first = json.loads((tmp_path / "run" / "rollouts" / "000000.jsonl").read_text().splitlines()[0])
        assert first["prompt_routing"]["tokens"] == len(first["prompt_token_ids"])
