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
CPU_FACTOR = 1.2
PATIENCE_S = 0.3  # see Patience
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
    """How long a call of a term usually takes: what nine of its last calls in ten did not exceed."""

    def __init__(self) -> None:
        self._calls: deque[tuple[float, float]] = deque(maxlen=50)  # seconds, and of the processor
        self._quantiles: tuple[float, float] | None = None

    def add(self, seconds: float, cpu_s: float) -> None:
        self._calls.append((seconds, cpu_s))
        self._quantiles = None

    @property
    def pass_by_after_s(self) -> float:
        """Seconds after which a call that sleeps takes too long: at once, for a term whose calls compute."""
        computes = self._quantile(1) > 0.5 * self._quantile(0)
        return PASS_BY_AFTER_S if computes else max(PASS_BY_AFTER_S, TYPICAL_FACTOR * self._quantile(0))

    @property
    def too_much_cpu_s(self) -> float:
        """Processor time after which a call that computes takes too long."""
        return PASS_BY_AFTER_S / 2 + CPU_FACTOR * self._quantile(1)

    def _quantile(self, column: int) -> float:
        if self._quantiles is None:
            columns = zip(*self._calls, strict=True) if self._calls else ([0.0], [0.0])
            first, second = (sorted(values)[len(self._calls) * 9 // 10] for values in columns)
            self._quantiles = first, second
        return self._quantiles[column]


@dataclass(slots=True, eq=False)
class Worker:
    """One forked process. In an event loop it has calls of many tasks, else of one, which it does in order."""

    connection: Connection
    pid: int | None = None  # not known yet
    pending: dict[int, tuple[Call, Task]] = field(default_factory=dict)  # number -> call not answered yet, in order
    begun: bool = False  # has taken its task
    busy_since: float = 0.0  # when its first pending call began
    imports_end_at: float = 0.0
    heard_at: float = 0.0
    alone: bool = False  # does calls one by one, of which any may take it down
    passed_by: bool = False
    demoted: bool = False  # gets what the others leave of the processors
    cpu_before_s: float = 0.0  # its processor time when its first pending call began
    look_again_at: float = 0.0  # at whether that call is to be passed by
    closed_at: float | None = None  # its pipe has ended: how it ended is to come

    @property
    def call_cpu_s(self) -> float:
        """Processor time of its first pending call."""
        return cpu_s(self.pid) - self.cpu_before_s

    def begin_call(self, at: float) -> None:
        self.busy_since, self.cpu_before_s = at, cpu_s(self.pid)

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
