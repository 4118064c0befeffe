"""From hidden states to the scores of tokens and their gradients, a chunk of logits at a time.

    M  tokens with a loss      m  of these in one chunk      H  hidden size      V  vocabulary

No [M, V] ever exists, and nothing of size V is kept for the backward pass. With p = softmax(z), z = W h / temperature
and y the token,

    log p_y = z_y - logsumexp(z)        d log p_y / d z = onehot(y) - p        entropy = logsumexp(z) - sum_v p_v z_v

so the vector e = W^T p, which the gradient of h needs, gives the entropy too: sum_v p_v z_v = h e / temperature. A loss
that has the entropy in it pulls on all of z besides, exactly and not only by the token that was drawn:

    entropy = -sum_v p_v log p_v        d entropy / d z = -p (log p + entropy)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# The loss of some tokens from their log-probabilities [m], their places among the M and their entropies [m], the last
# with a gradient only where the head is asked for it: a scalar. It is called with whole sequences, and may couple the
# tokens of one, not of several.
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
        self,
        hidden: Tensor,
        targets: Tensor,
        temperature: float,
        sequences: Sequence[int],
        loss_of: LossOf,
        entropy_gradient: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [M, H], targets [M], sequences: the tokens of each, M together.

        entropy_gradient: whether the loss depends on the entropies, or only looks at them.
        -> the loss, which alone carries a gradient, log-probabilities [M] and entropies [M], nats, float32 (float64 of
        a float64 model).
        """
        chunk = chunk_tokens(self.weight.shape[0])
        if max(sequences, default=0) <= chunk:
            parts = split_at_sequences(sequences, chunk)
            return _Fused.apply(hidden, self.weight, targets, temperature, parts, loss_of, entropy_gradient)
        # No chunk holds the longest sequence: first the log-probabilities of all, then the gradient of their loss.
        parts = [len(part) for part in targets.split(chunk)]
        everything = torch.arange(len(targets), device=hidden.device)
        logprobs, entropy = self._scores(hidden, targets, temperature, parts)
        loss, slope, entropy_slope = _slopes(logprobs, everything, entropy, loss_of, entropy_gradient)

        def tangent(logprobs: Tensor, index: Tensor, entropy: Tensor) -> Tensor:
            moved = slope[index] * (logprobs - logprobs.detach())
            return (moved + entropy_slope[index] * (entropy - entropy.detach())).sum()

        nothing, *scores = _Fused.apply(hidden, self.weight, targets, temperature, parts, tangent, entropy_gradient)
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
            entropies.append(normalizer - (p * logits.to(p.dtype)).sum(-1) / temperature)
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
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        parts: list[int],
        loss_of: LossOf,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = compute_dtype(weight, hidden)
        wide = wide_dtype(dtype)
        pull = _pull_of_all_tokens if entropy_gradient else _pull_of_drawn_tokens
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            logprobs, entropy = (torch.empty(len(targets), dtype=wide, device=hidden.device) for _ in range(2))
            hidden_grad = torch.empty_like(hidden)
            weight_grad = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
            loss = torch.zeros((), dtype=wide, device=hidden.device)
            for index in torch.arange(len(targets), device=hidden.device).split(parts):
                value, logprobs[index], entropy[index], grad = pull(
                    hidden[index].to(dtype), targets[index], index, matrix, temperature, loss_of, weight_grad
                )
                hidden_grad[index] = grad.to(hidden.dtype)
                loss += value
        ctx.hidden_grad = hidden_grad
        ctx.weight_grad = None if weight_grad is None else weight_grad.to(weight.dtype)
        ctx.mark_non_differentiable(logprobs, entropy)
        return loss, logprobs, entropy

    @staticmethod
    def backward(ctx: Any, loss_grad: Tensor, *_: Tensor) -> Any:
        grads = [None if g is None else g.mul_(loss_grad.to(g.dtype)) for g in (ctx.hidden_grad, ctx.weight_grad)]
        ctx.hidden_grad = ctx.weight_grad = None
        return (*grads, None, None, None, None, None)


