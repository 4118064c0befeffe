"""What all losses have in common: no gradient where clipped, no dependence on packing, right expectations."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from slow_losses import (
    ALGORITHMS,
    FLAT_LENGTHS,
    MISMATCHES,
    advantages_of,
    doubles,
    loss_and_gradient,
    loss_inputs,
    loss_weights,
    name_of,
    packed,
)
from torch import Tensor
from torch.testing import assert_close

from rl.algorithms import Algorithm, EntropyControl, LossInputs, ReportsTokens
from rl.algorithms.cispo import CISPO
from rl.algorithms.dapo import DAPO
from rl.algorithms.distill import Distill
from rl.algorithms.dppo import DPPO
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.entropy import ClipCov, KLCov, TopEntropy
from rl.algorithms.gmpo import GMPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.gspo import GSPO, GSPOToken
from rl.algorithms.luspo import LUSPO
from rl.algorithms.pass_at_k import PassAtK
from rl.algorithms.reinforce import ReinforcePlusPlus
from rl.algorithms.rloo import RLOO
from rl.algorithms.sapo import SAPO
from rl.algorithms.sft import SFT
from rl.algorithms.topr import TOPR
from rl.credit import learns_from_advantages_alone
from rl.kl import ESTIMATORS, reweighted
from rl.losses import (
    applied_entropy_coef,
    dual_clipped,
    importance_ratio,
    next_entropy_coef,
    sequence_mean,
    sequence_sum,
)

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
    assert GRPO(dual_clip=3.0).token_metrics(inputs)["policy/dual_clip_fraction"].tolist() == [0, 0, 0, 1, 1, 1]
    assert GRPO(dual_clip=3.0).token_metrics(two_answers(1.5, 1.0))["policy/dual_clip_fraction"].sum() == 0
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
    # Of a token mean -A_t / tokens, of a mean over answers -A / (answers |y|); of a whole answer: |y| times it.
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
    *(GRPO(mismatch=kind, mismatch_low=low, mismatch_high=high) for kind, low, high in MISMATCHES),
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


BY_ADVANTAGE = [a for a in EVERY if not isinstance(a, SFT) and learns_from_advantages_alone(a)]


@pytest.mark.parametrize("algorithm", BY_ADVANTAGE, ids=name_of)
def test_no_advantage_is_no_gradient(algorithm):
    # What batch.skip_without_advantage may leave out.
    zeros = [[0.0] * n for n in FLAT_LENGTHS]
    inputs = loss_inputs(zeros, torch.ones(sum(FLAT_LENGTHS) + 2 * len(FLAT_LENGTHS), dtype=torch.bool))
    loss, gradient = loss_and_gradient(algorithm, inputs, loss_weights(algorithm))
    assert float(loss) == 0
    assert (gradient == 0).all()


def test_what_learns_from_more_than_advantages_says_so():
    for algorithm in (
        GRPO(beta=0.1),
        GRPO(entropy_coef=0.1),
        GRPO(entropy_target=0.1),
        Distill(),
        KLCov(),
        ClipCov(),
        TopEntropy(),
    ):
        assert not learns_from_advantages_alone(algorithm)


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


# ---------------------------------------------------------------------- entropy


def test_an_entropy_bonus_takes_its_weight_times_the_entropy_and_nothing_else():
    inputs = loss_inputs(advantages_of(GRPO()))
    assert_close(
        GRPO(entropy_coef=0.3).token_loss(inputs), GRPO().token_loss(inputs) - 0.3 * inputs.entropy, rtol=1e-12, atol=0
    )
    assert GRPO(entropy_coef=0.3).needs_entropy
    assert GRPO(entropy_target=0.3).needs_entropy
    assert not GRPO().needs_entropy


def test_the_weight_goes_up_below_the_target_down_above_it_and_stays_within_its_bounds():
    move = lambda coef, entropy: next_entropy_coef(coef, entropy, 0.5, delta=0.125, low=0.25, high=1.0)  # noqa: E731
    assert [move(0.5, entropy) for entropy in (0.0, 0.49, 0.5, 0.51, math.inf)] == [0.625, 0.625, 0.5, 0.375, 0.375]
    assert [move(0.9, 0.4), move(1.0, 0.4), move(0.3, 0.6), move(0.25, 0.6)] == [1.0, 1.0, 0.25, 0.25]


def test_the_bonus_is_applied_at_the_target_and_below_it_only():
    assert [applied_entropy_coef(0.3, entropy, 0.5) for entropy in (0.0, 0.5, 0.51, math.inf)] == [0.3, 0.3, 0, 0]


def test_an_entropy_that_falls_is_caught_and_held_near_the_target():
    """A policy that loses 0.02 nats an update and gains four times its bonus's weight: at rest with one of 0.005."""
    algorithm = GRPO(entropy_target=0.2, entropy_delta=1e-4, entropy_coef_max=0.05)
    control, entropy, entropies, applied = EntropyControl(algorithm.entropy_coef), 1.0, [], []
    for _ in range(3000):
        of_update = algorithm.under(control)
        assert not of_update.controls_entropy  # a constant weight
        control = algorithm.next_control(control, entropy)
        entropies.append(entropy)
        applied.append(of_update.entropy_coef)
        entropy = max(0.0, entropy - 0.02 + 4 * of_update.entropy_coef)
    assert set(applied[:41]) == {0}  # above the target nothing is paid
    assert all(0 <= coef <= 0.05 for coef in applied)
    late, paid = torch.tensor(entropies[1000:]), torch.tensor(applied[1000:])
    assert abs(float(late.mean()) - 0.2) < 0.05
    assert float(late.max()) < 0.4
    assert float(paid.mean()) == pytest.approx(0.005, rel=0.1)
    assert len(paid.unique()) > 2  # it moves


def test_without_a_target_the_weight_is_the_recipes_for_good():
    assert not GRPO(entropy_coef=0.3).controls_entropy
    started = EntropyControl(GRPO(entropy_target=0.2, entropy_coef=0.001).entropy_coef)
    assert started.coef == 0.001
    assert started.entropy == math.inf  # nothing is known before the first update, so nothing is applied


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
        (GRPO, {"entropy_coef": -0.1}, r"algorithm\.entropy_coef must be 0 or more, got -0\.1"),
        (
            GRPO,
            {"entropy_target": 0.2, "entropy_coef": 0.1},
            r"algorithm\.entropy_coef=0\.1 .* entropy_coef_max=0\.005",
        ),
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
