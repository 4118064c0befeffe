"""From hidden states to the scores of tokens and their gradients, a chunk of logits at a time.

    M  tokens with a loss      m  of these in one chunk      H  hidden size      V  vocabulary

No [M, V] ever exists, and nothing of size V is kept for the backward pass. With p = softmax(z), z = W h / temperature
and y the token,

    log p_y = z_y - logsumexp(z)        d log p_y / d z = onehot(y) - p        entropy = logsumexp(z) - sum_v p_v z_v

so the vector e = W^T p, which the gradient of h needs, gives the entropy too: sum_v p_v z_v = h e / temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# The loss of some tokens from their log-probabilities [m], their places among the M and their entropies [m], the last
# without gradient: a scalar. It is called with whole sequences, and may couple the tokens of one, not of several.
LossOf = Callable[[Tensor, Tensor, Tensor], Tensor]

LOGITS_PER_CHUNK = 1 << 26  # 256 MB of float32 logits at a time


class FusedHead(nn.Module):
    """An output head that computes the gradient of a loss together with the scores: three products with W, not four.

    It shares the weight of the model's own head. A module, so that ZeRO-3 gathers the weight around it.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(
        self, hidden: Tensor, targets: Tensor, temperature: float, sequences: Sequence[int], loss_of: LossOf
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [M, H], targets [M], sequences: the tokens of each, M together.

        -> the loss, which alone carries a gradient, log-probabilities [M] and entropies [M], float32, nats.
        """
        chunk = chunk_tokens(self.weight.shape[0])
        if max(sequences, default=0) <= chunk:
            return _Fused.apply(
                hidden, self.weight, targets, temperature, split_at_sequences(sequences, chunk), loss_of
            )
        # No chunk holds the longest sequence: first the log-probabilities of all, then the gradient of their loss.
        parts = [len(part) for part in targets.split(chunk)]
        everything = torch.arange(len(targets), device=hidden.device)
        logprobs, entropy = self._scores(hidden, targets, temperature, parts)
        loss, slope = _slope(logprobs, everything, entropy, loss_of)

        def tangent(logprobs: Tensor, index: Tensor, entropy: Tensor) -> Tensor:
            return (slope[index] * (logprobs - logprobs.detach())).sum()

        nothing, *scores = _Fused.apply(hidden, self.weight, targets, temperature, parts, tangent)
        return loss + nothing, *scores

    @torch.no_grad()
    def _scores(self, hidden: Tensor, targets: Tensor, temperature: float, parts: list[int]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies, [M] each."""
        dtype = compute_dtype(self.weight, hidden)
        matrix = self.weight.to(dtype)
        logprobs, entropies = [], []
        for h, y in zip(hidden.to(dtype).split(parts), targets.split(parts), strict=True):
            logits = h @ matrix.T
            p, own, normalizer = probabilities(logits, y, temperature)
            logprobs.append(own)
            entropies.append(normalizer - (p * logits.float()).sum(-1) / temperature)
        return torch.cat(logprobs), torch.cat(entropies)


def chunk_tokens(vocabulary: int) -> int:
    """Tokens whose logits are made at a time."""
    return max(1, LOGITS_PER_CHUNK // vocabulary)


def split_at_sequences(sequences: Sequence[int], most: int) -> list[int]:
    """Sizes of parts that hold whole sequences and at most so many tokens, or one longer sequence."""
    parts: list[int] = []
    for size in sequences:
        if parts and parts[-1] + size <= most:
            parts[-1] += size
        else:
            parts.append(size)
    return parts


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, parts: list[int], loss_of: LossOf
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = compute_dtype(weight, hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            logprobs, entropy = (torch.empty(len(targets), device=hidden.device) for _ in range(2))
            hidden_grad = torch.empty_like(hidden)
            weight_grad = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
            loss = torch.zeros((), device=hidden.device)
            for index in torch.arange(len(targets), device=hidden.device).split(parts):
                h, y = hidden[index].to(dtype), targets[index]
                p, logprobs[index], normalizer = probabilities(h @ matrix.T, y, temperature)
                p = p.to(dtype)
                expected = p @ matrix
                entropy[index] = normalizer - (h.float() * expected.float()).sum(-1) / temperature
                value, slope = _slope(logprobs[index], index, entropy[index], loss_of)
                slope = (slope / temperature).unsqueeze(-1)
                hidden_grad[index] = (slope * (matrix[y].float() - expected.float())).to(hidden.dtype)
                if weight_grad is not None:
                    pull = slope * h.float()
                    _add_product(weight_grad, p.T, -pull.to(dtype))
                    weight_grad.index_add_(0, y, pull)
                loss += value
        ctx.hidden_grad = hidden_grad
        ctx.weight_grad = None if weight_grad is None else weight_grad.to(weight.dtype)
        ctx.mark_non_differentiable(logprobs, entropy)
        return loss, logprobs, entropy

    @staticmethod
    def backward(ctx: Any, loss_grad: Tensor, *_: Tensor) -> Any:
        grads = [None if g is None else g.mul_(loss_grad.to(g.dtype)) for g in (ctx.hidden_grad, ctx.weight_grad)]
        ctx.hidden_grad = ctx.weight_grad = None
        return (*grads, None, None, None, None)


def compute_dtype(weight: Tensor, hidden: Tensor) -> torch.dtype:
    """What the products are computed in: bfloat16 under autocast, else what the model is in."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def probabilities(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """logits [m, V] -> p [m, V], log p_y [m] and logsumexp [m] at the temperature, float32."""
    if temperature != 1:
        logits = logits.float() / temperature
    p = torch.softmax(logits, dim=-1, dtype=torch.float32)
    largest, place = logits.max(dim=-1, keepdim=True)
    # p of the likeliest token is at least 1 / V: its logarithm is exact where that of p_y might be of 0.
    normalizer = (largest.float() - p.gather(-1, place).log()).squeeze(-1)
    return p, logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).float() - normalizer, normalizer


def _slope(logprobs: Tensor, index: Tensor, entropy: Tensor, loss_of: LossOf) -> tuple[Tensor, Tensor]:
    """The loss of some tokens, and its derivative by each log-probability."""
    with torch.enable_grad():
        leaf = logprobs.detach().requires_grad_()
        loss = loss_of(leaf, index, entropy)
        (slope,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), slope


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, in float32."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
