"""Rewards: weighted terms, called in worker processes with a deadline.

A reward is somebody's function applied to whatever a policy wrote. It may raise, hang in C code, print, or take the
process with it. So it runs in a worker, which is killed and replaced when a call takes too long; what gave no value
is a `Failure` of that one call, and everything else is scored. A wrong answer is 0.0, a failure is NaN.

    G  completions of one prompt

The worker's half of this file is at its end. No torch here: workers start in a tenth of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import importlib
import importlib.util
import inspect
import math
import numbers
import os
import pickle
import pkgutil
import selectors
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, NamedTuple, Self

from rl.binding import describe, fits, type_hints
from rl.experience import Completion, Failure, Group, Prompt, ScoredGroup

ROOT = Path(__file__).resolve().parents[1]
START_DEADLINE_S = 120.0  # to start a worker, import the rewards and call each once
IMPORT_DEADLINE_S = 60.0  # for the imports that a call does: they do not count against its deadline
BROKEN_AFTER_CALLS = 2  # of Scorer.score, with a term that fails on every completion
BROKEN_AFTER_COMPLETIONS = 16
LENGTH = struct.Struct("<Q")  # before each pickle on a pipe: its size in bytes
OURS = {"problem", "completion", "prompt"}
TRL_COLUMNS = {"prompts", "completions", "completion_ids", "answer", "id", "source"}
ACCEPTED_FORMS = (
    "accepted are `def f(problem, completion, *, options) -> float`, which may also name `prompt`, "
    "and TRL's `def f(prompts, completions, **columns) -> list[float]`"
)

Form = Literal["ours", "trl"]


class RewardBroken(RuntimeError):  # noqa: N818
    """A reward that fails on everything: going on would train on nothing."""


# ---------------------------------------------------------------------------------------------------------------------
# From a recipe to functions


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTerm:
    """One summand of the reward: weight * f(problem, completion, **options)."""

    name: str
    target: str  # "rewards.math_answer.math_answer" or "/absolute/path/file.py:function"
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


def reward_terms(rewards: Mapping[str, Mapping[str, Any]]) -> list[RewardTerm]:
    """The recipe's `rewards` section, checked: every function is imported and its options bound.

    {name: {_target_: module.function, or fn: file.py:function or module:function, weight: 1.0, **options}}. A relative
    file is meant from the current working directory. Raises ValueError that names the key to change.
    """
    if not rewards:
        raise ValueError("rewards is empty: a recipe needs at least one, for example rewards=math")
    return [_reward_term(name, section) for name, section in rewards.items()]


def _reward_term(name: str, section: Mapping[str, Any]) -> RewardTerm:
    key = f"rewards.{name}"
    if not isinstance(section, Mapping):
        raise ValueError(f"{key} must be a mapping with `_target_` or `fn`, got {section!r}")
    options = {str(option): value for option, value in section.items() if option not in ("_target_", "fn", "weight")}
    target = _target(key, section, options)
    weight = section.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ValueError(f"{key}.weight must be a finite number, got {weight!r}")
    try:
        _check_options(_load(target), options)
    except ValueError as error:
        raise ValueError(f"{key}{error}") from error
    return RewardTerm(name=str(name), target=target, weight=float(weight), options=options)


def _target(key: str, section: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The one function that the section names, as RewardTerm.target wants it."""
    dotted, function = section.get("_target_"), section.get("fn")
    if dotted is not None and function is not None:
        raise ValueError(f"{key} has both _target_ ({dotted}) and fn ({function}); give one")
    if dotted is None and function is None:
        near = _nearest(options, ["_target_", "fn"])
        raise ValueError(f"{key} needs _target_: module.function or fn: file.py:function, got {dict(section)!r}{near}")
    if function is None:
        if not isinstance(dotted, str) or "." not in dotted:
            raise ValueError(f"{key}._target_ must look like rewards.math_answer.math_answer, got {dotted!r}")
        return dotted
    where, colon, what = str(function).rpartition(":")
    if not colon or not where or not what:
        raise ValueError(f"{key}.fn must look like my_rewards.py:function or module:function, got {function!r}")
    return f"{Path(where).expanduser().resolve()}:{what}" if where.endswith(".py") else f"{where}.{what}"


