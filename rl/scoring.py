"""Rewards: terms called in worker processes with a deadline, combined into one reward for each completion.

A reward is somebody's function applied to whatever a policy wrote. It may raise, hang in C code, print, or take the
process with it. So it runs in a worker, which is killed and replaced when a call takes too long; what gave no value
is a `Failure` of that one call, and everything else is scored. A wrong answer is 0.0, no value is NaN.

    G  completions of one prompt

From a recipe to terms: rl/reward_terms.py; the forms of functions: rl/reward_forms.py; the processes:
rl/reward_pool.py, rl/reward_tasks.py and rl/reward_worker.py; from terms to a reward: rl/combine.py. No torch here.
"""

from __future__ import annotations

import atexit
import itertools
import math
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple, Self

from rl.combine import combined
from rl.experience import NOT_RECORDED, Completion, Failure, Group, Prompt, ScoredGroup, State
from rl.reward_calls import Call, Job
from rl.reward_forms import BoundReward, Failed, Outcome
from rl.reward_pool import START_DEADLINE_S, Pool
from rl.reward_tasks import Ticket
from rl.reward_terms import RewardTerm, bound_reward, reward_terms
from rl.reward_worker import Limits

__all__ = ["RewardBroken", "RewardTerm", "Scorer", "reward_terms"]

BROKEN_AFTER_CALLS = 2  # of Scorer.score, with a term that fails on every completion
BROKEN_AFTER_COMPLETIONS = 16
PATIENCE_S = 5.0  # before `check` says what it is waiting for
ASYNC_DEADLINE_S = 120.0  # a server's answer; scoring.deadline_s is for computation
ASYNC_CONCURRENCY = 64  # calls of one async function at once, unless its option `concurrency` says otherwise
VALUED = ("ok", "wrong")
TAILORED_JOBS = 4  # for each worker; with fewer groups than that, a job is one completion


class RewardBroken(RuntimeError):  # noqa: N818
    """A reward that fails on everything, or on anything where its recipe says so. `scored` is what was paid for."""

    def __init__(self, message: str, scored: Sequence[ScoredGroup] = ()) -> None:
        super().__init__(message)
        self.scored = tuple(scored)


class Piece(NamedTuple):
    """Calls that were handed in, and for which completions of their group their places stand."""

    ticket: Ticket
    calls: tuple[Call, ...]
    indices: tuple[int, ...]  # place in the job -> index in the group


class BegunCalls(NamedTuple):
    """The calls on a completion that was begun. It is kept, so that no other has its id."""

    completion: Completion
    pieces: list[Piece]
    generation: int  # how many calls of Scorer.score there had been


Begun = dict[int, BegunCalls]  # by id of the completion


