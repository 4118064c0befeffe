"""Grades cases in a process that is watched from outside: what it does, how long it takes, and whether it survives.

    python watched.py injection <file.jsonl>     each text is graded under an audit hook that records what it starts
    python watched.py hostile <first> <stop>     each hostile case of hostile.py, from number <first>, in 1 GB of memory

One line of JSON per case on stdout, so that the parent knows which one hung or crashed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GIGABYTE = 2**30
SANE = ("5", r"\frac{1}{2}", "x^2+1")
STARTS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.kill")
TOUCHES = ("socket.", "pickle.", "ctypes.", "os.putenv", "os.remove", "os.mkdir", "os.rename", "shutil.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def offence(event: str, arguments: tuple[Any, ...]) -> str:
    """What is wrong with an audit event; empty if nothing is.

    Code may only come from files: `compile` and `exec` of anything else means that a text became code.
    """
    if event in STARTS or event.startswith(TOUCHES):
        return event
    if event == "open":
        path, mode, flags = arguments
        return f"open {path!r} to write" if (mode and set(mode) & set("wax+")) or (flags or 0) & WRITING else ""
    if event == "compile":
        return "" if Path(os.fsdecode(arguments[1] or "")).is_file() else f"compile {str(arguments[0])[:60]!r}"
    if event == "exec":
        return (
            ""
            if Path(arguments[0].co_filename).is_file() or "frozen" in arguments[0].co_filename
            else "exec of no file"
        )
    return ""


def injection(path: str) -> None:
    import mpmath  # noqa: F401
    import sympy  # noqa: F401

    from rewards.math_answer import grade

    seen: list[str] = []
    watching = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal watching
        if watching:
            watching = False  # the hook's own doings are not the grader's
            if what := offence(event, arguments):
                seen.append(what)
            watching = True

    for gold, text in (("5", r"\boxed{5}"), ("x^2", r"\boxed{x\sqrt{x^2}}"), (r"\{1\}", r"\boxed{\sin x}"), ("", "")):
        grade(gold, text)  # what is imported lazily is imported now
    sys.addaudithook(hook)
    before = dict(os.environ)
    for number, case in enumerate(map(json.loads, Path(path).read_text().splitlines())):
        seen.clear()
        watching = True
        verdict = grade(case["gold"], case["text"], question=case["question"])
        watching = False
        if dict(os.environ) != before:
            seen.append("the environment changed")
        print(json.dumps({"number": number, "value": float(verdict), "events": list(seen)}), flush=True)


def steps(name: str) -> list[Callable[[], float]]:
    """What is done with one hostile case: as answer, as gold, against itself, inside a completion, as a completion."""
    from math_cases import hostile

    from rewards.math_answer import grade
    from rewards.mathematics.compare import compare

    if name in hostile.PAIRS:
        one, other = hostile.PAIRS[name]
        return [lambda: compare(one, other), lambda: compare(other, one), lambda: grade(one, rf"\boxed{{{other}}}")]
    text = hostile.CASES[name]()
    found: list[Callable[[], float]] = [lambda: 0.0 * compare(text, text)]
    for sane in SANE:
        found += [lambda sane=sane: compare(sane, text), lambda sane=sane: compare(text, sane)]  # type: ignore[misc]
    found += [lambda: grade("5", rf"\boxed{{{text}}}"), lambda: grade("5", text), lambda: grade(text, r"\boxed{5}")]
    found += [lambda: grade("5", text + r" \boxed{6}"), lambda: grade("5", rf"\boxed{{6}} {text}", question=text)]
    return found


def hostile_cases(first: int, stop: int) -> None:
    """The value is the largest that a step gives, which must be 0; seconds are those of the slowest step."""
    from math_cases import hostile

    from rewards.math_answer import grade

    grade("5", r"\boxed{x+5}")
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTE, GIGABYTE))
    for number, name in list(enumerate([*hostile.CASES, *hostile.PAIRS]))[first:stop]:
        slowest, most = 0.0, 0.0
        for step in steps(name):
            start = time.perf_counter()
            most = max(most, step())
            slowest = max(slowest, time.perf_counter() - start)
        print(json.dumps({"number": number, "name": name, "value": most, "seconds": slowest}), flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if sys.argv[1] == "injection":
        injection(sys.argv[2])
    else:
        hostile_cases(int(sys.argv[2]), int(sys.argv[3]))
