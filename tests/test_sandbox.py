"""The sandbox: what programs can do in it, what they cannot, and that nothing of them stays."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hostile import HOSTILE

from rewards.code_tests import judge
from rewards.sandbox import Limits, Ran, Sandbox, SandboxError, bubblewrap, seccomp
from rewards.sandbox.cases import Case
from rewards.sandbox.check import trouble
from rewards.sandbox.watch import below

ROOT = Path(__file__).resolve().parents[1]
TROUBLE = trouble()
LEAKY = "not tight" in TROUBLE  # skipping would then hide what these tests are for
needs_sandbox = pytest.mark.skipif(bool(TROUBLE) and not LEAKY, reason=TROUBLE)
TIGHT = Limits(timeout_s=1.5, memory_mb=128, disk_mb=32, output_mb=1, processes=16, files=1000)
SQUARE = b"n = int(input())\nprint(n * n)"


def run(program: str | bytes, given: bytes = b"7\n", limits: Limits = TIGHT) -> Ran:
    with Sandbox(program.encode() if isinstance(program, str) else program, limits) as sandbox:
        return sandbox.run("stdin", given)


def traces() -> dict[str, object]:
    """What a sandbox could leave on this machine."""
    started = [
        path.name
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and os.path.exists(path) and sandboxed(path)
    ]
    return {
        "processes": sorted(below(os.getpid())),
        "sandboxed": started,
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "left behind": [path for path in ("/tmp/hostile-left", "/dev/shm/hostile-left") if os.path.exists(path)],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def sandboxed(process: Path, caller: int | None = None) -> bool:
    """Whether a sandbox of this or another test process has started it, as root under a user id of its own.

    Its owner in /proc would not tell: after a change of user that is root.
    """
    try:
        users = re.search(r"^Uid:\t(\d+)", (process / "status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return users is not None and int(users[1]) == bubblewrap.FIRST_USER + (caller or os.getpid())


class Recorded:
    """A sandbox that keeps what a program wrote."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.ran = sandbox, Ran("lost")

    def run(self, kind: str, data: bytes, *, timeout_s: float | None = None) -> Ran:
        self.ran = self.sandbox.run(kind, data, timeout_s=timeout_s)
        return self.ran


def test_if_there_is_a_sandbox_here_it_is_tight():
    assert not LEAKY, TROUBLE


@needs_sandbox
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained_and_leaves_nothing(name, monkeypatch):
    monkeypatch.setenv("HOSTILE_SECRET", "BREACH")
    before, started = traces(), time.monotonic()
    with Sandbox(HOSTILE[name].encode(), TIGHT) as sandbox:
        recorded = Recorded(sandbox)
        verdict = judge(recorded, [Case(kind="stdin", stdin="7\n", expected=("49\n",))], 0.0, True, 60.0)
    took_s = time.monotonic() - started
    assert verdict.state == "wrong", verdict
    assert b"BREACH" not in recorded.ran.output
    assert len(recorded.ran.output) <= TIGHT.output_mb * (1 << 20)
    assert took_s < TIGHT.timeout_s + 1.0 + START_ALLOWANCE_S
    assert traces() == before


START_ALLOWANCE_S = 5.0  # for the sandbox to start, on a machine that is busy with other tests


@needs_sandbox
def test_honest_programs_still_run_after_all_of_these():
    for _ in range(5):
        assert run(SQUARE).output == b"49\n"