class Scorer:
    """Scores groups in worker processes. A context manager; every method may be called from any thread.

    workers: how many calls run at once. deadline_s: for one call of one reward on one completion, from when a worker
    takes it; a term may have its own. memory_mb: what a worker may use beyond what the imports take.
    normalize_terms: see rl/combine.py. stop_when_broken: raise RewardBroken when a term fails on everything.

    A forked process starts workers of its own at its first call, and so does one that a scorer was pickled to.
    """

    def __init__(
        self,
        terms: Sequence[RewardTerm],
        *,
        workers: int = 1,
        deadline_s: float = 2.0,
        memory_mb: int = 2048,
        normalize_terms: bool = False,
        stop_when_broken: bool = True,
    ) -> None:
        if workers < 1:
            raise ValueError(f"scoring.workers must be at least 1, got {workers}")
        if not 0 < deadline_s < math.inf:
            raise ValueError(f"scoring.deadline_s must be a positive number of seconds, got {deadline_s}")
        if memory_mb < 64:
            raise ValueError(f"scoring.memory_mb must be at least 64, got {memory_mb}")
        self.terms = tuple(terms)
        self.workers, self.deadline_s, self.memory_mb = workers, deadline_s, memory_mb
        self.normalize_terms, self.stop_when_broken = normalize_terms, stop_when_broken
        self._rewards = [bound_reward(term) for term in self.terms]
        self._begin_life()

    def _begin_life(self) -> None:
        """All that belongs to this process."""
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._streaks = {term.name: _Streak() for term in self.terms}
        self._begun: Begun = {}
        self._closed = False
        self._pools: list[Pool] = []
        self._pool_of: dict[int, Pool] = {}
        self._generation = 0
        self._start_pools()
        _LIVING.add(self)
        self._process = os.getpid()  # last: it says that all of the above is this process's

    def __reduce__(self) -> tuple[Any, ...]:
        options = ("workers", "deadline_s", "memory_mb", "normalize_terms", "stop_when_broken")
        return _unpickled, (self.terms, {name: getattr(self, name) for name in options})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. Harmless when repeated."""
        self._closed = True
        if self._process == os.getpid():
            for pool in self._pools:
                pool.close()

    @property
    def deadlines_s(self) -> dict[str, float]:
        """Of each term, for one completion: its own, or what the scorer gives it."""
        return {term.name: self._deadline_s(number) for number, term in enumerate(self.terms)}

    # Scoring

    def check(self, prompt: Prompt) -> None:
        """Call every term on a made-up completion; ValueError with the traceback if one gives no number.

        What the rewards import at their first call is from then on imported before the next worker starts.
        """
        self._be_alive()
        names = ", ".join(term.name for term in self.terms)
        words = f"still waiting for the first call of each reward ({names}), up to {START_DEADLINE_S:g} s"
        patience = threading.Timer(PATIENCE_S, print, [words], {"file": sys.stderr, "flush": True})
        patience.daemon = True
        patience.start()
        try:
            found = self._results([Group(prompt, (_made_up(prompt),) * 2)], deadline_s=START_DEADLINE_S)[0]
        finally:
            patience.cancel()
        for number in sorted(found, key=lambda number: self._rewards[number].wants_terms):  # the cause first
            for one in found[number]:
                if one.state in ("error", "timeout"):
                    name, trace = self.terms[number].name, one.outcome.trace if isinstance(one.outcome, Failed) else ""
                    raise ValueError(
                        f"rewards.{name} fails on a made-up completion of problem {prompt.problem.id}: "
                        + f"{one.message}\n{trace}".rstrip()
                        + f"\nMend it, or leave it out with '~rewards.{name}'"
                    )
        for pool in self._pools:
            if pool.pass_by:
                ticket = pool.submit(Job(prompt, (), ()))
                ticket.wait()
                pool.preload(ticket.modules)

    def begin(self, prompt: Prompt, completion: Completion) -> None:
        """Starts on one completion while others are still sampled, and returns at once; `score` then has its values.

        Rewards that want the whole group, or what other terms gave, wait for `score`.
        """
        self._be_alive()
        numbers = [i for i, reward in enumerate(self._rewards) if not (reward.whole_group or reward.wants_terms)]
        pieces = self._hand_in(prompt, (completion,), [(number, (0,)) for number in numbers], (0,), {}, None)
        with self._lock:
            self._begun[id(completion)] = BegunCalls(completion, pieces, self._generation)

    def score(self, groups: Sequence[Group], *, continued: bool = False) -> list[ScoredGroup]:
        """The groups with their rewards, NaN where a term has no value. Raises RewardBroken if a term keeps failing.

        continued: these groups belong to the step of the call before, so the two are one call to what counts failures:
        a later round of dynamic sampling may be one hard problem that nobody answers.
        """
        self._be_alive()
        results = self._results(groups)
        scored = [self._scored(group, found) for group, found in zip(groups, results, strict=True)]
        self._watch(scored, continued)
        return scored

    def _results(self, groups: Sequence[Group], deadline_s: float | None = None) -> list[Results]:
        """For each group, term -> [G]. First the terms that stand alone, then those that want what these gave."""
        begun = self._take_begun(groups)
        early = [self._first_pieces(group, begun, deadline_s, len(groups)) for group in groups]
        late: list[list[Piece]] = []
        try:
            results = [self._gather(group, pieces) for group, pieces in zip(groups, early, strict=True)]
            if any(reward.wants_terms for reward in self._rewards):
                late = [self._late_pieces(*pair, deadline_s) for pair in zip(groups, results, strict=True)]
                for group, found, pieces in zip(groups, results, late, strict=True):
                    found |= self._gather(group, pieces)
        except BaseException:  # Ctrl-C, for one: nobody wants the rest any more
            for piece in itertools.chain(*early, *late):
                piece.ticket.cancelled = True
            raise
        return [dict(sorted(found.items())) for found in results]

    def _take_begun(self, groups: Sequence[Group]) -> Begun:
        """What was begun for these groups. What was begun before the last call, and not asked for, is forgotten."""
        with self._lock:
            self._generation += 1
            wanted = {id(completion) for group in groups for completion in group.completions}
            mine = {key: self._begun.pop(key) for key in wanted & set(self._begun)}
            for key in [key for key, calls in self._begun.items() if calls.generation < self._generation - 1]:
                for piece in self._begun.pop(key).pieces:
                    piece.ticket.cancelled = True
        return mine

    def _first_pieces(self, group: Group, begun: Begun, deadline_s: float | None, num_groups: int) -> list[Piece]:
        """The calls that need no other term's values, but for those that were begun."""
        size = len(group.completions)
        pieces: list[Piece] = []
        rest = []
        for index, completion in enumerate(group.completions):
            if id(completion) in begun:
                pieces += [piece._replace(indices=(index,)) for piece in begun[id(completion)].pieces]
            else:
                rest.append(index)
        alone = [i for i, reward in enumerate(self._rewards) if not (reward.whole_group or reward.wants_terms)]
        few = num_groups < TAILORED_JOBS * self.workers
        for indices in [(index,) for index in rest] if few else [tuple(rest)]:
            completions = tuple(group.completions[index] for index in indices)
            calls = [(number, (place,)) for number in alone for place in range(len(indices))]
            pieces += self._hand_in(group.prompt, completions, calls, indices, {}, deadline_s)
        whole = [i for i, reward in enumerate(self._rewards) if reward.whole_group and not reward.wants_terms]
        everyone = tuple(range(size))
        return pieces + self._hand_in(
            group.prompt, group.completions, [(number, everyone) for number in whole], everyone, {}, deadline_s
        )

    def _late_pieces(self, group: Group, known: Results, deadline_s: float | None) -> list[Piece]:
        """The calls that are given the values of the terms before."""
        values = {
            self.terms[number].name: tuple(_value(self.terms[number], one) for one in row)
            for number, row in known.items()
        }
        everyone = tuple(range(len(group.completions)))
        calls: list[tuple[int, tuple[int, ...]]] = []
        for number, reward in enumerate(self._rewards):
            if reward.wants_terms:
                calls += [(number, everyone)] if reward.whole_group else [(number, (place,)) for place in everyone]
        return self._hand_in(group.prompt, group.completions, calls, everyone, values, deadline_s)

    def _hand_in(
        self,
        prompt: Prompt,
        completions: tuple[Completion, ...],
        calls: Iterable[tuple[int, tuple[int, ...]]],
        indices: tuple[int, ...],
        values: Mapping[str, tuple[float, ...]],
        deadline_s: float | None,
    ) -> list[Piece]:
        """A job for each pool that has one of the calls, each of which is (term, places)."""
        # No reward looks at the routing, which is far larger than all else of a completion.
        completions = tuple(replace(one, routing=NOT_RECORDED) if one.routing.layers else one for one in completions)
        by_pool: dict[Pool, list[Call]] = {}
        for term, places in calls:
            terms = {name: tuple(row[place] for place in places) for name, row in values.items()}
            call = Call(next(self._numbers), term, places, terms)
            by_pool.setdefault(self._pool_of[term], []).append(call)
        return [
            Piece(pool.submit(Job(prompt, completions, tuple(mine)), deadline_s=deadline_s), tuple(mine), indices)
            for pool, mine in by_pool.items()
        ]

    def _gather(self, group: Group, pieces: Sequence[Piece]) -> Results:
        """Waits for the calls. term -> [G]."""
        found: dict[int, dict[int, Found]] = {}
        for piece in pieces:
            results = piece.ticket.wait()
            for call in piece.calls:
                result = results[call.number]
                for place, outcome in zip(call.places, result.outcomes, strict=True):
                    one = Found(outcome, result.seconds / len(call.places))
                    found.setdefault(call.term, {})[piece.indices[place]] = one
        return {term: [row[index] for index in range(len(group.completions))] for term, row in found.items()}

    # From outcomes to rewards

    def _scored(self, group: Group, results: Results) -> ScoredGroup:
        values, failures, seconds = {}, [], {}
        for number, row in results.items():
            term = self.terms[number]
            values[term.name] = tuple(_value(term, one) for one in row)
            seconds[term.name] = tuple(one.seconds for one in row)
            for index, one in enumerate(row):
                if one.state not in VALUED:
                    failures.append(Failure(term.name, index, one.state, one.message))
        rewards = combined(self.terms, values, normalize_terms=self.normalize_terms)
        return ScoredGroup(group, rewards, values, tuple(failures), seconds)

    def _watch(self, scored: Sequence[ScoredGroup], continued: bool) -> None:
        """Stops a run whose reward fails: on anything if the recipe says so, else only on everything."""
        for term in self.terms:
            failed = [(group, failure) for group in scored for failure in group.failures if failure.term == term.name]
            errors = [(group, failure) for group, failure in failed if failure.kind != "no_answer"]
            if term.on_error == "stop" and errors:
                group, failure = errors[0]
                raise RewardBroken(
                    f"reward {term.name} has no value for completion {failure.index} of problem "
                    f"{group.group.prompt.problem.id}: {failure.kind}: {failure.message}; rewards.{term.name}.on_error="
                    "stop ends the run for that, mask would leave such completions out",
                    scored,
                )
            if term.weight == 0.0 and all(other.gate != term.name for other in self.terms):
                continue  # measured only: nothing is learned from it anyway
            spared = {"no_answer"} if term.no_answer == "zero" else set()  # never a function that raises or hangs
            spared |= {"undecided", "bad_gold"} if term.on_error == "zero" else set()
            counted = [failure for _, failure in failed if failure.kind not in spared]
            self._watch_streak(term, counted, scored, continued)

    def _watch_streak(
        self, term: RewardTerm, failures: Sequence[Failure], scored: Sequence[ScoredGroup], continued: bool
    ) -> None:
        size = sum(len(group.rewards) for group in scored)
        with self._lock:
            streak = self._streaks[term.name]
            if len(failures) < size:
                streak.calls = streak.completions = 0
            elif size and (streak.calls or not continued):
                streak.first = streak.first if streak.calls else f"{failures[0].kind}: {failures[0].message}"
                streak.calls += not continued
                streak.completions += size
            calls, completions, first = streak.calls, streak.completions, streak.first
        if not (self.stop_when_broken and calls >= BROKEN_AFTER_CALLS and completions >= BROKEN_AFTER_COMPLETIONS):
            return
        remedy = f"raise scoring.deadline_s={self.deadline_s:g} if it is only slow"
        if first.startswith("no_answer"):
            remedy = f"let a completion without an answer count as wrong with rewards.{term.name}.no_answer=zero"
        raise RewardBroken(
            f"reward {term.name} failed on each of the last {completions} completions, so nothing can be learned from "
            f"it. The first failure: {first}. Fix the function, {remedy}, or leave it out with ~rewards.{term.name}",
            scored,
        )

    # Pools

    def _start_pools(self) -> None:
        """One pool for all functions that compute, one for all that await, and one for each that wants its own."""
        groups: dict[str, list[int]] = {}
        for number, reward in enumerate(self._rewards):
            kind = f"own {number}" if reward.own_process else "async" if reward.is_async else "common"
            groups.setdefault(kind, []).append(number)
        concurrency = {i: _concurrency(*pair) for i, pair in enumerate(zip(self.terms, self._rewards, strict=True))}
        for kind, numbers in groups.items():
            pool = Pool(
                {number: self.terms[number] for number in numbers},
                Limits(
                    memory_mb=None if kind.startswith("own") else self.memory_mb,
                    deadlines_s={number: self._deadline_s(number) for number in numbers},
                    concurrency={number: concurrency[number] for number in numbers},
                ),
                workers=self.workers if kind == "common" else 1,
                in_event_loop=all(self._rewards[number].is_async for number in numbers),
                pass_by=kind == "common",
            )
            self._pools.append(pool)
            self._pool_of |= dict.fromkeys(numbers, pool)

    def _deadline_s(self, number: int) -> float:
        own_s, reward = self.terms[number].deadline_s, self._rewards[number]
        if own_s is not None:
            return own_s
        return ASYNC_DEADLINE_S if reward.is_async or reward.own_process else self.deadline_s

    def _be_alive(self) -> None:
        if self._process != os.getpid():  # forked: the workers are another process's
            with _BEGINNING.lock:
                if self._process != os.getpid():
                    self._begin_life()
        if self._closed:
            raise ValueError("the scorer is closed; score before Scorer.close, or inside its `with`")


