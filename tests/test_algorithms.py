"""Every algorithm from rewards to gradient beside its paper's loops, and the properties all of them share.

The slow objectives are written in complex numbers: a derivative is the imaginary part of a step of 1e-30 i, exact to
rounding, and a stopped gradient is the real part. TRL's trainers are beside them in test_trl.py.
"""

from __future__ import annotations

import cmath
import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rl.algorithms import Algorithm, LossInputs, ReportsTokens, TokenPass
from rl.algorithms.cispo import CISPO
from rl.algorithms.dapo import DAPO
from rl.algorithms.distill import Distill
from rl.algorithms.dppo import DPPO
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.entropy import ClipCov, KLCov, TopEntropy
from rl.algorithms.gdpo import GDPO
from rl.algorithms.gmpo import GMPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.gspo import GSPO, GSPOToken
from rl.algorithms.luspo import LUSPO
from rl.algorithms.pass_at_k import PassAtK
from rl.algorithms.raft import RAFT, RAFTPlusPlus
from rl.algorithms.reinforce import ReinforcePlusPlus, ReinforcePlusPlusBaseline
from rl.algorithms.rloo import RLOO
from rl.algorithms.sapo import SAPO
from rl.algorithms.sft import SFT
from rl.algorithms.topr import TOPR
from rl.batch import Totals, token_weight
from rl.credit import token_advantages
from rl.kl import ESTIMATORS, reweighted
from rl.losses import (
    dual_clipped,
    entropy_surrogate,
    importance_ratio,
    mismatch_weight,
    sequence_mean,
    sequence_sum,
)

GROUPS = [[1.0, 0.0, 0.25, 0.0], [0.5, 0.1, 0.5, 1.0]]  # rewards of two prompts
LENGTHS = [[6, 1, 3, 2], [2, 7, 4, 5]]  # tokens of the eight completions
FLAT_LENGTHS = [n for row in LENGTHS for n in row]
CAP = 9  # sampling.max_tokens
Rows = list[list[float]]
ComplexRows = list[list[complex]]