def _load(target: str) -> Callable[..., Any]:
    """The function that a target names. Raises ValueError whose text continues "rewards.<name>"."""
    where, is_file, what = target.rpartition(":")
    if is_file:
        key, module = ".fn", _load_file(Path(where))
    else:
        where, _, what = target.rpartition(".")
        key, module = f": {target}", _load_module(where)
    function = getattr(module, what, None)
    if not callable(function):
        found = "is not there" if function is None else f"is {function!r}, not a function"
        names = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(f"{key}: {what} {found} in {where}{_nearest([what], names)}")
    return function


def _load_file(path: Path) -> ModuleType:
    """The module in a file, executed once a process. Modules beside it can be imported from it."""
    name = f"reward_file_{path.stem}_{abs(hash(str(path)))}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        near = _nearest([path.name], [other.name for other in path.parent.glob("*.py")])
        raise ValueError(f".fn: there is no file {path}{near}")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit):
        del sys.modules[name]
        raise ValueError(f".fn: importing {path} failed:\n{traceback.format_exc()}") from None
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):  # an import inside the module is what failed
            raise ValueError(f": importing {name} failed:\n{traceback.format_exc()}") from None
        raise ValueError(f": there is no module {error.name}{_nearest([name], _siblings(name))}") from None
    except (Exception, SystemExit):
        raise ValueError(f": importing {name} failed:\n{traceback.format_exc()}") from None


def _siblings(module: str) -> list[str]:
    """The modules in the package in which `module` was looked for."""
    package = module.rpartition(".")[0]
    with contextlib.suppress(ImportError):
        path = importlib.import_module(package).__path__ if package else None
        return [f"{package}.{found.name}" if package else found.name for found in pkgutil.iter_modules(path)]
    return []


def _nearest(words: Sequence[str] | Mapping[str, Any], names: Sequence[str]) -> str:
    """A "did you mean" for the first of the words that is near to a name, else the names if they are few."""
    for word in words:
        if close := difflib.get_close_matches(word, names, n=1):
            return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(sorted(names))}" if 0 < len(names) <= 12 else ""


def reward_form(function: Callable[..., Any]) -> Form:
    """Which of the two forms a function has, told by the names of its parameters. Raises ValueError for neither."""
    parameters = inspect.signature(function).parameters
    named = {name for name, parameter in parameters.items() if parameter.kind in (1, 3)}  # those given by keyword
    if inspect.iscoroutinefunction(function):
        raise ValueError(f": it is an async function; {ACCEPTED_FORMS}")
    if {"problem", "completion"} <= named and "completions" not in named:
        return "ours"
    if "completions" in named and "completion" not in named:
        return "trl"
    raise ValueError(f": it takes ({', '.join(parameters)}); {ACCEPTED_FORMS}")


def _check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raises ValueError, whose text continues "rewards.<name>", for options that the function cannot be given."""
    form = reward_form(function)
    given = OURS if form == "ours" else TRL_COLUMNS
    if taken := given & set(options):
        raise ValueError(f".{min(taken)} is no option: the framework passes it to the function")
    parameters = inspect.signature(function).parameters
    known = [name for name, parameter in parameters.items() if parameter.kind in (1, 3) and name not in given]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if not takes_any and (unknown := [option for option in options if option not in known]):
        raise ValueError(f".{unknown[0]} is not an option of its function{_nearest(unknown, [*known, 'weight'])}")
    hints = type_hints(function)
    for name, value in options.items():
        if name in hints and not fits(value, hints[name]):
            raise ValueError(f".{name} must be {describe(hints[name])}, got {value!r}")
    required = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    if form == "ours" and (missing := [name for name in required if name not in options]):
        raise ValueError(f".{missing[0]} is missing: its function has no default for it")


# ---------------------------------------------------------------------------------------------------------------------
# What travels between the trainer and a worker


class Failed(NamedTuple):
    """Why a call gave no value for one completion."""

    kind: Literal["error", "timeout"]
    message: str  # type, text and place of what was raised
    trace: str = ""


Outcomes = tuple[float | Failed, ...]  # of one call: one, or in TRL's form [G]


class Call(NamedTuple):
    """One call of one term's function."""

    term: int
    completion: int | None  # which one; None: the whole group at once, TRL's form


