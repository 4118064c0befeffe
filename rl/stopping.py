"""Asking a long program to stop: it finishes what it is at, writes it down and ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from rl import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C, kill, Slurm's warning


class StopSignals:
    """A context manager, inside which these signals ask instead of killing; a second Ctrl-C kills."""

    def __init__(self, say: Callable[[], None]) -> None:
        """say: called at the first signal, to tell whoever sent it that it was heard."""
        self._say, self._asked = say, False
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._earlier = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked:
            raise KeyboardInterrupt
        if not self._asked:
            self._say()
        self._asked = True

    def asked(self) -> bool:
        """Collective: whether any rank was asked to stop."""
        return any(distributed.gather(self._asked))
