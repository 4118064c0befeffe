"""What the algorithms of this folder share: surrogate x mismatch correction + KL. Each file says what differs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from rl.algorithms import EntropyControl, LossInputs, Normalization, TokenPass, at_least_zero, check_clip, one_of
from rl.kl import ESTIMATORS, reweighted
from rl.losses import (
    MismatchCorrection,
    applied_entropy_coef,
    clipped_high,
    clipped_low,
    clipped_surrogate,
    dual_clipped,
    importance_ratio,
    mismatch_weight,
    next_entropy_coef,
    off_policy_mask,
)


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """L_t = w_t x policy_loss_t + beta kl_t - entropy_coef H_t

    Nobody has to inherit it: four members make an algorithm (rl/algorithms/__init__.py).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = math.inf  # bound on the cost of a bad token that became likelier, in advantages; 3 is usual
    beta: float = 0.0  # weight of the KL to the reference model
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    unbiased_kl: bool = False  # DeepSeek-V3.2: the KL in the loss is weighted with the importance ratio
    entropy_coef: float = 0.0  # weight of the entropy, with its exact gradient; under a target what it begins with
    entropy_target: float = 0.0  # nats per token that the weight is to keep up, Skywork-OR1: 0.2; 0: the weight stays
    entropy_delta: float = 1e-4  # by how much each update moves the weight; this and the bounds: Skywork-OR1's scripts
    entropy_coef_min: float = 0.0
    entropy_coef_max: float = 5e-3
    mismatch: MismatchCorrection = "none"  # how a sampler that differs from the trainer is made up for
    mismatch_low: float = 0.0
    mismatch_high: float = 2.0
    off_policy_threshold: float = math.inf  # nats per token; bad answers further from the policy are left out
    normalization: Normalization = "token"

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high, self.beta)
        one_of("kl_estimator", self.kl_estimator, tuple(ESTIMATORS))
        one_of("kl_in", self.kl_in, ("loss", "reward"))
        one_of("mismatch", self.mismatch, get_args(MismatchCorrection))
        for name in ("entropy_coef", "entropy_target", "entropy_delta", "entropy_coef_min"):
            at_least_zero(name, getattr(self, name))
        if self.controls_entropy and not self.entropy_coef_min <= self.entropy_coef <= self.entropy_coef_max:
            raise ValueError(
                f"algorithm.entropy_coef={self.entropy_coef} is where the control begins, and must lie between "
                f"entropy_coef_min={self.entropy_coef_min} and entropy_coef_max={self.entropy_coef_max}"
            )
        at_least_zero("mismatch_low", self.mismatch_low)
        at_least_zero("off_policy_threshold", self.off_policy_threshold)
        if not self.mismatch_high > self.mismatch_low:
            raise ValueError(
                f"algorithm.mismatch_high must be above mismatch_low={self.mismatch_low}, got {self.mismatch_high}"
            )
        if not self.dual_clip > 1:
            raise ValueError(f"algorithm.dual_clip must be above 1, got {self.dual_clip}")

    @property
    def uses_reference(self) -> bool:
        return self.beta > 0

    @property
    def needs_entropy(self) -> bool:
        return self.entropy_coef > 0 or self.controls_entropy

    # ------------------------------------------------------------------ what an algorithm may replace

    def ratio(self, inputs: LossInputs) -> Tensor:
        """[T], what is clipped."""
        return importance_ratio(inputs.logprobs, inputs.old_logprobs)

    def policy_loss(self, inputs: LossInputs) -> Tensor:
        """[T], without mismatch correction and KL."""
        loss = clipped_surrogate(self.ratio(inputs), inputs.advantages, self.clip_low, self.clip_high)
        return loss if math.isinf(self.dual_clip) else dual_clipped(loss, inputs.advantages, self.dual_clip)

    # ------------------------------------------------------------------ what all of them do

    def token_loss(self, inputs: LossInputs) -> Tensor:
        loss = self.policy_loss(inputs)
        if self.mismatch != "none":
            loss = loss * self.mismatch_weight(inputs)
        if not math.isinf(self.off_policy_threshold):
            loss = loss * self._is_near(inputs)
        ratio = importance_ratio(inputs.logprobs, inputs.old_logprobs)
        if self.needs_entropy:
            assert inputs.entropy is not None, "entropy_coef > 0 needs the entropy"
            loss = loss - self.entropy_coef * inputs.entropy
        if self.uses_reference and self.kl_in == "loss":
            assert inputs.ref_logprobs is not None, "beta > 0 needs the reference's log-probabilities"
            estimate = ESTIMATORS[self.kl_estimator](inputs.logprobs, inputs.ref_logprobs)
            loss = loss + self.beta * (reweighted(estimate, ratio) if self.unbiased_kl else estimate)
        return loss

    def mismatch_weight(self, inputs: LossInputs) -> Tensor:
        """[T], without gradient."""
        return mismatch_weight(
            self.mismatch, inputs.old_logprobs, inputs.rollout_logprobs, inputs.sequence_ids, inputs.loss_mask,
            self.mismatch_low, self.mismatch_high,
        )  # fmt: skip

    def _is_near(self, inputs: LossInputs) -> Tensor:
        return off_policy_mask(
            inputs.logprobs, inputs.rollout_logprobs, inputs.advantages, inputs.sequence_ids, inputs.loss_mask,
            self.off_policy_threshold,
        )  # fmt: skip

    # ------------------------------------------------------------------ a KL in the reward: rl/credit.py

    @property
    def penalizes_tokens(self) -> bool:
        return self.uses_reference and self.kl_in == "reward"

    @property
    def pays_to_go(self) -> bool:
        return False

    def token_penalty(self, scores: TokenPass) -> Tensor:
        """beta kl_t under the policy that sampled: r <- r - beta sum_t kl_t, or less by token where it pays to go."""
        assert scores.ref_logprobs is not None, "beta > 0 needs the reference's log-probabilities"
        return self.beta * ESTIMATORS[self.kl_estimator](scores.old_logprobs, scores.ref_logprobs)

    # ------------------------------------------------------------------ an entropy bonus that keeps to a target

    @property
    def controls_entropy(self) -> bool:
        return self.entropy_target > 0

    def under(self, control: EntropyControl) -> Self:
        """Of one update: a constant weight."""
        coef = applied_entropy_coef(control.coef, control.entropy, self.entropy_target)
        return replace(self, entropy_coef=coef, entropy_target=0.0)

    def next_control(self, control: EntropyControl, entropy: float) -> EntropyControl:
        low, high = self.entropy_coef_min, self.entropy_coef_max
        coef = next_entropy_coef(control.coef, entropy, self.entropy_target, self.entropy_delta, low, high)
        return EntropyControl(coef, entropy)

    # ------------------------------------------------------------------ metrics

    def token_metrics(self, inputs: LossInputs) -> dict[str, Tensor]:
        """Fractions of tokens, but for mismatch/weight, and all [T] without gradient."""
        with torch.no_grad():
            ratio = self.ratio(inputs)
            metrics = {
                "policy/clip_low_fraction": clipped_low(ratio, inputs.advantages, self.clip_low),
                "policy/clip_high_fraction": clipped_high(ratio, inputs.advantages, self.clip_high),
            }
            if not math.isinf(self.dual_clip):
                metrics["policy/dual_clip_fraction"] = (ratio > self.dual_clip) & (inputs.advantages < 0)
            if self.mismatch != "none":
                weight = self.mismatch_weight(inputs)
                metrics["mismatch/weight"] = weight
                metrics["mismatch/masked_fraction"] = weight == 0
                metrics["mismatch/truncated_fraction"] = weight == self.mismatch_high
            if not math.isinf(self.off_policy_threshold):
                metrics["mismatch/off_policy_fraction"] = ~self._is_near(inputs)
            if inputs.selected is not None:
                metrics["policy/selected_fraction"] = inputs.selected
            return {name: value.float() for name, value in metrics.items()}
