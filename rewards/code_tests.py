"""Whether a program passes its tests, run in a sandbox.

    rewards:
      code_tests: {weight: 1.0, fn: rewards.code_tests, deadline_s: 20, timeout_s: 4, memory_mb: 512}

The tests are in metadata["tests"] (or another column, `tests`), in any form of rewards/sandbox/cases.py. Programs run
under bubblewrap without network, files or limits to break (rewards/sandbox/), or on a server. Expected outputs never
enter the sandbox: what a program prints or returns is compared out here, so it can be wrong but cannot claim success.
"""

from __future__ import annotations

import functools
import logging
import marshal
import os
import textwrap
import time
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from data.problem import Problem
from rewards.sandbox import Limits, Ran, Sandbox, SandboxError
from rewards.sandbox.cases import BadTestsError, Case, read_cases
from rewards.sandbox.check import trouble
from rewards.sandbox.limits import MIB
from rewards.sandbox.outputs import decode, same_text, same_value, shown
from rl.experience import Completion, Prompt, Verdict

MAX_PROGRAM_CHARS = 200_000
LABELS = ("python", "python3", "py")

log = logging.getLogger(__name__)


class Runs(Protocol):
    """A program that can be run on test after test."""

    def run(self, kind: str, data: bytes, *, timeout_s: float | None = None) -> Ran: ...


def code_tests(
    problem: Problem,
    completion: Completion,
    *,
    prompt: Prompt | None = None,
    language: str = "python",
    tests: str = "tests",
    timeout_s: float = 4.0,
    total_timeout_s: float = 16.0,
    memory_mb: int = 512,
    output_mb: float = 8.0,
    processes: int = 32,
    all_or_nothing: bool = True,
    max_tests: int | None = None,
    tolerance: float = 0.0,
    site_packages: bool = False,
    cgroup: str = "",
    sandbox: Literal["bubblewrap", "remote"] = "bubblewrap",
    url: str | None = None,
    api: Literal["sandbox_fusion", "e2b"] = "sandbox_fusion",
    api_key_env: str = "SANDBOX_API_KEY",
    allow_unsandboxed: bool = False,
) -> Verdict:
    """1.0 if the last ```python block after </think> passes all tests; else 0.0, or the share of tests passed.

    A test is passed if the program ends without an error within timeout_s (wall time) and memory_mb and its whole
    output is as expected, but for white space at the ends of lines; or if its function returns the expected value.
    tolerance: how far a float may be off, relative and below 1 absolute. All tests together may take total_timeout_s;
    the term's deadline_s must be a little more. max_tests: of more, so many are taken, evenly spaced. site_packages:
    programs may import what is installed here. cgroup: a control group set apart for this, for a limit by the kernel.
    sandbox=remote: the server at `url` runs them; its key, if it wants one, is in the environment variable api_key_env.

    no_answer: no such block. wrong: a test failed, took too long, or did not compile. bad_gold: the tests cannot be
    used. error: the sandbox is missing or broken; allow_unsandboxed then runs programs with nothing but resource
    limits around them, which can read and delete all that this process can: for code that you trust only.
    """
    if language != "python":
        raise ValueError(f"language={language}: code_tests runs python only")
    limits = Limits(timeout_s=timeout_s, memory_mb=memory_mb, output_mb=output_mb, processes=processes)
    try:
        # Before all else, so that a missing sandbox and a wrong column are found at a run's start, on any completion.
        open_air = sandbox == "bubblewrap" and _unsandboxed(site_packages, allow_unsandboxed)
        cases = _chosen(_cases(problem, tests), max_tests)
        _check_sizes(cases, limits)
    except SandboxError as error:
        return Verdict(state="error", reason=str(error))
    except BadTestsError as error:
        return Verdict(state="bad_gold", reason=f"metadata[{tests!r}]: {error}")
    program = extract_program((prompt.prefix if prompt else "") + completion.text)
    if program is None:
        return Verdict(state="no_answer", reason="no closed ```python block after the thinking")
    if len(program) > MAX_PROGRAM_CHARS:
        return Verdict(state="wrong", reason=f"the program has more than {MAX_PROGRAM_CHARS} characters")
    source = program.encode("utf-8", "surrogatepass")
    runs: AbstractContextManager[Runs]
    if sandbox == "remote":
        from rewards.sandbox.remote import Remote  # brings httpx, which takes long to import

        runs = Remote(source, limits, url=url, api=api, key=os.environ.get(api_key_env, ""))
    else:
        runs = Sandbox(source, limits, open_air=open_air, site_packages=site_packages, cgroup=cgroup)
    try:
        with runs as started:
            return judge(started, cases, tolerance, all_or_nothing, total_timeout_s)
    except SandboxError as error:
        return Verdict(state="error", reason=str(error))


