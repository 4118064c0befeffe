"""Per-token estimators of KL(policy || reference) from tokens that the policy sampled.

    d_t = logprobs_t - ref_logprobs_t    [T], nats

All three have the right expectation of value only under samples of the policy (k2 is biased but small);
http://joschu.net/blog/kl-approx.html.

Where the gradient flows through the estimator alone (a KL in the loss), what it follows is another matter:

    k1   E[grad k1] = 0: no restraint at all, only noise. Meant for the KL in the reward.
    k2   E[grad k2] = grad KL(policy || reference), exactly, at the first update on a batch.
    k3   E[grad k3] = grad KL(reference || policy), the other direction: near the reference the two agree.
"""

from __future__ import annotations

import torch
from torch import Tensor


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """d: unbiased, high variance, negative for half of the tokens. [T] -> [T], nats."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """d^2 / 2: biased, never negative; as a loss its gradient is the gradient of the KL itself. [T] -> [T], nats."""
    return (logprobs - ref_logprobs).square() / 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """exp(-d) - 1 + d: unbiased and never negative; DeepSeekMath, arXiv:2402.03300, eq. 4. [T] -> [T], nats."""
    difference = ref_logprobs - logprobs
    return torch.expm1(difference) - difference


def reweighted(estimate: Tensor, ratio: Tensor) -> Tensor:
    """An estimator over tokens that an older policy sampled, as DeepSeek-V3.2 has it (arXiv:2512.02556, "unbiased KL
    estimate"). [T] -> [T], nats.

        ratio_t k3_t,    ratio_t = exp(logprobs_t - old_logprobs_t), with its gradient

    Unbiased in value and in gradient, at the first update and at later ones: grad(ratio k3) = ratio d grad(logprobs),
    whose expectation under the old policy is grad KL(policy || reference).
    """
    return ratio * estimate


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
