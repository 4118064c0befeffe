"""Workers that call rewards, minded by a thread of their own: deadlines, replacements, and hanging calls passed by.

A job goes to a worker that is free. A call that takes longer than is usual for its term is passed by: what else the
worker had to do goes to a new worker, so that the number of working ones stays the same, and the slow call has until
its deadline; then its worker is killed. Where calls hang and compute for ever, the greediest of them are held (stopped)
while others wait for the processors. No torch here.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl.experience import State
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
from rl.reward_forms import Failed
from rl.reward_tasks import FRESH_CPU_S, MODULES, Patience, Result, Task, Ticket, Typical, Worker
from rl.reward_terms import RewardTerm
from rl.reward_worker import FORK, HEARTBEAT_S, MESSAGE, READY, Limits, Setup

ROOT = Path(__file__).resolve().parents[1]
START_DEADLINE_S = 120.0  # to start the template and import the rewards; also for the first call of each
IMPORT_DEADLINE_S = 60.0  # for the imports that a call does: they do not count against its deadline
ENDED_WITHIN_S = 1.0  # after its pipe has closed we should know how a worker ended
BLOCKED_AFTER_S = 15 * HEARTBEAT_S  # an event loop that does not answer
OVERBOOKED_FOR_S = 1.0  # after a call was passed by; see Pool._num_wanted
LOOK_AGAIN_AFTER_S = 0.001  # at the earliest, at a call that takes long and has not had much of the processor
LOOK_EVERY_S = 0.02  # at what slow calls take of the processors
SLICE_S = 0.02  # of a processor, for a held call
FORK_AGAIN_AFTER_S = 0.5
MAX_ALONE = 8  # suspects at once
MAX_PASSED_BY = 128  # slow calls at once
MAX_ATTEMPTS = 2  # of a call whose worker died while another call was to blame


class Pool:
    """The workers of some terms. Thread-safe; `submit` returns at once."""

    def __init__(
        self, terms: Mapping[int, RewardTerm], limits: Limits, *, workers: int, in_event_loop: bool, pass_by: bool
    ) -> None:
        self.terms, self.limits = dict(terms), limits
        self.num_workers, self.in_event_loop = workers, in_event_loop
        self.pass_by = pass_by and hasattr(os, "SCHED_IDLE")
        self._handed_in: deque[Task | tuple[str, ...]] = deque()  # new tasks, and modules for the template to import
        self._wakeup_read, self._wakeup_write = os.pipe()
        os.set_blocking(self._wakeup_write, False)
        self._closing, self.error = False, ""
        self._wakeup_lock = threading.Lock()  # of the file descriptor, whose number may be another file's once closed
        self._has_template = False
        self._fork_again_at = 0.0
        self.workers: list[Worker] = []
        self._waiting: deque[Task] = deque()
        self._suspects: deque[Task] = deque()  # one of these took an event loop down: each is tried in one of its own
        self._typical = {number: Typical() for number in terms}
        self._passed_by_at = -OVERBOOKED_FOR_S  # the last time
        self._num_passed_by = 0
        self._patience = Patience()
        self._released_at = -LOOK_EVERY_S  # the last of those that were held
        self._thread = threading.Thread(target=self._mind, name="reward-pool", daemon=True)
        self._thread.start()

    # Called by any thread

    def submit(self, job: Job, *, deadline_s: float | None = None) -> Ticket:
        """deadline_s: in place of the terms' own. A job without calls gives the names of the worker's modules."""
        ticket = Ticket(job.calls)
        self._hand_in(Task(job, ticket, deadline_s))
        if self.error:
            ticket.fail(self.error)
        return ticket

    def preload(self, modules: Sequence[str]) -> None:
        """Has the template import these, and workers forked that have them from the start."""
        self._hand_in(tuple(modules))

    def close(self) -> None:
        """Ends all processes. Harmless when repeated."""
        self._closing = True
        self._wake()
        self._thread.join()
        with self._wakeup_lock:
            if self._wakeup_write >= 0:
                os.close(self._wakeup_write)
            self._wakeup_write = -1

    def _hand_in(self, what: Task | tuple[str, ...]) -> None:
        self._handed_in.append(what)
        self._wake()

    def _wake(self) -> None:
        with (
            self._wakeup_lock,
            contextlib.suppress(BlockingIOError, BrokenPipeError),
        ):  # full, or nobody reads it any more
            if self._wakeup_write >= 0:
                os.write(self._wakeup_write, b"x")

    # All below is called by the thread alone

    def _mind(self) -> None:
        try:
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._wakeup_read, selectors.EVENT_READ)
            self._start_template()
            while not self._closing:
                self._turn()
        except BaseException as error:
            self.error = f"the reward workers have failed: {type(error).__name__}: {error}"
            if not isinstance(error, CannotStart):
                raise
            self.error = str(error)
        finally:
            self._end_processes()
            self.error = self.error or "the scorer is closed"
            tickets = [task.ticket for worker in self.workers for _, task in worker.pending.values()]
            left = [*self._waiting, *self._suspects, *self._handed_in]
            tickets += [task.ticket for task in left if isinstance(task, Task)]
            for ticket in tickets:
                ticket.fail(self.error)
            os.close(self._wakeup_read)
            with contextlib.suppress(AttributeError):  # the error may have been that there is none
                self._selector.close()

    def _turn(self) -> None:
        for key, events in self._selector.select(self._wait_s()):
            if key.fd == self._wakeup_read:
                os.read(self._wakeup_read, 4096)
            elif key.data == "template":
                self._hear_template()
            elif key.data in self.workers:
                if events & selectors.EVENT_WRITE:
                    key.data.connection.flush()
                    self._watch(key.data)
                if events & selectors.EVENT_READ:
                    self._hear(key.data)
        while self._handed_in:
            new = self._handed_in.popleft()
            if isinstance(new, Task):
                self._waiting.append(new)
            else:
                self._preload(new)
        now = time.monotonic()
        self._check_template(now)
        for worker in list(self.workers):
            self._check(worker, now)
        self._hold_or_release()
        if self._ready:
            self._assign()

    # The template

    def _start_template(self) -> None:
        ours, theirs = socket.socketpair()
        code = (
            "import sys; sys.path[:] = sys.argv[3:]; from rl.reward_worker import template; "
            "template(int(sys.argv[1]), int(sys.argv[2]))"
        )
        path = [str(ROOT), *(entry or os.getcwd() for entry in sys.path if entry != str(ROOT))]
        self._template = subprocess.Popen(
            [sys.executable, "-c", code, str(os.getpid()), str(theirs.fileno()), *path],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            process_group=0,  # Ctrl-C reaches the trainer alone
        )
        theirs.close()
        self._control, self._has_template = Connection(ours), True
        self._selector.register(ours, selectors.EVENT_READ, "template")
        self._ready, self._start_by = False, time.monotonic() + START_DEADLINE_S
        self._awaiting_pid: deque[Worker] = deque()
        self._tell_template(Setup(self.terms, self.limits, self.in_event_loop))

    def _tell_template(self, message: object) -> None:
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died; we shall hear of it
            self._control.socket.sendall(MESSAGE + LENGTH.pack(len(data)) + data)

    def _hear_template(self) -> None:
        messages, alive = self._control.receive()
        for message in messages:
            if isinstance(message, Forked):
                worker = self._awaiting_pid.popleft()
                worker.pid = message.pid
                if worker not in self.workers:  # it was removed before its process was known
                    _kill(worker)
            elif isinstance(message, Ended):
                for worker in [worker for worker in self.workers if worker.pid == message.pid]:
                    self._drain(worker)
                    if worker in self.workers:  # its last answer may have been all that it was kept for
                        self._died(worker, _ending(message.code))
            elif message == READY:
                self._ready = True
            else:
                raise CannotStart(f"a reward worker cannot start: {message}")
        if not alive:
            self._template_died()

    def _check_template(self, now: float) -> None:
        if not self._ready and now > self._start_by:
            raise CannotStart(f"the reward workers were not ready within {START_DEADLINE_S:g} s; see their output")

    def _template_died(self) -> None:
        """Its workers died with it."""
        code = self._template.wait()
        if not self._ready:
            raise CannotStart(f"the process that imports the rewards died ({_ending(code)}); see its output")
        self._selector.unregister(self._control.socket)
        self._control.close()
        for worker in list(self.workers):
            self._died(worker, _ending(code), blame=False)
        self._start_template()

    def _preload(self, modules: tuple[str, ...]) -> None:
        """New workers will have the modules; those without work are not needed any more."""
        for worker in [worker for worker in self.workers if not worker.pending]:
            self._remove(worker)
        self._ready, self._start_by = False, time.monotonic() + START_DEADLINE_S
        self._tell_template(modules)

    # Giving work

    def _assign(self) -> None:
        try:
            self._staff()
        except OSError:  # too many open files, for one: with those that there are, and then again
            self._fork_again_at = time.monotonic() + FORK_AGAIN_AFTER_S
        for worker in self._regular():
            while self._waiting and (self.in_event_loop or not worker.pending):
                self._give(worker, self._waiting.popleft())
        for worker in self.workers:
            if worker.alone and not worker.pending and worker.closed_at is None and self._suspects:
                self._give(worker, self._suspects.popleft())

    def _regular(self) -> list[Worker]:
        """The workers that are to work on whatever comes."""
        return [one for one in self.workers if not (one.passed_by or one.alone) and one.closed_at is None]

    def _staff(self) -> None:
        """As many workers as are wanted, neither fewer nor more. May raise OSError."""
        regular, alone = self._regular(), [worker for worker in self.workers if worker.alone]
        idle = [worker for worker in regular if not worker.pending][: max(0, len(regular) - self._num_wanted())]
        idle += [worker for worker in alone if not worker.pending and not self._suspects]
        for worker in idle:
            self._remove(worker)
        if time.monotonic() < self._fork_again_at:
            return
        room = self.num_workers + MAX_PASSED_BY - len(self.workers)
        for _ in range(min(room, self._num_wanted() - len(regular))):
            self._fork()
        for _ in range(min(MAX_ALONE, len(self._suspects)) - len(alone)):
            self._fork().alone = True

    def _num_wanted(self) -> int:
        """How many workers are to work. While calls hang, half as many again: some of them will turn out to hang, and
        until that is seen the processors would have less to do than they can."""
        hanging = time.monotonic() < self._passed_by_at + OVERBOOKED_FOR_S
        return self.num_workers + (self.num_workers + 1) // 2 if hanging else self.num_workers

    def _fork(self) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = Worker(Connection(ours))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control.socket, [FORK], [theirs.fileno()])
        theirs.close()
        self._awaiting_pid.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self.workers.append(worker)
        return worker

    def _give(self, worker: Worker, task: Task) -> None:
        if task.ticket.cancelled:
            return
        task.attempts += 1
        now = time.monotonic()
        if not worker.pending:
            worker.heard_at, worker.imports_end_at = now, now + IMPORT_DEADLINE_S
            worker.begin_call(now)
            worker.begun = False
        worker.pending |= {call.number: (call, task) for call in task.job.calls or (MODULES,)}
        try:
            worker.connection.send(task.job)
        except Exception as error:  # whatever pickle makes of metadata that cannot be sent
            for call in task.job.calls:
                del worker.pending[call.number]
                self._put(call, task, "error", f"cannot be sent to a worker: {type(error).__name__}: {error}", 0.0)
            return
        self._watch(worker)

    def _watch(self, worker: Worker) -> None:
        writing = selectors.EVENT_WRITE if worker.connection.has_unsent else 0
        self._selector.modify(worker.connection.socket, selectors.EVENT_READ | writing, worker)

    # Taking what was done

    def _hear(self, worker: Worker) -> None:
        if not self._drain(worker) and worker in self.workers and worker.closed_at is None:
            worker.closed_at = time.monotonic()
            self._selector.unregister(worker.connection.socket)

    def _drain(self, worker: Worker) -> bool:
        """Takes all that a worker has sent; whether it may send more."""
        alive = True
        while worker.closed_at is None:
            messages, alive = worker.connection.receive()
            for message in messages:
                self._take(worker, message)
            if not messages or not alive or worker not in self.workers:
                break
        return alive

    def _take(self, worker: Worker, message: Any) -> None:
        worker.heard_at = time.monotonic()
        if isinstance(message, Importing):
            worker.busy_since = max(worker.busy_since, min(message.at, worker.imports_end_at))
        elif isinstance(message, Begun):
            worker.begin_call(message.at)
            worker.begun = True
        elif isinstance(message, Modules):
            _, task = worker.pending.pop(MODULES.number)
            task.ticket.modules = message.names
            task.ticket.answered(MODULES.number)
            self._finish(worker)
        elif isinstance(message, Answer) and message.number in worker.pending:
            call, task = worker.pending.pop(message.number)
            seconds = message.ended - message.started
            task.ticket.put(call.number, Result(message.outcomes, seconds))
            if not worker.fresh:
                self._typical[call.term].add(seconds / len(call.places), message.cpu_s / len(call.places))
            worker.fresh = False
            self._patience.spend(-worker.charged_s)
            worker.charged_s = 0.0
            worker.imports_end_at = message.ended + IMPORT_DEADLINE_S
            worker.begin_call(message.ended)
            self._finish(worker)
        else:
            assert isinstance(message, Alive | Answer), message

    def _finish(self, worker: Worker) -> None:
        if not worker.pending and worker.passed_by:  # it may have been held, and to undo SCHED_IDLE takes privileges
            self._remove(worker)

    # Deadlines

    def _wait_s(self) -> float | None:
        """Until something may be due."""
        now, due = time.monotonic(), [] if self._ready else [self._start_by]
        if self._fork_again_at > now:
            due.append(self._fork_again_at)
        for worker in self.workers:
            if worker.closed_at is not None:
                due.append(worker.closed_at + ENDED_WITHIN_S)
            elif self.in_event_loop and worker.pending:
                due.append(worker.heard_at + BLOCKED_AFTER_S)
            elif worker.pending:
                due.append(self._cut_at(worker))
                if self._may_pass_by(worker):
                    due.append(self._pass_by_at(worker))
        if self._num_passed_by and self._all_are_busy():
            due.append(now + LOOK_EVERY_S)
        return max(0.0, min(due) - now) if due else None

    def _check(self, worker: Worker, now: float) -> None:
        if worker.closed_at is not None:
            if now > worker.closed_at + ENDED_WITHIN_S:
                self._died(worker, "its end is unknown")
        elif self.in_event_loop:
            if worker.pending and now > worker.heard_at + BLOCKED_AFTER_S:
                self._died(worker, f"its event loop was blocked for {BLOCKED_AFTER_S:g} s; await, do not wait")
        elif worker.pending:
            if now >= self._cut_at(worker):
                if self._drain(worker) and worker.pending and now >= self._cut_at(worker):
                    self._cut(worker)
            elif self._may_pass_by(worker) and now >= self._pass_by_at(worker) and self._is_slow(worker, now):
                self._pass_by(worker)

    def _allowed_s(self, call: Call, task: Task) -> float:
        if call is MODULES:
            return START_DEADLINE_S
        own_s = self.limits.deadlines_s[call.term] if task.deadline_s is None else task.deadline_s
        return own_s * len(call.places)

    def _cut_at(self, worker: Worker) -> float:
        """When the first pending call is past its deadline."""
        assert worker.first is not None
        return worker.busy_since + self._allowed_s(*worker.first)

    def _may_pass_by(self, worker: Worker) -> bool:
        """Whether anything waits for this worker that another one could do."""
        return (
            self.pass_by
            and not worker.passed_by
            and worker.pid is not None
            and bool(worker.pending)
            and (len(worker.pending) > 1 or bool(self._waiting))
            and MODULES.number not in worker.pending
            and self._num_passed_by < MAX_PASSED_BY
        )

    def _is_slow(self, worker: Worker, now: float) -> bool:
        """A call that sleeps is judged by its time, one that computes by that of the processor: it may have to wait."""
        if not self._drain(worker) or not self._may_pass_by(worker) or now < self._pass_by_at(worker):
            return False
        still_s = self._too_much_cpu_s(worker) - worker.call_cpu_s
        worker.look_again_at = now + max(LOOK_AGAIN_AFTER_S, still_s)
        return still_s < 0 or not _is_running(worker.pid or 0)

    def _too_much_cpu_s(self, worker: Worker) -> float:
        assert worker.first is not None
        call, _ = worker.first
        fresh_s = FRESH_CPU_S if worker.fresh else 0.0
        return self._typical[call.term].too_much_cpu_s * len(call.places) + fresh_s

    def _pass_by_at(self, worker: Worker) -> float:
        assert worker.first is not None
        call, _ = worker.first
        due = worker.busy_since + self._typical[call.term].pass_by_after_s * len(call.places)
        return max(due, worker.look_again_at)

    def _pass_by(self, worker: Worker) -> None:
        """The slow call stays; the rest goes to a new worker."""
        worker.passed_by = True
        self._num_passed_by += 1
        if not _is_running(worker.pid or 0):
            self._passed_by_at = time.monotonic()
        self._hand_on(worker)

    def _hold_or_release(self) -> None:
        """While the slow calls together take more of the processors than there is patience for, the greediest of them
        is held; but not one that is slow only because it had to wait. As patience grows back, and where processors are
        free, those that are held go on, each in its turn."""
        if not self._num_passed_by:
            return
        slow = [worker for worker in self.workers if worker.passed_by]
        held = sorted((worker for worker in slow if worker.held), key=lambda worker: worker.held_at)
        if not self._all_are_busy():
            for worker in held:
                self._release(worker)
            for worker in slow:
                worker.count_from_now()
            return
        takes_s = {worker: worker.uncounted_cpu_s for worker in slow if not worker.held}
        while takes_s and sum(takes_s.values()) > self._patience.left_s:
            worker = max(takes_s, key=lambda worker: takes_s[worker])
            if worker.call_cpu_s < self._too_much_cpu_s(worker):
                return
            worker.charged_s += takes_s[worker]
            self._patience.spend(takes_s.pop(worker))
            self._hold(worker)
        has_run = time.monotonic() > self._released_at + LOOK_EVERY_S  # so that what it takes is seen
        if held and has_run and sum(takes_s.values()) + SLICE_S < self._patience.left_s:
            self._release(held[0])

    def _all_are_busy(self) -> bool:
        """Whether a slow call takes from others."""
        return bool(self._waiting) or sum(bool(one.pending) for one in self._regular()) >= self.num_workers

    def _hold(self, worker: Worker) -> None:
        assert worker.pid is not None
        worker.held, worker.held_at = True, time.monotonic()
        with contextlib.suppress(OSError):  # some systems know no such class: the signal is what counts
            os.sched_setscheduler(worker.pid, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGSTOP)

    def _release(self, worker: Worker) -> None:
        assert worker.pid is not None
        worker.held, self._released_at = False, time.monotonic()
        worker.count_from_now()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGCONT)

    def _hand_on(self, worker: Worker) -> None:
        """All but the first pending call go back, before all that wait."""
        (first, task), *rest = worker.pending.values()
        worker.pending = {first.number: (first, task)}
        if rest:
            job = task.job._replace(calls=tuple(call for call, _ in rest))
            self._waiting.appendleft(Task(job, task.ticket, task.deadline_s, task.attempts - 1))

    def _cut(self, worker: Worker) -> None:
        assert worker.first is not None
        call, task = worker.first
        if worker.passed_by and not worker.held:
            self._patience.spend(worker.uncounted_cpu_s)
        self._fail(worker, "timeout", f"no value within {self._allowed_s(call, task):g} s")

    def _died(self, worker: Worker, ending: str, *, blame: bool = True) -> None:
        """It died by itself: because of the call it was doing, or of one of those in its event loop."""
        if not worker.pending:
            self._remove(worker)
        elif self.in_event_loop or not blame or not worker.begun:
            again = self._suspects if self.in_event_loop and blame else self._waiting
            for call, task in list(worker.pending.values()):
                if task.attempts >= MAX_ATTEMPTS:
                    self._put(call, task, "error", f"the process died: {ending}", 0.0)
                else:
                    job = task.job._replace(calls=() if call is MODULES else (call,))
                    again.append(Task(job, task.ticket, task.deadline_s, task.attempts))
            self._remove(worker)
        else:
            self._fail(worker, "error", f"the process died: {ending}")

    def _fail(self, worker: Worker, state: State, message: str) -> None:
        """The first pending call gives no value, the rest goes to another worker, this one is killed."""
        assert worker.first is not None
        call, task = worker.first
        self._hand_on(worker)
        if call is MODULES:
            task.ticket.answered(call.number)
        else:
            self._put(call, task, state, message, time.monotonic() - worker.busy_since)
        self._remove(worker)

    def _put(self, call: Call, task: Task, state: State, message: str, seconds: float) -> None:
        task.ticket.put(call.number, Result((Failed(state, message),) * len(call.places), seconds))

    def _remove(self, worker: Worker) -> None:
        """Kills it and all that its rewards have started, in its process group."""
        self.workers.remove(worker)
        self._num_passed_by -= worker.passed_by
        if worker.closed_at is None:
            self._selector.unregister(worker.connection.socket)
        worker.connection.close()
        _kill(worker)

    def _end_processes(self) -> None:
        for worker in list(self.workers):
            worker.connection.close()
            _kill(worker)
        if not self._has_template:
            return
        self._control.close()
        self._template.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel may hold it, in a read of a dead file system
            self._template.wait(5.0)


class CannotStart(RuntimeError):  # noqa: N818
    """The rewards cannot be imported: no call will ever be answered."""


def _kill(worker: Worker) -> None:
    if worker.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _is_running(pid: int) -> bool:
    """Whether the process wants the processor (Linux); it may have had little of it."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    return False
