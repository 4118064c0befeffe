"""Our loss and gradient beside TRL's GRPOTrainer, on the same model and the same tensors."""

from __future__ import annotations

import random

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from rl.algorithms import Algorithm, LossInputs
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.grpo import GRPO
from rl.batch import MicroBatch, Trajectory, build_micro_batches
from rl.policy import load_model, load_tokenizer, token_logprobs
from rl.tiny import build_tiny_model

MAX_TOKENS = 12  # sampling.max_tokens, TRL's max_completion_length
LENGTHS = [(4, 12), (4, 3), (7, 1), (7, 9), (2, 5), (2, 8)]  # tokens of prompt and completion
SETTINGS = {
    "token": ("bnpo", GRPO(clip_low=0.1, clip_high=0.3, normalization="token")),
    "dapo": ("dapo", GRPO(clip_low=0.1, clip_high=0.3, normalization="token")),
    "sequence": ("grpo", GRPO(clip_low=0.1, clip_high=0.3, normalization="sequence")),
    "sequence_kl": ("grpo", GRPO(clip_low=0.1, clip_high=0.3, beta=0.2, normalization="sequence")),
    "dr_grpo": ("dr_grpo", DrGRPO(clip_low=0.1, clip_high=0.3)),
    "dr_grpo_kl": ("dr_grpo", DrGRPO(clip_low=0.1, clip_high=0.3, beta=0.2)),
}


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("trl") / "model"
    return build_tiny_model(path, hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64)


@pytest.fixture(scope="module")
def batch() -> list[Trajectory]:
    """Six trajectories with advantages of both signs; old log-probabilities are drawn by each test."""
    draw = random.Random(0)
    tokens = lambda count: [draw.randrange(5, 250) for _ in range(count)]  # noqa: E731
    return [Trajectory(tokens(p), tokens(c), [0.0] * c, draw.gauss(0, 1)) for p, c in LENGTHS]


def rows(values: list[list[float]], pad_left: bool) -> tuple[Tensor, Tensor]:
    """Padded rows and their mask, as TRL lays them out: prompts on the right, completions on the left."""
    longest = max(map(len, values))
    padded = [[0] * (longest - len(v)) + v if pad_left else v + [0] * (longest - len(v)) for v in values]
    masks = [[0] * (longest - len(v)) + [1] * len(v) if pad_left else [1] * len(v) + [0] * (longest - len(v)) for v in values]  # fmt: skip  # noqa: E501
    return torch.tensor(padded), torch.tensor(masks)


def noisy(logprobs: list[float], seed: int) -> list[float]:
    """Log-probabilities of a policy some updates ago: ratios on both sides of both clips."""
    draw = random.Random(seed)
    return [value + draw.gauss(0, 0.25) for value in logprobs]


def trl_loss_and_gradient(model_path, loss_type: str, algorithm: GRPO, batch, old, ref, tmp_path):
    config = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], loss_type=loss_type, beta=algorithm.beta,
        epsilon=algorithm.clip_low, epsilon_high=algorithm.clip_high, max_completion_length=MAX_TOKENS,
        num_generations=len(batch), per_device_train_batch_size=len(batch), temperature=0.8,
        gradient_checkpointing=False, use_bias_correction_kl=False,  # the KL of the GRPO paper
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=load_model(str(model_path), "float32"), processing_class=load_tokenizer(str(model_path)), args=config,
        reward_funcs=lambda completions, **columns: [0.0] * len(completions),
        train_dataset=Dataset.from_dict({"prompt": ["a"]}),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    prompt_ids, prompt_mask = rows([list(item.prompt_ids) for item in batch], pad_left=True)
    completion_ids, completion_mask = rows([list(item.completion_ids) for item in batch], pad_left=False)
    inputs = {
        "prompt_ids": prompt_ids, "prompt_mask": prompt_mask,
        "completion_ids": completion_ids, "completion_mask": completion_mask,
        "advantages": torch.tensor([item.advantage for item in batch]),
        "old_per_token_logps": rows(old, pad_left=False)[0], "ref_per_token_logps": rows(ref, pad_left=False)[0],
        "num_items_in_batch": completion_mask.sum(),
    }  # fmt: skip
    model = trainer.model.train()
    loss = trainer._compute_loss(model, inputs)
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def packed(values: list[list[float]], micro: MicroBatch, order: list[int]) -> Tensor:
    """[T]: per-completion values where the micro-batch has the completions, 0 elsewhere."""
    result = torch.zeros(len(micro.token_ids))
    result[micro.loss_mask] = torch.tensor([value for i in order for value in values[i]])
    return result


def our_loss_and_gradient(model_path, algorithm: Algorithm, batch, old, ref):
    model = load_model(str(model_path), "float32").train()
    (micro,) = build_micro_batches(
        batch, algorithm.normalization, tokens_per_micro_batch=10_000, max_completion_tokens=MAX_TOKENS,
        gather=lambda value: [value],
    )  # fmt: skip
    order = sorted(range(len(batch)), key=lambda i: -batch[i].length)
    inputs = LossInputs(
        logprobs=token_logprobs(model, micro, temperature=0.8).logprobs,
        old_logprobs=packed(old, micro, order),
        rollout_logprobs=micro.rollout_logprobs,
        ref_logprobs=packed(ref, micro, order) if algorithm.uses_reference else None,
        advantages=micro.advantages,
        sequence_ids=micro.sequence_ids,
        loss_mask=micro.loss_mask,
    )
    loss = (micro.loss_weights * algorithm.token_loss(inputs)).sum()
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", SETTINGS)
def test_loss_and_gradient_are_trls(name, model_path, batch, tmp_path):
    loss_type, algorithm = SETTINGS[name]
    micro = build_micro_batches(
        batch, "token", tokens_per_micro_batch=1, max_completion_tokens=1, gather=lambda value: [value]
    )  # one trajectory each, longest first
    model = load_model(str(model_path), "float32")
    by_length = [token_logprobs(model, one, 0.8).logprobs[one.loss_mask].tolist() for one in micro]
    order = sorted(range(len(batch)), key=lambda i: -batch[i].length)
    now = [by_length[order.index(i)] for i in range(len(batch))]
    old = [noisy(values, seed) for seed, values in enumerate(now)]
    ref = [noisy(values, seed + 100) for seed, values in enumerate(now)]

    theirs, their_gradient = trl_loss_and_gradient(model_path, loss_type, algorithm, batch, old, ref, tmp_path)
    ours, our_gradient = our_loss_and_gradient(model_path, algorithm, batch, old, ref)

    assert abs(ours) > 1e-3  # not two zeros
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert their_gradient.keys() == our_gradient.keys()
    for parameter, gradient in our_gradient.items():
        scale = their_gradient[parameter].abs().max()
        assert scale > 0
        assert (gradient - their_gradient[parameter]).abs().max() <= 1e-5 * scale, parameter