@dataclass(slots=True)
class _Streak:
    """How long one term has failed on everything."""

    calls: int = 0  # of Scorer.score
    completions: int = 0
    first: str = ""


class Found(NamedTuple):
    """What one term gave for one completion."""

    outcome: Outcome
    seconds: float

    @property
    def state(self) -> State:
        return self.outcome.state

    @property
    def message(self) -> str:
        return self.outcome.message if isinstance(self.outcome, Failed) else self.outcome.reason


Results = dict[int, list[Found]]  # term -> [G]


def _value(term: RewardTerm, found: Found) -> float:
    """NaN where it has none, or 0 where the recipe says so."""
    if found.state in VALUED and not isinstance(found.outcome, Failed):
        return float(found.outcome)
    return 0.0 if (term.no_answer if found.state == "no_answer" else term.on_error) == "zero" else math.nan


class _Beginning:
    """A lock that a fork does not inherit locked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_BEGINNING = _Beginning()
os.register_at_fork(after_in_child=_BEGINNING.__init__)  # type: ignore[misc]
_LIVING: weakref.WeakSet[Scorer] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for scorer in list(_LIVING):
        scorer.close()


def _unpickled(terms: Sequence[RewardTerm], options: Mapping[str, Any]) -> Scorer:
    return Scorer(terms, **options)


def _concurrency(term: RewardTerm, reward: BoundReward) -> int:
    number = term.options.get("concurrency", reward.concurrency or ASYNC_CONCURRENCY)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"rewards.{term.name}.concurrency must be a whole number of at least 1, got {number!r}")
    return number


def _made_up(prompt: Prompt) -> Completion:
    """A completion such as a policy may give. Its tokens are the prompt's: no tokenizer here."""
    text = "<think>1 + 1 = 2</think>\n<answer>\\boxed{2}</answer>"
    token_ids = list(prompt.token_ids)
    return Completion(
        text=text,
        token_ids=token_ids,
        logprobs=[-1.0] * len(token_ids),
        finish_reason="stop",
        policy_step=0,
    )
