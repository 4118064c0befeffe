"""What all processes of a sandbox use together, read from outside, where they cannot lie."""

from __future__ import annotations

import os
from typing import NamedTuple


class Usage(NamedTuple):
    tasks: int  # processes and threads, the driver not counted
    memory_bytes: int  # of their own, and files in the work directory
    files: int  # and directories in the work directory


def usage(first: int, work: str) -> Usage:
    """Of process `first` (the driver) and all below it; memory that processes share after a fork counts for each.

    What /proc does not tell counts as 0: the limits of single processes hold without it.
    """
    tasks, memory = 0, 0
    waiting = [first]
    while waiting:
        process = waiting.pop()
        waiting += children(process)
        if process != first:
            status = _status(process)
            tasks += status.get("Threads", 0)
            memory += 1024 * (status.get("RssAnon", 0) + status.get("RssShmem", 0))
    try:
        disk = os.statvfs(f"/proc/{first}/root{work}")
    except OSError:
        return Usage(tasks, memory, 0)
    return Usage(tasks, memory + (disk.f_blocks - disk.f_bfree) * disk.f_frsize, disk.f_files - disk.f_ffree)


def below(process: int) -> list[int]:
    """All processes that this one has started, and they, the innermost first."""
    return [further for child in children(process) for further in (*below(child), child)]


def children(process: int) -> list[int]:
    """The processes that this one has started or inherited; none where the kernel does not tell."""
    found = []
    try:
        for task in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:  # it has ended, or the kernel has no such file
        pass
    return found


def _status(process: int) -> dict[str, int]:
    """The lines of /proc/PID/status that hold a number, sizes in KiB."""
    found = {}
    try:
        with open(f"/proc/{process}/status") as file:
            for line in file:
                name, _, value = line.partition(":")
                first = value.split()[:1]
                if first and first[0].isdigit():
                    found[name] = int(first[0])
    except OSError:
        pass
    return found
