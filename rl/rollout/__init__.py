"""What a rollout engine is: prompts in, groups of completions out, and the weights it samples from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from rl.experience import Completion, Group, Prompt, SamplingParams

Finished = Callable[[int, int, Completion], None]  # (place of the prompt, place in its group, completion)


def hand_over(groups: Sequence[Group], finished: Finished | None, first: int = 0) -> None:
    """For engines that have their completions all at once; `first` is the place of the first group's prompt."""
    if finished is not None:
        for i, group in enumerate(groups, start=first):
            for place, completion in enumerate(group.completions):
                finished(i, place, completion)


class RolloutEngine(Protocol):
    """Its constructor is given what it names of model_path, tokenizer, dtype and device, and its recipe's options."""

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None = None
    ) -> list[Group]:
        """One group a prompt, in order. A completion depends on (seed, prompt.index, its place in the group) only.

        `finished` is called with each completion, as soon as the engine has it.
        """
        ...

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        """Takes every parameter of the policy; the next completions carry policy_step."""
        ...

    def awake(self) -> AbstractContextManager[None]:
        """Holds device memory only inside the with."""
        ...
