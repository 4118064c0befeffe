"""REINFORCE++ and its baseline form: advantages normalised over the batch, not in each group (arXiv:2501.03262)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rl.advantages import batch_normalized, group_centred
from rl.algorithms.policy_gradient import PolicyGradient
from rl.metrics import Gather


@dataclass(frozen=True, kw_only=True)
class ReinforcePlusPlus(PolicyGradient):
    """A_t = r - beta sum_(i >= t) KL_i,    A_t <- (A_t - mean) / std over all tokens of the batch.

    KL_i = log(pi_old / pi_ref) of token i. Needs no group: one completion a prompt is enough. The surrogate is PPO's.
    """

    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    kl_in: Literal["loss", "reward"] = "reward"

    @property
    def pays_to_go(self) -> bool:
        return True

    def advantages(self, rewards: Tensor) -> Tensor:
        return rewards

    def batch_advantages(self, advantages: list[Tensor], gather: Gather) -> list[Tensor]:
        return batch_normalized(advantages, gather, per="token")


@dataclass(frozen=True, kw_only=True)
class ReinforcePlusPlusBaseline(ReinforcePlusPlus):
    """A_i = r_i - mean(r of its group), then normalised over the batch; the KL is k2 in the loss."""

    kl_estimator: Literal["k1", "k2", "k3"] = "k2"
    kl_in: Literal["loss", "reward"] = "loss"

    def advantages(self, rewards: Tensor) -> Tensor:
        return group_centred(rewards)
