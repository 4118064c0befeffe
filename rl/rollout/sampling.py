"""Drawing one token a row, reproducibly: row r draws with its own numbers, whoever its neighbours are.

B  rows        V  vocabulary
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rl.experience import SamplingParams

BLOCK = 128  # of the vocabulary, in cumulating probabilities


def row_uniforms(seed: int, prompt_index: int, completion_index: int, count: int) -> np.ndarray:
    """[count] numbers in [0, 1), a pure function of the three integers; one is used for each sampled token."""
    key = np.random.SeedSequence((seed, prompt_index, completion_index))
    return np.random.Generator(np.random.Philox(key)).random(count)


def row_seed(seed: int, prompt_index: int, completion_index: int) -> int:
    """A 32-bit seed for engines that draw by themselves: the same function of the same three integers."""
    return int(np.random.SeedSequence((seed, prompt_index, completion_index)).generate_state(1)[0])


def draw(logits: Tensor, uniforms: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """logits [B, V], uniforms [B] -> tokens [B] and their log-probabilities [B], float32, nats.

    The log-probability is that of the tempered distribution before top-k, top-p and min-p cut it, which is what the
    update compares with. Inverse CDF: the token is the first whose cumulated probability exceeds the uniform.
    """
    if params.temperature == 0:
        return greedy(logits)
    tempered = logits if params.temperature == 1 else logits.float() / params.temperature
    probabilities = torch.softmax(tempered, dim=-1, dtype=torch.float32)
    tokens = first_beyond(truncate(probabilities, params), uniforms.float())
    return tokens, probabilities.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).log()


def first_beyond(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first place where the cumulated weight exceeds the uniform's share of all weight. [B, V], [B] -> [B].

    Cumulated over blocks first and then inside the one block, which a large vocabulary is not slow with.
    """
    last = weights.shape[-1] - 1
    if last < 4 * BLOCK:  # a second search would take longer than it saves
        cumulated = weights.cumsum(dim=-1)
        return _place(cumulated, uniforms * cumulated[:, -1])[0].squeeze(-1)
    weights = F.pad(weights, (0, -weights.shape[-1] % BLOCK))
    blocks = weights.view(len(weights), -1, BLOCK)
    cumulated = blocks.sum(dim=-1).cumsum(dim=-1)
    block, rest = _search(cumulated, uniforms * cumulated[:, -1])
    inside = blocks[torch.arange(len(blocks), device=blocks.device), block].cumsum(dim=-1)
    place, _ = _search(inside, rest)
    return (block * BLOCK + place).clamp(max=last)


def _search(cumulated: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """[B, n] -> the first places [B] where it exceeds the threshold [B], and what of the threshold is left there."""
    place, threshold = _place(cumulated, threshold)
    before = F.pad(cumulated, (1, 0)).gather(-1, place)
    return place.squeeze(-1), (threshold - before).squeeze(-1)


def _place(cumulated: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """The place [B, 1] and the threshold that was used [B, 1]."""
    # The largest float32 below 1 keeps the threshold below the total, so that no weight of 0 is chosen.
    threshold = torch.minimum(threshold, cumulated[:, -1] * (1 - 2**-24)).unsqueeze(-1)
    return torch.searchsorted(cumulated, threshold, right=True).clamp(max=cumulated.shape[-1] - 1), threshold


def greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token [B] and its log-probability [B] at temperature 1."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    best = logprobs.max(dim=-1)
    return best.indices, best.values


def truncate(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """Sets to 0 what top-k, top-p (arXiv:1904.09751) and min-p (arXiv:2407.01082) exclude. [B, V] -> [B, V]."""
    if params.min_p > 0:
        floor = params.min_p * probabilities.max(dim=-1, keepdim=True).values
        probabilities = probabilities.where(probabilities >= floor, 0.0)
    if params.top_k > 0:
        smallest = probabilities.topk(min(params.top_k, probabilities.shape[-1])).values[:, -1:]
        probabilities = probabilities.where(probabilities >= smallest, 0.0)
    if params.top_p < 1:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        # The first token whose predecessors already hold top_p of the mass is the first to go.
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.where(before < params.top_p * ordered.sum(dim=-1, keepdim=True), 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, index, ordered)
    return probabilities
