"""The pieces a policy loss is made of. Per-token values in, per-token values out; nothing here sums or averages a loss.

    T  tokens of one packed micro-batch, whole trajectories

Sums and means are the loss weights' business (rl/batch.py), so no piece can get a denominator wrong. What belongs to a
whole trajectory is repeated on each of its tokens: with the weights of a sequence mean it then counts once.

    ratio_t = exp(logprobs_t - old_logprobs_t)      by how much the update has moved the policy
    rho_t   = exp(old_logprobs_t - rollout_logprobs_t)      by how much the trainer differs from the sampler
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

# ---------------------------------------------------------------------- importance ratios


def importance_ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """How much likelier the current policy makes each token than the policy that sampled it. [T] -> [T].

    ratio_t = exp(logprobs_t - old_logprobs_t)        1 at the first update on a batch
    """
    return torch.exp(logprobs - old_logprobs)


def sequence_sum(values: Tensor, sequence_ids: Tensor, mask: Tensor) -> Tensor:
    """The sum over each trajectory's trained tokens, repeated on each token of it. All [T]."""
    return _SequenceSum.apply(values, sequence_ids, mask) if len(values) else values


class _SequenceSum(torch.autograd.Function):
    """Its adjoint is the same sum, masked last. index_add would do, but adds in another order each time on a GPU."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, sequence_ids: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(sequence_ids, mask)
        return _repeated_sums(torch.where(mask, values, 0.0), sequence_ids)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        sequence_ids, mask = ctx.saved_tensors
        return torch.where(mask, _repeated_sums(grad, sequence_ids), 0.0), None, None


def _repeated_sums(values: Tensor, sequence_ids: Tensor) -> Tensor:
    """Summed in float64, in the tokens' order."""
    _, places, counts = sequence_ids.unique(return_inverse=True, return_counts=True)
    in_order = values.double()[sequence_ids.argsort(stable=True)]
    return torch.segment_reduce(in_order, "sum", lengths=counts)[places].to(values.dtype)


def sequence_length(sequence_ids: Tensor, mask: Tensor, like: Tensor) -> Tensor:
    """|y|: the trained tokens of each trajectory, at least 1, repeated on each token of it. [T], dtype of `like`."""
    return sequence_sum(torch.ones_like(like), sequence_ids, mask).clamp(min=1)


def sequence_mean(values: Tensor, sequence_ids: Tensor, mask: Tensor) -> Tensor:
    """The mean over each trajectory's trained tokens, repeated on each token of it. All [T]."""
    return sequence_sum(values, sequence_ids, mask) / sequence_length(sequence_ids, mask, values)


def sequence_ratio(logprobs: Tensor, old_logprobs: Tensor, sequence_ids: Tensor, mask: Tensor) -> Tensor:
    """GSPO: the likelihood ratio of the whole answer, to the power of one over its length. [T], repeated.

    s_i = (pi(y_i) / pi_old(y_i))^(1/|y_i|) = exp(mean_t log ratio_t)        arXiv:2507.18071
    """
    return torch.exp(sequence_mean(logprobs - old_logprobs, sequence_ids, mask))


def trajectory_ratio(logprobs: Tensor, old_logprobs: Tensor, sequence_ids: Tensor, mask: Tensor) -> Tensor:
    """The likelihood ratio of the whole answer, a product over its tokens. [T], repeated.

    pi(y_i) / pi_old(y_i) = exp(sum_t log ratio_t)

    It is the exact weight, and leaves the range of numbers for long answers that an update has moved far.
    """
    return torch.exp(sequence_sum(logprobs - old_logprobs, sequence_ids, mask))


def with_gradient_of(value: Tensor, logprobs: Tensor) -> Tensor:
    """sg[value] pi_t / sg[pi_t]: this value, with the gradient value_t grad(logprobs_t). [T] -> [T]."""
    return value.detach() * torch.exp(logprobs - logprobs.detach())


# ---------------------------------------------------------------------- surrogates


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """PPO's clipped surrogate, to be minimised; one value per token.

        L_t = -min(ratio_t A_t, clip(ratio_t, 1 - clip_low, 1 + clip_high) A_t)     arXiv:1707.06347, eq. 7

    All tensors [T]. DAPO's clip-higher (arXiv:2503.14476) is clip_high > clip_low.
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def dual_clipped(loss: Tensor, advantages: Tensor, dual_clip: float) -> Tensor:
    """Bounds what a bad token costs that became much likelier: its ratio has no bound otherwise. [T] -> [T].

        L_t <- min(L_t, -c A_t) where A_t < 0        Ye et al. 2020, arXiv:1912.09729; c = dual_clip > 1

    There the gradient is 0. The same as the two-sided clip of INTELLECT-2 (arXiv:2505.07291), delta in TRL.
    """
    return torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)


def clipped_low(ratio: Tensor, advantages: Tensor, clip_low: float) -> Tensor:
    """Where the surrogate's gradient stops because a bad token was already made less likely. [T] bool."""
    return (ratio < 1 - clip_low) & (advantages < 0)