def doubles(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def draw_rows() -> dict[str, Rows]:
    """Log-probabilities of each token; ratios lie on both sides of the clips, mismatches on both sides of bounds."""
    draw = torch.Generator().manual_seed(2)
    new = [(torch.rand(n, generator=draw, dtype=torch.float64) * -3 - 0.1).tolist() for n in FLAT_LENGTHS]

    def near(rows: Rows, scale: float) -> Rows:
        noise = [(torch.randn(n, generator=draw, dtype=torch.float64) * scale).tolist() for n in FLAT_LENGTHS]
        return [[min(a + b, -0.01) for a, b in zip(*pair, strict=True)] for pair in zip(rows, noise, strict=True)]

    old = near(new, 0.4)
    entropy = [(torch.rand(n, generator=draw, dtype=torch.float64) * 2).tolist() for n in FLAT_LENGTHS]
    return {"new": new, "old": old, "rollout": near(old, 0.3), "ref": near(new, 0.5), "entropy": entropy}


DRAWN = draw_rows()


# ---------------------------------------------------------------------- the papers' objectives, slowly


def real(value: complex) -> float:
    """The value with its gradient stopped."""
    return complex(value).real


def ppo(ratio: complex, advantage: float, low: float, high: float) -> complex:
    """-min(ratio A, clip(ratio, 1 - low, 1 + high) A), arXiv:1707.06347, eq. 7; two clips: arXiv:2503.14476, eq. 8."""
    if advantage > 0 and real(ratio) > 1 + high:
        ratio = complex(1 + high)
    if advantage < 0 and real(ratio) < 1 - low:
        ratio = complex(1 - low)
    return -ratio * advantage


def aggregated(costs: ComplexRows, normalization: str) -> complex:
    if normalization == "token":  # DAPO, arXiv:2503.14476, eq. 8
        return sum(c for row in costs for c in row) / sum(len(row) for row in costs)
    if normalization == "sequence":  # DeepSeekMath, arXiv:2402.03300, eq. 3
        return sum(sum(row) / len(row) for row in costs) / len(costs)
    return sum(c for row in costs for c in row) / (len(costs) * CAP)  # Dr. GRPO, arXiv:2503.20783


def by_token(cost: Callable[..., complex]) -> Callable[..., complex]:
    """An objective of the tokens' costs: cost(new, old, rollout, ref, advantage, algorithm)."""

    def objective(new: ComplexRows, advantages: Rows, algorithm: Any) -> complex:
        costs = [
            [
                cost(new[i][t], *(DRAWN[name][i][t] for name in ("old", "rollout", "ref")), advantages[i][t], algorithm)
                for t in range(len(new[i]))
            ]
            for i in range(len(new))
        ]  # fmt: skip
        return aggregated(costs, algorithm.normalization)

    return objective


def by_answer(cost: Callable[..., complex]) -> Callable[..., complex]:
    """An objective of the answers' costs, its mean: cost(new row, old row, rollout row, advantage, algorithm)."""

    def objective(new: ComplexRows, advantages: Rows, algorithm: Any) -> complex:
        assert algorithm.normalization == "sequence"
        rows = zip(new, DRAWN["old"], DRAWN["rollout"], advantages, strict=True)
        costs = [cost(n, old, rollout, a[0], algorithm) for n, old, rollout, a in rows]
        return sum(costs) / len(costs)

    return objective


def grpo_cost(new, old, rollout, ref, advantage, algorithm):
    return ppo(cmath.exp(new - old), advantage, algorithm.clip_low, algorithm.clip_high)


def dual_cost(new, old, rollout, ref, advantage, algorithm):
    """Ye et al., arXiv:1912.09729: for A < 0 max(min(ratio A, clip(ratio) A), c A), to be maximised."""
    cost = grpo_cost(new, old, rollout, ref, advantage, algorithm)
    ceiling = -algorithm.dual_clip * advantage
    return complex(ceiling) if advantage < 0 and real(cost) > ceiling else cost


SLOW_KL = {
    "k1": lambda d: d,
    "k2": lambda d: d * d / 2,
    "k3": lambda d: cmath.exp(-d) - 1 + d,  # DeepSeekMath, arXiv:2402.03300, eq. 4
}


def kl_cost(new, old, rollout, ref, advantage, algorithm):
    """DeepSeekMath, eq. 3; unbiased: DeepSeek-V3.2, arXiv:2512.02556: pi / pi_old times the estimate."""
    estimate = SLOW_KL[algorithm.kl_estimator](new - ref)
    if algorithm.unbiased_kl:
        estimate = cmath.exp(new - old) * estimate
    return grpo_cost(new, old, rollout, ref, advantage, algorithm) + algorithm.beta * estimate


def cispo_cost(new, old, rollout, ref, advantage, algorithm):
    """MiniMax-M1, arXiv:2506.13585: sg(clip(r, 1 - low, 1 + high)) A log pi."""
    weight = min(max(real(cmath.exp(new - old)), 1 - algorithm.clip_low), 1 + algorithm.clip_high)
    return -weight * advantage * new


def sapo_cost(new, old, rollout, ref, advantage, algorithm):
    """arXiv:2511.20347: f(r) A, f(x) = sigmoid(tau (x - 1)) 4 / tau."""
    tau = algorithm.tau_pos if advantage > 0 else algorithm.tau_neg
    return -4 / tau / (1 + cmath.exp(-tau * (cmath.exp(new - old) - 1))) * advantage


def dppo_cost(new, old, rollout, ref, advantage, algorithm):
    """Qi et al., arXiv:2602.04879: masked where the binary divergence is above its threshold on A's side."""
    pi, mu = math.exp(real(new)), math.exp(rollout)
    if algorithm.divergence == "tv":
        divergence = abs(pi - mu)
    else:
        divergence = mu * math.log(mu / pi) + (1 - mu) * math.log((1 - mu + 1e-8) / (1 - pi + 1e-8))
    if advantage > 0 and pi > mu and divergence > algorithm.clip_high:
        return 0j
    if advantage <= 0 and pi < mu and divergence > algorithm.clip_low:
        return 0j
    return -min(pi / mu, algorithm.ratio_cap) * advantage * new


def raft_cost(new, old, rollout, ref, advantage, algorithm):
    """Dong et al., arXiv:2304.06767: the likelihood of accepted answers."""
    return -advantage * new


def distill_cost(new, old, rollout, ref, advantage, algorithm):
    """Reverse KL by policy gradient: the token's advantage is log teacher - log pi_old."""
    return -cmath.exp(new - old) * (algorithm.kl_weight * (ref - old) + advantage)


def sft_cost(new, old, rollout, ref, advantage, algorithm):
    return -new


def gspo_cost(new, old, rollout, advantage, algorithm):
    """arXiv:2507.18071, section 4.1: s = (pi(y) / pi_old(y))^(1/|y|), clipped as a whole."""
    product = 1 + 0j
    for n, o in zip(new, old, strict=True):
        product *= cmath.exp(n - o)
    return ppo(product ** (1 / len(new)), advantage, algorithm.clip_low, algorithm.clip_high)


def gspo_token_cost(new, old, rollout, advantage, algorithm):
    """Section 4.3: 1/|y| sum_t of the surrogate with sg[s] pi_t / sg[pi_t]."""
    s = math.exp(sum(real(n) - o for n, o in zip(new, old, strict=True)) / len(new))
    costs = [ppo(s * cmath.exp(n - real(n)), advantage, algorithm.clip_low, algorithm.clip_high) for n in new]
    return sum(costs) / len(costs)


def luspo_cost(new, old, rollout, advantage, algorithm):
    """arXiv:2602.05261: GSPO's times |y|."""
    return len(new) * gspo_cost(new, old, rollout, advantage, algorithm)


def gmpo_cost(new, old, rollout, advantage, algorithm):
    """arXiv:2507.20673: (prod_t min[r^sgn A, clip(r, e^-low, e^high)^sgn A]^sgn A)^(1/|y|) A."""
    sign = 1 if advantage > 0 else -1
    product = 1 + 0j
    for n, o in zip(new, old, strict=True):
        ratio = cmath.exp(n - o)
        clipped = complex(min(max(real(ratio), math.exp(-algorithm.clip_low)), math.exp(algorithm.clip_high)))
        options = [ratio**sign, ratio**sign if clipped.real == real(ratio) else clipped**sign]
        product *= min(options, key=real) ** sign
    return -(product ** (1 / len(new))) * advantage


def rloo_cost(new, old, rollout, advantage, algorithm):
    """PPO's surrogate with the whole answer as one action."""
    ratio = cmath.exp(sum(new) - sum(old))
    return ppo(ratio, advantage, algorithm.clip_low, algorithm.clip_high)


def topr_cost(new, old, rollout, advantage, algorithm):
    """Le Roux et al., arXiv:2503.14286: R log pi for R >= 0, clip(pi/mu, 0, 1) R log pi for R < 0, weights stopped."""
    ratio = math.exp(sum(real(n) for n in new) - sum(rollout))
    weight = 1.0 if advantage >= 0 else min(max(ratio, 0.0), 1.0)
    return -weight * advantage * sum(new)


# ---------------------------------------------------------------------- every algorithm, from rewards to gradient

WIDE = {"clip_low": 0.05, "clip_high": 0.1}  # for ratios of whole answers
SETTINGS: list[tuple[Algorithm, Callable[..., complex]]] = [
    (GRPO(normalization="sequence"), by_token(grpo_cost)),
    (DAPO(), by_token(grpo_cost)),
    (DrGRPO(), by_token(grpo_cost)),
    (GRPO(dual_clip=1.3), by_token(dual_cost)),
    *((GRPO(beta=0.4, kl_estimator=k), by_token(kl_cost)) for k in ("k1", "k2", "k3")),  # type: ignore[arg-type]
    (GRPO(beta=0.4, unbiased_kl=True), by_token(kl_cost)),
    (DrGRPO(beta=0.4, unbiased_kl=True), by_token(kl_cost)),
    (CISPO(), by_token(cispo_cost)),
    (CISPO(clip_low=0.2, clip_high=0.2), by_token(cispo_cost)),
    (SAPO(), by_token(sapo_cost)),
    (SAPO(tau_pos=0.7, tau_neg=2.0, normalization="token"), by_token(sapo_cost)),
    (DPPO(), by_token(dppo_cost)),
    (DPPO(clip_low=0.05, clip_high=0.03, ratio_cap=1.1), by_token(dppo_cost)),
    (DPPO(divergence="kl", clip_low=0.05, clip_high=0.02), by_token(dppo_cost)),
    (ReinforcePlusPlus(), by_token(grpo_cost)),
    (ReinforcePlusPlus(beta=0.2), by_token(grpo_cost)),
    (ReinforcePlusPlusBaseline(), by_token(grpo_cost)),
    (ReinforcePlusPlusBaseline(beta=0.2), by_token(kl_cost)),
    (PassAtK(k=2), by_token(grpo_cost)),
    (GDPO(), by_token(grpo_cost)),
    (RAFT(threshold=0.5), by_token(raft_cost)),
    (RAFT(threshold=0.5, normalization="sequence"), by_token(raft_cost)),
    (RAFTPlusPlus(threshold=0.5), by_token(grpo_cost)),
    (Distill(), by_token(distill_cost)),
    (Distill(kl_weight=0.5, reward_weight=2.0), by_token(distill_cost)),
    (SFT(), by_token(sft_cost)),
    (GSPO(), by_answer(gspo_cost)),
    (GSPO(**WIDE), by_answer(gspo_cost)),
    (GSPOToken(**WIDE), by_answer(gspo_token_cost)),
    (LUSPO(**WIDE), by_answer(luspo_cost)),
    (GMPO(), by_answer(gmpo_cost)),
    (GMPO(clip_low=0.1, clip_high=0.2), by_answer(gmpo_cost)),
    (RLOO(), by_answer(rloo_cost)),
    (RLOO(beta=0.1, clip_high=0.4), by_answer(rloo_cost)),
    (TOPR(), by_answer(topr_cost)),
    (TOPR(baseline=0.2), by_answer(topr_cost)),
]
ALGORITHMS = [algorithm for algorithm, _ in SETTINGS]


def name_of(value: Any) -> str | None:
    if not dataclasses.is_dataclass(value):
        return ""
    changed = [
        f"{field.name}={getattr(value, field.name)}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({','.join(changed)})"


def packed(rows: Rows, prompt: float = 0.0) -> Tensor:
    """[T] float64: the rows end to end, each after a prompt of two tokens."""
    return doubles([value for row in rows for value in (prompt, prompt, *row)])


def passes() -> list[list[TokenPass]]:
    flat = iter(zip(*(DRAWN[name] for name in ("old", "rollout", "entropy", "ref")), strict=True))
    return [[TokenPass(*(doubles(row) for row in next(flat))) for _ in row] for row in LENGTHS]


def alone(value: object) -> list[object]:
    return [value]


def advantages_of(algorithm: Algorithm) -> Rows:
    rewards = [doubles(rewards) for rewards in GROUPS]
    result = token_advantages(algorithm, rewards, LENGTHS, passes(), alone)
    return [row.tolist() for group in result for row in group]


def loss_inputs(advantages: Rows, selected: Tensor | None = None) -> LossInputs:
    return LossInputs(
        logprobs=packed(DRAWN["new"]).requires_grad_(),
        old_logprobs=packed(DRAWN["old"]),
        rollout_logprobs=packed(DRAWN["rollout"]),
        ref_logprobs=packed(DRAWN["ref"]),
        advantages=packed(advantages),
        sequence_ids=torch.arange(len(FLAT_LENGTHS)).repeat_interleave(torch.tensor(FLAT_LENGTHS) + 2),
        loss_mask=packed([[1.0] * n for n in FLAT_LENGTHS]).bool(),
        entropy=packed(DRAWN["entropy"]),
        selected=selected,
    )


def loss_weights(algorithm: Algorithm) -> Tensor:
    totals = Totals(tokens=sum(FLAT_LENGTHS), sequences=len(FLAT_LENGTHS))
    return packed([[token_weight(n, totals, algorithm.normalization, CAP)] * n for n in FLAT_LENGTHS])


def loss_and_gradient(algorithm: Algorithm, inputs: LossInputs, weights: Tensor) -> tuple[Tensor, Tensor]:
    loss = (weights * algorithm.token_loss(inputs)).sum()
    (gradient,) = torch.autograd.grad(loss, inputs.logprobs)
    return loss.detach(), gradient


def slow_gradient(objective: Callable[[ComplexRows], complex]) -> Rows:
    step, gradient = 1e-30, []
    for i, answer in enumerate(DRAWN["new"]):
        gradient.append([])
        for t in range(len(answer)):
            moved = [[complex(value) for value in row] for row in DRAWN["new"]]
            moved[i][t] += step * 1j
            gradient[i].append(objective(moved).imag / step)
    return gradient


@pytest.mark.parametrize(("algorithm", "objective"), SETTINGS, ids=name_of)
def test_objective_and_gradient_are_the_papers_to_1e_9(algorithm, objective):
    advantages = advantages_of(algorithm)
    loss, gradient = loss_and_gradient(algorithm, loss_inputs(advantages), loss_weights(algorithm))
    expected = objective([[complex(value) for value in row] for row in DRAWN["new"]], advantages, algorithm)
    slopes = packed(slow_gradient(lambda new: objective(new, advantages, algorithm)))
    assert abs(expected) > 1e-3
    assert slopes.abs().max() > 1e-3
    assert_close(float(loss), expected.real, rtol=1e-9, atol=0)
    assert_close(gradient, slopes, rtol=1e-9, atol=1e-15)


NO_CLIP = (SAPO, TOPR, RAFT, Distill, SFT)


@pytest.mark.parametrize(
    "algorithm", [a for a in ALGORITHMS if not isinstance(a, NO_CLIP) and a.clip_low > 0.01], ids=name_of
)
def test_the_drawn_tokens_lie_on_both_sides_of_each_bound(algorithm):
    # Else the test above would show nothing of the bounds.
    metrics = algorithm.token_metrics(loss_inputs(advantages_of(algorithm)))
    names = ["policy/clip_high_fraction"]
    if not isinstance(algorithm, RAFTPlusPlus | CISPO) or (isinstance(algorithm, CISPO) and algorithm.clip_low < 1):
        names.append("policy/clip_low_fraction")
    if isinstance(algorithm, CISPO) and algorithm.clip_high > 1:
        return  # ScaleRL's bound of 5 is not reached
    for name in names:
        assert 0 < metrics[name].mean() < 0.9, name


SMOOTH = [
    a for a in ALGORITHMS if not isinstance(a, CISPO | DPPO | TOPR | GSPOToken)
]  # of the others the loss's slope is not the gradient: a weight is stopped


@pytest.mark.parametrize("algorithm", SMOOTH, ids=name_of)
def test_gradients_equal_finite_differences(algorithm):
    inputs = loss_inputs(advantages_of(algorithm))
    loss = lambda logprobs: algorithm.token_loss(replace(inputs, logprobs=logprobs))  # noqa: E731
    assert torch.autograd.gradcheck(loss, inputs.logprobs.detach().clone().requires_grad_(), eps=1e-7, atol=1e-6)


# ---------------------------------------------------------------------- corrections for a sampler that differs


def slow_mismatch(kind: str, low: float, high: float) -> Rows:
    """Token by token; the sources are in rl/losses.py: TIS, IcePop, MIS, geometric rejection."""
    rows = []
    for old, rollout in zip(DRAWN["old"], DRAWN["rollout"], strict=True):
        rhos = [math.exp(a - b) for a, b in zip(old, rollout, strict=True)]
        product = math.prod(rhos)
        if kind == "token_truncate":
            rows.append([max(min(rho, high), low) for rho in rhos])
        elif kind == "token_mask":
            rows.append([rho if low <= rho <= high else 0.0 for rho in rhos])
        elif kind == "sequence_truncate":
            rows.append([max(min(product, high), low)] * len(rhos))
        elif kind == "sequence_mask":
            rows.append([product if low <= product <= high else 0.0] * len(rhos))
        else:
            mean = product ** (1 / len(rhos))
            rows.append([1.0 if low <= mean <= high else 0.0] * len(rhos))
    return rows


MISMATCHES = [
    ("token_truncate", 0.0, 1.1), ("token_truncate", 0.9, 1.1), ("token_mask", 0.8, 1.2),
    ("sequence_truncate", 0.0, 1.2), ("sequence_mask", 0.7, 1.5), ("geometric_mask", 0.9, 1.1),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "low", "high"), MISMATCHES)
@pytest.mark.parametrize("make", [GRPO, GSPO, CISPO, RLOO])
def test_a_mismatch_correction_multiplies_the_policy_loss_and_no_kl(make, kind, low, high):
    plain = make(beta=0.2, kl_estimator="k3", kl_in="loss")
    corrected = replace(plain, mismatch=kind, mismatch_low=low, mismatch_high=high)
    inputs = loss_inputs(advantages_of(GRPO()))
    kl = 0.2 * ESTIMATORS["k3"](inputs.logprobs, inputs.ref_logprobs)
    weight = packed(slow_mismatch(kind, low, high))
    mask = inputs.loss_mask
    expected = weight * (plain.token_loss(inputs) - kl) + kl
    ours = corrected.token_loss(inputs)
    assert_close(ours[mask], expected[mask], rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours[mask].sum(), inputs.logprobs, retain_graph=True)
    assert_close(gradient, torch.autograd.grad(expected[mask].sum(), inputs.logprobs)[0], rtol=1e-9, atol=1e-12)
    assert len(set(weight[mask].tolist())) > 1


def test_the_corrections_report_what_they_did():
    algorithm = GRPO(mismatch="token_mask", mismatch_low=0.8, mismatch_high=1.2)
    inputs = loss_inputs(advantages_of(algorithm))
    metrics = algorithm.token_metrics(inputs)
    weights = packed(slow_mismatch("token_mask", 0.8, 1.2))[inputs.loss_mask]
    assert_close(metrics["mismatch/weight"][inputs.loss_mask], weights.float())
    assert 0 < metrics["mismatch/masked_fraction"][inputs.loss_mask].mean() < 1
    truncating = replace(algorithm, mismatch="token_truncate")
    assert 0 < truncating.token_metrics(inputs)["mismatch/truncated_fraction"][inputs.loss_mask].mean() < 1


@pytest.mark.parametrize("kind", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_without_bounds_the_weights_make_an_expectation_over_the_sampler_one_over_the_trainer(kind):
    # One token of three, so that token and sequence are the same: sum mu rho f = sum pi f.
    mu, pi, f = doubles([0.2, 0.5, 0.3]), doubles([0.4, 0.35, 0.25]), doubles([1.0, -2.0, 0.7])
    ids, mask = torch.arange(3), torch.ones(3, dtype=torch.bool)
    rho = mismatch_weight(kind, pi.log(), mu.log(), ids, mask, 0.0, math.inf)
    assert_close((mu * rho * f).sum(), (pi * f).sum(), rtol=1e-12, atol=0)


def test_equal_sampler_and_trainer_need_no_correction():
    inputs = loss_inputs(advantages_of(GRPO()))
    same = replace(inputs, rollout_logprobs=inputs.old_logprobs)
    for kind, low, high in MISMATCHES:
        algorithm = GRPO(mismatch=kind, mismatch_low=low, mismatch_high=high)  # type: ignore[arg-type]
        assert torch.equal(algorithm.token_loss(same), GRPO().token_loss(same))


def test_off_policy_answers_are_left_out_only_where_they_are_bad():
    # DeepSeek-V3.2, arXiv:2512.02556: M = 0 where A < 0 and 1/|o| sum log(pi_old / pi) > delta.
    advantages = advantages_of(GRPO())
    threshold, kept = 0.05, []
    for new, rollout, a in zip(DRAWN["new"], DRAWN["rollout"], advantages, strict=True):
        distance = sum(r - n for r, n in zip(rollout, new, strict=True)) / len(new)
        kept.append([float(a[0] >= 0 or distance <= threshold)] * len(new))
    inputs = loss_inputs(advantages)
    mask = inputs.loss_mask
    expected = (packed(kept) * GRPO().token_loss(inputs))[mask]
    assert_close(GRPO(off_policy_threshold=threshold).token_loss(inputs)[mask], expected, rtol=1e-12, atol=0)
    assert 0 < sum(row[0] == 0 for row in kept) < len(kept)


@pytest.mark.parametrize("make", [DPPO, TOPR])
def test_what_measures_from_the_sampler_already_takes_no_correction_twice(make):
    with pytest.raises(ValueError, match=r"algorithm\.mismatch must be none"):
        make(mismatch="token_truncate")


# ---------------------------------------------------------------------- selected tokens


def test_selected_tokens_alone_have_a_gradient():
    selected = packed([[float((i + t) % 2) for t in range(n)] for i, n in enumerate(FLAT_LENGTHS)]).bool()
    inputs = loss_inputs(advantages_of(GRPO()), selected)
    for algorithm in (ClipCov(), TopEntropy()):
        plain = GRPO(clip_high=algorithm.clip_high)
        assert torch.equal(algorithm.token_loss(inputs), plain.token_loss(inputs) * selected)
        assert 0 < algorithm.token_metrics(inputs)["policy/selected_fraction"].mean() < 1


def test_kl_cov_holds_the_selected_tokens():
    # arXiv:2505.22617: L = ratio A - beta D_KL(pi_old || pi) for selected tokens, |log ratio| as verl implements it.
    selected = packed([[float((i + t) % 2) for t in range(n)] for i, n in enumerate(FLAT_LENGTHS)]).bool()
    inputs = loss_inputs(advantages_of(GRPO()), selected)
    log_ratio = inputs.logprobs - inputs.old_logprobs
    expected = -log_ratio.exp() * inputs.advantages + 0.7 * log_ratio.abs() * selected
    assert_close(KLCov(kl_weight=0.7).token_loss(inputs), expected, rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------------- no gradient where clipped


def gradient_of(algorithm: Algorithm, inputs: LossInputs) -> Tensor:
    return torch.autograd.grad(algorithm.token_loss(inputs).sum(), inputs.logprobs)[0]


def two_answers(log_ratio: float, advantage: float) -> LossInputs:
    """Answers of three tokens each: one as it was sampled, one moved by log_ratio in every token; both with A."""
    old = doubles([-1.0, -2.0, -1.5, -1.1, -2.2, -1.4])
    moved = old + doubles([0, 0, 0, log_ratio, log_ratio, log_ratio])
    return LossInputs(
        moved.requires_grad_(), old, old, old, torch.full((6,), advantage, dtype=torch.float64),
        torch.tensor([0, 0, 0, 1, 1, 1]), torch.ones(6, dtype=torch.bool),
    )  # fmt: skip


CLIPPING = [GRPO(), DAPO(), DrGRPO(), GSPO(), GSPOToken(), LUSPO(), RLOO(), ReinforcePlusPlus(), GMPO(), PassAtK(), DPPO()]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("algorithm", CLIPPING, ids=name_of)
@pytest.mark.parametrize(("log_ratio", "advantage", "is_clipped"), [(1.0, 1.0, True), (-2.0, -1.0, True), (1.0, -1.0, False), (-1.0, 1.0, False)])  # fmt: skip  # noqa: E501
def test_gradient_stops_only_where_a_move_has_gone_far_the_way_the_advantage_wants(
    algorithm, log_ratio, advantage, is_clipped
):
    inputs = two_answers(log_ratio, advantage)
    if isinstance(algorithm, DPPO):  # a probability of 0.33 that doubles, or falls to 0.04
        algorithm = replace(algorithm, clip_low=0.08, clip_high=0.1)
    gradient = gradient_of(algorithm, inputs)
    assert (gradient[:3] != 0).all()
    assert (gradient[3:] == 0).all() == is_clipped
    clipped = sum(value for name, value in algorithm.token_metrics(inputs).items() if "clip_" in name)
    assert torch.equal(clipped > 0, doubles([0, 0, 0, *[is_clipped] * 3]).bool())


def test_cispo_has_a_gradient_everywhere():
    for log_ratio, advantage in itertools.product((-2.0, 1.0, 3.0), (-1.0, 1.0)):
        gradient = gradient_of(CISPO(clip_low=0.2, clip_high=0.28), two_answers(log_ratio, advantage))
        assert_close(gradient[3:], torch.full((3,), -advantage * min(max(math.exp(log_ratio), 0.8), 1.28)).double())


def test_a_dual_clip_stops_the_gradient_of_a_bad_token_that_became_much_likelier():
    inputs = two_answers(1.5, -1.0)  # a ratio of 4.5
    assert (gradient_of(GRPO(), inputs)[3:] > 4).all()
    assert (gradient_of(GRPO(dual_clip=3.0), inputs)[3:] == 0).all()
    assert_close(GRPO(dual_clip=3.0).token_loss(inputs)[3:], torch.full((3,), 3.0, dtype=torch.float64))
    # A good token is not concerned.
    good = two_answers(1.5, 1.0)
    assert torch.equal(dual_clipped(good.logprobs, good.advantages, 3.0), good.logprobs)


def test_topr_forgets_bad_answers_and_keeps_good_ones():
    far = two_answers(-2.0, -1.0)  # the policy has left the bad answer: e^-6 of it remains
    assert_close(gradient_of(TOPR(), far)[3:], torch.full((3,), 3 * math.exp(-6.0), dtype=torch.float64))
    assert_close(gradient_of(TOPR(), two_answers(2.0, -1.0))[3:], torch.full((3,), 3.0, dtype=torch.float64))
    assert_close(gradient_of(TOPR(), two_answers(-2.0, 1.0))[3:], torch.full((3,), -3.0, dtype=torch.float64))


def test_sapos_gate_is_the_ratio_at_one_and_fades_on_both_sides():
    weight = lambda log_ratio, a: float(-gradient_of(SAPO(), two_answers(log_ratio, a))[3] / a)  # noqa: E731
    assert weight(0.0, 1.0) == pytest.approx(1.0, rel=1e-12)
    assert weight(0.0, -1.0) == pytest.approx(1.0, rel=1e-12)
    assert weight(3.0, 1.0) < 1e-5 < weight(2.0, 1.0) < weight(1.5, 1.0) < 1
    assert weight(1.5, -1.0) < weight(1.5, 1.0)  # tau_neg > tau_pos


# ---------------------------------------------------------------------- at the first update all are REINFORCE

FIRST = [a for a in ALGORITHMS if not isinstance(a, Distill | SFT) and not getattr(a, "beta", 0)]


@pytest.mark.parametrize("algorithm", FIRST, ids=name_of)
def test_the_first_update_is_the_policy_gradient(algorithm):
    # Of a token mean -A_t / tokens, of a mean over answers -A / (answers |y|); of the answer as one action |y| times it.
    inputs = loss_inputs(advantages_of(algorithm))
    now = inputs.logprobs.detach()
    _, gradient = loss_and_gradient(
        algorithm, replace(inputs, old_logprobs=now, rollout_logprobs=now), loss_weights(algorithm)
    )
    length = packed([[float(n)] * n for n in FLAT_LENGTHS])
    factor = length if isinstance(algorithm, RLOO | LUSPO | TOPR) else torch.ones_like(length)
    assert_close(gradient, -inputs.advantages * loss_weights(algorithm) * factor, rtol=1e-9, atol=1e-15)


# ---------------------------------------------------------------------- packing, order, micro-batches


EVERY = [
    *ALGORITHMS,
    *(GRPO(mismatch=kind, mismatch_low=low, mismatch_high=high) for kind, low, high in MISMATCHES),  # type: ignore[arg-type]
    GRPO(off_policy_threshold=0.05),
    ClipCov(),
    KLCov(),
    TopEntropy(),
]


def part_of(inputs: LossInputs, index: Tensor) -> LossInputs:
    """The tokens at these places, as the engine hands over a chunk of a micro-batch."""
    values = {name: getattr(inputs, name) for name in LossInputs.__slots__}
    return LossInputs(**{name: None if value is None else value[index] for name, value in values.items()})


@pytest.mark.parametrize("algorithm", EVERY, ids=name_of)
@pytest.mark.parametrize("how", ["reversed", "micro-batches", "completions only", "one by one", "prompts apart"])
def test_packing_order_and_micro_batches_change_nothing(algorithm, how):
    selected = packed([[float((i + t) % 2) for t in range(n)] for i, n in enumerate(FLAT_LENGTHS)]).bool()
    inputs, weights = loss_inputs(advantages_of(algorithm), selected), loss_weights(algorithm)
    expected, slopes = loss_and_gradient(algorithm, inputs, weights)
    places = torch.arange(len(weights))
    answers = [places[inputs.sequence_ids == i] for i in range(len(FLAT_LENGTHS))]
    parts = {
        "reversed": [torch.cat(answers[::-1])],
        "micro-batches": [torch.cat(answers[4:7]), torch.cat([answers[7], *answers[:4]])],
        "completions only": [places[inputs.loss_mask]],
        "one by one": answers,
        "prompts apart": [torch.cat([places[~inputs.loss_mask], places[inputs.loss_mask].flip(0)])],
    }[how]
    total, gradient = torch.zeros((), dtype=torch.float64), torch.zeros_like(slopes)
    for index in parts:
        part = part_of(inputs, index)
        leaf = part.logprobs.detach().requires_grad_()
        loss, slope = loss_and_gradient(algorithm, replace(part, logprobs=leaf), weights[index])
        total += loss
        gradient = gradient.index_add(0, index, slope)
    assert_close(total, expected, rtol=1e-12, atol=1e-15)
    assert_close(gradient, slopes, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("algorithm", EVERY, ids=name_of)
def test_what_stands_on_prompts_does_not_matter(algorithm):
    selected = torch.ones(len(loss_weights(algorithm)), dtype=torch.bool)
    inputs, weights = loss_inputs(advantages_of(algorithm), selected), loss_weights(algorithm)
    expected = loss_and_gradient(algorithm, inputs, weights)
    dirt = torch.where(inputs.loss_mask, 0.0, -2.0)
    dirty = replace(
        inputs, old_logprobs=inputs.old_logprobs + dirt, rollout_logprobs=inputs.rollout_logprobs + 3 * dirt
    )
    for ours, clean in zip(loss_and_gradient(algorithm, dirty, weights), expected, strict=True):
        assert_close(ours, clean, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("algorithm", EVERY, ids=name_of)
def test_no_advantage_is_no_gradient(algorithm):
    # But for imitation, distillation and a KL: what batch.skip_without_advantage may leave out.
    if isinstance(algorithm, SFT | KLCov) or algorithm.uses_reference:
        pytest.skip("learns from more than the advantage")
    zeros = [[0.0] * n for n in FLAT_LENGTHS]
    inputs = loss_inputs(zeros, torch.ones(sum(FLAT_LENGTHS) + 2 * len(FLAT_LENGTHS), dtype=torch.bool))
    loss, gradient = loss_and_gradient(algorithm, inputs, loss_weights(algorithm))
    assert float(loss) == 0
    assert (gradient == 0).all()


def test_sums_and_means_of_answers_ignore_prompts_and_repeat_on_every_token():
    ids, mask = torch.tensor([4, 4, 7, 4, 7]), torch.tensor([False, True, True, True, True])
    values = doubles([100.0, 1.0, 5.0, 3.0, 7.0])
    assert sequence_sum(values, ids, mask).tolist() == [4, 4, 12, 4, 12]
    assert sequence_mean(values, ids, mask).tolist() == [2, 2, 6, 2, 6]
    nothing = torch.zeros(0, dtype=torch.float64)
    assert sequence_mean(nothing, torch.zeros(0, dtype=torch.int64), nothing.bool()).tolist() == []


@pytest.mark.parametrize("algorithm", [a for a in EVERY if isinstance(a, ReportsTokens)], ids=name_of)
def test_metrics_are_one_finite_number_a_token_without_gradient(algorithm):
    selected = torch.ones(len(loss_weights(algorithm)), dtype=torch.bool)
    inputs = loss_inputs(advantages_of(algorithm), selected)
    for name, value in algorithm.token_metrics(inputs).items():
        assert value.shape == inputs.logprobs.shape, name
        assert value.isfinite().all(), name
        assert not value.requires_grad, name


# ---------------------------------------------------------------------- expectations, on a distribution of four tokens

LOGITS = doubles([0.4, -0.3, 0.1, -0.9])
OLD = doubles([0.1, 0.4, 0.2, 0.3])  # what sampled, some updates ago
REFERENCE = doubles([0.25, 0.25, 0.3, 0.2])


def expected_gradient(loss_of: Callable[[Tensor], Tensor], sampler: Tensor, logits: Tensor) -> Tensor:
    """E over tokens of the sampler of the gradient of a loss of their log-probability."""
    logprobs = logits.log_softmax(-1)
    return torch.autograd.grad((sampler * loss_of(logprobs)).sum(), logits)[0]


def exact_kl_gradient(logits: Tensor) -> Tensor:
    logprobs = logits.log_softmax(-1)
    return torch.autograd.grad((logprobs.exp() * (logprobs - REFERENCE.log())).sum(), logits)[0]


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_reweighted_kl_is_unbiased_in_value_and_gradient_from_an_older_policys_tokens(estimator):
    logits = LOGITS.clone().requires_grad_()
    policy = logits.detach().softmax(-1)
    loss = lambda logprobs: reweighted(  # noqa: E731
        ESTIMATORS[estimator](logprobs, REFERENCE.log()), importance_ratio(logprobs, OLD.log())
    )
    value = (OLD * loss(logits.log_softmax(-1))).sum()
    assert_close(value.detach(), (policy * (policy / REFERENCE).log()).sum(), rtol=1e-12, atol=0)
    assert_close(expected_gradient(loss, OLD, logits), exact_kl_gradient(logits), rtol=1e-10, atol=1e-14)


def test_what_the_gradient_of_each_plain_estimator_follows():
    logits = LOGITS.clone().requires_grad_()
    policy = logits.detach().softmax(-1)
    of = lambda name: expected_gradient(  # noqa: E731
        lambda logprobs: ESTIMATORS[name](logprobs, REFERENCE.log()), policy, logits
    )
    assert of("k1").abs().max() < 1e-15  # no restraint at all
    assert_close(of("k2"), exact_kl_gradient(logits), rtol=1e-10, atol=1e-14)
    logprobs = logits.log_softmax(-1)
    forward = (REFERENCE * (REFERENCE.log() - logprobs)).sum()  # KL(reference || policy)
    assert_close(of("k3"), torch.autograd.grad(forward, logits)[0], rtol=1e-10, atol=1e-14)
    assert (of("k3") - exact_kl_gradient(logits)).abs().max() > 1e-3


def test_distillation_follows_the_gradient_of_the_reverse_kl_to_the_teacher():
    logits = LOGITS.clone().requires_grad_()
    policy = logits.detach().softmax(-1)

    def loss(logprobs: Tensor) -> Tensor:
        zeros, ones = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.bool)
        old = logprobs.detach()
        return Distill().token_loss(LossInputs(logprobs, old, old, REFERENCE.log(), zeros, torch.arange(4), ones))

    assert_close(expected_gradient(loss, policy, logits), exact_kl_gradient(logits), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("sampler", ["now", "before"])
def test_the_entropy_surrogate_follows_the_gradient_of_the_entropy(sampler):
    logits = LOGITS.clone().requires_grad_()
    policy = logits.detach().softmax(-1)
    old = policy if sampler == "now" else OLD
    entropy = -(policy * policy.log()).sum().expand(4)
    loss = lambda logprobs: entropy_surrogate(logprobs, entropy, importance_ratio(logprobs, old.log()))  # noqa: E731
    logprobs = logits.log_softmax(-1)
    exact = torch.autograd.grad((logprobs.exp() * logprobs).sum(), logits)[0]  # of minus the entropy
    assert_close(expected_gradient(loss, old, logits), exact, rtol=1e-10, atol=1e-14)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (GRPO, {"dual_clip": 1.0}, r"algorithm\.dual_clip must be above 1, got 1\.0"),
        (GRPO, {"kl_in": "both"}, r"algorithm\.kl_in must be one of \['loss', 'reward'\], got 'both'"),
        (GRPO, {"mismatch": "tis"}, r"algorithm\.mismatch must be one of .*'token_truncate'.*, got 'tis'"),
        (GRPO, {"mismatch_low": 3.0}, r"algorithm\.mismatch_high must be above mismatch_low=3\.0, got 2\.0"),
        (GRPO, {"off_policy_threshold": -1.0}, r"algorithm\.off_policy_threshold must be 0 or more, got -1\.0"),
        (SAPO, {"tau_neg": 0.0}, r"algorithm\.tau_neg must be above 0 and at most inf, got 0\.0"),
        (DPPO, {"divergence": "js"}, r"algorithm\.divergence must be one of \['kl', 'tv'\], got 'js'"),
        (TopEntropy, {"fraction": 0.0}, r"algorithm\.fraction must be above 0 and at most 1, got 0\.0"),
        (Distill, {"kl_weight": -1.0}, r"algorithm\.kl_weight must be 0 or more, got -1\.0"),
    ],
)
def test_a_setting_outside_of_its_range_is_refused_by_its_name(make, options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_every_algorithm_is_a_frozen_dataclass_that_says_where_it_is_from():
    for algorithm in EVERY:
        kind = type(algorithm)
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        module = inspect.getmodule(kind)
        assert module is not None
        assert kind is SFT or "arXiv:" in (module.__doc__ or "")
        assert kind.__doc__
        assert not kind.__doc__.startswith(f"{kind.__name__}(")
