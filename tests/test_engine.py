"""PolicyEngine: the same update on one rank and on two, under every engine, however the batch is cut."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer
from update_on_ranks import ALGORITHMS, LONGEST, PROBE, build_engine, trajectories

from rl.batch import Trajectory, build_micro_batches, trajectory
from rl.config import OptimizerConfig
from rl.distributed import FailedTogether
from rl.engine import PolicyEngine
from rl.policy import load_model, token_logprobs
from rl.rollout.hf import HFRollout
from rl.tiny import build_tiny_model, build_tokenizer

ENGINES = ["ddp", "zero1", "zero2", "zero3", "zero3_offload"]
REFRESHED = ["ddp", "zero2", "zero3"]
EMA = 0.75  # decay of the reference
ALL, SEVEN = 10_000, 40  # tokens a micro-batch: the whole share of a rank at once, or in pieces
LR = 1e-3 / 2  # of the first update


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    return build_tiny_model(directory, hidden=32, layers=2, heads=2, kv_heads=1, intermediate=48)


@pytest.fixture(scope="module")
def wide_model_path(tmp_path_factory) -> Path:
    """Its head and its layers are large enough that ZeRO-3 shards them; those of model_path stay whole."""
    directory = tmp_path_factory.mktemp("wide")
    return build_tiny_model(directory, hidden=512, layers=2, heads=8, kv_heads=4, intermediate=256)


@dataclass
class Result:
    """What update_on_ranks.py wrote down."""

    rows: list[dict[str, float]]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    probed: list[float]  # log-probabilities of PROBE[1:] under these weights
    errors: list[str | None]  # of each rank, where the run was to fail
    references: list[tuple[dict[str, Tensor], dict[str, Tensor]]]  # policy and reference after each refresh


def torchrun(num_ranks: int, directory: Path, model_path: Path, runs: dict[str, dict[str, Any]]) -> dict[str, Result]:
    """Each of the runs, one after another, on that many ranks."""
    common = {"model": str(model_path), "algorithm": "grpo", "tokens": ALL, "steps": 3}
    settings = [common | {"out": str(directory / name)} | run for name, run in runs.items()]
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_ranks}"]
    done = subprocess.run(
        [sys.executable, *command, str(Path(__file__).with_name("update_on_ranks.py")), json.dumps(settings)],
        capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: read(directory / name) for name in runs}


def read(directory: Path) -> Result:
    if (directory / "errors.json").exists():
        return Result([], {}, {}, [], json.loads((directory / "errors.json").read_text()), [])
    rows = json.loads((directory / "rows.json").read_text())
    probed = json.loads((directory / "probed.json").read_text())
    gradients, weights, references = (
        torch.load(directory / f"{name}.pt") for name in ("gradients", "weights", "references")
    )
    return Result(rows, gradients, weights, probed, [], references)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model_path, wide_model_path) -> dict[str, Result]:
    """On one rank; where others are compared with it, each trajectory with a prompt of its own."""
    bf16: dict[str, Any] = {"engine": "zero2", "dtype": "bfloat16", "steps": 1}
    many = bf16 | {"gradients": True, "count": 128, "share": False}
    runs: dict[str, dict[str, Any]] = {
        "ddp": {"engine": "ddp", "gradients": True, "share": False},
        "pieces": {"engine": "ddp", "gradients": True, "tokens": SEVEN},
        "skip": {"engine": "ddp", "gradients": True, "skip": True},
        "kl": {"engine": "ddp", "algorithm": "grpo_kl", "share": False},
        "dr_grpo": {"engine": "ddp", "algorithm": "dr_grpo", "share": False},
        "zero2": {"engine": "zero2", "gradients": True, "tokens": SEVEN},
        "entropy": {"engine": "ddp", "algorithm": "entropy", "gradients": True, "share": False},
        "controlled": {"engine": "ddp", "algorithm": "controlled", "share": False},
        "lora": {"engine": "ddp", "algorithm": "grpo_kl", "lora": True, "share": False},
        "bf16": bf16,
        "bf16_whole": many,
        "bf16_pieces": many | {"tokens": 1},
        "wide": {"engine": "ddp", "model": str(wide_model_path), "gradients": True, "share": False},
        "wide_kl": {"engine": "ddp", "model": str(wide_model_path), "algorithm": "grpo_kl", "share": False},
        "wide_entropy": {"engine": "ddp", "model": str(wide_model_path), "algorithm": "entropy", "gradients": True},
        "wide_refresh": {"engine": "ddp", "model": str(wide_model_path), "algorithm": "grpo_kl", "refresh": EMA},
    }
    return torchrun(1, tmp_path_factory.mktemp("alone"), model_path, runs)


@pytest.fixture(scope="module")
def together(tmp_path_factory, model_path, wide_model_path) -> dict[str, Result]:
    """On two ranks, ZeRO-3 last."""
    directory = tmp_path_factory.mktemp("together")
    runs: dict[str, dict[str, Any]] = {}
    for engine in ENGINES:
        runs[engine] = {"engine": engine, "gradients": True, "tokens": SEVEN}
        runs[f"{engine}_kl"] = {"engine": engine, "algorithm": "grpo_kl"}
        runs[f"{engine}_dr_grpo"] = {"engine": engine, "algorithm": "dr_grpo", "tokens": SEVEN}
        runs[f"{engine}_entropy"] = {"engine": engine, "algorithm": "entropy", "tokens": SEVEN, "gradients": True}
        runs[f"{engine}_controlled"] = {"engine": engine, "algorithm": "controlled", "tokens": SEVEN}
        saved = str(directory / f"{engine}_state")
        runs[f"{engine}_first_half"] = {"engine": engine, "tokens": SEVEN, "steps": 2, "save": saved}
        runs[f"{engine}_second_half"] = {"engine": engine, "tokens": SEVEN, "load": saved, "probe": True}
        runs[f"{engine}_lora"] = {"engine": engine, "algorithm": "grpo_kl", "tokens": SEVEN, "lora": True}
    for engine, other in {"ddp": "zero2", "zero2": "ddp"}.items():
        state = str(directory / f"{other}_state")
        runs[f"{engine}_of_{other}"] = {"engine": engine, "load": state, "fails": True}
    runs["poisoned"] = {"engine": "ddp", "tokens": SEVEN, "poisoned_rank": 1, "fails": True}
    for engine in ENGINES[1:]:
        saved = str(directory / f"{engine}_bf16_state")
        bf16 = {"engine": engine, "dtype": "bfloat16", "tokens": SEVEN}
        runs[f"{engine}_bf16"] = bf16
        runs[f"{engine}_bf16_first"] = bf16 | {"steps": 2, "save": saved}
        runs[f"{engine}_bf16_second"] = bf16 | {"load": saved}
    eight_tokens = {"logits_per_chunk": 8 * len(build_tokenizer()), "model": str(wide_model_path), "sharded": True}
    for engine in SHARDING:
        runs[f"{engine}_wide"] = {"engine": engine, "gradients": True, "gradient_checkpointing": True, **eight_tokens}
        runs[f"{engine}_wide_kl"] = {"engine": engine, "algorithm": "grpo_kl", "tokens": SEVEN, **eight_tokens}
        runs[f"{engine}_wide_entropy"] = {"engine": engine, "algorithm": "entropy", "gradients": True, **eight_tokens}
    for engine in REFRESHED:
        wide = {"engine": engine, "algorithm": "grpo_kl", "model": str(wide_model_path), "tokens": SEVEN}
        wide |= {"sharded": engine in SHARDING}
        saved = str(directory / f"{engine}_refreshed_state")
        runs[f"{engine}_refresh"] = wide | {"refresh": EMA}
        runs[f"{engine}_refresh_first"] = wide | {"refresh": EMA, "steps": 2, "save": saved}
        runs[f"{engine}_refresh_second"] = wide | {"refresh": EMA, "load": saved}
        runs[f"{engine}_replace"] = wide | {"refresh": 0.0, "steps": 2}
    return torchrun(2, directory, model_path, runs)


def assert_same_update(one: Result, other: Result, metrics: tuple[str, ...]) -> None:
    """To float32's rounding: relative 1e-5."""
    assert len(one.rows) == len(other.rows) > 0
    for a, b in zip(one.rows, other.rows, strict=True):
        for name in metrics:
            assert a[name] == pytest.approx(b[name], rel=1e-5, abs=1e-7), name
    assert one.gradients.keys() == other.gradients.keys()
    for name, gradient in one.gradients.items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        assert (gradient - other.gradients[name]).abs().max() < 1e-5 * scale, name
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        # Adam divides a gradient by its own size: rounding shows where the gradient is next to nothing.
        assert (weight - other.weights[name]).abs().max() < 0.01 * LR, name