class Job(NamedTuple):
    """Calls on one group. The worker does them in order and sends the Outcomes of each as soon as it has them."""

    prompt: Prompt
    completions: tuple[Completion, ...]  # [G]
    calls: tuple[Call, ...]


READY = "ready"  # a worker has imported the rewards
IMPORTING = "importing"  # a call is busy with an import; any other text is why a worker could not start
Message = Outcomes | str


def _pack(message: object) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


# ---------------------------------------------------------------------------------------------------------------------
# The trainer's half


class Worker:
    """A subprocess that has imported the rewards and does one job at a time. Owns its pipes; `kill` frees all."""

    def __init__(self, terms: Sequence[RewardTerm], warm_up: Job | None) -> None:
        code = "import sys; sys.path[:] = sys.argv[2:]; from rl.scoring import work; work(int(sys.argv[1]))"
        path = [str(ROOT), *(entry or os.getcwd() for entry in sys.path if entry != str(ROOT))]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(os.getpid()), *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C reaches the trainer alone, and one signal all that a reward has started
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.received = bytearray()
        self.ready = False
        self.job_id, self.job = -1, warm_up
        self.pending: deque[Call] = deque()  # calls sent and not answered yet
        self.deadline_s = START_DEADLINE_S  # for one completion
        self.kill_at, self.imports_end_at = time.monotonic() + START_DEADLINE_S, 0.0
        self._write((list(terms), warm_up))

    def start(self, job_id: int, job: Job, deadline_s: float) -> None:
        self.job_id, self.job, self.pending, self.deadline_s = job_id, job, deque(job.calls), deadline_s
        self.imports_end_at = time.monotonic() + IMPORT_DEADLINE_S
        self._write(job)
        self.kill_at = time.monotonic() + self.allowed_s

    @property
    def num_pending(self) -> int:
        """For how many completions the first pending call is to give a value."""
        whole_group = self.job is not None and self.pending and self.pending[0].completion is None
        return len(self.job.completions) if self.job is not None and whole_group else 1

    @property
    def allowed_s(self) -> float:
        """How long the first pending call may take."""
        return self.deadline_s * self.num_pending

    def take(self, message: Message) -> Outcomes | None:
        """Note one message: the worker is ready, or is importing, or (then returned) has done the first call."""
        if message == READY:
            self.ready = True
        elif message == IMPORTING:
            self.kill_at = max(self.kill_at, min(time.monotonic() + self.allowed_s, self.imports_end_at))
        elif isinstance(message, str):
            raise RuntimeError(f"a reward worker cannot start: {message}")
        else:
            return message
        return None

    def finished_call(self) -> Call:
        """Take the first pending call off the list; the next one begins now."""
        call = self.pending.popleft()
        self.kill_at = time.monotonic() + self.allowed_s
        return call

    def _write(self, message: object) -> None:
        data = memoryview(_pack(message))
        with contextlib.suppress(BrokenPipeError):  # it died; `receive` will tell
            while data:
                data = data[os.write(self.stdin.fileno(), data) :]

    def receive(self) -> tuple[list[Message], bool]:
        """What has arrived, and whether the worker is still there. Waits if nothing has: ask the selector first."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        self.received += data
        return list(self._messages()), bool(data)

    def _messages(self) -> Iterator[Message]:
        start = 0
        while len(self.received) >= start + LENGTH.size:
            end = start + LENGTH.size + LENGTH.unpack_from(self.received, start)[0]
            if len(self.received) < end:
                break
            yield pickle.loads(self.received[start + LENGTH.size : end])
            start = end
        del self.received[:start]

    def kill(self, wait_s: float = 0.0) -> str:
        """End it and all that its rewards have started; says how it had ended if it did so within `wait_s`."""
        if self.stdin.closed:
            return "killed"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(wait_s)
        code = self.process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel may hold it, in a read of a dead file system
            self.process.wait(5.0)
        self.stdin.close()
        self.stdout.close()
        if code is None:
            return "killed"
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


class Scorer:
    """Scores groups in worker processes. A context manager; `deadline_s` is for one call of one reward."""

    def __init__(self, terms: Sequence[RewardTerm], *, workers: int = 1, deadline_s: float = 2.0) -> None:
        if workers < 1:
            raise ValueError(f"scoring.workers must be at least 1, got {workers}")
        if not 0 < deadline_s < math.inf:
            raise ValueError(f"scoring.deadline_s must be a positive number of seconds, got {deadline_s}")
        self.terms = tuple(terms)
        self.deadline_s = deadline_s
        self._forms = [reward_form(_load(term.target)) for term in terms]
        self._streaks = {term.name: _Streak() for term in terms}
        self._waiting: deque[tuple[int, Job]] = deque()  # jobs that no worker has yet, with their numbers
        self._done: dict[int, dict[Call, Outcomes]] = {}  # of every job, what is known
        self._begun: dict[int, tuple[Completion, int]] = {}  # id of a completion -> it, and its job's number
        self._num_jobs = 0
        self._call_deadline_s = deadline_s
        self._was_interrupted = False
        self._warm_up: Job | None = None  # known once `check` has passed; then new workers do it before they are ready
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        # Workers die with the thread that started them (see _die_with), so one thread of our own starts them all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="reward-workers")
        self._workers = [self._new_worker() for _ in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. Harmless when repeated."""
        for worker in self._workers:
            worker.kill()
        self._workers = []
        self._selector.close()
        self._starter.shutdown()

    def check(self, prompt: Prompt) -> None:
        """Call every term once on a made-up completion; ValueError with the traceback if one gives no number.

        Every worker does it, so that what the rewards load at their first call is loaded.
        """
        completions = (_made_up(prompt),) * 2
        job = Job(prompt, completions, tuple(call for call in self._calls(2) if not call.completion))
        with self._lock:
            done = self._run([job] * len(self._workers), START_DEADLINE_S)
            self._done.clear()
        for call, outcomes in done[0].items():
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    raise ValueError(
                        f"rewards.{self.terms[call.term].name} fails on a made-up completion of problem "
                        f"{prompt.problem.id}: {outcome.message}\n{outcome.trace}".rstrip()
                        + f"\nMend it, or leave it out with '~rewards.{self.terms[call.term].name}'"
                    )
        self._warm_up = job

    def begin(self, prompt: Prompt, completion: Completion) -> None:
        """Starts on one completion while others are still sampled, and returns at once; `score` then has its values.

        Rewards in TRL's form wait for `score`: they want the whole group.
        """
        calls = tuple(Call(term, 0) for term, form in enumerate(self._forms) if form == "ours")
        if calls:
            with self._lock, self._minding_interrupts():
                self._begun[id(completion)] = completion, self._submit(Job(prompt, (completion,), calls))
                self._turn(wait=False)

    def score(self, groups: Sequence[Group]) -> list[ScoredGroup]:
        """The rewards of each group, NaN where a term failed. Raises RewardBroken if a term keeps failing on all."""
        with self._lock:
            jobs = [self._rest(group) for group in groups]
            done = self._run(jobs, self.deadline_s)
            for group, outcomes in zip(groups, done, strict=True):
                for place, completion in enumerate(group.completions):
                    if id(completion) in self._begun:
                        known = self._done[self._begun[id(completion)][1]]
                        outcomes |= {Call(call.term, place): value for call, value in known.items()}
            self._begun.clear()
            self._done.clear()
            scored = [self._scored(group, outcomes) for group, outcomes in zip(groups, done, strict=True)]
            self._watch(scored)
        return scored

    def _rest(self, group: Group) -> Job:
        """What is left to call on a group."""
        begun = {place for place, completion in enumerate(group.completions) if id(completion) in self._begun}
        calls = [call for call in self._calls(len(group.completions)) if call.completion not in begun]
        return Job(group.prompt, group.completions, tuple(calls))

    def _calls(self, size: int) -> tuple[Call, ...]:
        """All calls for a group of `size` completions, term by term."""
        indices: dict[Form, Sequence[int | None]] = {"ours": range(size), "trl": [None]}
        return tuple(Call(term, index) for term, form in enumerate(self._forms) for index in indices[form])

    def _scored(self, group: Group, done: Mapping[Call, Outcomes]) -> ScoredGroup:
        """reward_i = sum over terms of weight * value_i, in float64; NaN if a term failed."""
        failures, rewards = [], [0.0] * len(group.completions)
        values: dict[str, list[float]] = {term.name: [] for term in self.terms}
        for call in self._calls(len(group.completions)):
            term = self.terms[call.term]
            for outcome in done[call]:
                index = len(values[term.name])
                if isinstance(outcome, Failed):
                    failures.append(Failure(term.name, index, outcome.kind, outcome.message))
                value = math.nan if isinstance(outcome, Failed) else outcome
                values[term.name].append(value)
                rewards[index] += term.weight * value
        return ScoredGroup(group, tuple(rewards), {name: tuple(row) for name, row in values.items()}, tuple(failures))

    def _watch(self, scored: Sequence[ScoredGroup]) -> None:
        """The circuit breaker: stop a run whose reward only fails."""
        size = sum(len(group.rewards) for group in scored)
        for name, streak in self._streaks.items():
            failures = [failure for group in scored for failure in group.failures if failure.term == name]
            if len(failures) < size:
                streak.calls = streak.completions = 0
            elif size:
                streak.first = streak.first if streak.calls else failures[0].message
                streak.calls += 1
                streak.completions += size
            if streak.calls >= BROKEN_AFTER_CALLS and streak.completions >= BROKEN_AFTER_COMPLETIONS:
                raise RewardBroken(
                    f"reward {name} failed on each of the last {streak.completions} completions, so nothing can be "
                    f"learned from it. The first failure: {streak.first}. Fix the function, raise scoring.deadline_s="
                    f"{self.deadline_s:g} if it is only slow, or leave it out with ~rewards.{name}"
                )

    # The loop over workers. Only one thread is ever in it.

    def _submit(self, job: Job) -> int:
        self._num_jobs += 1
        self._done[self._num_jobs] = {}
        if job.calls:
            self._waiting.append((self._num_jobs, job))
        return self._num_jobs

    def _run(self, jobs: Sequence[Job], deadline_s: float) -> list[dict[Call, Outcomes]]:
        """Do all jobs, and those that were begun; for each of the former its calls with their outcomes."""
        assert self._workers, "the scorer is closed"
        with self._minding_interrupts():
            self._call_deadline_s = deadline_s
            numbers = [self._submit(job) for job in jobs]
            while not all(worker.ready for worker in self._workers):
                self._listen(wait=True)
            while self._waiting or any(worker.pending for worker in self._workers):
                self._turn(wait=True)
            self._call_deadline_s = self.deadline_s
        return [self._done[number] for number in numbers]

    @contextlib.contextmanager
    def _minding_interrupts(self) -> Iterator[None]:
        """An exception in the middle, Ctrl-C for one, leaves work half done: the next call starts afresh."""
        if self._was_interrupted:
            self._waiting.clear()
            self._done.clear()
            self._begun.clear()
            self._call_deadline_s = self.deadline_s
        for worker in list(self._workers):
            died = worker.ready and not worker.pending and worker.process.poll() is not None
            if died or (self._was_interrupted and worker.pending):
                self._replace(worker)
        self._was_interrupted = True
        yield
        self._was_interrupted = False

    def _turn(self, wait: bool) -> None:
        """Gives work to the workers that are free, and takes what the others have done."""
        self._start_free_workers()
        self._listen(wait)
        self._start_free_workers()

    def _start_free_workers(self) -> None:
        for worker in self._workers:
            if self._waiting and worker.ready and not worker.pending:
                worker.start(*self._waiting.popleft(), self._call_deadline_s)

    def _listen(self, wait: bool) -> None:
        """Takes news from workers; may wait for them, at most until the first of their deadlines. Replaces those that
        are past it."""
        busy = [worker for worker in self._workers if worker.pending or not worker.ready]
        wait_s = min((worker.kill_at for worker in busy), default=0.0) - time.monotonic() if wait else 0.0
        heard = [key.data for key, _ in self._selector.select(max(wait_s, 0.0))]
        for worker in heard:
            messages, alive = worker.receive()
            for outcomes in filter(None, map(worker.take, messages)):
                self._done[worker.job_id][worker.finished_call()] = outcomes
            if not alive:
                self._give_up(worker, "error")
        for worker in busy:
            if worker not in heard and worker.kill_at <= time.monotonic():
                self._give_up(worker, "timeout")

    def _give_up(self, worker: Worker, kind: Literal["error", "timeout"]) -> None:
        """The worker died, or is to die: its first pending call failed, the others go to the next that is free."""
        if not worker.ready:
            raise RuntimeError(f"a reward worker died, or was not ready within {START_DEADLINE_S:g} s; see its output")
        allowed_s, size = worker.allowed_s, worker.num_pending
        ended = self._replace(worker, wait_s=1.0 if kind == "error" else 0.0)
        if worker.job is None or not worker.pending:
            return
        message = f"no value within {allowed_s:g} s" if kind == "timeout" else f"the process died: {ended}"
        self._done[worker.job_id][worker.finished_call()] = (Failed(kind, message),) * size
        if worker.pending:
            self._waiting.appendleft((worker.job_id, worker.job._replace(calls=tuple(worker.pending))))

    def _replace(self, worker: Worker, wait_s: float = 0.0) -> str:
        """A new worker in the place of this one; says how this one ended."""
        self._selector.unregister(worker.stdout)
        ended = worker.kill(wait_s)
        self._workers[self._workers.index(worker)] = self._new_worker()
        return ended

    def _new_worker(self) -> Worker:
        worker = self._starter.submit(Worker, self.terms, self._warm_up).result()
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        return worker