def clipped_high(ratio: Tensor, advantages: Tensor, clip_high: float) -> Tensor:
    """Where the surrogate's gradient stops because a good token was already made more likely. [T] bool."""
    return (ratio > 1 + clip_high) & (advantages > 0)


def weighted_policy_gradient(weight: Tensor, logprobs: Tensor, advantages: Tensor) -> Tensor:
    """-sg[weight_t] A_t logprobs_t: REINFORCE with a weight that is no part of the gradient. [T] -> [T]."""
    return -weight.detach() * advantages * logprobs


def soft_gated_surrogate(ratio: Tensor, advantages: Tensor, tau_pos: float, tau_neg: float) -> Tensor:
    """SAPO: a gate that fades where PPO's clip cuts, to be minimised. [T] -> [T].

        L_t = -4/tau sigmoid(tau (ratio_t - 1)) A_t,    tau = tau_pos where A_t > 0, else tau_neg    arXiv:2511.20347

    The gradient's weight is 4 sigmoid (1 - sigmoid) ratio: ratio itself at ratio 1, falling on both sides.
    """
    tau = torch.full_like(ratio, tau_neg).masked_fill(advantages > 0, tau_pos)
    return -(4 / tau) * torch.sigmoid(tau * (ratio - 1)) * advantages


# ---------------------------------------------------------------------- trust regions that are not a ratio's


def total_variation_mask(
    logprobs: Tensor, behaviour_logprobs: Tensor, advantages: Tensor, low: float, high: float
) -> Tensor:
    """DPPO, Binary-TV: False where the token's probability has moved far the way its advantage wants. [T] bool.

    kept unless  A > 0 and pi - mu > high,  or  A <= 0 and mu - pi > low        arXiv:2602.04879, as verl implements it

    |pi - mu| of the sampled token against all others is a lower bound of the total variation. No gradient.
    """
    moved = logprobs.detach().exp() - behaviour_logprobs.exp()
    return torch.where(advantages > 0, moved <= high, moved >= -low)


