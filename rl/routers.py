"""The routers of a mixture of experts: what they chose in a pass, and how to make them choose as another pass did.

    T  tokens of one pass      L  layers with a router      E  experts of each      K  of them that a token goes to

Routing replay: a router that is told its experts takes those, weighed by its own current logits, so that the gradient
reaches it as ever. Told by the sampler (R3, arXiv:2510.11370) or by an earlier pass of the trainer (arXiv:2507.18071,
section 5.3), the same experts see a token each time; left alone, rounding or an update moves some tokens to others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter

from rl.experience import Completion, Group, Routing
from rl.moe import OWN_CHOICE

FAMILIES = ("qwen3_moe", "deepseek_v3")
ROUTERS = (Qwen3MoeTopKRouter, DeepseekV3TopkRouter)
ONE_BYTE, TWO_BYTES = "u1", "<u2"  # numpy's names for the numbers in a Routing


@dataclass(frozen=True, slots=True)
class Routes:
    """What the routers did in one pass."""

    probabilities: Tensor  # [T, L, E] float32, with gradient: softmax of the logits, or their sigmoids over the sum
    experts: Tensor  # [T, L, K] int64, those that computed each token
    own: Tensor  # [T, L, K] int64, those that the router would have taken; another tensor only where it was told


class Routers:
    """Watches the routers of a model, and tells them what to choose. Without routers every method does nothing."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: list[Any] = [module for module in model.modules() if isinstance(module, ROUTERS)]
        self._replayed: Tensor | None = None
        self._places: Tensor | None = None
        self._watching = False
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []  # of each layer: logits, experts, own choice
        for layer, module in enumerate(self.modules):
            module.register_forward_hook(partial(self._choose, layer))

    def __len__(self) -> int:
        """L."""
        return len(self.modules)

    @property
    def num_experts(self) -> int:
        """E."""
        return int(self.modules[0].num_experts)

    @property
    def nothing(self) -> Tensor:
        """[0, L, K] int16."""
        return torch.empty(0, len(self), self.modules[0].top_k, dtype=torch.int16)

    @property
    def biases(self) -> list[Tensor]:
        """[E] of each layer, added to the scores that experts are chosen by; empty for a family that has none."""
        return [module.e_score_correction_bias for module in self.modules if is_sigmoid(module)]

    def watch(self, replayed: Tensor | None = None, places: Tensor | None = None) -> None:
        """Before a pass. It is told `replayed` until the next call: checkpointed layers run again in the backward pass.

        replayed [T, L, K], OWN_CHOICE where there is none. places [T]: which of the router's rows each token is, where
        there is padding between them; None: row t is token t.
        """
        self._replayed, self._places, self._seen, self._watching = replayed, places, [], True

    def routes(self) -> Routes:
        """What they did in the pass since watch(); it is then forgotten."""
        logits, experts, own = zip(*self._seen, strict=True)
        self._seen, self._watching = [], False
        probabilities = [router_probabilities(*pair) for pair in zip(self.modules, logits, strict=True)]
        rows = slice(None) if self._places is None else self._places
        return Routes(*(torch.stack(parts, dim=1)[rows] for parts in (probabilities, experts, own)))

    @torch.compiler.disable  # what it remembers is not the compiled layer's business
    def _choose(self, layer: int, router: Any, _: Any, output: tuple[Tensor, Tensor, Tensor]) -> Any:
        logits, weights, own = output
        experts = own
        if self._replayed is not None:
            told = self._replayed[:, layer].to(own)
            if self._places is not None:
                told = torch.full_like(own, OWN_CHOICE).index_copy(0, self._places, told)
            experts = torch.where(told < 0, own, told)
            weights = gate_weights(router, logits, experts)
        if self._watching and len(self._seen) == layer:
            self._seen.append((logits, experts, own))
        return logits, weights, experts


def is_sigmoid(router: Any) -> bool:
    """DeepSeek-V3's kind: an affinity for each expert by itself. Else a softmax over all of them."""
    return hasattr(router, "e_score_correction_bias")


def router_probabilities(router: Any, logits: Tensor) -> Tensor:
    """[T, E] -> [T, E] float32. Sigmoids over their sum, as DeepSeek-V3's balance has it (arXiv:2412.19437, eq. 19)."""
    return F.normalize(logits.float().sigmoid(), p=1, dim=-1) if is_sigmoid(router) else logits.float().softmax(-1)


def gate_weights(router: Any, logits: Tensor, experts: Tensor) -> Tensor:
    """The weights [T, K] with which the router's family mixes these experts [T, K]; logits [T, E].

        softmax(logits) or sigmoid(logits) of each, over their sum if norm_topk_prob, times routed_scaling_factor

    For the router's own choice it is what the router itself gives.
    """
    scores = logits.float().sigmoid() if is_sigmoid(router) else logits.float().softmax(-1)
    weights = scores.gather(-1, experts)
    if router.norm_topk_prob:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights * router.routed_scaling_factor if is_sigmoid(router) else weights.to(logits.dtype)


# ---------------------------------------------------------------------- as recorded with a completion


def recorded(experts: Tensor, num_experts: int) -> Routing:
    """[T, L, K] as a value to keep."""
    kind = ONE_BYTE if num_experts <= 256 else TWO_BYTES
    tokens, layers, top_k = experts.shape
    return Routing(tokens, layers, top_k, experts.cpu().numpy().astype(kind).tobytes())


def replayable(routing: Routing) -> Tensor:
    """The same again as [T, L, K] int16."""
    kind = ONE_BYTE if routing.bytes_per_expert == 1 else TWO_BYTES
    numbers = np.frombuffer(routing.data, kind).astype(np.int16)
    return torch.from_numpy(numbers).view(routing.tokens, routing.layers, routing.top_k)


def of_trajectory(group: Group, completion: Completion) -> Tensor:
    """[P + C, L, K] int16 of a prompt and a completion of it. The last token was no input: there the router chooses."""
    if not completion.routing.layers or not group.prompt_routing.layers:
        raise ValueError(
            f"problem {group.prompt.problem.id}: model.moe.routing_replay=rollout needs the experts that the sampler "
            "chose, and its completions came without: take rollout=native or rollout=hf, or "
            "model.moe.routing_replay=none"
        )
    known = [replayable(group.prompt_routing), replayable(completion.routing)]
    return torch.cat([*known, torch.full((1, *known[0].shape[1:]), OWN_CHOICE, dtype=torch.int16)])
