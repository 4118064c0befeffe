"""Advantages, KL estimators, losses and algorithms: their properties, and slow formulas beside them.

TRL's trainer is beside them in test_trl.py.
"""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rl.advantages import group_centred, group_normalized
from rl.algorithms import LossInputs
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.sft import SFT
from rl.batch import Totals, token_weight
from rl.kl import k1, k2, k3
from rl.losses import clipped_high, clipped_low, clipped_surrogate, importance_ratio

REWARDS = torch.tensor([1.0, 0.0, 0.25, 0.0, 1.0, 0.5], dtype=torch.float64)


# ---------------------------------------------------------------------- advantages


def test_advantages_by_hand():
    # mean 1/4, population variance 3/16
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0])
    root = math.sqrt(3) / 4
    expected = torch.tensor([0.75, -0.25, -0.25, -0.25], dtype=torch.float64)
    assert_close(group_centred(rewards), expected)
    assert_close(group_normalized(rewards), expected / root, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("value", "size"), [(0.1, 8), (0.3, 6), (0.7, 8), (1.1, 7)])
@pytest.mark.parametrize("algorithm", [GRPO(), DrGRPO()])
def test_a_group_of_equal_fractional_rewards_has_no_preference(algorithm, value, size):
    assert algorithm.advantages(torch.full((size,), value, dtype=torch.float64)).abs().max() < 1e-8


@pytest.mark.parametrize("estimator", [group_normalized, group_centred])
def test_advantages_sum_to_zero_in_each_group(estimator):
    advantages = estimator(torch.stack([REWARDS, REWARDS.flip(0) * 3, REWARDS + 0.1]))
    assert advantages.dtype == torch.float64
    assert advantages.sum(dim=-1).abs().max() < 1e-12
    assert advantages.abs().max() > 0.1


@pytest.mark.parametrize("estimator", [group_normalized, group_centred])
def test_advantages_do_not_change_when_every_reward_is_shifted(estimator):
    assert_close(estimator(REWARDS + 17.5), estimator(REWARDS), rtol=1e-12, atol=1e-12)


def test_scaling_the_rewards_scales_centred_advantages_and_leaves_normalized_ones():
    assert_close(group_centred(REWARDS * 10), group_centred(REWARDS) * 10)
    assert_close(group_normalized(REWARDS * 10), group_normalized(REWARDS), rtol=1e-5, atol=0)


def test_advantages_are_those_of_trl_up_to_its_sample_std_and_its_eps_of_1e_4():
    # TRL: (r - mean) / (std + 1e-4) with the sample's std; ours has the population's, sqrt((G-1)/G) of it.
    size = len(REWARDS)
    trl = (REWARDS - REWARDS.mean()) / (REWARDS.std(correction=1) + 1e-4)
    assert_close(group_normalized(REWARDS) * math.sqrt((size - 1) / size), trl, rtol=3e-4, atol=0)


# ---------------------------------------------------------------------- KL


POLICY = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
REFERENCE = torch.tensor([0.25, 0.25, 0.3, 0.2], dtype=torch.float64)


@pytest.mark.parametrize("estimator", [k1, k3])
def test_k1_and_k3_have_the_exact_kl_as_their_expectation(estimator):
    exact = (POLICY * (POLICY / REFERENCE).log()).sum()
    assert_close((POLICY * estimator(POLICY.log(), REFERENCE.log())).sum(), exact, rtol=1e-12, atol=0)


def test_k2_is_half_the_expected_square_and_biased():
    expectation = (POLICY * k2(POLICY.log(), REFERENCE.log())).sum()
    assert_close(expectation, (POLICY * (POLICY / REFERENCE).log() ** 2).sum() / 2)
    assert abs(expectation - (POLICY * (POLICY / REFERENCE).log()).sum()) > 1e-3