@dataclass(slots=True)
class _Streak:
    """How long one term has failed on everything."""

    calls: int = 0  # of Scorer.score
    completions: int = 0
    first: str = ""


def _made_up(prompt: Prompt) -> Completion:
    """A completion such as a policy may give. Its tokens are the prompt's: no tokenizer here."""
    text = "<think>1 + 1 = 2</think>\n<answer>\\boxed{2}</answer>"
    token_ids = list(prompt.token_ids)
    return Completion(
        text=text.removeprefix(prompt.prefix.strip()),
        token_ids=token_ids,
        logprobs=[-1.0] * len(token_ids),
        finish_reason="stop",
        policy_step=0,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The worker's half


def work(parent: int) -> None:
    """A worker's main: import the rewards, then answer jobs until the trainer closes the pipe."""
    _die_with(parent)
    channel = Channel()
    terms, warm_up = channel.receive()
    try:
        functions = [_bound(term) for term in terms]
    except ValueError as error:
        channel.send(str(error))
        return
    sys.meta_path.insert(0, ImportNotice(channel))
    for job in [warm_up] if warm_up else []:
        for call in job.calls:
            functions[call.term](job, call.completion)
    channel.send(READY)
    while job := channel.receive():
        for call in job.calls:
            channel.send(functions[call.term](job, call.completion))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however that comes about (Linux).

    Elsewhere a worker ends when it next reads from the closed pipe.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we could ask
        os._exit(1)


class Channel:
    """The worker's ends of the pipes, out of reach of the rewards: what they print goes to stderr."""

    def __init__(self) -> None:
        self.inbox, self.outbox = os.fdopen(os.dup(0), "rb"), os.dup(1)
        self.lock, self.owner = threading.Lock(), os.getpid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)

    def receive(self) -> Any:
        """The next message; None when the trainer is gone."""
        header = self.inbox.read(LENGTH.size)
        return pickle.loads(self.inbox.read(LENGTH.unpack(header)[0])) if len(header) == LENGTH.size else None

    def send(self, message: Message) -> None:
        if os.getpid() != self.owner:
            return  # in a process that a reward has forked
        data = memoryview(_pack(message))
        with self.lock:
            while data:
                data = data[os.write(self.outbox, data) :]