BF16_ROUNDING = 0.009  # of one pass; summed in bf16 too it is 0.013
SHARDING = ["zero3", "zero3_offload"]
METRICS = ("policy/loss", "optim/grad_norm", "policy/entropy", "mismatch/kl_rollout", "optim/lr")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_in_many_micro_batches_update_as_one_rank_in_one(engine, alone, together):
    assert alone["ddp"].rows[0]["update/micro_batches"] == 1
    assert together[engine].rows[0]["update/micro_batches"] >= 4  # of each rank
    assert_same_update(together[engine], alone["ddp"], METRICS)


@pytest.mark.slow
@pytest.mark.parametrize("engine", SHARDING)
def test_ranks_with_unequally_many_chunks_of_logits_update_as_one_when_the_head_is_sharded(engine, alone, together):
    # Gathering the head is a collective, once a chunk: without padding the ranks meet in different ones.
    assert_same_update(together[f"{engine}_wide"], alone["wide"], METRICS)
    assert_same_update(together[f"{engine}_wide_kl"], alone["wide_kl"], (*METRICS, "policy/kl_ref"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_update_as_one_with_an_entropy_bonus(engine, alone, together):
    assert alone["entropy"].rows[0]["policy/entropy_coef"] == 0.5
    assert_same_update(together[f"{engine}_entropy"], alone["entropy"], METRICS)


@pytest.mark.slow
@pytest.mark.parametrize("engine", SHARDING)
def test_two_ranks_update_as_one_with_an_entropy_bonus_when_the_head_is_sharded(engine, alone, together):
    assert_same_update(together[f"{engine}_wide_entropy"], alone["wide_entropy"], METRICS)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_entropy_of_all_ranks_moves_the_weight_of_the_bonus_on_each(engine, alone, together):
    assert [row["policy/entropy_coef"] for row in together[f"{engine}_controlled"].rows] == [0, 0.75, 1.25]
    assert_same_update(together[f"{engine}_controlled"], alone["controlled"], (*METRICS, "policy/entropy_coef"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", REFRESHED)
def test_a_reference_that_is_replaced_is_the_policy_to_the_last_bit_on_every_rank(engine, together):
    result = together[f"{engine}_replace"]
    for policy, reference in result.references:
        assert policy.keys() == reference.keys()
        assert all(torch.equal(policy[name], reference[name]) for name in policy)
    first, second = (policy for policy, _ in result.references)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert result.rows[1]["policy/kl_ref"] == pytest.approx(0, abs=1e-7)  # and it computes with these weights


@pytest.mark.slow
@pytest.mark.parametrize("engine", REFRESHED)
def test_a_reference_that_follows_is_the_moving_average_of_the_policys_weights(
    engine, alone, together, wide_model_path
):
    result = together[f"{engine}_refresh"]
    start = load_model(str(wide_model_path), "float32").named_parameters()
    slow = {name: parameter.detach().double() for name, parameter in start}
    for policy, reference in result.references:
        for name, weight in policy.items():
            slow[name] = EMA * slow[name] + (1 - EMA) * weight.double()
            assert_close(reference[name].double(), slow[name], rtol=1e-6, atol=1e-7)
    assert result.rows[2]["policy/kl_ref"] > 1e-6
    assert_same_update(result, alone["wide_refresh"], (*METRICS, "policy/kl_ref"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", REFRESHED)
def test_a_run_whose_reference_has_moved_goes_on_from_its_state_to_the_same_bits(engine, together):
    whole, half = together[f"{engine}_refresh"], together[f"{engine}_refresh_second"]
    assert half.rows[0]["policy/kl_ref"] == whole.rows[2]["policy/kl_ref"] > 0
    for ours, theirs in zip(half.references[0], whole.references[2], strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_the_gradient_of_bf16_hardly_depends_on_how_the_batch_is_cut(alone):
    whole, pieces = (
        torch.cat([gradient.flatten() for gradient in alone[name].gradients.values()])
        for name in ("bf16_whole", "bf16_pieces")
    )
    assert alone["bf16_pieces"].rows[0]["update/micro_batches"] == 128
    assert (whole - pieces).norm() < BF16_ROUNDING * whole.norm()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES[1:])
def test_a_state_of_bf16_goes_on_to_the_same_bits(engine, together):
    half, whole = together[f"{engine}_bf16_second"], together[f"{engine}_bf16"]
    assert half.rows[0]["optim/lr"] == whole.rows[2]["optim/lr"]
    assert all(torch.equal(half.weights[name], whole.weights[name]) for name in whole.weights)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_update_as_one_with_a_reference_model(engine, alone, together):
    assert alone["kl"].rows[-1]["policy/kl_ref"] > 0
    assert_same_update(together[f"{engine}_kl"], alone["kl"], (*METRICS, "policy/kl_ref"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_update_as_one_under_dr_grpo(engine, alone, together):
    assert_same_update(together[f"{engine}_dr_grpo"], alone["dr_grpo"], METRICS)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_was_saved_and_loaded_goes_on_to_the_same_bits(engine, together):
    whole, half = together[engine], together[f"{engine}_second_half"]
    assert len(half.rows) == 1
    assert half.rows[0]["optim/lr"] == whole.rows[2]["optim/lr"]
    assert all(torch.equal(half.weights[name], whole.weights[name]) for name in whole.weights)
    assert not torch.equal(
        whole.weights["model.embed_tokens.weight"],
        together[f"{engine}_first_half"].weights["model.embed_tokens.weight"],
    )


def probe_of(path: Path, weights: dict[str, Tensor]) -> list[float]:
    """What transformers gives for PROBE[1:] with these weights."""
    model = load_model(str(path), "float32")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
        logprobs = model(torch.tensor([PROBE])).logits[0].log_softmax(dim=-1)
    return logprobs[:-1].gather(-1, torch.tensor(PROBE[1:]).unsqueeze(-1)).squeeze(-1).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("run", [*ENGINES, *(f"{engine}_lora" for engine in ENGINES), "zero3_wide"])
def test_the_probe_is_what_transformers_gives_with_the_same_weights(run, together, model_path, wide_model_path):
    path = wide_model_path if run.endswith("wide") else model_path
    assert together[run].probed == pytest.approx(probe_of(path, together[run].weights), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_update_lora_adapters_as_one(engine, alone, together):
    assert alone["lora"].rows[-1]["policy/kl_ref"] > 0
    assert_same_update(together[f"{engine}_lora"], alone["lora"], (*METRICS, "policy/kl_ref"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "other"),
    [
        ("ddp", "zero2"),
        ("zero2", "ddp"),
    ],
)
def test_the_state_of_another_engine_is_refused_by_every_rank(engine, other, together):
    for error in together[f"{engine}_of_{other}"].errors:
        assert error is not None
        assert f"{other}_state was saved by engine={other} and cannot be loaded by {engine}" in error


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_on_one_rank_stops_both_before_the_weights_move(together):
    first, second = together["poisoned"].errors
    assert first == second is not None
    assert "rank 1: " in first
    assert re.search("the loss of update 0 is (nan|-?inf); the weights were not changed", first)


@pytest.mark.slow
def test_seven_micro_batches_and_more_update_as_one(alone):
    assert alone["pieces"].rows[0]["update/micro_batches"] >= 7
    assert_same_update(alone["pieces"], alone["ddp"], METRICS)


@pytest.mark.slow
def test_zero2_on_one_rank_updates_as_ddp(alone):
    assert_same_update(alone["zero2"], alone["ddp"], METRICS)


@pytest.mark.slow
def test_leaving_out_trajectories_without_an_advantage_changes_nothing(alone):
    assert_same_update(alone["skip"], alone["ddp"], ("policy/loss", "optim/grad_norm", "optim/lr"))


@pytest.mark.slow
def test_bfloat16_under_zero2_updates_near_float32(alone):
    row, exact = alone["bf16"].rows[0], alone["ddp"].rows[0]
    assert row["optim/grad_norm"] == pytest.approx(exact["optim/grad_norm"], rel=0.05)
    assert row["policy/entropy"] == pytest.approx(exact["policy/entropy"], rel=0.01)
    assert all(tensor.dtype == torch.bfloat16 for tensor in alone["bf16"].weights.values())


# ---------------------------------------------------------------------- in this process, a world of one


@pytest.fixture(autouse=True)
def environment():
    """An engine outside torchrun describes a world of one in os.environ; other tests must not see it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def engine_of(model_path: Path, **settings: Any) -> PolicyEngine:
    return build_engine({"model": str(model_path), "engine": "ddp", "algorithm": "grpo"} | settings)


def micro_batches(items: list[Trajectory], tokens: int = ALL, skip: bool = False) -> list[Any]:
    return build_micro_batches(
        items, "token", tokens_per_micro_batch=tokens, max_completion_tokens=LONGEST, gather=lambda own: [own],
        skip_without_advantage=skip,
    )  # fmt: skip


def train(engine: PolicyEngine, steps: int, algorithm: str = "grpo") -> list[dict[str, float]]:
    rows = []
    for step in range(steps):
        tally = engine.update(micro_batches(trajectories(step)), ALGORITHMS[algorithm])
        rows.append(tally.reduce(lambda own: [own]))
    return rows


def copies(engine: PolicyEngine) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in engine.weights()}


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_probe_is_at_temperature_1_whatever_the_policy_samples_at(temperature, model_path):
    engine = PolicyEngine(
        load_model(str(model_path), "float32"), engine="ddp", optimizer=OptimizerConfig(), steps=1,
        temperature=temperature,
    )  # fmt: skip
    assert engine.probe(PROBE) == pytest.approx(probe_of(model_path, copies(engine)), abs=1e-5)


def test_an_engine_knows_what_it_computes_in(model_path):
    assert engine_of(model_path).dtype == "float32"
    assert engine_of(model_path, autocast=True).dtype == "bfloat16"
    assert engine_of(model_path, dtype="bfloat16").dtype == "bfloat16"


def test_the_loss_of_an_update_is_minus_the_mean_advantage_and_its_metrics_are_the_tokens_means(model_path):
    engine = engine_of(model_path)
    items = trajectories(0)
    batches = micro_batches(items)
    (scores,) = [token_logprobs(load_model(str(model_path), "float32"), batch) for batch in batches]
    mask = batches[0].loss_mask
    row = engine.update(batches, ALGORITHMS["grpo"]).reduce(lambda own: [own])
    num_tokens = sum(len(item.completion_ids) for item in items)
    assert row["policy/loss"] == pytest.approx(
        -sum(float(item.advantages[0]) * len(item.completion_ids) for item in items) / num_tokens, rel=1e-5
    )  # the ratio is 1
    assert row["policy/entropy"] == pytest.approx(float(scores.entropy[mask].mean()), rel=1e-5)
    difference = -5.0 - scores.logprobs[mask].detach()  # k3 with the sampler as the policy that drew them
    assert row["mismatch/kl_rollout"] == pytest.approx(
        (torch.exp(-difference) - 1 + difference).mean().item(), rel=1e-4
    )
    assert row["policy/clip_low_fraction"] == row["policy/clip_high_fraction"] == 0


@pytest.mark.parametrize("skip", [False, True])
def test_a_batch_without_any_advantage_leaves_fresh_weights_as_they_are(model_path, skip):
    engine = engine_of(model_path)
    before = copies(engine)
    items = [trajectory(i.prompt_ids, i.completion_ids, i.rollout_logprobs, 0.0) for i in trajectories(0)]
    row = engine.update(micro_batches(items, skip=skip), ALGORITHMS["grpo"]).reduce(lambda own: [own])
    assert row["policy/loss"] == row["optim/grad_norm"] == 0
    assert engine.step == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in engine.weights())


def test_a_batch_without_any_trajectory_leaves_fresh_weights_as_they_are(model_path):
    engine = engine_of(model_path)
    before = copies(engine)
    row = engine.update(micro_batches([]), ALGORITHMS["grpo"]).reduce(lambda own: [own])
    assert row["optim/grad_norm"] == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in engine.weights())


def test_the_learning_rate_warms_up_and_a_positive_advantage_makes_its_answer_likelier(model_path):
    engine = engine_of(model_path)
    good = [trajectory(i.prompt_ids, i.completion_ids, i.rollout_logprobs, 1.0) for i in trajectories(0)]
    batches = micro_batches(good)
    before = float(engine.logprobs(batches)[0].sum())
    rates = [engine.update(batches, ALGORITHMS["grpo"]).reduce(lambda own: [own])["optim/lr"] for _ in range(3)]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3])
    assert float(engine.logprobs(batches)[0].sum()) > before + 1


def test_a_loss_that_is_not_a_number_stops_before_the_weights_move(model_path):
    engine = engine_of(model_path)
    before = copies(engine)
    items = trajectories(0)
    items[3] = trajectory(items[3].prompt_ids, items[3].completion_ids, items[3].rollout_logprobs, float("inf"))
    with pytest.raises(FailedTogether, match=r"loss of update 0 is (nan|-?inf); the weights were not changed"):
        engine.update(micro_batches(items), ALGORITHMS["grpo"])
    assert all(torch.equal(before[name], tensor) for name, tensor in engine.weights())


@pytest.mark.parametrize(
    ("schedule", "warmup_steps", "rates"),
    [
        ("constant", 0, [8, 8, 8, 8, 8, 8, 8, 8]),
        ("constant", 4, [2, 4, 6, 8, 8, 8, 8, 8]),
        ("linear", 4, [2, 4, 6, 8, 8, 6, 4, 2]),
        ("linear", 0, [8, 7, 6, 5, 4, 3, 2, 1]),
        ("cosine", 2, [4, 8, 8, 4 + 2 * 3**0.5, 6, 4, 2, 4 - 2 * 3**0.5]),  # 4 (1 + cos(60 degrees)) = 6
    ],
)
def test_the_learning_rate_rises_to_its_value_and_falls_to_its_last_step(schedule, warmup_steps, rates):
    optimizer = OptimizerConfig(lr=8, schedule=schedule, warmup_steps=warmup_steps)
    assert [optimizer.lr_at(step, 8) for step in range(8)] == pytest.approx(rates)


def test_ddp_under_autocast_computes_in_bfloat16_and_keeps_float32_weights(model_path):
    engine, exact = engine_of(model_path, autocast=True), engine_of(model_path)
    for row, expected in zip(train(engine, 2), train(exact, 2), strict=True):
        assert row["optim/grad_norm"] == pytest.approx(expected["optim/grad_norm"], rel=0.05)
        assert row["policy/entropy"] == pytest.approx(expected["policy/entropy"], rel=0.01)
        assert row["policy/entropy"] != pytest.approx(expected["policy/entropy"], rel=1e-6)
    assert all(tensor.dtype == torch.float32 for _, tensor in engine.weights())


def test_a_saved_model_is_a_plain_directory_that_transformers_loads(model_path, tmp_path):
    engine = engine_of(model_path)
    train(engine, 1)
    engine.save_model(tmp_path / "model", build_tokenizer())
    saved = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "model").named_parameters())
    given = copies(engine)
    assert saved.keys() == given.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in given.items())
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == build_tokenizer().get_vocab()


# ---------------------------------------------------------------------- LoRA


@pytest.fixture(scope="module")
def base(model_path) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in load_model(str(model_path), "float32").named_parameters()}


def test_lora_weights_are_those_that_peft_merges_and_the_base_is_untouched(model_path, base):
    engine = engine_of(model_path, lora=True)
    train(engine, 2)
    given = copies(engine)
    assert set(given) == set(base)
    for name, parameter in engine.model.named_parameters():
        if ".lora_" not in name:
            plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            assert torch.equal(parameter, base[plain]), name
    merged = dict(engine.model.merge_and_unload().named_parameters())
    changed = {name for name in base if not torch.equal(given[name], base[name])}
    assert {name.split(".")[-2] for name in changed} >= {"q_proj", "v_proj", "o_proj", "up_proj", "down_proj"}
    for name, tensor in given.items():
        assert_close(tensor, merged[name], rtol=1e-6, atol=1e-7)


def test_with_lora_the_reference_is_the_base_the_adapters_switched_off(model_path):
    engine = engine_of(model_path, lora=True, algorithm="grpo_kl")
    batches = micro_batches(trajectories(0), tokens=SEVEN)
    expected = [token_logprobs(load_model(str(model_path), "float32"), batch).logprobs for batch in batches]
    rows = train(engine, 2, "grpo_kl")
    assert rows[0]["policy/kl_ref"] == pytest.approx(0, abs=1e-7)
    assert rows[1]["policy/kl_ref"] > 1e-6
    for ours, plain, now in zip(engine.reference_logprobs(batches), expected, engine.logprobs(batches), strict=True):
        assert_close(ours, plain, rtol=1e-5, atol=1e-5)
        assert (now - plain).abs().max() > 1e-4


def test_lora_weights_load_into_the_rollout_and_into_a_plain_directory(model_path, tmp_path):
    engine = engine_of(model_path, lora=True)
    train(engine, 2)
    tokenizer = build_tokenizer()
    rollout = HFRollout(str(model_path), tokenizer, "float32", torch.device("cpu"))
    rollout.load_weights(engine.weights(), policy_step=2)
    engine.save_model(tmp_path / "model", tokenizer)
    saved = load_model(str(tmp_path / "model"), "float32")
    for name, tensor in engine.weights():
        assert torch.equal(tensor, dict(rollout.model.named_parameters())[name])
        assert torch.equal(tensor, dict(saved.named_parameters())[name])


def test_a_kl_without_a_reference_model_is_refused(model_path):
    engine = engine_of(model_path)
    with pytest.raises(ValueError, match=r"uses a reference model \(algorithm.beta > 0\), but none was loaded"):
        engine.reference_logprobs(micro_batches(trajectories(0)))


def test_a_directory_without_a_state_is_refused(model_path, tmp_path):
    with pytest.raises(ValueError, match=r"holds no state of an engine: there is no engine\.json"):
        engine_of(model_path).load(tmp_path)
