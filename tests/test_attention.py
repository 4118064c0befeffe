"""Packed segments with shared prompts score, and pull on the weights, as each trajectory alone in the plain model."""

from __future__ import annotations

import random

import pytest
import torch
from families import FAMILIES, build
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config

import rl.head as head_module
from rl.attention import PACKED, can_share_prompts, layout, padded_tokens
from rl.batch import MicroBatch, Trajectory, build_micro_batches, by_prompt, micro_batch, padding_fraction, trajectory
from rl.policy import Policy, compile_layers, is_packed, load_model, token_logprobs


@pytest.fixture
def model_path(request, tmp_path) -> str:
    return build(request.param, tmp_path)


def draw_trajectories(groups: int = 3, longest: int = 20, sizes: tuple[int, ...] = (4, 1, 3)) -> list[Trajectory]:
    draw = random.Random(0)
    items = []
    for size in sizes[:groups]:
        prompt = [draw.randrange(300) for _ in range(draw.randint(6, 14))]
        for _ in range(size):
            answer = [draw.randrange(300) for _ in range(draw.randint(1, longest))]
            items.append(trajectory(prompt, answer, [-1.0] * len(answer), draw.gauss(0, 1)))
    return items


def plain_loss(model: nn.Module, items: list[Trajectory], temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The slow way: one trajectory at a time, all logits. -> loss, log-probabilities, entropies."""
    logprobs, entropies = [], []
    for item in items:
        ids = torch.tensor([[*item.prompt_ids, *item.completion_ids]])
        scores = torch.log_softmax(model(input_ids=ids).logits[0] / temperature, dim=-1)
        places = torch.arange(len(item.prompt_ids), ids.shape[1])
        logprobs.append(scores[places - 1, ids[0, places]])
        entropies.append(-(scores[places - 1].exp() * scores[places - 1]).sum(-1))
    pairs = zip(items, logprobs, strict=True)
    loss = torch.stack([sequence_loss(float(item.advantages[0]), own) for item, own in pairs]).sum()
    return loss, torch.cat(logprobs), torch.cat(entropies)


def sequence_loss(advantage: float | Tensor, logprobs: Tensor) -> Tensor:
    """Couples the tokens of a sequence as GSPO does: no token's derivative is known without all of them."""
    return advantage * (logprobs.mean().exp() * logprobs.sin()).sum()


def loss_of(batch: MicroBatch, logprobs: Tensor, index: Tensor) -> Tensor:
    sequences = batch.sequence_ids[index]
    parts = [
        sequence_loss(batch.advantages[index][own][0], logprobs[own])
        for own in (sequences == s for s in sequences.unique())
    ]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("logits_per_chunk", [2000, 300 * 25, 1 << 25])  # less than a sequence, one or two, all
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("model_path", FAMILIES, indirect=True)
def test_scores_and_gradients_are_those_of_each_trajectory_alone(
    model_path, temperature, logits_per_chunk, monkeypatch
):
    monkeypatch.setattr(head_module, "LOGITS_PER_CHUNK", logits_per_chunk)
    items = draw_trajectories()
    plain = load_model(model_path, "float32").train()
    loss, logprobs, entropies = plain_loss(plain, items, temperature)
    loss.backward()

    policy = Policy(load_model(model_path, "float32"), temperature).train()
    assert is_packed(policy.model)
    batch = micro_batch(items, [1.0] * len(items), share_prompts=True)
    assert len(batch.token_ids) == sum(len(item.completion_ids) for item in items) + sum(
        len(item.prompt_ids) for item in (items[0], items[4], items[5])
    )
    ours = policy(batch, lambda values, index, _: loss_of(batch, values, index))
    ours[2].backward()
    order = batch.loss_mask
    torch.testing.assert_close(ours[2], loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[0][order], logprobs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1][order], entropies.detach(), rtol=1e-5, atol=2e-5)
    for (name, mine), (_, other) in zip(policy.model.named_parameters(), plain.named_parameters(), strict=True):
        scale = float(other.grad.abs().max())
        assert scale > 0, name
        assert (mine.grad - other.grad).abs().max() < 2e-5 * scale, name


