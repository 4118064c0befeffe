"""Stops a test that would never end: what looks at a megabyte again for each of its characters takes hours."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

GENEROUS_CPU_S = 60.0  # not a measurement: what is guarded takes about a second, on a slow and busy machine some


@contextlib.contextmanager
def hang_guard(cpu_s: float = GENEROUS_CPU_S) -> Iterator[None]:
    """Raise AssertionError where the body has used `cpu_s` seconds of processor time and goes on. Main thread only."""

    def give_up(*_: Any) -> None:
        raise AssertionError(f"no end after {cpu_s:g} s of processor time: the work grows faster than its input")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