@needs_sandbox
def test_the_host_has_a_listener_that_no_program_can_reach():
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0hostile-test")
        listener.listen()
        assert run(HOSTILE["abstract socket of the host"]).status == 1
        with socket.socket(socket.AF_UNIX) as caller:  # but this process can
            caller.connect("\0hostile-test")


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("import sys; print(sum(map(int, sys.stdin.read().split())))", b"7\n"),
        ("print(open(0).read().strip())", b"7\n"),
        ("print(open('/dev/stdin').read().strip())", b"7\n"),
        ("import os; print(os.read(0, 10))", b"b'7\\n'\n"),
        ("print(7); exit()", b"7\n"),
        ("print(7); quit(0); print(8)", b"7\n"),
        ("if __name__ == '__main__': print(__name__)", b"__main__\n"),
        ("import atexit; atexit.register(print, 'end'); print('start')", b"start\nend\n"),
        ("import threading; threading.Timer(0.05, print, ['late']).start()", b"late\n"),
        (
            "import threading\nthreading.stack_size(1 << 26)\nt = threading.Thread(target=print, args=(1,))\nt.start()",
            b"1\n",
        ),
        ("import sys; sys.setrecursionlimit(10**6)\ndef f(n): return n and f(n - 1) + 1\nprint(f(50000))", b"50000\n"),
        ("open('a', 'w').write('x'); print(open('/box/a').read())", b"x\n"),
        ("import tempfile; f = tempfile.TemporaryFile(); f.write(b'x'); print('ok')", b"ok\n"),
        (
            "from multiprocessing import Pool\nif __name__ == '__main__':\n with Pool(2) as p: print(p.map(abs, [-1]))",
            b"[1]\n",
        ),
        ("import asyncio\nasync def f(): print(1)\nasyncio.run(f())", b"1\n"),
        ("print(hash('a') == hash('a'), '\\u00e9')", b"True \xc3\xa9\n"),
        (HOSTILE["daemon that holds the output open"] + "print(49)", b"49\n"),
        ("import numbers, decimal, fractions, zoneinfo, sqlite3, hashlib, ctypes; print(1)", b"1\n"),
    ],
)
def test_an_ordinary_program_notices_nothing(program, printed):
    ran = run(program)
    assert (ran.output, ran.status, ran.how) == (printed, 0, "exit"), ran.errors


@needs_sandbox
def test_the_same_program_prints_the_same_set_each_time():
    assert len({run("print({'a', 'b', 'c', 'd', 'e'})").output for _ in range(4)}) == 1


@needs_sandbox
def test_each_test_of_a_program_starts_afresh():
    program = "import os, builtins as b\nprint(getattr(b, 'seen', 0), os.listdir('.'))\nb.seen = 1\nopen('left', 'w')"
    with Sandbox(program.encode(), TIGHT) as sandbox:
        printed = {sandbox.run("stdin", b"").output for _ in range(3)}
    assert printed == {b"0 ['.stdin']\n"}


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("while True: pass", "time"),
        ("import os\nwhile True: os.write(1, bytes(65536))", "output"),
        ("import os\nwhile True: os.mkdir(str(len(os.listdir())))", "files"),
        (HOSTILE["private memory of many processes"], "memory"),
        ("raise SystemExit(3)", "exit"),
        ("import os; os.kill(os.getpid(), 9)", "exit"),
    ],
)
def test_how_a_run_ended_is_told(program, how):
    assert run(program).how == how


@needs_sandbox
def test_what_a_program_prints_is_kept_to_the_last_byte_and_no_further():
    exact = Limits(output_mb=0.5, timeout_s=5)
    assert len(run("print('x' * (524288 - 1))", limits=exact).output) == 524288
    assert run("print('x' * 524288)", limits=exact).how == "output"


@needs_sandbox
def test_a_large_input_arrives_whole():
    given = b"x" * (5 << 20)
    assert run("print(len(input()))", given + b"\n").output == b"%d\n" % len(given)


CALLER = """
import sys
sys.path.insert(0, {root!r})
from rewards.sandbox import Limits, Sandbox
with Sandbox({program!r}, Limits(timeout_s=60)) as sandbox:
    print("started", flush=True)
    sandbox.run("stdin", b"")
"""
BUSY = b"import os\nos.fork() or os.setsid()\nwhile True: pass"


def gone(processes: list[int], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.02)
    return False


@needs_sandbox
def test_a_sandbox_dies_with_the_process_that_started_it():
    script = CALLER.format(root=str(ROOT), program=BUSY)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        caller.stdout.readline()
        while len(started := below(caller.pid)) < 4 + (os.getuid() == 0):  # bubblewrap, driver, program and its fork
            time.sleep(0.02)
        caller.send_signal(signal.SIGKILL)
    assert gone(started, 10.0)


STARTING = """
import sys
sys.path.insert(0, {root!r})
from rewards.sandbox import Limits, Sandbox
print("ready", flush=True)
while True:
    with Sandbox(b"while True: pass", Limits(timeout_s=0.03)) as sandbox:
        sandbox.run("stdin", b"")
"""


