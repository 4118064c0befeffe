"""Runs a program in a sandbox, test by test, and leaves nothing behind.

    with Sandbox(source, limits) as sandbox:
        ran = sandbox.run("stdin", b"1 2\\n")

Four things end a program: its own limits (see driver.py), the driver inside at the wall time of a test, the watch here
over all its processes together, and the end of this process, at which the driver ends and with it the sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from types import TracebackType
from typing import Self

from rewards.sandbox import bubblewrap
from rewards.sandbox.cgroup import Cgroup
from rewards.sandbox.limits import MIB, How, Limits, Ran, SandboxError
from rewards.sandbox.seccomp import seccomp_filter
from rewards.sandbox.watch import below, usage

START_S = 10.0  # until the driver must have answered
GRACE_S = 0.7  # for the driver to end a test, after the test's time
WATCH_S = 0.02  # between two looks at what all processes use
CLOSE_S = 3.0
HOWS: dict[str, How] = {"exit": "exit", "time": "time", "output": "output"}  # what a driver may report


class Sandbox:
    """One program in one sandbox; a new one is started where a test has left files behind.

    Not to be shared by threads.
    Raises SandboxError where no sandbox can be started; `open_air` then runs the program without any.
    """

    def __init__(
        self,
        source: bytes,
        limits: Limits,
        *,
        open_air: bool = False,
        site_packages: bool = False,
        cgroup: str = "",
    ) -> None:
        self.source, self.limits, self.open_air = source, limits, open_air
        self.site_packages, self.cgroup_parent = site_packages, cgroup
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0  # the driver, as this machine numbers it
        self._handle: int | None = None  # of the driver: unlike its number, never another process's
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._cgroup: Cgroup | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, kind: str, data: bytes, *, timeout_s: float | None = None) -> Ran:
        """Run the program anew on one test: kind "stdin" or "call", see driver.py for `data`."""
        if self._process is None:
            self._start()
        timeout_s = min(self.limits.timeout_s, timeout_s or self.limits.timeout_s)
        until = time.monotonic() + timeout_s + GRACE_S
        try:
            self._send(b"%s %d %d\n" % (kind.encode(), int(timeout_s * 1e6), len(data)) + data, until)
            ran, clean = self._answer(until)
        except _CutError as cut:
            if cut.how == "lost" and (said := self._said()):  # the driver failed; no program can make it say anything
                self.close()
                raise SandboxError(f"the sandbox broke: {said}") from None
            ran, clean = Ran(cut.how), False
        if not clean:
            self.close()
        return replace(ran, wall_s=min(ran.wall_s, timeout_s))

    def close(self) -> None:
        """Kill all that runs in the sandbox, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        ours = [pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None]
        ours[0].close()  # outside a sandbox the driver then ends what it has started
        try:
            if self._handle is not None and not self.open_air:
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself, for the pipe is closed
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            for started in [*below(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(started, signal.SIGKILL)
            process.wait()
        for pipe in ours[1:]:
            pipe.close()
        if self._handle is not None:
            os.close(self._handle)
        if self._cgroup is not None:
            self._cgroup.remove()
        if self._directory is not None:
            self._directory.cleanup()
        self._handle = self._cgroup = self._directory = None

    def _start(self) -> None:
        limits = self.limits
        processes = 1 + limits.processes if self._counts_processes() else 0
        sizes = (limits.memory_mb * MIB, limits.disk_mb * MIB, processes, limits.open_files)
        first = (len(self.source), *sizes, int(limits.output_mb * MIB))
        # What bubblewrap tells goes into a file in memory: a pipe would kill it, were this process to end meanwhile.
        info = os.memfd_create("info")
        try:
            self._process = self._open() if self.open_air else self._sealed(info)
            until = time.monotonic() + START_S
            self._send(" ".join(map(str, first)).encode() + b"\n" + self.source, until)
            if self._read_line(until, watch=False) != b"ready\n":
                raise _CutError("lost")
            # The driver waits for the first test: nothing of the program has run.
            self._first = self._process.pid if self.open_air else json.loads(os.pread(info, 4096, 0))["child-pid"]
            self._handle = os.pidfd_open(self._first)
            if self.cgroup_parent:
                self._cgroup = Cgroup(self.cgroup_parent, limits)
                self._cgroup.add(self._first)
        except (_CutError, OSError, ValueError) as error:
            raise SandboxError(self._failed(error)) from None
        except BaseException:
            self.close()
            raise
        finally:
            os.close(info)

    def _counts_processes(self) -> bool:
        """Whether the kernel counts a sandbox's processes apart from all others of its user, for RLIMIT_NPROC."""
        version = tuple(map(int, re.findall(r"[0-9]+", os.uname().release)[:2]))
        return not self.open_air and (os.getuid() == 0 or version >= (5, 14))

    def _sealed(self, info: int) -> subprocess.Popen[bytes]:
        """Bubblewrap, with the driver in it waiting for the program."""
        bwrap = bubblewrap.find_bwrap()
        if bwrap is None:
            raise FileNotFoundError(f"bubblewrap is not installed ({bubblewrap.INSTALL})")
        launcher = bubblewrap.launcher(bwrap, self.site_packages, os.getuid(), os.getpid())
        rules, runner = os.memfd_create("seccomp"), os.pidfd_open(os.getpid())
        try:
            os.write(rules, seccomp_filter())
            os.lseek(rules, 0, os.SEEK_SET)
            disk = self.limits.disk_mb * MIB
            command = launcher.command(seccomp=rules, info=info, runner=runner, disk_bytes=disk)
            return _popen(command, pass_fds=(rules, info, runner), env=dict(launcher.environment), cwd="/")
        finally:
            os.close(rules)
            os.close(runner)

    def _open(self) -> subprocess.Popen[bytes]:
        """The driver without a sandbox, in a directory of its own."""
        self._directory = tempfile.TemporaryDirectory(prefix="code-tests-", ignore_cleanup_errors=True)
        values = bubblewrap.environment() | {"HOME": self._directory.name, "TMPDIR": self._directory.name}
        runner = os.pidfd_open(os.getpid())
        command = [sys.executable, "-s", "-S", "-P", "-c", bubblewrap.driver_text(), "open", str(runner)]
        process = _popen(command, pass_fds=(runner,), env=values, cwd=self._directory.name)
        os.close(runner)
        return process

    def _failed(self, error: Exception) -> str:
        """Why no sandbox came up; ends what did."""
        text = "" if isinstance(error, _CutError) else str(error)
        text = text or self._said() or f"it did not answer within {START_S:g} s"
        self.close()
        return text

    def _said(self) -> str:
        """What bubblewrap or the driver has complained of, the end of it."""
        if self._process is None or self._process.stderr is None:
            return ""
        os.set_blocking(self._process.stderr.fileno(), False)
        return (self._process.stderr.read(1 << 16) or b"")[-500:].decode(errors="replace").strip()

    def _send(self, data: bytes, until: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pipe, view = self._process.stdin.fileno(), memoryview(data)
        os.set_blocking(pipe, False)
        while view:
            left = until - time.monotonic()
            if left <= 0 or not select.select([], [pipe], [], left)[1]:
                raise _CutError("time")
            try:
                view = view[os.write(pipe, view) :]
            except BrokenPipeError:
                raise _CutError("lost") from None

    def _answer(self, until: float) -> tuple[Ran, bool]:
        """What the driver reports of a test, and whether the sandbox is as it was before."""
        word, *numbers = self._read_line(until).decode("ascii", "replace").split()
        if word not in HOWS or len(numbers) != 6:
            raise _CutError("lost")
        how = HOWS[word]
        status, cpu_us, wall_us, clean, written, complained = map(int, numbers)
        if not (0 <= written <= self.limits.output_mb * MIB and 0 <= complained <= 1 << 16):
            raise _CutError("lost")
        output, errors = self._read(written, until), self._read(complained, until)
        if how == "exit" and status == -signal.SIGXCPU:
            how = "time"
        return Ran(how, status, output, errors, cpu_us / 1e6, wall_us / 1e6), bool(clean)

    def _read_line(self, until: float, *, watch: bool = True) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(1, until, watch=watch)
            if len(line) > 200:
                raise _CutError("lost")
        return line

    def _read(self, size: int, until: float, *, watch: bool = True) -> bytes:
        """`size` bytes from the driver, with an eye on what the sandbox uses."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe, chunks = self._process.stdout.fileno(), []
        while size:
            left = until - time.monotonic()
            if left <= 0:
                raise _CutError("time")
            if select.select([pipe], [], [], min(left, WATCH_S))[0]:
                chunk = os.read(pipe, min(size, 1 << 20))
                if not chunk:
                    raise _CutError("lost")
                chunks.append(chunk)
                size -= len(chunk)
            elif watch:
                self._look()
        return b"".join(chunks)

    def _look(self) -> None:
        """Stop a program whose processes together use more than they may."""
        used = usage(self._first, bubblewrap.WORK)
        if used.memory_bytes > (self.limits.memory_mb + self.limits.disk_mb) * MIB:
            raise _CutError("memory")
        if used.tasks > self.limits.processes:
            raise _CutError("processes")
        if not self.open_air and used.files > self.limits.files:
            raise _CutError("files")


class _CutError(Exception):
    """A run that ends here."""

    def __init__(self, how: How) -> None:
        super().__init__(how)
        self.how: How = how


def _popen(command: list[str], *, pass_fds: tuple[int, ...], env: dict[str, str], cwd: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, pass_fds=pass_fds, env=env, cwd=cwd
    )