def extract_program(text: str) -> str | None:
    """The last closed block labelled python, or if none is the last without a label; of what follows the thinking."""
    _, ended, answer = text.rpartition("</think>")
    if not ended and "<think>" in text:
        return None
    labelled: str | None = None
    plain: str | None = None
    fence, label, lines = "", "", list[str]()
    for line in answer.split("\n"):
        bare = line.strip()
        ticks = bare[: len(bare) - len(bare.lstrip("`"))]
        if not fence:
            if len(ticks) >= 3 and "`" not in bare[len(ticks) :]:
                fence, label, lines = ticks, (bare[len(ticks) :].split() or [""])[0].lower(), []
        elif len(ticks) >= len(fence) and bare == ticks:
            program = textwrap.dedent("\n".join(lines)) + "\n"
            labelled = program if label in LABELS else labelled
            plain = program if not label else plain
            fence = ""
        else:
            lines.append(line)
    return plain if labelled is None else labelled


def _cases(problem: Problem, column: str) -> list[Case]:
    metadata = problem.metadata
    if column not in metadata:
        raise BadTestsError(f"there is no such column; there are {', '.join(sorted(metadata)) or 'none'}")
    names = [metadata[name] for name in ("fn_name", "func_name", "entry_point") if metadata.get(name)]
    setup = metadata.get("test_setup_code") or "\n".join(metadata.get("test_imports") or ())
    return read_cases(metadata[column], function=names[0] if names else None, setup=setup)


def _check_sizes(cases: list[Case], limits: Limits) -> None:
    """Raises BadTestsError for a test that no program could pass."""
    for number, case in enumerate(cases, 1):
        if case.kind == "stdin" and len(case.expected[0]) > limits.output_mb * MIB:
            raise BadTestsError(f"test {number} expects more output than output_mb={limits.output_mb:g}")
        if len(case.stdin) > limits.disk_mb * MIB / 4:  # a character may take four bytes
            raise BadTestsError(f"test {number} has an input of more than {limits.disk_mb // 4} MiB")


def _chosen(cases: list[Case], most: int | None) -> list[Case]:
    """All, or `most` of them, evenly spaced with the first and the last: the last ones are often the hardest."""
    if most is None or len(cases) <= most:
        return cases
    if most < 1:
        raise ValueError(f"max_tests must be at least 1, got {most}")
    return [cases[round(number * (len(cases) - 1) / max(1, most - 1))] for number in range(most)]


def _unsandboxed(site_packages: bool, allowed: bool) -> bool:
    """Whether to run without a sandbox. Raises SandboxError where there is none and that is not allowed."""
    problem = trouble(site_packages=site_packages)
    if problem and not allowed:
        raise SandboxError(
            f"{problem}. Without a sandbox programs are run only if the term's allow_unsandboxed is true "
            "(rewards.code_tests.allow_unsandboxed=true, where the term is named code_tests)"
        )
    if problem:
        _warn_once(problem)
    return bool(problem)


@functools.cache
def _warn_once(problem: str) -> None:
    log.warning("code_tests runs programs WITHOUT a sandbox, as allow_unsandboxed=true permits: %s", problem)


def judge(runs: Runs, cases: list[Case], tolerance: float, all_or_nothing: bool, total_s: float) -> Verdict:
    """The verdict on a program: its first failed test is the reason, and the last one run if all must pass."""
    until = time.monotonic() + total_s
    passed, first_reason = 0, ""
    for number, case in enumerate(cases, 1):
        reason = _fault(runs, case, tolerance, until - time.monotonic())
        late = time.monotonic() >= until
        if reason or late:
            reason = f"all tests took more than {total_s:g} s" if late else reason
            first_reason = first_reason or f"test {number} of {len(cases)}: {reason}"
            if all_or_nothing or late:
                break
        else:
            passed += 1
    value = float(passed == len(cases)) if all_or_nothing else passed / len(cases)
    return Verdict(value, reason=first_reason)


def _fault(runs: Runs, case: Case, tolerance: float, left_s: float) -> str:
    """What is wrong with the program on this test, "" if nothing."""
    if case.kind == "stdin":
        ran = runs.run("stdin", case.stdin.encode("utf-8", "surrogatepass"), timeout_s=left_s)
    else:
        name, what = (case.function, case.arguments) if case.kind == "call" else (None, case.expression)
        ran = runs.run("call", marshal.dumps((name, what, case.setup)), timeout_s=left_s)
    if not ran.finished:
        return _ending(ran)
    if case.kind == "stdin":
        printed = ran.output.decode(errors="replace")
        if any(same_text(expected, printed, tolerance=tolerance) for expected in case.expected):
            return ""
        return f"expected {shown(case.expected[0])}, got {shown(printed)}"
    try:
        value = decode(ran.output)
    except ValueError as error:
        return str(error)
    return "" if _right(case, value, tolerance) else f"expected {shown(case.expected[0])}, got {shown(value)}"


def _right(case: Case, value: object, tolerance: float) -> bool:
    if case.within is not None:
        return isinstance(value, (int, float)) and abs(value) < 1e300 and abs(value - case.expected[0]) <= case.within
    return any(same_value(right, value, tolerance=tolerance, loose=case.loose) for right in case.expected)


def _ending(ran: Ran) -> str:
    if ran.how != "exit":
        words = {
            "time": "time limit",
            "output": "output limit",
            "memory": "memory limit",
            "processes": "too many processes",
            "files": "too many files",
        }
        return words.get(ran.how, "it was killed, most likely for its use of memory")
    lines = ran.errors.decode(errors="replace").strip().split("\n")
    return f"ended with {ran.status}: {shown(lines[-1])}"
