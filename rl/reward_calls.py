"""What travels between a trainer and the processes that call its rewards, and the pipe it travels on. No torch here."""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rl.experience import Completion, Prompt
from rl.reward_forms import Outcome

LENGTH = struct.Struct("<Q")  # before each pickle: its size in bytes
PIECE_BYTES = 1 << 18


class Call(NamedTuple):
    """One call of one term's function: for one completion, or for a whole group."""

    number: int  # no two calls of a scorer share it
    term: int
    places: tuple[int, ...]  # which completions of the job
    terms: Mapping[str, tuple[float, ...]]  # values of the other terms, one for each place; empty if not wanted


class Job(NamedTuple):
    """Calls on completions of one prompt. A worker does them in order and answers each as soon as it is done."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    calls: tuple[Call, ...]


class Answer(NamedTuple):
    """What one call gave, one outcome for each of its places. Times are of the monotonic clock, which all share."""

    number: int
    outcomes: tuple[Outcome, ...]
    started: float
    ended: float
    cpu_s: float  # of the processor, which a call that had to wait for it did not use


class Begun(NamedTuple):
    """A worker has taken a job."""

    at: float


class Importing(NamedTuple):
    """A call is busy with an import, which does not count against its deadline."""

    at: float


class Modules(NamedTuple):
    """The answer to a job without calls: what the worker has imported so far."""

    names: tuple[str, ...]


class Alive(NamedTuple):
    """From a worker with an event loop, now and then: the loop is not blocked."""


class Forked(NamedTuple):
    """From the template: the process id of the next worker that was asked for."""

    pid: int


class Ended(NamedTuple):
    """From the template: a worker has ended, with this exit code as subprocess gives it (-9: by SIGKILL)."""

    pid: int
    code: int


class Connection:
    """A socket on which pickled messages go. The trainer's end never waits; a worker's end does."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._received = bytearray()
        self._unsent = bytearray()

    def send(self, message: object) -> None:
        """Sends, or on a socket that does not wait keeps what does not fit: `flush` then goes on."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._unsent += LENGTH.pack(len(data)) + data
        self.flush()

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):  # who reads will see the end
            while self._unsent:
                del self._unsent[: self.socket.send(memoryview(self._unsent)[: 4 * PIECE_BYTES].tobytes())]

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> tuple[list[Any], bool]:
        """The messages that have arrived, and whether the other end is still there. Waits if the socket does."""
        try:
            data = self.socket.recv(PIECE_BYTES)
        except BlockingIOError:
            return [], True
        except ConnectionResetError:
            data = b""
        self._received += data
        return list(self._messages()), bool(data)

    def _messages(self) -> Iterator[Any]:
        start = 0
        while len(self._received) >= start + LENGTH.size:
            end = start + LENGTH.size + LENGTH.unpack_from(self._received, start)[0]
            if len(self._received) < end:
                break
            yield pickle.loads(memoryview(self._received)[start + LENGTH.size : end].tobytes())
            start = end
        del self._received[:start]

    def close(self) -> None:
        self.socket.close()
