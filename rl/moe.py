"""How evenly a mixture of experts is used, and what evens it. Tensors in, tensors out; rl/routers.py knows the models.

    T  tokens        L  layers with a router        E  experts of each        K  of them that a token goes to

    p   [T, L, E]  what each router thinks of each expert, a distribution over E
    f   [L, E]     the share of the tokens that went to each expert; over E it sums to K

Which tokens count is the caller's to say, by a mask [T].
"""

from __future__ import annotations

import torch
from torch import Tensor

OWN_CHOICE = -1  # in place of an expert to be replayed: the router chooses for this token


def expert_counts(experts: Tensor, mask: Tensor, num_experts: int) -> Tensor:
    """How many of the masked tokens went to each expert: experts [T, L, K], mask [T] bool -> [L, E] int64."""
    chosen = experts[mask].transpose(0, 1).flatten(1).long()  # [L, masked x K]
    return torch.zeros(chosen.shape[0], num_experts, dtype=torch.int64, device=chosen.device).scatter_add_(
        1, chosen, torch.ones_like(chosen)
    )


def load_balancing_loss(probabilities: Tensor, mask: Tensor, shares: Tensor, num_tokens: int) -> Tensor:
    """These tokens' part of the load-balancing loss of a batch of num_tokens tokens; a scalar, to be minimised.

        sum over l of  E / L  sum_i f_li P_li,    P_li = 1 / num_tokens  sum_t p_tli
                                                                Switch Transformers, arXiv:2101.03961, eq. 4-6

    probabilities [T, L, E], mask [T], shares f [L, E] of the whole batch, without gradient. P is a sum over tokens, so
    the parts of a batch add up to its loss however it was cut; f has to be known beforehand. K at balance, where all
    experts are alike, and E where all tokens go to the same ones. The scale is that of transformers, whose
    load_balancing_loss_func however pools the layers: there one layer's idle expert 3 makes up for another's busy one.
    """
    means = probabilities[mask].sum(dim=0) / num_tokens
    return probabilities.shape[-1] * (shares * means).sum(-1).mean()


def sequence_balance_loss(
    probabilities: Tensor, experts: Tensor, sequence_ids: Tensor, mask: Tensor, num_sequences: int
) -> Tensor:
    """The same inside each sequence: these sequences' part of the loss of a batch of num_sequences; a scalar.

        1 / num_sequences  sum over sequences of  1 / L  sum_l sum_i f_li P_li
        f_li = E / (K T) sum_t [t went to i],    P_li = 1 / T sum_t p_tli       DeepSeek-V3, arXiv:2412.19437, eq. 17-20

    with T the sequence's masked tokens; 1 at balance. probabilities [T, L, E], experts [T, L, K], the others [T].
    """
    _, places = sequence_ids[mask].unique(return_inverse=True)
    size = int(places.max()) + 1 if len(places) else 0
    lengths = places.bincount(minlength=size).view(-1, 1, 1)
    num_experts, top_k = probabilities.shape[-1], experts.shape[-1]
    chosen = torch.zeros_like(probabilities[mask]).detach().scatter_(-1, experts[mask].long(), 1.0)
    zeros = chosen.new_zeros(size, *chosen.shape[1:])
    shares = zeros.index_add(0, places, chosen) * num_experts / (top_k * lengths)
    means = zeros.index_add(0, places, probabilities[mask]) / lengths
    return (shares * means).sum(-1).mean(-1).sum() / num_sequences


def bias_step(counts: Tensor, speed: float) -> Tensor:
    """What an update adds to the routers' biases, which choose experts and weigh nothing. [L, E] -> [L, E].

    speed where an expert had fewer tokens than the mean of its layer, -speed where more
                                        arXiv:2408.15664, algorithm 1; DeepSeek-V3, arXiv:2412.19437, section 2.1.2
    """
    counts = counts.double()
    return speed * torch.sign(counts.mean(dim=-1, keepdim=True) - counts)


def max_load(counts: Tensor) -> float:
    """The busiest expert's tokens over the mean of its layer, averaged over layers. [L, E].

    1 at balance, E / K where all tokens go to the same experts. MaxVio of arXiv:2408.15664 is this less 1.
    """
    counts = counts.double()
    return float((counts.amax(-1) / counts.mean(-1)).mean())


def unused_fraction(counts: Tensor) -> float:
    """Experts without a token, of all; NaN where there is no token. [L, E]."""
    return float((counts == 0).double().mean()) if counts.any() else float("nan")


def router_entropy(probabilities: Tensor) -> Tensor:
    """Of each token, averaged over layers: [T, L, E] -> [T], nats; log E where a router knows no difference."""
    return torch.special.entr(probabilities).sum(-1).mean(-1)


def disagreement(experts: Tensor, others: Tensor) -> Tensor:
    """The share of layers in which a token's two sets of experts differ, in whatever order. [T, L, K] twice -> [T]."""
    return (experts.sort(-1).values != others.sort(-1).values).any(-1).double().mean(-1)