class ImportNotice:
    """Tells the trainer when a reward imports something for the first time: sympy may take seconds on a cold disk."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self.told_at = channel, 0.0

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Finds nothing, so that the next finder does."""
        if time.monotonic() - self.told_at > 0.1:
            self.channel.send(IMPORTING)
            self.told_at = time.monotonic()


def _bound(term: RewardTerm) -> Callable[[Job, int | None], Outcomes]:
    """The term as a function of a job and the index of a completion. It never raises."""
    function = _load(term.target)
    parameters = inspect.signature(function).parameters
    call = _call_ours if reward_form(function) == "ours" else _call_trl

    def outcomes(job: Job, index: int | None) -> Outcomes:
        try:
            return call(function, parameters, term.options, job, index)
        except BaseException as error:  # SystemExit too: a reward does not end the worker
            return (_failed(error),) * (len(job.completions) if index is None else 1)

    return outcomes


Parameters = Mapping[str, inspect.Parameter]


def _call_ours(
    function: Callable[..., Any], parameters: Parameters, options: Mapping[str, Any], job: Job, index: int | None
) -> Outcomes:
    assert index is not None
    prompt = {"prompt": job.prompt} if "prompt" in parameters else {}
    value = function(problem=job.prompt.problem, completion=job.completions[index], **prompt, **options)
    return (_number(value),)


