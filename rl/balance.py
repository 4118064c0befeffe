"""One update's account of a mixture of experts: how its tokens were spread, what that costs, and the metrics of it.

Its tokens are the trained ones, of all ranks together. A prompt is computed as often as packing has it, once for its
group or once for each completion, and what is counted must not depend on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from rl.batch import MicroBatch
from rl.config import MoEConfig
from rl.metrics import Gather, Tally
from rl.moe import (
    bias_step,
    disagreement,
    expert_counts,
    load_balancing_loss,
    max_load,
    router_entropy,
    sequence_balance_loss,
    unused_fraction,
)
from rl.routers import Routers, Routes


class Balance:
    """After each pass of an update `count` (without a gradient) or `penalty`, after the last one `finish`."""

    def __init__(
        self, routers: Routers, settings: MoEConfig, micro_batches: Sequence[MicroBatch], gather: Gather
    ) -> None:
        """Collective."""
        self.routers, self.settings, self.gather = routers, settings, gather
        sizes = [(int(mask.sum()), len(ids[mask].unique())) for ids, mask in map(_ids_and_mask, micro_batches)]
        totals = cast(list[tuple[int, int]], gather(tuple(sum(column) for column in zip(*sizes, strict=True))))
        self.num_tokens, self.num_sequences = (max(1, sum(column)) for column in zip(*totals, strict=True))
        self._counts = torch.zeros(len(routers), routers.num_experts, dtype=torch.int64)
        self._shares: Tensor | None = None  # [L, E] of the whole batch
        coefficients = {"moe/aux_loss": settings.router_aux_coef, "moe/sequence_aux_loss": settings.sequence_aux_coef}
        self._losses = {name: 0.0 for name, coefficient in coefficients.items() if coefficient > 0}  # of this rank

    @property
    def needs_shares(self) -> bool:
        """Whether every micro-batch has to be counted before the first penalty."""
        return self.settings.router_aux_coef > 0 and self._shares is None

    @torch.no_grad()
    def count(self, batch: MicroBatch) -> None:
        """After a pass over this micro-batch."""
        self._count(self.routers.routes(), batch)

    def all_counted(self) -> None:
        """Collective: from here on penalties know the shares of the whole batch."""
        self._shares = self._all_counts() / self.num_tokens
        self._counts.zero_()

    def penalty(self, batch: MicroBatch, tally: Tally) -> Tensor | float:
        """After a pass over this micro-batch: its part of the losses that spread tokens evenly, with gradient."""
        settings = self.settings
        with torch.set_grad_enabled(settings.router_aux_coef + settings.sequence_aux_coef > 0):
            routes = self.routers.routes()
        self._count(routes, batch)
        self._add_token_metrics(routes, batch, tally)
        sequence_ids, mask = _ids_and_mask(batch)
        penalty: Tensor | float = 0.0
        if self._shares is not None:
            shares = self._shares.to(routes.probabilities)
            loss = load_balancing_loss(routes.probabilities, mask, shares, self.num_tokens)
            penalty += self._part("moe/aux_loss", loss, settings.router_aux_coef)
        if settings.sequence_aux_coef > 0:
            loss = sequence_balance_loss(routes.probabilities, routes.experts, sequence_ids, mask, self.num_sequences)
            penalty += self._part("moe/sequence_aux_loss", loss, settings.sequence_aux_coef)
        return penalty

    def finish(self, tally: Tally) -> None:
        """Collective, after the optimizer's step: the metrics of the load, and the biases that follow it."""
        counts = self._all_counts()
        tally.add("moe/max_load", max_load(counts))
        tally.add("moe/unused_fraction", unused_fraction(counts))
        parts = cast(list[dict[str, float]], self.gather(self._losses))
        for name in self._losses:
            tally.add(name, sum(losses[name] for losses in parts))
        if self.settings.bias_speed > 0:
            for bias, step in zip(self.routers.biases, bias_step(counts, self.settings.bias_speed), strict=True):
                bias.add_(step.to(bias))

    def _part(self, name: str, loss: Tensor, coefficient: float) -> Tensor:
        self._losses[name] += loss.item()
        return coefficient * loss

    def _count(self, routes: Routes, batch: MicroBatch) -> None:
        self._counts += expert_counts(routes.experts, batch.loss_weights > 0, self.routers.num_experts).cpu()

    def _all_counts(self) -> Tensor:
        return torch.stack(cast(list[Tensor], self.gather(self._counts))).sum(dim=0)

    @torch.no_grad()
    def _add_token_metrics(self, routes: Routes, batch: MicroBatch, tally: Tally) -> None:
        """Means over the trained tokens, and over those of them whose experts were prescribed."""
        mask = batch.loss_weights > 0
        _add_mean(tally, "moe/router_entropy", router_entropy(routes.probabilities[mask]))
        if batch.experts is not None:
            told = mask & (batch.experts >= 0).flatten(1).all(-1)
            _add_mean(tally, "moe/routing_disagreement", disagreement(routes.own[told], batch.experts[told].long()))


def _ids_and_mask(batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """sequence_ids [T], and which tokens are trained [T] bool."""
    return batch.sequence_ids, batch.loss_weights > 0


def _add_mean(tally: Tally, name: str, values: Tensor) -> None:
    tally.add(name, [float(values.double().mean())] if len(values) else [], weight=len(values))
