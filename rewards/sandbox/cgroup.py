"""A control group for one sandbox, inside a directory that the user has set apart for it.

Never chosen by us: control groups have one owner each (systemd, a container engine, a scheduler), and a directory that
none of them has delegated is not ours to write to. A directory of version 2 with the controllers memory and pids in its
cgroup.subtree_control serves best; of version 1, one in the hierarchy of memory or of pids.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from rewards.sandbox.limits import MIB, Limits, SandboxError

NUMBERS = itertools.count()


class Cgroup:
    """A child of `parent` with the limits of one sandbox."""

    def __init__(self, parent: str, limits: Limits) -> None:
        self.path = Path(parent) / f"sandbox-{os.getpid()}-{next(NUMBERS)}"
        memory = str((limits.memory_mb + limits.disk_mb) * MIB)
        try:
            self.path.mkdir()
            known = [self._set(name, memory) for name in ("memory.max", "memory.limit_in_bytes")]
            self._set("memory.swap.max", "0")
            known.append(self._set("pids.max", str(limits.processes + 2)))
        except OSError as error:
            raise SandboxError(f"cgroup={parent}: no control group can be made there: {error}") from None
        if not any(known):
            self.remove()
            raise SandboxError(f"cgroup={parent} has neither the memory nor the pids controller")

    def add(self, process: int) -> None:
        """Put a process, and with it all that it will start, into the group."""
        (self.path / "cgroup.procs").write_text(str(process))

    def remove(self) -> None:
        """Remove the empty group; the kernel may still be clearing away its last process."""
        for _ in range(100):
            try:
                self.path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.01)

    def _set(self, name: str, value: str) -> bool:
        file = self.path / name
        if file.exists():
            file.write_text(value)
            return True
        return False
