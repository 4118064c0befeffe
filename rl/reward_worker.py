"""The processes that call rewards: a template that has imported them, and the workers that are forked from it.

A fork of the template is ready in milliseconds, which is what makes it cheap to kill a worker whose reward hangs. The
template calls no reward itself and has no threads of its own. No torch here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

from rl.experience import Verdict
from rl.reward_calls import (
    LENGTH,
    Alive,
    Answer,
    Begun,
    Call,
    Connection,
    Ended,
    Forked,
    Importing,
    Job,
    Modules,
)
from rl.reward_forms import BoundReward, Failed, Outcome
from rl.reward_terms import RewardTerm, bound_reward

READY = "ready"  # the template has imported the rewards; any other text is why it could not
FORK = b"F"  # comes with a socket: the new worker's end
MESSAGE = b"M"  # on the template's pipe: a pickled message follows
HEARTBEAT_S = 1.0
LIBC = ctypes.CDLL(None)  # once, not in each fork
CPU_GRACE_S = 120.0  # beyond the deadline, imports and first calls included, before the kernel ends a lost worker


class Limits(NamedTuple):
    """What a worker may use, and for how long a call of each term may run."""

    memory_mb: int | None  # of memory beyond what the template has; None: as much as there is
    deadlines_s: Mapping[int, float]  # for one completion, by number of the term
    concurrency: Mapping[int, int]  # how many calls of an async term may run at once


class Setup(NamedTuple):
    """The first message to a template."""

    terms: Mapping[int, RewardTerm]
    limits: Limits
    in_event_loop: bool  # all terms are async and share one worker


def template(parent: int, control_fd: int) -> None:
    """The template's main: import the rewards, then fork a worker for each socket that arrives, until the trainer ends.

    Messages: Setup -> READY or an error; FORK with a socket -> Forked; a list of module names -> READY; a worker's
    end -> Ended.
    """
    die_with(parent)
    control = socket.socket(fileno=control_fd)
    connection = Connection(control)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what rewards print goes to stderr
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's affair
    inbox = Inbox(control)
    setup: Setup = inbox.receive()
    try:
        rewards = {number: bound_reward(term) for number, term in setup.terms.items()}
    except ValueError as error:
        connection.send(str(error))
        return
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _nothing)
    gc.freeze()  # a collection in a worker would copy the pages of all that was imported
    connection.send(READY)
    while True:
        heard, _, _ = select.select([control.fileno(), wakeup_read], [], [])
        if wakeup_read in heard:
            os.read(wakeup_read, 4096)
        _reap(connection)
        if control.fileno() in heard:
            request = inbox.receive()
            if request is None:
                return  # the trainer is gone, and with us go our workers
            if isinstance(request, socket.socket):
                pid = _fork()
                if pid == 0:
                    os.close(wakeup_read)
                    os.close(wakeup_write)
                    _be_worker(request, control, rewards, setup)
                with contextlib.suppress(OSError):
                    os.setpgid(pid, pid)
                request.close()
                connection.send(Forked(pid))
            else:
                for name in request:
                    with contextlib.suppress(BaseException):
                        importlib.import_module(name)
                gc.freeze()
                connection.send(READY)


class Inbox:
    """What the trainer sends to the template: sockets and messages."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control

    def receive(self) -> Any:
        """A socket, a message, or None at the end."""
        try:
            kind, fds, _, _ = socket.recv_fds(self.control, 1, 1)
        except ConnectionResetError:
            return None
        if kind == FORK:
            return socket.socket(fileno=fds[0])
        return self._message() if kind == MESSAGE else None

    def _message(self) -> Any:
        """Read to its last byte and no further: a socket may follow."""
        size = LENGTH.unpack(self._exactly(LENGTH.size))[0]
        return pickle.loads(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.control.recv(size - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return data


def _fork() -> int:
    """os.fork, which may need a moment where a limit on processes is reached and others are just ending."""
    for _ in range(50):
        with contextlib.suppress(BlockingIOError):
            return os.fork()
        time.sleep(0.1)
    return os.fork()


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, so that the end of a child is written to the wakeup pipe."""


def _reap(connection: Connection) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection.send(Ended(pid, os.waitstatus_to_exitcode(status)))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however that comes about (Linux).

    Elsewhere it ends when it next reads from the closed socket.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        LIBC.prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we could ask
        os._exit(1)


def _be_worker(sock: socket.socket, control: socket.socket, rewards: Mapping[int, BoundReward], setup: Setup) -> None:
    """The rest of a worker's life; never returns."""
    code = 1
    try:
        parent = os.getppid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        # A group, not a session, of its own: one signal reaches all that a reward has started, and the kernel's
        # automatic groups (one for a session) do not take a worker's lowered priority for that of the session.
        os.setpgid(0, 0)
        die_with(parent)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if setup.limits.memory_mb is not None:
            _limit_memory(setup.limits.memory_mb)
        if setup.in_event_loop:
            asyncio.run(_work_in_event_loop(sock, rewards, setup.limits))
        else:
            _work(Pipe(sock), rewards, setup.limits)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
            sys.stdout.flush()
        os._exit(code)


def _limit_memory(memory_mb: int) -> None:
    """RLIMIT_DATA: what the process itself may write to. RLIMIT_AS would count what is only reserved."""
    pages = 0
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm") as file:
        pages = int(file.read().split()[5])
    limit = pages * resource.getpagesize() + (memory_mb << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


class Pipe:
    """A worker's end, out of reach of the processes that its rewards fork."""

    def __init__(self, sock: socket.socket) -> None:
        self.connection, self.owner = Connection(sock), os.getpid()
        self.waiting: list[Job] = []

    def next_job(self) -> Job | None:
        """Waits for it; None when the trainer has closed the pipe."""
        while not self.waiting:
            jobs, alive = self.connection.receive()
            self.waiting += jobs
            if not alive:
                return None
        return self.waiting.pop(0)

    def send(self, message: object) -> None:
        if os.getpid() == self.owner:
            self.connection.send(message)


class ImportNotice:
    """Tells the trainer when a reward imports something for the first time: sympy may take seconds on a cold disk."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe, self.told_at = pipe, 0.0
        self.seen: set[str] = set()  # a look-up that fails and is tried again is no progress

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Finds nothing, so that the next finder does."""
        now = time.monotonic()
        if name not in self.seen and now - self.told_at > 0.1:
            self.pipe.send(Importing(now))
            self.told_at = now
        self.seen.add(name)


def _work(pipe: Pipe, rewards: Mapping[int, BoundReward], limits: Limits) -> None:
    sys.meta_path.insert(0, ImportNotice(pipe))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    while (job := pipe.next_job()) is not None:
        pipe.send(Begun(time.monotonic()))
        for call in job.calls:
            seconds = limits.deadlines_s[call.term] * len(call.places) + time.process_time() + CPU_GRACE_S
            allowed_s = int(min(seconds, 1 << 30)) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (allowed_s, hard))
            started, cpu_s = time.monotonic(), time.process_time()
            completions = [job.completions[place] for place in call.places]
            outcomes = rewards[call.term].call(job.prompt, completions, call.terms)
            used_s = time.process_time() - cpu_s
            pipe.send(Answer(call.number, _plain(outcomes), started, time.monotonic(), used_s))
            resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        if not job.calls:
            pipe.send(Modules(tuple(sys.modules)))


def _plain(outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Of our own types and text alone, which travel; a reward may return a verdict of a class of its own."""
    return tuple(
        Failed(one.state, str(one.message), str(one.trace))
        if isinstance(one, Failed)
        else Verdict(float(one), state=one.state, reason=str(one.reason))
        for one in outcomes
    )


async def _work_in_event_loop(sock: socket.socket, rewards: Mapping[int, BoundReward], limits: Limits) -> None:
    """All jobs at once, as far as each term's concurrency goes. A deadline begins when a call has its turn."""
    sock.setblocking(False)
    connection, loop, running = Connection(sock), asyncio.get_running_loop(), set()
    turns = {term: asyncio.Semaphore(number) for term, number in limits.concurrency.items()}
    sending = asyncio.Lock()

    async def send(message: object) -> None:
        async with sending:
            connection.send(message)
            while connection.has_unsent:
                await asyncio.sleep(0.001)
                connection.flush()

    async def beat() -> None:
        while True:
            await send(Alive())
            await asyncio.sleep(HEARTBEAT_S)

    async def answer(job: Job, call: Call) -> None:
        async with turns[call.term]:
            started = time.monotonic()
            outcomes = await _within(limits.deadlines_s[call.term] * len(call.places), rewards[call.term], job, call)
            await send(Answer(call.number, _plain(outcomes), started, time.monotonic(), 0.0))

    heart = loop.create_task(beat())
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)
    alive = True
    while alive:
        await readable.wait()
        readable.clear()
        jobs, alive = connection.receive()
        for job in jobs:
            for call in job.calls:
                task = loop.create_task(answer(job, call))
                running.add(task)
                task.add_done_callback(running.discard)
            if not job.calls:
                await send(Modules(tuple(sys.modules)))
    heart.cancel()
    os._exit(0)


async def _within(deadline_s: float, reward: BoundReward, job: Job, call: Call) -> tuple[Outcome, ...]:
    completions = [job.completions[place] for place in call.places]
    task = asyncio.ensure_future(reward.call_async(job.prompt, completions, call.terms))
    done, _ = await asyncio.wait({task}, timeout=deadline_s)
    if done:
        return task.result()
    task.cancel()  # and not awaited: it may not want to end
    return (Failed("timeout", f"no value within {deadline_s:g} s"),) * len(completions)