def started_by(caller: int) -> list[int]:
    """Processes of a caller that leads a session: those that have not left it, and those of its sandboxes' user."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            session = int((path / "stat").read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
        if session == caller or sandboxed(path, caller):
            found.append(int(path.name))
    return found


@needs_sandbox
def test_a_caller_may_be_killed_at_any_moment():
    """Bubblewrap's own set-up too, where a process that waits for another would wait for ever."""
    script, moments = STARTING.format(root=str(ROOT)), random.Random(0)
    for _ in range(10):
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as caller:
            assert caller.stdout is not None
            caller.stdout.readline()
            time.sleep(moments.uniform(0.02, 0.12))
            caller.kill()
        assert gone(started_by(caller.pid), 10.0)
        assert not started_by(caller.pid)


@needs_sandbox
def test_an_exception_in_the_caller_ends_the_sandbox():
    started: set[int] = set()
    others = below(os.getpid())  # of earlier tests: the process that runs sympy, for one

    def interrupted() -> None:
        with Sandbox(SQUARE, TIGHT):
            started.update(set(below(os.getpid())) - set(others))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started
    assert gone(started, 5.0)


@needs_sandbox
def test_sandboxes_of_several_threads_do_not_disturb_each_other():
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda n=n: found.append(run(SQUARE, b"%d" % n).output)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(b"%d\n" % (n * n) for n in range(6))


@needs_sandbox
def test_the_expected_memory_is_usable_and_no_more():
    assert run("print(len(bytes(80 << 20)))").output == b"83886080\n"
    assert run("print(len(bytes(140 << 20)))").errors.strip().endswith(b"MemoryError")


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="timeout_s must be more than 0, got 0"):
        Limits(timeout_s=0)
    with pytest.raises(ValueError, match="at least 32"):
        Limits(memory_mb=8)


def test_without_bubblewrap_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bubblewrap, "find_bwrap", lambda: None)
    monkeypatch.setattr("rewards.sandbox.check._sound", set())
    assert "apt install bubblewrap" in trouble()


def test_a_bubblewrap_that_cannot_start_is_reported_with_its_own_words(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "find_bwrap", lambda: str(broken))
    monkeypatch.setattr("rewards.sandbox.check._sound", set())
    assert "setting up uid map: Permission denied" in trouble()
    with pytest.raises(SandboxError, match="Permission denied"):
        run(SQUARE)


# The filter itself, executed here by an interpreter of its few instructions.


