"""Our losses, gradients and advantages beside TRL's trainers: their own code, on the same model and the same tensors.

test_trl_advantages.py has the advantages and the weights for a sampler that differs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

from rl.algorithms import Algorithm, LossInputs, SelectsTokens, TokenPass
from rl.algorithms.cispo import CISPO
from rl.algorithms.dapo import DAPO
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.entropy import TopEntropy
from rl.algorithms.gmpo import GMPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.gspo import GSPO, GSPOToken
from rl.algorithms.luspo import LUSPO
from rl.algorithms.reinforce import ReinforcePlusPlusBaseline
from rl.algorithms.rloo import RLOO
from rl.algorithms.sapo import SAPO
from rl.batch import MicroBatch, Trajectory, build_micro_batches, trajectory
from rl.policy import load_model, load_tokenizer, token_logprobs
from rl.tiny import build_tiny_model

MAX_TOKENS = 12  # sampling.max_tokens, TRL's max_completion_length
TEMPERATURE = 0.8
LENGTHS = [(4, 12), (4, 3), (7, 1), (7, 9), (2, 5), (2, 8)]  # tokens of prompt and completion
CLIPS: dict[str, Any] = {"clip_low": 0.1, "clip_high": 0.3}
SEQUENCE_CLIPS: dict[str, Any] = {"clip_low": 0.05, "clip_high": 0.08}  # of geometric means, nearer to 1


@dataclass(frozen=True)
class Setting:
    """Ours, and how TRL is told to do the same."""

    algorithm: Algorithm
    trl: dict[str, Any] = field(default_factory=dict)  # over epsilon, epsilon_high and beta
    trainer: tuple[type, type] = (GRPOConfig, GRPOTrainer)


SETTINGS = {
    "token": Setting(GRPO(**CLIPS, normalization="token"), {"loss_type": "bnpo"}),
    "dapo": Setting(DAPO(**CLIPS), {"loss_type": "dapo"}),
    "sequence": Setting(GRPO(**CLIPS, normalization="sequence"), {"loss_type": "grpo"}),
    "sequence_kl": Setting(GRPO(**CLIPS, beta=0.2, normalization="sequence"), {"loss_type": "grpo"}),
    "dr_grpo": Setting(DrGRPO(**CLIPS), {"loss_type": "dr_grpo"}),
    "dr_grpo_kl": Setting(DrGRPO(**CLIPS, beta=0.2), {"loss_type": "dr_grpo"}),
    "unbiased_kl": Setting(
        DAPO(**CLIPS, beta=0.2, unbiased_kl=True), {"loss_type": "dapo", "use_bias_correction_kl": True}
    ),
    "dual_clip": Setting(DAPO(**CLIPS, dual_clip=1.4), {"loss_type": "dapo", "delta": 1.4}),
    "off_policy_mask": Setting(
        DAPO(**CLIPS, off_policy_threshold=0.01), {"loss_type": "dapo", "off_policy_mask_threshold": 0.01}
    ),
    "top_entropy": Setting(
        TopEntropy(**CLIPS, fraction=0.4, beta=0.2), {"loss_type": "dapo", "top_entropy_quantile": 0.4}
    ),
    "entropy": Setting(DAPO(**CLIPS, entropy_coef=0.3), {"loss_type": "dapo", "entropy_coef": 0.3}),
    "gspo": Setting(GSPO(**SEQUENCE_CLIPS), {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    "gspo_kl": Setting(
        GSPO(**SEQUENCE_CLIPS, beta=0.2), {"loss_type": "grpo", "importance_sampling_level": "sequence"}
    ),
    "gspo_token": Setting(GSPOToken(**SEQUENCE_CLIPS), {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    "luspo": Setting(LUSPO(**SEQUENCE_CLIPS), {"loss_type": "luspo", "importance_sampling_level": "sequence"}),
    # TRL's epsilon_high is the largest weight itself, and there is no smallest.
    "cispo": Setting(CISPO(clip_high=0.2), {"loss_type": "cispo", "epsilon_high": 1.2}),
    "sapo": Setting(
        SAPO(tau_pos=1.0, tau_neg=1.5),
        {"loss_type": "sapo", "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.5, "epsilon": 0.2,
         "epsilon_high": 0.2},
    ),
    "gmpo": Setting(GMPO(clip_low=0.1, clip_high=0.2), {}, (GMPOConfig, GMPOTrainer)),
    "gmpo_kl": Setting(GMPO(clip_low=0.1, clip_high=0.2, beta=0.2), {}, (GMPOConfig, GMPOTrainer)),
    "rloo": Setting(RLOO(clip_low=0.6, clip_high=0.2), {}, (RLOOConfig, RLOOTrainer)),
    # REINFORCE++'s loss is PPO's: in TRL only its advantages are missing.
    "reinforce": Setting(ReinforcePlusPlusBaseline(**CLIPS), {"loss_type": "dapo"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("trl") / "model"
    return build_tiny_model(path, hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64)


@pytest.fixture(scope="module")
def batch() -> list[Trajectory]:
    """Six trajectories with advantages of both signs; old log-probabilities are drawn by each test."""
    draw = random.Random(0)
    tokens = lambda count: [draw.randrange(5, 250) for _ in range(count)]  # noqa: E731
    return [trajectory(tokens(p), tokens(c), [0.0] * c, draw.gauss(0, 1)) for p, c in LENGTHS]


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


def trl_trainer(model_path, setting: Setting, count: int, tmp_path):
    make_config, make_trainer = setting.trainer
    algorithm: Any = setting.algorithm
    options = {"epsilon": algorithm.clip_low, "epsilon_high": algorithm.clip_high, "beta": algorithm.beta} | setting.trl
    if make_trainer is GRPOTrainer:  # the KL of the GRPO paper, unless the other is asked for
        options = {"use_bias_correction_kl": False, **options}
    config = make_config(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], max_completion_length=MAX_TOKENS,
        num_generations=count, per_device_train_batch_size=count, temperature=TEMPERATURE,
        gradient_checkpointing=False, **options,
    )  # fmt: skip
    trainer = make_trainer(
        model=load_model(str(model_path), "float32"), processing_class=load_tokenizer(str(model_path)), args=config,
        reward_funcs=lambda completions, **columns: [0.0] * len(completions),
        train_dataset=Dataset.from_dict({"prompt": ["a"]}),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def trl_loss_and_gradient(model_path, setting: Setting, batch, old, ref, rollout, tmp_path):
    trainer = trl_trainer(model_path, setting, len(batch), tmp_path)
    prompt_ids, prompt_mask = rows([list(item.prompt_ids) for item in batch], pad_left=True)
    completion_ids, completion_mask = rows([list(item.completion_ids) for item in batch], pad_left=False)
    inputs = {
        "prompt_ids": prompt_ids, "prompt_mask": prompt_mask,
        "completion_ids": completion_ids, "completion_mask": completion_mask,
        "advantages": torch.tensor([float(item.advantages[0]) for item in batch]),
        "old_per_token_logps": rows(old, pad_left=False)[0], "ref_per_token_logps": rows(ref, pad_left=False)[0],
        "sampling_per_token_logps": rows(rollout, pad_left=False)[0],
        "old_logps": torch.tensor([sum(values) for values in old]),  # RLOO's
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


def selected_tokens(algorithm: Algorithm, inputs: LossInputs) -> Tensor | None:
    """What a SelectsTokens algorithm chooses, all tokens as if of one completion."""
    if not isinstance(algorithm, SelectsTokens):
        return None
    mask = inputs.loss_mask
    entropy = inputs.entropy
    assert entropy is not None
    scores = TokenPass(inputs.old_logprobs[mask], inputs.rollout_logprobs[mask], entropy[mask].detach(), None)
    (chosen,) = algorithm.select([scores], [inputs.advantages[mask]], lambda value: [value])
    return torch.zeros_like(mask).masked_scatter(mask, chosen)


def our_loss_and_gradient(model_path, algorithm: Algorithm, batch, old, ref, rollout):
    model = load_model(str(model_path), "float32").train()
    (micro,) = build_micro_batches(
        batch, algorithm.normalization, tokens_per_micro_batch=10_000, max_completion_tokens=MAX_TOKENS,
        gather=lambda value: [value],
    )  # fmt: skip
    order = sorted(range(len(batch)), key=lambda i: -batch[i].length)
    bonus: Any = algorithm
    scores = token_logprobs(model, micro, temperature=TEMPERATURE, entropy_gradient=bonus.needs_entropy)
    fields = {
        "logprobs": scores.logprobs,
        "old_logprobs": packed(old, micro, order),
        "rollout_logprobs": packed(rollout, micro, order),
        "ref_logprobs": packed(ref, micro, order) if algorithm.uses_reference else None,
        "advantages": micro.advantages,
        "sequence_ids": micro.sequence_ids,
        "loss_mask": micro.loss_mask,
        "entropy": scores.entropy,
    }
    inputs = LossInputs(**fields, selected=selected_tokens(algorithm, LossInputs(**fields)))
    loss = (micro.loss_weights * algorithm.token_loss(inputs)).sum()
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}, inputs


def logprobs_of(model_path, batch) -> list[list[float]]:
    """Of each trajectory's completion."""
    micro = build_micro_batches(
        batch, "token", tokens_per_micro_batch=1, max_completion_tokens=1, gather=lambda value: [value]
    )  # one trajectory each, longest first
    model = load_model(str(model_path), "float32")
    by_length = [token_logprobs(model, one, TEMPERATURE).logprobs[one.loss_mask].tolist() for one in micro]
    order = sorted(range(len(batch)), key=lambda i: -batch[i].length)
    return [by_length[order.index(i)] for i in range(len(batch))]


