"""Prompts in, scored groups out: one step's rounds of sampling, and what each group is used for.

    slot  the place of sampling.completions completions in a step; a step has batch.prompts slots, all ranks together

A plain recipe has one round: the next batch.prompts prompts, each trained on. Dynamic sampling (DAPO, arXiv:2503.14476,
section 3.2) samples on for the slots of groups that teach nothing. Which rank samples what is worked out by every rank
alike, from numbers that all of them have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from rl.collect_state import CollectState
from rl.config import CollectConfig
from rl.difficulty import Difficulty
from rl.experience import Completion, Group, Prompt, SamplingParams, ScoredGroup
from rl.metrics import Gather, Tally
from rl.outcome import Visit, visit
from rl.rollout import RolloutEngine
from rl.selection import Choice, Position, Selection, Stream

Time = Callable[[str], AbstractContextManager[None]]  # time("score") adds the seconds inside to time/score_s
# (prompts, completions of each, whether it is the step's first round) -> their groups, in order. Collective at its end
Sample = Callable[[Sequence[Prompt], Sequence[int], bool], list[ScoredGroup]]


def alone(value: object) -> list[object]:
    """The gather of one rank."""
    return [value]


class Scoring(Protocol):
    """rl.scoring.Scorer, or what stands in for it."""

    def begin(self, prompt: Prompt, completion: Completion) -> None:
        """Starts on a completion and returns at once."""
        ...

    def score(self, groups: Sequence[Group], *, continued: bool = False) -> list[ScoredGroup]:
        """Waits for what was begun, and does the rest. continued: the groups belong to the step of the last call."""
        ...


def collect(
    prompts: Sequence[Prompt],
    rollout: RolloutEngine,
    scoring: Scoring,
    params: SamplingParams,
    *,
    seed: int,
    time: Time,
    sizes: Sequence[int] = (),
    continued: bool = False,
) -> list[ScoredGroup]:
    """This rank's groups, in the order of its prompts. Each completion goes to its rewards as it ends.

    sizes: completions of each prompt; empty: params.completions of each.
    """
    sizes = sizes or [params.completions] * len(prompts)
    found: dict[int, Group] = {}
    with time("rollout"), rollout.awake():
        for size in sorted(set(sizes)):
            places = [place for place, wanted in enumerate(sizes) if wanted == size]
            own = [prompts[place] for place in places]
            groups = rollout.generate(
                own,
                replace(params, completions=size),
                seed,
                finished=lambda i, _, done, own=own: scoring.begin(own[i], done),  # type: ignore[misc]
            )
            found.update(zip(places, groups, strict=True))
    with time("score"):
        groups = [found[place] for place in range(len(prompts))]
        return scoring.score(groups, continued=True) if continued else scoring.score(groups)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What came of a step's sampling. What is not said to be of this rank is the same on every rank."""

    groups: list[ScoredGroup]  # this rank's, to train on
    sampled: list[ScoredGroup]  # this rank's, sampled in this step
    batch: list[ScoredGroup]  # all to train on
    dropped: list[ScoredGroup]  # all that were sampled for nothing
    after: CollectState  # where the next step begins
    tally: Tally


