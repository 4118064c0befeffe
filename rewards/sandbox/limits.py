"""What a program may use, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20

# exit    it ended by itself, or by a signal of its own making
# time    it ran longer than its time and was killed
# output  it wrote more than it may and was killed
# memory, processes, files   all its processes together used more than they may and were killed
# lost    the sandbox itself was killed while it ran, most likely for the machine's memory
How = Literal["exit", "time", "output", "memory", "processes", "files", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """For one test of a program; memory_mb counts for each process, and with disk_mb for all of them together."""

    timeout_s: float = 4.0  # of wall time
    memory_mb: int = 512
    disk_mb: int = 64  # of the work directory, which is memory too
    output_mb: float = 8.0  # of standard output; of standard error as much again
    processes: int = 32  # and threads, all together
    open_files: int = 128  # of each process
    files: int = 4096  # and directories in the work directory

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_mb", "disk_mb", "output_mb", "processes", "open_files", "files"):
            if not getattr(self, name) > 0:
                raise ValueError(f"a sandbox's {name} must be more than 0, got {getattr(self, name)}")
        if self.memory_mb < 32:
            raise ValueError(f"Python needs memory_mb of at least 32 to start, got {self.memory_mb}")


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a program on one test. `output` is what it printed, or the JSON of what its function returned."""

    how: How
    status: int = 0  # exit code; -9 is signal 9
    output: bytes = b""
    errors: bytes = b""  # the end of standard error
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether it ended by itself and without an error."""
        return self.how == "exit" and self.status == 0


class SandboxError(RuntimeError):
    """The sandbox is missing or broken: nothing is known about the program."""
