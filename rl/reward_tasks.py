"""What a pool of reward workers keeps account of: jobs that were handed in, and who does them. No torch here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rl.reward_calls import Call, Connection, Job
from rl.reward_forms import Outcome

PASS_BY_AFTER_S = 0.005  # at least; see Typical
TYPICAL_FACTOR = 1.5
SPREAD_FACTOR = 2.0
CPU_MARGIN_S = 0.0015
FRESH_CPU_S = 0.006  # more, for the first call after a fork, which copies the pages that it writes to
PATIENCE_S = 0.2  # see Patience
PATIENCE_FRACTION = 0.05  # of a processor
MODULES = Call(-1, -1, (), {})  # stands for the answer to a job without calls


class Result(NamedTuple):
    """What became of a call."""

    outcomes: tuple[Outcome, ...]
    seconds: float


class Ticket:
    """A job that was handed in: its results come in any order, `wait` returns when there is one for each call."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.results: dict[int, Result] = {}  # number of the call -> what it gave
        self.modules: tuple[str, ...] = ()
        self.cancelled = False
        self.error: str | None = None  # the pool has failed; nothing more will come
        self._missing = {call.number for call in calls} or {MODULES.number}
        self._done = threading.Event()

    def put(self, number: int, result: Result) -> None:
        self.results.setdefault(number, result)
        self.answered(number)

    def answered(self, number: int) -> None:
        self._missing.discard(number)
        if not self._missing:
            self._done.set()

    def fail(self, error: str) -> None:
        self.error = error
        self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self) -> dict[int, Result]:
        """Raises RuntimeError if the pool cannot work any more."""
        while not self._done.wait(1.0):
            pass  # in pieces, so that Ctrl-C is heard at once on every platform
        if self.error is not None:
            raise RuntimeError(self.error)
        return self.results


@dataclass(slots=True)
class Task:
    """A job in the pool, or what is left of one."""

    job: Job
    ticket: Ticket
    deadline_s: float | None  # in place of the terms' own
    attempts: int = 0


class Typical:
    """How long a call of a term usually takes, by its last 400, and from when on a call takes too long."""

    def __init__(self) -> None:
        self._calls: deque[tuple[float, float]] = deque(maxlen=400)  # seconds, and of the processor
        self._quantiles: list[tuple[float, float]] | None = None  # in each column the middle one, and that of 99 %

    def add(self, seconds: float, cpu_s: float) -> None:
        self._calls.append((seconds, cpu_s))
        self._quantiles = None

    @property
    def pass_by_after_s(self) -> float:
        """Seconds after which a call that sleeps takes too long: at once, for a term whose calls compute."""
        (middle_s, high_s), (middle_cpu_s, _) = self._middle_and_high()
        computes = middle_cpu_s > 0.5 * middle_s  # of the middle one: the longest have waited for a processor
        return PASS_BY_AFTER_S if computes else max(PASS_BY_AFTER_S, TYPICAL_FACTOR * high_s)

    @property
    def too_much_cpu_s(self) -> float:
        """Processor time after which a call that computes takes too long: the more, the more the calls differ."""
        _, (middle, high) = self._middle_and_high()
        return high + SPREAD_FACTOR * (high - middle) + CPU_MARGIN_S

    def _middle_and_high(self) -> list[tuple[float, float]]:
        if self._quantiles is None:
            count = len(self._calls)
            columns = [sorted(column) for column in zip(*self._calls, strict=True)] or [[0.0], [0.0]]
            self._quantiles = [(column[count // 2], column[count * 99 // 100]) for column in columns]
        return self._quantiles


@dataclass(slots=True, eq=False)
class Worker:
    """One forked process. In an event loop it has calls of many tasks, else of one, which it does in order."""

    connection: Connection
    pid: int | None = None  # not known yet
    pending: dict[int, tuple[Call, Task]] = field(default_factory=dict)  # number -> call not answered yet, in order
    begun: bool = False  # has taken its task
    fresh: bool = True  # has not done a call yet
    busy_since: float = 0.0  # when its first pending call began
    imports_end_at: float = 0.0
    heard_at: float = 0.0
    alone: bool = False  # does calls one by one, of which any may take it down
    passed_by: bool = False
    held: bool = False  # stopped while others wait
    held_at: float = 0.0
    charged_s: float = 0.0  # patience that was spent on it
    cpu_before_s: float = 0.0  # its processor time when its first pending call began
    counted_cpu_s: float = 0.0  # that part of its processor time which no patience is spent on any more
    look_again_at: float = 0.0  # at whether that call is to be passed by
    closed_at: float | None = None  # its pipe has ended: how it ended is to come

    @property
    def call_cpu_s(self) -> float:
        """Processor time of its first pending call."""
        return cpu_s(self.pid) - self.cpu_before_s

    def begin_call(self, at: float) -> None:
        self.busy_since, self.cpu_before_s = at, cpu_s(self.pid)
        self.counted_cpu_s = self.cpu_before_s

    @property
    def uncounted_cpu_s(self) -> float:
        return cpu_s(self.pid) - self.counted_cpu_s

    def count_from_now(self) -> None:
        self.counted_cpu_s = cpu_s(self.pid)

    @property
    def first(self) -> tuple[Call, Task] | None:
        return next(iter(self.pending.values()), None)


def cpu_s(pid: int | None) -> float:
    """Processor time of a process (Linux), 0 where it is not to be had."""
    if pid is not None:
        with contextlib.suppress(OSError, OverflowError):
            return time.clock_gettime((~pid << 3) | 2)  # the clock that clock_getcpuclockid(3) names
    return 0.0


class Patience:
    """Processor time, in seconds, that slow calls may take from the others before they get only what is left over.

    Slow calls that end in time are paid back, so it is calls that hang which use it up. It grows back slowly.
    """

    def __init__(self) -> None:
        self._left_s, self._counted_at = PATIENCE_S, time.monotonic()

    @property
    def left_s(self) -> float:
        now = time.monotonic()
        self._left_s = min(PATIENCE_S, self._left_s + PATIENCE_FRACTION * (now - self._counted_at))
        self._counted_at = now
        return self._left_s

    def spend(self, seconds: float) -> None:
        self._left_s = self.left_s - seconds