def binary_kl_mask(logprobs: Tensor, behaviour_logprobs: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """DPPO, Binary-KL: the same with the divergence mu log(mu/pi) + (1-mu) log((1-mu)/(1-pi)) in nats. [T] bool.

    kept unless  A > 0 and pi > mu and KL > high,  or  A <= 0 and pi < mu and KL > low
                                                                        arXiv:2602.04879, as verl implements it
    """
    logprobs = logprobs.detach()
    mu, pi = behaviour_logprobs.exp(), logprobs.exp()
    # 1e-8 as in verl: a token of probability 1 leaves nothing to the others.
    rest = (1 - mu) * torch.log((1 - mu + 1e-8) / (1 - pi + 1e-8))
    divergence = mu * (behaviour_logprobs - logprobs) + rest
    return torch.where(advantages > 0, (divergence <= high) | (pi <= mu), (divergence <= low) | (pi >= mu))


# ---------------------------------------------------------------------- when sampler and trainer differ


def token_truncated(rho: Tensor, low: float, high: float) -> Tensor:
    """TIS: min(rho_t, high), and at least low. [T] -> [T].

    Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training",
    fengyao.notion.site/off-policy-rl; low is 0 there.
    """
    return rho.clamp(low, high)


def token_masked(rho: Tensor, low: float, high: float) -> Tensor:
    """IcePop: rho_t inside [low, high], 0 outside: what the two disagree on is left out. [T] -> [T].

    M(rho) = rho if low <= rho <= high else 0        Ring-1T, arXiv:2510.18855; INTELLECT-3, arXiv:2512.16144, eq. 1
    """
    return torch.where((rho >= low) & (rho <= high), rho, 0.0)


MismatchCorrection = Literal[
    "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_mask"
]


def mismatch_weight(
    kind: MismatchCorrection,
    old_logprobs: Tensor,
    rollout_logprobs: Tensor,
    sequence_ids: Tensor,
    mask: Tensor,
    low: float,
    high: float,
) -> Tensor:
    """The factor on each token's policy loss that makes up for a sampler which differs from the trainer. [T].

        token_truncate     min(rho_t, high)                             TIS
        token_mask         rho_t inside [low, high], else 0             IcePop
        sequence_truncate  min(prod_t rho_t, high)                      TIS of the whole answer
        sequence_mask      prod_t rho_t inside [low, high], else 0      masked importance sampling, MIS
        geometric_mask     1 where exp(mean_t log rho_t) is inside [low, high], else 0

    The last three: Liu et al. 2025, "When speed kills stability", yingru.notion.site; geometric_mask as verl implements
    it (rollout_rs=geometric). All as TRL's vllm_importance_sampling_mode where it has the name. No gradient.
    """
    log_rho = (old_logprobs - rollout_logprobs).detach()
    if kind == "none":
        return torch.ones_like(log_rho)
    if kind == "geometric_mask":
        rho = torch.exp(sequence_mean(log_rho, sequence_ids, mask))
        return ((rho >= low) & (rho <= high)).to(rho.dtype)
    level, _, what = kind.partition("_")
    rho = torch.exp(sequence_sum(log_rho, sequence_ids, mask) if level == "sequence" else log_rho)
    return (token_truncated if what == "truncate" else token_masked)(rho, low, high)


def off_policy_mask(
    logprobs: Tensor,
    rollout_logprobs: Tensor,
    advantages: Tensor,
    sequence_ids: Tensor,
    mask: Tensor,
    threshold: float,
) -> Tensor:
    """Off-policy sequence masking: False on a bad answer that the policy has moved away from. [T] bool.

    kept where A >= 0 or mean_t(rollout_logprobs_t - logprobs_t) <= threshold        DeepSeek-V3.2, arXiv:2512.02556

    Learning from one's own mistakes helps, from those that one would not make any more it unsettles. No gradient.
    """
    distance = sequence_mean(rollout_logprobs - logprobs.detach(), sequence_ids, mask)
    return (advantages >= 0) | (distance <= threshold)


# ---------------------------------------------------------------------- which tokens: over the whole batch
#
#     M  trained tokens of the whole batch, all ranks: a threshold of one micro-batch would depend on the packing


def covariance(logprobs: Tensor, advantages: Tensor) -> Tensor:
    """How much each token contributes to the covariance that drives entropy down. [M] -> [M].

    Cov_t = (logprobs_t - mean(logprobs)) (A_t - mean(A))        Cui et al. 2025, arXiv:2505.22617
    """
    return (logprobs - logprobs.mean()) * (advantages - advantages.mean())


def clip_cov_mask(
    logprobs: Tensor, advantages: Tensor, fraction: float, low: float, high: float, seed: int = 0
) -> Tensor:
    """Clip-Cov: False on a few tokens of high covariance, whose gradient is then left out. [M] -> [M] bool.

    max(1, int(fraction M)) tokens at random among those with low < Cov_t < high   arXiv:2505.22617, as verl implements
    """
    value = covariance(logprobs, advantages)
    candidates = ((value > low) & (value < high)).nonzero().squeeze(-1)
    count = max(1, int(fraction * len(value)))
    draw = torch.Generator().manual_seed(seed)
    dropped = candidates[torch.randperm(len(candidates), generator=draw)[:count].to(candidates.device)]
    return torch.ones_like(value, dtype=torch.bool).index_fill(0, dropped, False)


def kl_cov_mask(logprobs: Tensor, advantages: Tensor, fraction: float) -> Tensor:
    """KL-Cov: True on the tokens of highest covariance, which a KL to the old policy then holds. [M] -> [M] bool.

    the max(1, int(fraction M)) tokens of largest Cov_t        arXiv:2505.22617, as verl implements it
    """
    value = covariance(logprobs, advantages)
    largest = value.topk(min(len(value), max(1, int(fraction * len(value))))).indices
    return torch.zeros_like(value, dtype=torch.bool).index_fill(0, largest, True)


def top_entropy_mask(entropy: Tensor, fraction: float) -> Tensor:
    """True on the `fraction` of tokens where the policy is least sure: the forks of the reasoning. [M] -> [M] bool.

    H_t >= the (1 - fraction) quantile of H        Wang et al. 2025, "Beyond the 80/20 rule", arXiv:2506.01939
    """
    if not len(entropy):
        return torch.zeros_like(entropy, dtype=torch.bool)
    ordered = entropy.sort().values
    place = (1 - fraction) * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return entropy >= torch.lerp(ordered[below], ordered[above], place - below)


# ---------------------------------------------------------------------- entropy bonus


def next_entropy_coef(coef: float, entropy: float, target: float, delta: float, low: float, high: float) -> float:
    """Adaptive entropy control: the weight of the entropy bonus goes up while the policy is too sure, else down.

        c_(k+1) = c_k + delta where e_k < target, c_k - delta where e_k > target       Skywork-OR1, arXiv:2505.22312

    kept in [low, high]. entropy: e_k, nats per token, over the tokens of all ranks.
    """
    moved = coef + delta if entropy < target else coef - delta if entropy > target else coef
    return min(max(moved, low), high)


def applied_entropy_coef(coef: float, entropy: float, target: float) -> float:
    """alpha_k = c_k where the entropy measured last is at most the target, else 0        arXiv:2505.22312"""
    return coef if entropy <= target else 0.0