@pytest.mark.parametrize("model_path", ["qwen3"], indirect=True)
def test_gradient_checkpointing_changes_nothing(model_path):
    grads = []
    for checkpointing in (False, True):
        model = load_model(model_path, "float32")
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy = Policy(model, 1.0).train()
        batch = micro_batch(draw_trajectories(), [1.0] * 8, share_prompts=True)
        policy(batch, lambda values, index, _, own=batch: loss_of(own, values, index))[2].backward()
        grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.equal(*grads)


@pytest.mark.parametrize("model_path", ["llama"], indirect=True)
def test_compiled_layers_give_the_same_gradient(model_path):
    grads = []
    for compiled in (False, True):
        model = load_model(model_path, "float32")
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if compiled:
            compile_layers(model)
        policy = Policy(model, 1.0).train()
        torch._dynamo.utils.counters.clear()
        frames: list[int] = []
        for groups in (3, 2):  # the second has another number of tokens, and is not compiled anew
            model.zero_grad()
            items = draw_trajectories(groups)
            batch = micro_batch(items, [1.0] * len(items), share_prompts=True)
            policy(batch, lambda values, index, _, own=batch: loss_of(own, values, index))[2].backward()
            frames.append(torch._dynamo.utils.counters["frames"]["ok"])
            grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        assert frames[0] == frames[1]
        assert (frames[0] > 0) == compiled
    for plain, ours in zip(grads[:2], grads[2:], strict=True):
        assert (plain - ours).norm() < 1e-5 * plain.norm()


@pytest.mark.parametrize("model_path", ["llama"], indirect=True)
def test_frozen_weights_get_no_gradient_and_scoring_alone_gives_the_same_scores(model_path):
    policy = Policy(load_model(model_path, "float32"), 1.0)
    policy.model.lm_head.weight.requires_grad_(False)
    batch = micro_batch(draw_trajectories(), [1.0] * 8, share_prompts=True)
    logprobs, entropy, loss = policy(batch, lambda values, index, _: loss_of(batch, values, index))
    loss.backward()
    assert policy.model.lm_head.weight.grad is None
    assert policy.model.model.embed_tokens.weight.grad is not None
    with torch.no_grad():
        scores = token_logprobs(policy.model, batch)
    torch.testing.assert_close(logprobs, scores.logprobs)
    torch.testing.assert_close(entropy, scores.entropy, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("model_path", ["qwen2"], indirect=True)
@pytest.mark.parametrize("entropy_coef", [0.0, 0.5])
def test_bfloat16_products_differ_by_their_rounding_only(model_path, entropy_coef):
    exact, rounded = (Policy(load_model(model_path, "float32"), 1.0).train() for _ in range(2))
    batch = micro_batch(draw_trajectories(), [1.0] * 8, share_prompts=True)
    grads = []
    for policy, half in ((exact, False), (rounded, True)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            _, _, loss = policy(
                batch,
                lambda values, index, entropy: (values * batch.advantages[index] - entropy_coef * entropy).sum(),
                entropy_gradient=entropy_coef > 0,
            )
        loss.backward()
        grads.append(torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]))
    assert 0.001 < (grads[0] - grads[1]).norm() / grads[0].norm() < 0.05


@pytest.mark.parametrize("model_path", ["qwen2"], indirect=True)
def test_the_packed_model_is_not_to_be_called_without_a_layout_and_saves_no_trace_of_it(model_path, tmp_path):
    model = load_model(model_path, "float32")
    assert can_share_prompts(model)
    Policy(model, 1.0)
    with pytest.raises(RuntimeError, match="call rl\\.policy\\.token_logprobs"):
        model(torch.tensor([[1, 2]]))
    model.save_pretrained(tmp_path / "saved")
    assert PACKED not in (tmp_path / "saved" / "config.json").read_text()
    AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(torch.tensor([[1, 2]]))