def test_the_expected_gradient_of_k2_is_the_gradient_of_the_kl():
    logits = POLICY.log().clone().requires_grad_()
    logprobs = logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((logprobs.exp() * (logprobs - REFERENCE.log())).sum(), logits, retain_graph=True)
    # Sampling weights are constants for the estimator's gradient.
    (estimated,) = torch.autograd.grad((POLICY * k2(logprobs, REFERENCE.log())).sum(), logits)
    assert_close(estimated, exact, rtol=1e-10, atol=1e-14)


def test_k2_and_k3_are_never_negative_and_zero_for_equal_policies():
    a, b = torch.randn(1000) * 3, torch.randn(1000) * 3
    for estimator in (k2, k3):
        assert (estimator(a, b) >= 0).all()
        assert (estimator(a, a) == 0).all()


# ---------------------------------------------------------------------- the surrogate


def test_clipping_removes_the_gain_but_keeps_the_loss():
    ratio = torch.tensor([0.5, 1.0, 1.5])
    # A = +1: the gain from 1.5 stops at 1.2.   A = -1: the relief from 0.5 stops at 0.8, but 1.5 still costs 1.5.
    assert_close(clipped_surrogate(ratio, torch.ones(3), 0.2, 0.2), torch.tensor([-0.5, -1.0, -1.2]))
    assert_close(clipped_surrogate(ratio, -torch.ones(3), 0.2, 0.2), torch.tensor([0.8, 1.0, 1.5]))


def test_clip_low_and_clip_high_bound_their_own_sides():
    ratio = torch.tensor([0.5, 1.5])
    assert_close(clipped_surrogate(ratio, torch.ones(2), 0.1, 0.3), torch.tensor([-0.5, -1.3]))
    assert_close(clipped_surrogate(ratio, -torch.ones(2), 0.1, 0.3), torch.tensor([0.9, 1.5]))


def test_there_is_no_gradient_exactly_where_the_metrics_say_clipped():
    ratio = torch.linspace(0.3, 1.9, 33).repeat(2).requires_grad_()
    advantages = torch.cat([torch.full((33,), 0.7), torch.full((33,), -0.7)])
    clipped_surrogate(ratio, advantages, 0.2, 0.28).sum().backward()
    high, low = clipped_high(ratio, advantages, 0.28), clipped_low(ratio, advantages, 0.2)
    assert ratio.grad is not None
    assert torch.equal(ratio.grad == 0, high | low)
    assert torch.equal(high, (ratio > 1.28) & (advantages > 0))
    assert torch.equal(low, (ratio < 0.8) & (advantages < 0))
    assert high.sum() > 5
    assert low.sum() > 5


def test_the_first_update_on_a_batch_has_ratio_one_and_the_policy_gradient():
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.5])
    ratio = importance_ratio(logprobs, logprobs.detach())
    assert torch.equal(ratio, torch.ones(3))
    clipped_surrogate(ratio, advantages, 0.2, 0.2).sum().backward()
    assert_close(logprobs.grad, -advantages)


def test_sft_is_the_cross_entropy_whatever_the_advantage():
    inputs = made_up_inputs(torch.float32)
    assert torch.equal(SFT().token_loss(inputs), -inputs.logprobs)


# ---------------------------------------------------------------------- against slow formulas, float64


def made_up_inputs(dtype: torch.dtype, with_reference: bool = True) -> LossInputs:
    """Two trajectories of 5 + 7 tokens whose ratios lie on both sides of each clip."""
    draw = torch.Generator().manual_seed(1)
    logprobs = (torch.rand(12, generator=draw, dtype=dtype) * -4 - 0.1).requires_grad_()
    old = logprobs.detach() + torch.randn(12, generator=draw, dtype=dtype) * 0.4
    reference = logprobs.detach() + torch.randn(12, generator=draw, dtype=dtype) * 0.5
    sequence_ids = torch.tensor([0] * 5 + [1] * 7)
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=old,
        rollout_logprobs=old,
        ref_logprobs=reference if with_reference else None,
        advantages=torch.tensor([1.3, -0.6], dtype=dtype)[sequence_ids],
        sequence_ids=sequence_ids,
        loss_mask=torch.tensor([False] * 2 + [True] * 3 + [False] * 3 + [True] * 4),
    )


