"""What a rollout engine is: prompts in, groups of completions out, and the weights it samples from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from rl.experience import Group, Prompt, SamplingParams


class RolloutEngine(Protocol):
    """Its constructor is given what it names of model_path, tokenizer, dtype and device, and its recipe's options."""

    def generate(self, prompts: Sequence[Prompt], params: SamplingParams, seed: int) -> list[Group]:
        """One group a prompt, in order. A completion depends on (seed, prompt.index, its place in the group) only."""
        ...

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        """Takes every parameter of the policy; the next completions carry policy_step."""
        ...

    def awake(self) -> AbstractContextManager[None]:
        """Holds device memory only inside the with."""
        ...