def _call_trl(
    function: Callable[..., Any], parameters: Parameters, options: Mapping[str, Any], job: Job, index: int | None
) -> Outcomes:
    """One call for the group. None means "does not apply" and counts as 0; a bad value fails its completion only."""
    columns = {**_trl_columns(job.prompt, job.completions), **options}
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        columns = {name: column for name, column in columns.items() if name in parameters}
    needed = [name for name, one in parameters.items() if one.default is one.empty and one.kind in (1, 3)]
    if missing := [name for name in needed if name not in columns]:
        known = sorted(_trl_columns(job.prompt, job.completions))
        raise TypeError(f"it wants the column {missing[0]}, this data has {', '.join(known)}")
    values = function(**columns)
    size = len(job.completions)
    if not hasattr(values, "__len__") or len(values) != size:
        raise TypeError(f"it must return a list of {size} numbers, one per completion, got {_shown(values)}")
    return tuple(0.0 if value is None else _number_or_failed(value) for value in values)


def _trl_columns(prompt: Prompt, completions: Sequence[Completion]) -> dict[str, list[Any]]:
    """What TRL's GRPOTrainer passes: a list of length G for each column of the data set.

    Chat prompts come as messages, and what the template already wrote of the answer is part of the completion; other
    prompts and completions are plain text. `solution` is TRL's name for the answer, unless the data has its own.
    """
    size, problem = len(completions), prompt.problem
    texts = [completion.text for completion in completions]
    constant = {"solution": problem.answer, **problem.metadata}
    constant |= {"answer": problem.answer, "id": problem.id, "source": problem.source}
    columns: dict[str, list[Any]] = {name: [value] * size for name, value in constant.items()}
    columns["completion_ids"] = [completion.token_ids for completion in completions]
    if prompt.conversational:
        columns["prompts"] = [[dict(message) for message in problem.messages] for _ in texts]
        columns["completions"] = [[{"role": "assistant", "content": prompt.prefix + text}] for text in texts]
    else:
        columns["prompts"], columns["completions"] = [prompt.text] * size, texts
    return columns


def _number(value: Any) -> float:
    """A returned value as a float: int, bool, float, Fraction, and scalars of numpy and torch."""
    is_scalar = getattr(value, "shape", None) == () and hasattr(value, "__float__")
    if not isinstance(value, numbers.Real) and not is_scalar:
        raise TypeError(f"a reward must return a number, got {_shown(value)}")
    if not math.isfinite(value):
        raise ValueError(f"a reward must return a finite number, got {float(value)}")
    return float(value)


def _number_or_failed(value: Any) -> float | Failed:
    try:
        return _number(value)
    except (TypeError, ValueError, OverflowError) as error:
        return _failed(error)


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:80] + '...'}"


def _failed(error: BaseException) -> Failed:
    """What was raised, as one line with the place in the user's own code, and as a traceback without our frames."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen")
    own = [frame for frame in frames if not frame.filename.startswith(libraries)] or frames
    what = "".join(traceback.format_exception_only(error)).strip()[:500]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    trace = "".join(["Traceback (most recent call last):\n", *traceback.format_list(frames), what]) if frames else ""
    return Failed("error", what + where, trace)