def slow_loss(
    logprobs: list[float], old: list[float], ref: list[float], advantage: float, low: float, high: float, beta: float
) -> tuple[list[float], list[float]]:
    """Loss and derivative by logprob of each token of one completion, by cases; no torch.

    DeepSeekMath, arXiv:2402.03300, eq. 3 (the surrogate) and eq. 4 (its KL); clip-higher of arXiv:2503.14476, eq. 8.
    """
    values, slopes = [], []
    for new, before, reference in zip(logprobs, old, ref, strict=True):
        ratio = math.exp(new - before)
        if advantage >= 0:
            value, slope = (ratio, ratio) if ratio <= 1 + high else (1 + high, 0.0)
        else:
            value, slope = (ratio, ratio) if ratio >= 1 - low else (1 - low, 0.0)
        other = math.exp(reference - new)
        values.append(-advantage * value + beta * (other - (reference - new) - 1))
        slopes.append(-advantage * slope + beta * (1 - other))
    return values, slopes


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("kind", [GRPO, DrGRPO])
def test_losses_and_gradients_equal_a_float64_reference_by_hand_to_1e_9(kind, beta):
    algorithm = kind(clip_low=0.2, clip_high=0.28, beta=beta)
    inputs = made_up_inputs(torch.float64, with_reference=beta > 0)
    loss = algorithm.token_loss(inputs)
    (gradient,) = torch.autograd.grad(loss.sum(), inputs.logprobs)
    values, slopes = [], []
    for rows in (slice(0, 5), slice(5, 12)):
        ref = inputs.ref_logprobs[rows] if inputs.ref_logprobs is not None else torch.zeros(rows.stop - rows.start)
        done = slow_loss(
            inputs.logprobs[rows].tolist(), inputs.old_logprobs[rows].tolist(), ref.tolist(),
            float(inputs.advantages[rows.start]), 0.2, 0.28, beta,
        )  # fmt: skip
        values += done[0]
        slopes += done[1]
    assert_close(loss, torch.tensor(values, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert_close(gradient, torch.tensor(slopes, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    if beta == 0:
        assert 0 < int((gradient == 0).sum()) < 12  # some tokens are clipped, some are not


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_gradients_equal_finite_differences(estimator):
    algorithm = GRPO(clip_low=0.2, clip_high=0.28, beta=0.3, kl_estimator=estimator)
    inputs = made_up_inputs(torch.float64)

    def loss(logprobs: Tensor) -> Tensor:
        fields = {name: getattr(inputs, name) for name in LossInputs.__slots__}
        return algorithm.token_loss(LossInputs(**(fields | {"logprobs": logprobs})))

    assert torch.autograd.gradcheck(loss, inputs.logprobs.detach().clone().requires_grad_(), eps=1e-7, atol=1e-7)


@pytest.mark.parametrize("field", ["clip_low", "clip_high", "beta"])
def test_a_negative_hyperparameter_is_refused_by_its_name(field):
    with pytest.raises(ValueError, match=rf"algorithm\.{field} must be 0 or more, got -0.1"):
        GRPO(**{field: -0.1})


def test_an_unknown_kl_estimator_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"kl_estimator must be one of \['k1', 'k2', 'k3'\], got 'k4'"):
        GRPO(kl_estimator="k4")  # type: ignore[arg-type]


# ---------------------------------------------------------------------- the whole objective, from rewards to gradient


GROUPS = [[1.0, 0.0, 0.25], [0.5, 0.1, 0.5]]  # rewards of two prompts
LENGTHS = [5, 1, 3, 2, 7, 4]  # tokens of the six completions
CAP = 9  # sampling.max_tokens
SLOW_KL = {
    "k1": lambda new, ref: new - ref,
    "k2": lambda new, ref: (new - ref) ** 2 / 2,
    "k3": lambda new, ref: cmath.exp(ref - new) - (ref - new) - 1,  # DeepSeekMath, arXiv:2402.03300, eq. 4
}


def slow_advantages(rewards: list[float], divided: bool) -> list[float]:
    """DeepSeekMath, section 4.1.2, with the population's std and an eps of 1e-6; undivided: arXiv:2503.20783."""
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    return [(reward - mean) / (std + 1e-6 if divided else 1) for reward in rewards]


def slow_token(new: complex, old: float, ref: float, advantage: float, algorithm: GRPO) -> complex:
    """The bracket of DeepSeekMath, eq. 3, times -1, by cases; DAPO's two clips, arXiv:2503.14476, eq. 8."""
    ratio = cmath.exp(new - old)
    if advantage > 0 and ratio.real > 1 + algorithm.clip_high:
        ratio = complex(1 + algorithm.clip_high)
    if advantage < 0 and ratio.real < 1 - algorithm.clip_low:
        ratio = complex(1 - algorithm.clip_low)
    return -ratio * advantage + algorithm.beta * SLOW_KL[algorithm.kl_estimator](new, ref)


def slow_objective(new: list[list[complex]], old, ref, algorithm: GRPO) -> complex:
    """Loops over completions and tokens, as the papers print them."""
    divided = not isinstance(algorithm, DrGRPO)
    advantages = [value for rewards in GROUPS for value in slow_advantages(rewards, divided)]
    total, num_tokens, used = 0j, 0, 0j
    for i, answer in enumerate(new):
        costs = [slow_token(answer[t], old[i][t], ref[i][t], advantages[i], algorithm) for t in range(len(answer))]
        num_tokens += len(answer)
        used += sum(costs)
        total += sum(costs) / len(answer)
    if algorithm.normalization == "token":  # DAPO, eq. 8: every token of the batch alike
        return used / num_tokens
    if algorithm.normalization == "sequence":  # DeepSeekMath, eq. 3: 1/G sum_i 1/|o_i| sum_t
        return total / len(new)
    return used / (len(new) * CAP)  # Dr. GRPO: a constant instead of |o_i|


def slow_gradient(new: list[list[float]], old, ref, algorithm: GRPO) -> list[list[float]]:
    """Complex steps, exact to rounding: f'(x) = Im f(x + ih) / h."""
    step, gradient = 1e-30, []
    for i, answer in enumerate(new):
        gradient.append([])
        for t in range(len(answer)):
            moved = [[complex(value) for value in row] for row in new]
            moved[i][t] += step * 1j
            gradient[i].append(slow_objective(moved, old, ref, algorithm).imag / step)
    return gradient


def packed(rows: list[list[float]]) -> Tensor:
    """[T] float64: the rows end to end, each after a prompt of two tokens that has only zeros."""
    return torch.tensor([value for row in rows for value in (0.0, 0.0, *row)], dtype=torch.float64)


def draw_logprobs() -> list[list[list[float]]]:
    """New, old and reference log-probabilities of each token; the ratios lie on both sides of both clips."""
    draw = torch.Generator().manual_seed(3)
    new = [(torch.rand(n, generator=draw, dtype=torch.float64) * -3 - 0.1).tolist() for n in LENGTHS]
    noise = [[(torch.randn(n, generator=draw) * 0.5).tolist() for n in LENGTHS] for _ in range(2)]
    old, ref = ([[a + b for a, b in zip(*rows, strict=True)] for rows in zip(new, n, strict=True)] for n in noise)
    return [new, old, ref]


SETTINGS = [
    *(GRPO(clip_low=0.1, clip_high=0.3, normalization=n) for n in ("token", "sequence")),
    *(GRPO(clip_low=0.3, clip_high=0.1, beta=0.4, kl_estimator=k) for k in ("k1", "k2", "k3")),
    *(GRPO(clip_low=0.1, clip_high=0.3, beta=0.04, kl_estimator=k, normalization="sequence") for k in SLOW_KL),
    DrGRPO(clip_low=0.1, clip_high=0.3),
    *(DrGRPO(clip_low=0.1, clip_high=0.3, beta=0.4, kl_estimator=k) for k in ("k1", "k2", "k3")),
]


@pytest.mark.parametrize("algorithm", SETTINGS, ids=str)
def test_objective_and_gradient_from_rewards_on_equal_the_papers_loops_to_1e_9(algorithm):
    new, old, ref = draw_logprobs()
    logprobs = packed(new).requires_grad_()
    advantages = [a for r in GROUPS for a in algorithm.advantages(torch.tensor(r, dtype=torch.float64)).tolist()]
    totals = Totals(tokens=sum(LENGTHS), sequences=len(LENGTHS))
    weights = packed([[token_weight(n, totals, algorithm.normalization, CAP)] * n for n in LENGTHS])
    inputs = LossInputs(
        logprobs=logprobs,
        old_logprobs=packed(old),
        rollout_logprobs=packed(old),
        ref_logprobs=packed(ref) if algorithm.uses_reference else None,
        advantages=packed([[a] * n for a, n in zip(advantages, LENGTHS, strict=True)]),
        sequence_ids=torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS) + 2),
        loss_mask=packed([[1.0] * n for n in LENGTHS]).bool(),
    )
    loss = (weights * algorithm.token_loss(inputs)).sum()
    (gradient,) = torch.autograd.grad(loss, logprobs)

    expected = slow_objective([[complex(value) for value in row] for row in new], old, ref, algorithm).real
    slopes = packed(slow_gradient(new, old, ref, algorithm))
    assert abs(expected) > 1e-3
    assert_close(loss.item(), expected, rtol=1e-9, atol=0)
    assert_close(gradient, slopes, rtol=1e-9, atol=1e-15)
    ratio = importance_ratio(inputs.logprobs.detach(), inputs.old_logprobs)
    assert clipped_low(ratio, inputs.advantages, algorithm.clip_low).any()
    assert clipped_high(ratio, inputs.advantages, algorithm.clip_high).any()


def test_sft_with_token_weights_is_torchs_cross_entropy_and_its_gradient():
    logits = torch.randn(6, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tokens = torch.tensor([3, 0, 10, 7, 7, 1])
    logprobs = logits.log_softmax(-1)[torch.arange(6), tokens]
    zeros, ones = torch.zeros(6, dtype=torch.float64), torch.ones(6)
    inputs = LossInputs(logprobs, zeros, zeros, None, zeros, torch.tensor([0, 0, 0, 1, 1, 1]), ones.bool())
    loss = (SFT().token_loss(inputs) * token_weight(3, Totals(tokens=6, sequences=2), SFT().normalization, 99)).sum()
    expected = torch.nn.functional.cross_entropy(logits, tokens)
    assert_close(loss, expected, rtol=1e-12, atol=0)
    assert_close(*(torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, expected)))


@pytest.mark.parametrize("kind", [GRPO, DrGRPO])
def test_a_reference_is_used_only_where_its_kl_weighs_something(kind):
    assert not kind().uses_reference
    assert kind(beta=1e-6).uses_reference


@pytest.mark.parametrize("kind", [GRPO, DrGRPO])
@pytest.mark.parametrize("field", ["clip_low", "clip_high", "beta"])
def test_a_hyperparameter_that_is_not_a_number_is_refused_by_its_name(kind, field):
    with pytest.raises(ValueError, match=rf"algorithm\.{field} must be 0 or more, got nan"):
        kind(**{field: math.nan})


def test_an_infinite_weight_of_the_kl_is_refused_and_an_infinite_clip_is_not():
    with pytest.raises(ValueError, match=r"algorithm\.beta must be a finite number, got inf"):
        GRPO(beta=math.inf)
    GRPO(clip_low=math.inf, clip_high=math.inf)
