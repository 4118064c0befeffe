"""A rollout engine that samples nothing: it plays back what another run recorded.

For tests and for debugging: the update of step 123 again and again, without the minutes of sampling before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rl.experience import Group, Prompt, SamplingParams
from rl.record import read_rollouts
from rl.rollout import Finished, hand_over

if TYPE_CHECKING:
    from torch import Tensor


class ReplayRollout:
    """Plays back recorded rollouts by problem id and prompt index."""

    def __init__(self, path: str | Path, record_routing: bool = False) -> None:
        """`path` is a file that rl/record.py wrote, or a run's rollouts/ directory of <step>.jsonl and, where dynamic
        sampling threw groups away, <step>.dropped.jsonl. record_routing is for the run that recorded them."""
        self.path = Path(path)
        self._groups: dict[tuple[str, int], Group] = {}
        for file in _files(self.path):
            for scored in read_rollouts(file):
                self._remember(scored.group, file)

    def _remember(self, group: Group, file: Path) -> None:
        key = (group.prompt.problem.id, group.prompt.index)
        if key in self._groups:
            raise ValueError(f"{file}: problem {key[0]}, prompt {key[1]} is recorded twice; replay cannot tell which")
        self._groups[key] = group

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None = None
    ) -> list[Group]:
        """The recorded completions of each prompt. ValueError if it was not recorded, or recorded otherwise."""
        recorded = [self._recorded(prompt, params) for prompt in prompts]
        pairs = zip(prompts, recorded, strict=True)
        groups = [Group(prompt, group.completions, group.prompt_routing) for prompt, group in pairs]
        hand_over(groups, finished)
        return groups

    def _recorded(self, prompt: Prompt, params: SamplingParams) -> Group:
        place = f"problem {prompt.problem.id}, prompt {prompt.index}"
        group = self._groups.get((prompt.problem.id, prompt.index))
        if group is None:
            raise ValueError(
                f"{place} is not among the {len(self._groups)} groups recorded in {self.path}; "
                "replay needs the recipe, seed and steps of the run that recorded them, and no eval.data: "
                "evaluations are not recorded"
            )
        if group.prompt.token_ids != prompt.token_ids:
            raise ValueError(
                f"{place}: its {len(prompt.token_ids)} tokens are not the {len(group.prompt.token_ids)} recorded in "
                f"{self.path}; use the tokenizer and data.template of the run that recorded them"
            )
        if len(group.completions) != params.completions:
            raise ValueError(
                f"{place}: {len(group.completions)} completions are recorded in {self.path}, "
                f"sampling.completions={params.completions} are asked for"
            )
        return group

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        """Takes the weights, which may be a collective on the other side, and forgets them."""
        for _ in weights:
            pass

    def awake(self) -> AbstractContextManager[None]:
        """Holds no device memory, awake or not."""
        return nullcontext()


def _files(path: Path) -> list[Path]:
    """The recorded files in the order of their steps."""
    if path.is_file():
        return [path]
    files = [file for file in path.glob("*.jsonl") if file.stem.removesuffix(".dropped").isdigit()]
    if not files:
        raise ValueError(f"rollout.path={path} must be a recorded file or a directory of <step>.jsonl, found neither")
    return sorted(files, key=lambda file: int(file.stem.removesuffix(".dropped")))
