"""The papers' objectives as loops over answers and tokens, and the drawn answers that they and ours are held against.

They are written in complex numbers: a derivative is the imaginary part of a step of 1e-30 i, exact to rounding, and a
stopped gradient is the real part.
"""

from __future__ import annotations

import cmath
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rl.algorithms import Algorithm, LossInputs, TokenPass
from rl.algorithms.cispo import CISPO
from rl.algorithms.dapo import DAPO
from rl.algorithms.distill import Distill
from rl.algorithms.dppo import DPPO
from rl.algorithms.dr_grpo import DrGRPO
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
from rl.losses import MismatchCorrection

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
    """arXiv:2507.18071: s = (pi(y) / pi_old(y))^(1/|y|), clipped as a whole."""
    product = 1 + 0j
    for n, o in zip(new, old, strict=True):
        product *= cmath.exp(n - o)
    return ppo(product ** (1 / len(new)), advantage, algorithm.clip_low, algorithm.clip_high)


def gspo_token_cost(new, old, rollout, advantage, algorithm):
    """GSPO-token: 1/|y| sum_t of the surrogate with sg[s] pi_t / sg[pi_t]."""
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
MISMATCHES: list[tuple[MismatchCorrection, float, float]] = [
    ("token_truncate", 0.0, 1.1), ("token_truncate", 0.9, 1.1), ("token_mask", 0.8, 1.2),
    ("sequence_truncate", 0.0, 1.2), ("sequence_mask", 0.7, 1.5), ("geometric_mask", 0.9, 1.1),
]  # fmt: skip


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
