"""Per-token estimators of KL(policy || reference) from tokens that the policy sampled.

    d_t = logprobs_t - ref_logprobs_t    [T], nats

All three have the right expectation of value only under samples of the policy (k2 is biased but small);
http://joschu.net/blog/kl-approx.html.
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


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
