"""The fused head: value and gradient of a loss of log-probabilities and entropies, beside autograd over all logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

import rl.head as head_module
from rl.head import FusedHead

SEQUENCES = [5, 1, 9, 3]
TOKENS, HIDDEN, VOCABULARY = sum(SEQUENCES), 6, 23
IDS = torch.arange(len(SEQUENCES)).repeat_interleave(torch.tensor(SEQUENCES))
COEF = 0.3


def drawn(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [M, H], weight [V, H], both with a gradient, and targets [M]."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(rows, HIDDEN, generator=draw, dtype=torch.float64) for rows in (TOKENS, VOCABULARY))
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=draw)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def loss_of(logprobs: Tensor, index: Tensor, entropy: Tensor) -> Tensor:
    """Couples the tokens of an answer, and has products of the two besides the bonus alone: nothing is separable."""
    losses = []
    for answer in IDS[index].unique():
        own = IDS[index] == answer
        losses.append((logprobs[own].mean().exp() * logprobs[own].sin() * (1 + entropy[own])).sum())
    return torch.stack(losses).sum() - COEF * (entropy * (1 + index.to(entropy.dtype))).sum()


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """All logits at once: loss, log-probabilities, entropies."""
    scores = (hidden @ weight.T / temperature).log_softmax(-1)
    logprobs = scores.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    entropy = -(scores.exp() * scores).sum(-1)
    return loss_of(logprobs, torch.arange(len(targets)), entropy), logprobs, entropy


@pytest.mark.parametrize("tokens_per_chunk", [1, 4, 10, TOKENS])  # the longest answer has nine
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_value_and_gradient_of_a_loss_with_entropies_are_autograds(
    dtype, tolerance, temperature, tokens_per_chunk, monkeypatch
):
    monkeypatch.setattr(head_module, "LOGITS_PER_CHUNK", tokens_per_chunk * VOCABULARY)
    exact = drawn(torch.float64)
    expected = plain(*exact, temperature)
    expected[0].backward()
    hidden, weight, targets = drawn(dtype)
    found = FusedHead(nn.Parameter(weight.detach()))
    scores = found(hidden, targets, temperature, SEQUENCES, loss_of, entropy_gradient=True)
    scores[0].backward()
    for ours, slow in zip(scores, expected, strict=True):
        assert ours.dtype == dtype
        assert_close(ours.detach().double(), slow.detach(), rtol=tolerance, atol=tolerance)
    for ours, slow in ((hidden.grad, exact[0].grad), (found.weight.grad, exact[1].grad)):
        assert (ours.double() - slow).abs().max() < tolerance * slow.abs().max()


def test_the_gradient_of_an_entropy_is_minus_p_times_log_p_plus_entropy():
    # W is the identity, so z = h / temperature. p = (1/2, 1/4, 1/4): H = 3/2 ln 2, log p + H = (1, -1, -1) ln 2 / 2.
    p = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    head = FusedHead(nn.Parameter(torch.eye(3, dtype=torch.float64)))
    for temperature in (1.0, 0.5):
        logits = (p.log() * temperature).requires_grad_()
        loss, _, entropy = head(
            logits, torch.tensor([0, 2]), temperature, [2], lambda logprobs, index, entropy: entropy.sum(),
            entropy_gradient=True,
        )  # fmt: skip
        loss.backward()
        assert_close(entropy, torch.tensor([1.5 * math.log(2), math.log(3)], dtype=torch.float64))
        expected = torch.tensor([[-0.5, 0.25, 0.25], [0, 0, 0]], dtype=torch.float64) * math.log(2) / 2
        assert_close(logits.grad, expected / temperature, rtol=1e-12, atol=1e-15)


def test_a_policy_that_is_sure_has_an_entropy_of_nothing_and_a_finite_gradient():
    hidden, head = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True), FusedHead(nn.Parameter(torch.eye(3)))
    loss, _, entropy = head(
        hidden, torch.tensor([0]), 1.0, [1], lambda logprobs, index, entropy: entropy.sum(), entropy_gradient=True
    )
    loss.backward()
    assert entropy.tolist() == [0]
    assert hidden.grad.tolist() == [[0, 0, 0]]


def test_entropies_that_are_only_looked_at_change_no_bit_of_the_loss_and_the_gradient():
    gradients = []
    for weight_of_entropy in (0.0, 5.0):
        hidden, weight, targets = drawn(torch.float32)
        head = FusedHead(nn.Parameter(weight.detach()))
        loss, _, entropy = head(
            hidden, targets, 1.0, SEQUENCES,
            lambda logprobs, index, entropy, c=weight_of_entropy: (logprobs.exp() + c * entropy - c * entropy).sum(),
        )  # fmt: skip
        assert not entropy.requires_grad
        loss.backward()
        gradients.append((hidden.grad, head.weight.grad))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def peak_bytes(entropy_gradient: bool, tokens: int, vocabulary: int) -> int:
    """The most that a pass of the head and its backward pass hold at a time, as torch's own profiler sees it."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 4, generator=draw, requires_grad=True)
    head = FusedHead(nn.Parameter(torch.randn(vocabulary, 4, generator=draw)))
    targets = torch.randint(vocabulary, (tokens,), generator=draw)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        loss, *_ = head(
            hidden, targets, 0.7, [tokens // 8] * 8, lambda logprobs, index, entropy: (logprobs - entropy).sum(),
            entropy_gradient,
        )  # fmt: skip
        loss.backward()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in watched.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    held = most = 0
    for _, change in sorted(changes):
        held += change
        most = max(most, held)
    return most


def test_an_entropy_in_the_loss_needs_no_more_memory_than_log_probabilities_alone(monkeypatch):
    tokens, vocabulary = 256, 4000
    monkeypatch.setattr(head_module, "LOGITS_PER_CHUNK", 32 * vocabulary)
    chunk, all_logits = 4 * 32 * vocabulary, 4 * tokens * vocabulary
    without, with_entropy = (peak_bytes(flag, tokens, vocabulary) for flag in (False, True))
    assert without > chunk  # it was seen
    assert with_entropy < 1.02 * without
    assert with_entropy < all_logits / 2