@pytest.mark.parametrize("model_path", ["qwen2"], indirect=True)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_attention_that_the_recipe_names_is_used(model_path, attention):
    policy = Policy(load_model(model_path, "float32", attention=attention), 1.0)
    assert not is_packed(policy.model)
    assert policy.model.config._attn_implementation == attention
    items = draw_trajectories()
    batch = micro_batch(items, [1.0] * 8)
    expected = plain_loss(load_model(model_path, "float32"), items, 1.0)[1]
    torch.testing.assert_close(policy(batch)[0][batch.loss_mask], expected, rtol=1e-5, atol=1e-5)


def test_another_family_is_padded_as_before(tmp_path):
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    policy = Policy(load_model(str(tmp_path), "float32"), 1.0)
    assert not is_packed(policy.model)
    batch = micro_batch(draw_trajectories(), [1.0] * 8, share_prompts=True)
    with pytest.raises(AssertionError, match="cannot share"):
        policy(batch)


def test_a_prompt_of_one_trajectory_is_not_taken_apart():
    items = draw_trajectories()
    shared = micro_batch(items, [1.0] * 8, share_prompts=True)
    assert shared.parents.tolist() == [-1, 0, 0, 0, 0, -1, -1, 6, 6, 6]
    assert shared.lengths[5] == items[4].length


def test_the_token_before_the_first_of_a_completion_is_the_last_of_its_prompt():
    one, two = (trajectory([7, 8, 9], [n, n], [0.0] * 2, 1.0) for n in (1, 2))
    batch = micro_batch([one, two], [1.0, 1.0], share_prompts=True)
    assert batch.token_ids.tolist() == [7, 8, 9, 1, 1, 2, 2]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 3, 4]
    assert batch.before.tolist() == [-1, 0, 1, 2, 3, 2, 5]
    assert batch.loss_mask.tolist() == [False] * 3 + [True] * 4


def test_parts_hold_their_budget_with_each_prompt_counted_once():
    items = [trajectory([group] * 50, [1] * 10, [0.0] * 10, 1.0) for group in (1, 2) for _ in range(8)]
    parts = by_prompt(items, 100)
    assert [len(part) for part in parts] == [5, 3, 5, 3]  # 50 + 5 x 10; a prompt goes with the rest of its group
    assert [len(part) for part in by_prompt(items, 260)] == [16]
    assert [len(part) for part in by_prompt(items, 1)] == [1] * 16
    assert by_prompt([], 100) == []
    assert [item for part in parts for item in part] == items


def test_sharing_changes_neither_the_weights_nor_the_tokens_that_are_trained():
    items = draw_trajectories()
    common = {"tokens_per_micro_batch": 60, "max_completion_tokens": 20, "gather": lambda own: [own]}
    sums: list[float] = []
    for share in (False, True):
        batches = build_micro_batches(items, "sequence", share_prompts=share, **common)
        sums.append(
            sum(
                float((batch.loss_weights.double() * batch.advantages * batch.token_ids * (1 + batch.positions)).sum())
                for batch in batches
            )
        )
        assert sum(float(batch.loss_weights.sum()) for batch in batches) == pytest.approx(1)
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


def test_little_of_attention_is_padding_though_lengths_differ_eightfold():
    draw = random.Random(1)
    items = [
        trajectory([group] * 20, [1] * n, [0.0] * n, 1.0)
        for group in range(8)
        for n in (draw.randint(12, 96) for _ in range(8))
    ]
    batch = micro_batch(items, [1.0] * 64, share_prompts=True)
    assert padded_tokens(batch) == sum(bucket.size * bucket.length for bucket in layout(batch).buckets)
    assert padding_fraction(padded_tokens(batch), [batch]) < 0.15
    rows = len(batch.lengths) * max(batch.lengths)
    assert padding_fraction(rows, [batch]) > 0.45  # as one block of rows
