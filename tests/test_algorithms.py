"""Every algorithm from rewards to gradient beside its paper's loops (slow_losses.py); TRL's are in test_trl.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import yaml
from slow_losses import (
    ALGORITHMS,
    DRAWN,
    GROUPS,
    MISMATCHES,
    SETTINGS,
    Rows,
    advantages_of,
    doubles,
    loss_and_gradient,
    loss_inputs,
    loss_weights,
    name_of,
    packed,
    slow_gradient,
)
from torch.testing import assert_close

from rl.algorithms.cispo import CISPO
from rl.algorithms.dapo import DAPO
from rl.algorithms.distill import Distill
from rl.algorithms.dppo import DPPO
from rl.algorithms.dr_grpo import DrGRPO
from rl.algorithms.entropy import ClipCov, KLCov, TopEntropy
from rl.algorithms.gmpo import GMPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.gspo import GSPO, GSPOToken
from rl.algorithms.raft import RAFT, RAFTPlusPlus
from rl.algorithms.reinforce import ReinforcePlusPlus, ReinforcePlusPlusBaseline
from rl.algorithms.rloo import RLOO
from rl.algorithms.sapo import SAPO
from rl.algorithms.sft import SFT
from rl.algorithms.topr import TOPR
from rl.binding import build
from rl.config import RECIPES
from rl.kl import ESTIMATORS
from rl.losses import (
    mismatch_weight,
)


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


@pytest.mark.parametrize("normalization", ["token", "sequence"])
def test_raft_is_the_cross_entropy_of_what_was_accepted(normalization):
    # Dong et al., arXiv:2304.06767: supervised fine-tuning on the accepted answers, as if there were no others.
    algorithm = RAFT(threshold=0.5, normalization=normalization)
    loss, _ = loss_and_gradient(algorithm, loss_inputs(advantages_of(algorithm)), loss_weights(algorithm))
    right = [reward >= 0.5 for rewards in GROUPS for reward in rewards]
    accepted = [row for row, is_right in zip(DRAWN["new"], right, strict=True) if is_right]
    means = [-sum(row) / len(row) for row in accepted]
    of_tokens = -sum(sum(row) for row in accepted) / sum(len(row) for row in accepted)
    expected = of_tokens if normalization == "token" else sum(means) / len(means)
    assert_close(float(loss), expected, rtol=1e-9, atol=0)


def test_gspo_token_gives_each_token_its_own_advantage():
    # arXiv:2507.18071: what GSPO cannot; with one advantage an answer the two agree.
    varied = [[a[0] + 0.3 * t for t in range(len(a))] for a in advantages_of(GRPO())]
    algorithm = GSPOToken(clip_low=0.9, clip_high=9.0)
    _, gradient = loss_and_gradient(algorithm, loss_inputs(varied), loss_weights(algorithm))
    rows = []
    for new, old, advantages in zip(DRAWN["new"], DRAWN["old"], varied, strict=True):
        s = math.exp(sum(n - o for n, o in zip(new, old, strict=True)) / len(new))
        rows.append([-s * a / (len(new) * len(DRAWN["new"])) for a in advantages])
    assert_close(gradient, packed(rows), rtol=1e-9, atol=1e-15)


def test_the_defaults_are_the_papers():
    defaults = {
        DAPO: {"clip_low": 0.2, "clip_high": 0.28, "normalization": "token", "beta": 0.0},
        GSPO: {"clip_low": 3e-4, "clip_high": 4e-4, "normalization": "sequence"},
        SAPO: {"tau_pos": 1.0, "tau_neg": 1.05, "normalization": "sequence"},
        GMPO: {"clip_low": 0.4, "clip_high": 0.4, "normalization": "sequence"},
        CISPO: {"clip_low": 1.0, "clip_high": 4.0, "normalization": "token"},
        DPPO: {"divergence": "tv", "clip_low": 0.2, "clip_high": 0.2, "ratio_cap": 20.0},
        DrGRPO: {"normalization": "constant"},
        TopEntropy: {"fraction": 0.2},
        KLCov: {"fraction": 2e-4, "kl_weight": 1.0},
        ClipCov: {"fraction": 2e-4, "cov_low": 1.0, "cov_high": 5.0},
        RLOO: {"kl_estimator": "k1", "kl_in": "reward"},
        ReinforcePlusPlus: {"kl_estimator": "k1", "kl_in": "reward"},
        ReinforcePlusPlusBaseline: {"kl_estimator": "k2", "kl_in": "loss"},
    }
    for kind, values in defaults.items():
        assert {name: getattr(kind(), name) for name in values} == values


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
    truncated = truncating.token_metrics(inputs)["mismatch/truncated_fraction"][inputs.loss_mask]
    rho = (inputs.old_logprobs - inputs.rollout_logprobs).exp()[inputs.loss_mask]
    assert torch.equal(truncated, (rho >= 1.2).float())
    assert 0 < truncated.mean() < 1


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


DEVIATING = ("grpo", "dppo_kl")  # DAPO's clip; the thresholds of the other divergence


@pytest.mark.parametrize("path", sorted(RECIPES.glob("algorithm/*.yaml")), ids=lambda path: path.stem)
def test_the_recipe_of_an_algorithm_states_its_defaults(path):
    section = yaml.safe_load(path.read_text())
    algorithm = build(section, "algorithm")
    values = {name: value for name, value in section.items() if name != "_target_"}
    assert {name: getattr(algorithm, name) for name in values} == values
    assert (algorithm == type(algorithm)()) is (path.stem not in DEVIATING)


def test_every_algorithm_is_in_the_table_of_the_docs():
    text = (RECIPES.parent / "docs" / "algorithms.md").read_text()
    for path in RECIPES.glob("algorithm/*.yaml"):
        assert f"`{path.stem}`" in text, path.stem
    for path in (RECIPES.parent / "rl" / "algorithms").glob("*.py"):
        if path.stem not in ("__init__", "policy_gradient"):
            assert f"(../rl/algorithms/{path.name})" in text