def filtered(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would answer to a call."""
    arch = seccomp.AUDIT_ARCH[machine] if architecture is None else architecture
    padded = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    program = list(struct.iter_unpack("<HBBI", seccomp.seccomp_filter(machine)))
    accumulator, at = 0, 0
    while True:
        code, true, false, constant = program[at]
        at += 1
        if code == seccomp.LOAD:
            accumulator = struct.unpack_from("<I", data, constant)[0]
        elif code == seccomp.RETURN:
            return constant
        else:
            tests = {
                seccomp.JUMP_EQUAL: accumulator == constant,
                seccomp.JUMP_AT_LEAST: accumulator >= constant,
                seccomp.JUMP_ANY_BIT: bool(accumulator & constant),
            }
            at += true if tests[code] else false


ALLOWED = seccomp.ALLOW


def failing(number: int) -> int:
    return seccomp.FAIL | number


@pytest.mark.parametrize(
    ("machine", "call", "arguments", "answer"),
    [
        ("x86_64", 0, (), ALLOWED),  # read
        ("x86_64", 101, (), failing(errno.EPERM)),  # ptrace
        ("x86_64", 165, (), failing(errno.EPERM)),  # mount
        ("x86_64", 56, (17,), ALLOWED),  # clone, as fork
        ("x86_64", 56, (0x3D0F00,), ALLOWED),  # clone, a thread
        ("x86_64", 56, (0x10000011,), failing(errno.EPERM)),  # clone with a user namespace
        ("x86_64", 56, (0x00020011,), failing(errno.EPERM)),  # with a mount namespace
        ("x86_64", 435, (), failing(errno.ENOSYS)),  # clone3
        ("x86_64", 41, (1, 1, 0), ALLOWED),  # socket(AF_UNIX)
        ("x86_64", 41, (2, 1, 0), failing(errno.EAFNOSUPPORT)),
        ("x86_64", 53, (1,), ALLOWED),  # socketpair
        ("x86_64", 53, (2,), failing(errno.EAFNOSUPPORT)),
        ("x86_64", 16, (0, 0x5412), failing(errno.EPERM)),  # ioctl(TIOCSTI)
        ("x86_64", 16, (0, 0x1_0000_5412), failing(errno.EPERM)),  # the kernel drops the high half, so must we
        ("x86_64", 16, (0, 0x5401), ALLOWED),
        ("x86_64", 302, (0,), ALLOWED),  # prlimit64 of itself
        ("x86_64", 302, (1,), failing(errno.EPERM)),
        ("x86_64", 425, (), failing(errno.EPERM)),  # io_uring_setup
        ("x86_64", 700, (), failing(errno.ENOSYS)),  # unknown yet
        ("x86_64", 0x40000000, (), seccomp.KILL_PROCESS),  # x32
        ("aarch64", 63, (), ALLOWED),  # read
        ("aarch64", 117, (), failing(errno.EPERM)),  # ptrace
        ("aarch64", 40, (), failing(errno.EPERM)),  # mount
        ("aarch64", 220, (17,), ALLOWED),
        ("aarch64", 220, (0x40000011,), failing(errno.EPERM)),  # clone with a network namespace
        ("aarch64", 198, (1,), ALLOWED),
        ("aarch64", 198, (10,), failing(errno.EAFNOSUPPORT)),
        ("aarch64", 29, (0, 0x5412), failing(errno.EPERM)),
        ("aarch64", 101, (), ALLOWED),  # nanosleep here, ptrace on x86_64
    ],
)
def test_the_filter_answers(machine, call, arguments, answer):
    assert filtered(machine, call, *arguments) == answer


@pytest.mark.parametrize("machine", seccomp.AUDIT_ARCH)
def test_a_program_of_another_architecture_is_killed(machine):
    assert filtered(machine, 0, architecture=0x40000003) == seccomp.KILL_PROCESS  # i386


def test_every_denied_call_is_denied_and_a_machine_without_a_table_is_refused():
    for which, machine in enumerate(seccomp.AUDIT_ARCH):
        for numbers in seccomp.DENIED.values():
            if numbers[which] is not None:
                assert filtered(machine, numbers[which]) == failing(errno.EPERM)
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.seccomp_filter("riscv64")


def test_a_control_group_bounds_all_processes_together():
    """Version 1's hierarchy of processes, or a delegated directory of version 2 with both controllers."""
    root = next((Path(path) for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if os.access(path, os.W_OK)), None)
    if root is None or TROUBLE or not (root / "cgroup.procs").exists():
        pytest.skip("no control group can be made here")
    parent = root / f"test-sandbox-{os.getpid()}"
    parent.mkdir()
    try:
        limits = Limits(timeout_s=2, processes=100)
        with Sandbox(b"import os\nfor n in range(6): os.fork()\nprint(1)", limits, cgroup=str(parent)) as sandbox:
            child = next(path for path in parent.iterdir() if path.is_dir())
            assert (child / "pids.max").read_text() == "102\n"
            assert sandbox._first in map(int, (child / "cgroup.procs").read_text().split())
            (child / "pids.max").write_text("10")
            assert b"BlockingIOError" in sandbox.run("stdin", b"").errors
        assert not [path for path in parent.iterdir() if path.is_dir()]
    finally:
        parent.rmdir()
    with (
        pytest.raises(SandboxError, match="no control group can be made there"),
        Sandbox(b"", TIGHT, cgroup="/nowhere"),
    ):
        pass


@needs_sandbox
def test_the_benchmark_judges_every_row_rightly_and_ends_with_json():
    command = [sys.executable, "benchmarks/sandbox.py", "--quick", "--workers", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    rates = json.loads(ended.stdout.splitlines()[-1])
    assert len(rates) == 5
    assert all(rate > 0 for rate in rates.values())
