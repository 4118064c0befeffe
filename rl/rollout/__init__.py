"""What a rollout engine is: prompts in, groups of completions out, and the weights it samples from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

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
    """Its constructor is given what it names of model_path, tokenizer, dtype, device and record_routing, and its
    recipe's options. One that names record_routing gives Completion.routing and Group.prompt_routing where asked."""

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


@runtime_checkable
class ProvesWeights(Protocol):
    """What an engine may have besides: one that samples from a copy it cannot see shows what that copy computes."""

    @property
    def probe_ids(self) -> Sequence[int]:
        """[T] tokens, the same on every rank and in every call."""
        ...

    def check_weights(self, expected: Sequence[float], dtype: str) -> None:
        """After load_weights, on every rank. RuntimeError where the sampler computes something else than the policy.

        expected: the policy's log-probabilities of probe_ids[1:], [T - 1] nats at temperature 1, computed in dtype.
        """
        ...
