"""What this machine is, what it can do, and what a process used of it."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """Of this process and its children that live."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def trim() -> None:
    """Gives freed memory back to the system, so that what is resident is in use."""
    ctypes.CDLL(None).malloc_trim(0)


def resident_gb() -> float:
    return _status("VmRSS")


def peak_gb() -> float:
    """Since the last forget_peak."""
    return _status("VmHWM")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**20


def fastest_s(function: Callable[[], object], repeats: int = 5) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def roofs() -> dict[str, float]:
    """GFLOP/s of a matrix product in each precision, and GB/s of a copy, with the threads that torch now has."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
        found[name] = 2 * 1024**3 / fastest_s(lambda a=a, b=b: a @ b) / 1e9
    source = torch.randn(64 << 20)
    target = torch.empty_like(source)
    found["copy_gb_s"] = 2 * source.nbytes / fastest_s(lambda: target.copy_(source)) / 1e9
    return found


def describe() -> str:
    """Hardware, versions and commit, for the head of a table."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()]
    keys = [line.partition(":")[0].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()]
    cpu = names[keys.index("model name")] if "model name" in keys else platform.processor()
    import transformers

    return (
        f"{os.cpu_count()} cores of {cpu}, torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"transformers {transformers.__version__}, commit {commit()}"
    )


def commit() -> str:
    """Of this checkout, with -dirty where it differs from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return found.stdout.strip() or "unknown"


def print_table(rows: list[dict[str, Any]]) -> None:
    print(table(rows), flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; numbers to three digits."""

    def text(value: Any) -> str:
        return (
            f"{value:.3g}"
            if isinstance(value, float) and abs(value) < 1000
            else f"{value:,.0f}"
            if isinstance(value, float)
            else str(value)
        )

    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([text(row.get(name, "")) for name in columns] for row in rows)]
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(columns), *body])


def print_json(result: dict[str, Any]) -> None:
    """The last line: what scripts read."""
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}), flush=True)