@dataclass(kw_only=True)
class Collector:
    """The sampling of a run: its settings, and its state between steps."""

    stream: Stream
    settings: CollectConfig
    outcome: str  # the reward term that says right or wrong
    slots: int  # batch.prompts
    completions: int  # of a slot
    seed: int
    steps: int  # of the whole run
    updates: int = 1  # optimizer steps in a step
    rank: int = 0
    world_size: int = 1
    gather: Gather = alone
    state: CollectState = field(default_factory=lambda: CollectState(Position(0, {}), Difficulty()))

    def step(self, step: int, policy_step: int, sample: Sample) -> Collected:
        """Collective: the groups of a step. The state stays as it is: what comes after it is in the answer.

        policy_step: optimizer steps behind the weights that sample now.
        """
        progress = step / max(1, self.steps)
        selection = Selection(
            self.stream, self.settings, self.state.difficulty, self.state.position, seed=self.seed, progress=progress
        )
        waiting = [group for group in self.state.kept if age(group, policy_step) <= self.max_age]
        batch = Batch(self.slots)
        for group in waiting:
            batch.offer(index_of(group), len(group.rewards) // self.completions)
        rounds: list[Round] = []
        own: list[ScoredGroup] = []
        while batch.lacking and len(rounds) < (self.settings.max_rounds if self.settings.dynamic else 1):
            choices = selection.take(math.ceil(batch.lacking * self.settings.oversample))
            groups = self._sampled(choices, sample, is_first=not rounds)
            rounds.append(Round(choices, self._visits(groups)))
            own += groups
            for choice in choices:
                if not self.settings.dynamic or rounds[-1].visits[choice.prompt.index].kind == "informative":
                    batch.offer(choice.prompt.index, choice.slots)
        everyone = cast(list[list[ScoredGroup]], self.gather(own))
        found = {index_of(group): group for share in [waiting, *everyone] for group in share}
        expired = [group for group in self.state.kept if index_of(group) not in found]
        return self._collected(batch, found, expired, own, rounds, selection, policy_step)

    @property
    def max_age(self) -> int:
        """Optimizer steps that a group may be behind when it is trained on."""
        return self.updates if self.settings.max_age is None else self.settings.max_age

    def _sampled(self, choices: Sequence[Choice], sample: Sample, *, is_first: bool) -> list[ScoredGroup]:
        """This rank's share of a round."""
        places = shares([choice.slots for choice in choices], self.world_size)[self.rank]
        prompts = [choices[place].prompt for place in places]
        return sample(prompts, [choices[place].slots * self.completions for place in places], is_first)

    def _visits(self, groups: Sequence[ScoredGroup]) -> dict[int, Visit]:
        """Collective: prompt index -> what became of its group, of all ranks."""
        drop = self.settings.drop_truncated
        mine = {index_of(group): visit(group, self.outcome, drop_truncated=drop) for group in groups}
        ranks = cast(list[dict[int, Visit]], self.gather(mine))
        return {index: found for rank in ranks for index, found in rank.items()}

    def _collected(
        self,
        batch: Batch,
        found: Mapping[int, ScoredGroup],
        expired: Sequence[ScoredGroup],
        own: list[ScoredGroup],
        rounds: Sequence[Round],
        selection: Selection,
        policy_step: int,
    ) -> Collected:
        """The groups by their use, and the state after them."""
        used = [found[index] for index in sorted(batch.taken)]
        kept = [found[index] for index in sorted(batch.surplus)] if self.settings.reuse else []
        saved = {index_of(group) for group in [*used, *kept]}
        dropped = [*expired, *(found[index] for index in sorted(found) if index not in saved)]
        difficulty = self.state.difficulty.after(one for found in rounds for one in found.visits.values())
        places = shares([len(group.rewards) for group in used], self.world_size)[self.rank]
        return Collected(
            groups=[used[place] for place in places],
            sampled=own,
            batch=used,
            dropped=dropped,
            after=CollectState(selection.position, difficulty, tuple(kept)),
            tally=self._tally(used, dropped, rounds, selection, policy_step),
        )

    def _tally(
        self,
        used: Sequence[ScoredGroup],
        dropped: Sequence[ScoredGroup],
        rounds: Sequence[Round],
        selection: Selection,
        policy_step: int,
    ) -> Tally:
        """collect/* and data/*, the same on every rank; nothing for a recipe that asks for none of it."""
        tally = Tally()
        choices = [choice for one in rounds for choice in one.choices]
        if len(self.stream.sizes) > 1:
            by_source = Counter(self.stream.source(choice.prompt.index) for choice in choices)
            for source in self.stream.sizes:
                name = f"data/{source.replace('/', '.')}_fraction"
                tally.add(name, [by_source[source] / len(choices)] if choices else [])
        if self.settings.is_plain:
            return tally
        visits = [one for found in rounds for one in found.visits.values()]
        kinds = Counter(one.kind for one in visits)
        attempts = sum(one.attempts for one in visits)
        ages = [age(group, policy_step) for group in used]
        skipped = selection.num_candidates - len(choices)
        known = len(self.state.difficulty)
        for name, value, of in (
            ("collect/rounds", len(rounds), 1),
            ("collect/filled_fraction", sum(len(group.rewards) for group in used), self.slots * self.completions),
            ("collect/dropped_fraction", len(dropped), len(dropped) + len(used)),
            ("collect/all_right_fraction", kinds["all_right"], len(visits)),
            ("collect/all_wrong_fraction", kinds["all_wrong"], len(visits)),
            ("collect/reused_fraction", sum(one > 0 for one in ages), len(used)),
            ("collect/age", sum(ages), len(used)),
            ("data/pass_rate", sum(one.right for one in visits), attempts),
            ("data/tried_fraction", known, sum(self.stream.sizes.values())),
            ("data/skipped_fraction", skipped, selection.num_candidates),
        ):
            tally.add(name, [value / of] if of else [])
        return tally


@dataclass(slots=True)
class Batch:
    """The slots of a step, given to groups in the order in which they are offered.

    By their place in the stream, never by which is done first: short completions are done first.
    """

    lacking: int  # slots
    taken: list[int] = field(default_factory=list)  # prompt indices
    surplus: list[int] = field(default_factory=list)

    def offer(self, index: int, slots: int) -> None:
        if slots > self.lacking:
            self.surplus.append(index)
        else:
            self.taken.append(index)
            self.lacking -= slots


@dataclass(frozen=True, slots=True)
class Round:
    """One round of sampling, all ranks together."""

    choices: Sequence[Choice]
    visits: Mapping[int, Visit]  # prompt index -> what became of its group


def index_of(group: ScoredGroup) -> int:
    return group.group.prompt.index


def age(group: ScoredGroup, policy_step: int) -> int:
    """Optimizer steps since it was sampled."""
    return policy_step - min(done.policy_step for done in group.group.completions)


def shares(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Which of the items of these sizes each rank gets: [ranks] lists of places, each in order.

    Items of one size: contiguous parts, so that ranks in order give the whole again, of lengths that differ by one at
    most. Else the largest first, each to the rank that has least: equal sums wherever small items can make up for large
    ones, and never further apart than the largest item (Graham, 1969).
    """
    count = len(sizes)
    if len(set(sizes)) <= 1:
        return [list(range(count * rank // ranks, count * (rank + 1) // ranks)) for rank in range(ranks)]
    given: list[list[int]] = [[] for _ in range(ranks)]
    sums = [0] * ranks
    for place in sorted(range(count), key=lambda place: -sizes[place]):
        rank = sums.index(min(sums))
        given[rank].append(place)
        sums[rank] += sizes[place]
    return [sorted(places) for places in given]
