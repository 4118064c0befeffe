"""How far a tool has come, on stderr: one line that is rewritten, or a line every ten seconds where that is a file."""

from __future__ import annotations

import sys
import time
from typing import TextIO

EVERY_S = {True: 0.2, False: 10.0}  # is it a terminal?


class Progress:
    """`at(done)` shows "label done/total"; a context manager that leaves the terminal's line empty."""

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self.label, self.total = label, total
        self.stream = stream or sys.stderr
        self.rewrites = self.stream.isatty()
        self.next_at = time.monotonic() + EVERY_S[self.rewrites]

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.rewrites:
            print("\r\033[K", end="", file=self.stream, flush=True)

    def at(self, done: int, more: str = "") -> None:
        """Cheap: most calls do nothing. more: words behind the numbers."""
        if time.monotonic() < self.next_at:
            return
        self.next_at = time.monotonic() + EVERY_S[self.rewrites]
        start, end = ("\r\033[K", "") if self.rewrites else ("", "\n")
        print(f"{start}{self.label} {done:,}/{self.total:,}{more}", end=end, file=self.stream, flush=True)