@pytest.mark.parametrize("name", SETTINGS)
def test_loss_and_gradient_are_trls(name, model_path, batch, tmp_path):
    setting = SETTINGS[name]
    now = logprobs_of(model_path, batch)
    old, ref, rollout = ([noisy(v, seed + shift) for seed, v in enumerate(now)] for shift in (31, 131, 231))

    theirs, their_gradient = trl_loss_and_gradient(model_path, setting, batch, old, ref, rollout, tmp_path)
    ours, our_gradient, inputs = our_loss_and_gradient(model_path, setting.algorithm, batch, old, ref, rollout)

    assert abs(ours) > 1e-3  # not two zeros
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert their_gradient.keys() == our_gradient.keys()
    for parameter, gradient in our_gradient.items():
        scale = their_gradient[parameter].abs().max()
        assert scale > 0
        assert (gradient - their_gradient[parameter]).abs().max() <= 1e-5 * scale, parameter
    algorithm: Any = setting.algorithm
    metrics = algorithm.token_metrics(inputs)
    bounds = {"sapo": (), "cispo": ("high",)}.get(name, ("low", "high"))
    for bound in bounds:  # each is reached, or agreement would show nothing of it
        assert 0 < metrics[f"policy/clip_{bound}_fraction"][inputs.loss_mask].mean() < 1
    for extra in ("policy/dual_clip_fraction", "mismatch/off_policy_fraction", "policy/selected_fraction"):
        if extra in metrics:
            assert 0 < metrics[extra][inputs.loss_mask].mean() < 1