def compute_dtype(weight: Tensor, hidden: Tensor) -> torch.dtype:
    """What the products are computed in: bfloat16 under autocast, else what the model is in."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What scores and sums of this dtype's products are in: float32, or float64 where the products are."""
    return torch.promote_types(dtype, torch.float32)


def probabilities(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """logits [m, V] -> p [m, V], log p_y [m] and logsumexp [m] at the temperature, float32 or float64."""
    wide = wide_dtype(logits.dtype)
    if temperature != 1:
        logits = logits.to(wide) / temperature
    p = torch.softmax(logits, dim=-1, dtype=wide)
    largest, place = logits.max(dim=-1, keepdim=True)
    # p of the likeliest token is at least 1 / V: its logarithm is exact where that of p_y might be of 0.
    normalizer = (largest.to(wide) - p.gather(-1, place).log()).squeeze(-1)
    return p, logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).to(wide) - normalizer, normalizer


def _pull_of_drawn_tokens(
    h: Tensor,
    y: Tensor,
    index: Tensor,
    matrix: Tensor,
    temperature: float,
    loss_of: LossOf,
    weight_grad: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One chunk of a loss of log-probabilities: d loss / d z = slope (onehot(y) - p).

    -> loss, log-probabilities [m], entropies [m] and the gradient of h [m, H]; that of W is added to weight_grad.
    """
    p, logprobs, normalizer = probabilities(h @ matrix.T, y, temperature)
    wide = p.dtype
    p = p.to(matrix.dtype)
    expected = p @ matrix
    entropy = normalizer - (h.to(wide) * expected.to(wide)).sum(-1) / temperature
    loss, slope, _ = _slopes(logprobs, index, entropy, loss_of, entropy_gradient=False)
    slope = (slope / temperature).unsqueeze(-1)
    if weight_grad is not None:
        pull = slope * h.to(wide)
        _add_product(weight_grad, p.T, -pull.to(h.dtype))
        weight_grad.index_add_(0, y, pull)
    return loss, logprobs, entropy, slope * (matrix[y].to(wide) - expected.to(wide))


def _pull_of_all_tokens(
    h: Tensor,
    y: Tensor,
    index: Tensor,
    matrix: Tensor,
    temperature: float,
    loss_of: LossOf,
    weight_grad: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same of a loss that the entropies are in: d loss / d z = slope onehot(y) - spread,

        spread = p (slope + entropy_slope (log p + entropy))

    in the place of p log p: no more [m, V] at a time than there were with the logits, and three products with W again.
    """
    p, logprobs, _ = probabilities(h @ matrix.T, y, temperature)
    wide = p.dtype
    p_log_p = torch.xlogy(p, p)
    entropy = -p_log_p.sum(-1)
    loss, *slopes = _slopes(logprobs, index, entropy, loss_of, entropy_gradient=True)
    slope, entropy_slope = ((one / temperature).unsqueeze(-1) for one in slopes)
    spread = p_log_p.mul_(entropy_slope).addcmul_(p, slope + entropy_slope * entropy.unsqueeze(-1))
    del p, p_log_p
    spread = spread.to(matrix.dtype)
    if weight_grad is not None:
        _add_product(weight_grad, spread.T, -h)
        weight_grad.index_add_(0, y, slope * h.to(wide))
    return loss, logprobs, entropy, slope * matrix[y].to(wide) - (spread @ matrix).to(wide)


def _slopes(
    logprobs: Tensor, index: Tensor, entropy: Tensor, loss_of: LossOf, entropy_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of some tokens, and its derivatives by each log-probability and by each entropy."""
    with torch.enable_grad():
        leaf = logprobs.detach().requires_grad_()
        if not entropy_gradient:
            loss = loss_of(leaf, index, entropy)
            (slope,) = torch.autograd.grad(loss, leaf)
            return loss.detach(), slope, torch.zeros_like(entropy)
        spread = entropy.detach().requires_grad_()
        loss = loss_of(leaf, index, spread)
        slope, entropy_slope = torch.autograd.grad(loss, (leaf, spread), materialize_grads=True)
    return loss.detach(), slope, entropy_slope


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, in the dtype of the total."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
