"""What runs inside the sandbox: forks a fresh process for each test and reports what it wrote and how it ended.

It is handed to `python -c`, so it imports nothing of ours and as little as possible. It is process 1 of the
sandbox: no signal from inside reaches it, and when it ends the kernel kills all others. It never sees an expected
output; the pipes it shares with a program carry only what that program writes.

On descriptor 0 come, and on 1 go, a line of numbers and as many bytes as the line says:

    program  size memory disk processes open_files output    ->  ready      (processes 0: no limit)
    test     kind timeout_us size                                 ->  how status cpu_us wall_us clean size size

kind is "stdin" (the bytes are its standard input; the answer is its standard output) or "call" (the bytes are
marshal of (name or None, arguments or expression, setup); the answer is JSON of the value). clean is 0 if files were
left in the work directory, which is the working directory here: the next test then needs a new sandbox.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from typing import Any

ERRORS_KEPT = 4096  # bytes of the end of standard error
MAX_DEPTH = 200  # of a returned value

# What a function may use without importing it: answers to function-call problems are often written so.
COMMON = {
    "typing": "Any Callable Deque Dict Iterable Iterator List Optional Sequence Set Tuple Union",
    "collections": "Counter OrderedDict defaultdict deque",
    "functools": "cache cmp_to_key lru_cache reduce",
    "itertools": "accumulate chain combinations count cycle groupby pairwise permutations product zip_longest",
    "heapq": "heapify heappop heappush heappushpop heapreplace nlargest nsmallest",
    "bisect": "bisect bisect_left bisect_right insort",
    "math": "ceil comb factorial floor gcd inf isqrt lcm log log2 pi sqrt",
}
MODULES = [
    "bisect",
    "collections",
    "copy",
    "datetime",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "string",
    "sys",
]


def encode(value: Any, depth: int = 0) -> Any:
    """The value in JSON's types; what JSON does not have becomes {"~": type, "v": ...}."""
    if depth > MAX_DEPTH:
        raise ValueError("the returned value is nested too deeply")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 63 else {"~": "int", "v": hex(value)}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return [encode(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {"~": "dict", "v": [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in value.items()]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {"~": kind.__name__, "v": [encode(item, depth + 1) for item in value]}
    if isinstance(value, complex):
        return {"~": "complex", "v": [value.real, value.imag]}
    if isinstance(value, (bytes, bytearray)):
        return {"~": "bytes", "v": value.hex()}
    if isinstance(value, (range, type({}.keys()), type({}.values()))):
        return {"~": type(value).__name__, "v": [encode(item, depth + 1) for item in value]}
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return encode(value.tolist(), depth + 1)
    if hasattr(type(value), "__iter__") and type(value).__name__ == "deque":
        return {"~": "deque", "v": [encode(item, depth + 1) for item in value]}
    return {"~": "object", "v": type(value).__name__}


def provide(code: Any, namespace: dict[str, Any]) -> None:
    """Put the common names that the code uses into its namespace."""
    used, waiting = set(), [code]
    while waiting:
        code = waiting.pop()
        used.update(code.co_names)
        waiting += [constant for constant in code.co_consts if isinstance(constant, type(code))]
    for name in used.intersection(MODULES):
        namespace[name] = __import__(name)
    for module, names in COMMON.items():
        for name in used.intersection(names.split()):
            namespace.setdefault(name, getattr(__import__(module), name))


def evaluate(source: bytes, name: str | None, what: Any, setup: str) -> Any:
    """The value of name(*what), a function or a method of class Solution, or of the expression `what`."""
    module = type(sys)("solution")
    sys.modules["solution"] = module
    namespace = module.__dict__
    code = compile(source, "solution.py", "exec", dont_inherit=True)
    provide(code, namespace)
    exec(code, namespace)
    if name is None:
        exec(compile(setup, "setup.py", "exec", dont_inherit=True), namespace)
        return eval(compile(what, "test.py", "eval", dont_inherit=True), namespace)
    if name in namespace:
        return namespace[name](*what)
    if "Solution" in namespace:
        return getattr(namespace["Solution"](), name)(*what)
    raise NameError(f"the program defines no function {name}")


def read(size: int) -> bytes:
    """`size` bytes of the runner's. Its end, or that of the pipe, ends this process and with it the sandbox."""
    chunks = []
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(RUNNER, select.POLLIN)
    while size:
        gone = RUNNER in dict(poll.poll())
        chunk = b"" if gone else os.read(0, min(size, 1 << 20))
        if not chunk:
            os._exit(0)
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def read_line() -> list[str]:
    line = b""
    while not line.endswith(b"\n"):
        line += read(1)
    return line.decode("ascii").split()


def write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def restrict(limits: list[int], timeout_s: float) -> None:
    """The limits of this process and its children; never above those that the whole sandbox has already."""
    memory, disk, processes, open_files, _ = limits
    cpu = int(timeout_s) + 2
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_AS, 2 * memory + (1 << 30)),  # shared mappings count here only, unused stacks too
        (resource.RLIMIT_STACK, 64 << 20),
        (resource.RLIMIT_FSIZE, disk),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NPROC, processes),
    ):
        hard = resource.getrlimit(which)[1]
        if which == resource.RLIMIT_NPROC and not value:
            continue
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def become(kind: str, limits: list[int], timeout_s: float, ends: tuple[int, int, int]) -> int:
    """Make this forked process the program's: its own session, descriptors and limits. Where its result goes."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given, out, errors = ends
    if kind == "call":
        os.dup2(out, 3)
        out, given = (os.open(os.devnull, os.O_RDWR),) * 2
    os.dup2(given, 0)
    os.dup2(out, 1)
    os.dup2(errors, 2)
    os.closerange(4 if kind == "call" else 3, 1024)
    restrict(limits, timeout_s)
    return 3


def end_all(child: int) -> None:
    """Kill and bury everything that a test has started."""
    while True:
        try:
            if SEALED and os.getpid() == 1:  # everything in this sandbox but us
                os.kill(-1, signal.SIGKILL)
            else:
                os.killpg(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def follow(child: int, out: int, errors: int, until: float, most: int) -> tuple[str, bytes, bytes]:
    """Collect what the program writes until it ends, its time is up, or it has written too much."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(0, 0)  # the runner has closed the pipe: a hang-up is reported unasked
    poll.register(RUNNER, select.POLLIN)  # or has ended, and another process holds a copy of the pipe
    for descriptor in (out, errors, ended):
        poll.register(descriptor, select.POLLIN)
        os.set_blocking(descriptor, False)
    chunks: list[bytes] = []
    sizes, tail, how = {out: 0, errors: 0}, b"", ""
    while not how:
        events = dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))
        if 0 in events or RUNNER in events:
            end_all(child)
            os._exit(0)
        how = "exit" if ended in events else "time" if time.monotonic() >= until else ""
        for descriptor in sizes:
            # A chunk each, so that neither is starved; what is left in the pipe when the program has ended.
            while descriptor in events or how == "exit":
                try:
                    chunk = os.read(descriptor, 1 << 16)
                except BlockingIOError:
                    break
                if not chunk:
                    if descriptor in events:
                        poll.unregister(descriptor)
                    break
                sizes[descriptor] += len(chunk)
                if descriptor == out:
                    chunks.append(chunk)
                else:
                    tail = (tail + chunk)[-ERRORS_KEPT:]
                if how != "exit" or sizes[descriptor] > most:
                    break
            if sizes[descriptor] > most:
                how = "output"
    os.close(ended)
    return how, b"".join(chunks)[:most], tail


def test(kind: str, data: bytes, limits: list[int], timeout_s: float) -> bool:
    """Run one test. True in the new process, which is to run the program; False in this one, when all is over."""
    given = -1
    if kind == "stdin":
        # A file, so that a program may also seek in it and open it by the name /dev/stdin.
        given = os.open(".stdin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        written = 0
        while written < len(data):
            written += os.pwrite(given, data[written:], written)
    out, out_end = os.pipe()
    errors, errors_end = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        become(kind, limits, timeout_s, (given, out_end, errors_end))
        return True
    for descriptor in (out_end, errors_end, given):
        if descriptor >= 0:
            os.close(descriptor)
    how, output, tail = follow(child, out, errors, started + timeout_s, limits[-1])
    wall_s = time.monotonic() - started
    if how != "exit":
        os.kill(child, signal.SIGKILL)
    status, usage = os.wait4(child, 0)[1:]
    end_all(child)
    os.close(out)
    os.close(errors)
    try:
        if kind == "stdin":
            os.unlink(".stdin")
        with os.scandir(".") as left:
            clean = next(left, None) is None
    except OSError:
        clean = False
    cpu_s = usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status)
    numbers = (how, code, int(cpu_s * 1e6), int(wall_s * 1e6), int(clean), len(output), len(tail))
    write((" ".join(map(str, numbers)) + "\n").encode() + output + tail)
    return False


def serve() -> tuple[str, bytes, bytes]:
    """Run tests until the runner closes the pipe. Returns in each new process, with what it is to do there."""
    size, *limits = map(int, read_line())
    source = read(size)
    write(b"ready\n")
    while True:
        kind, timeout_us, length = read_line()
        data = read(int(length))
        if test(kind, data, limits, int(timeout_us) / 1e6):
            return kind, source, data


def answer(source: bytes, data: bytes) -> None:
    """Write the JSON of the value asked for to descriptor 3, and end."""
    import json
    import marshal

    dumps, encoded, put, leave = json.dumps, encode, os.write, os._exit
    name, what, setup = marshal.loads(data)
    view = memoryview(dumps(encoded(evaluate(source, name, what, setup))).encode())
    while view:
        view = view[put(3, view) :]
    leave(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 gets no signal from inside that it has no handler for
    SEALED = sys.argv[1] == "sealed"
    RUNNER = os.dup(int(sys.argv[2]))  # a low number, which a program's process surely closes
    os.close(int(sys.argv[2]))
    KIND, SOURCE, DATA = serve()
    import builtins

    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # the module `site` would have set them
    sys.argv = ["solution.py"]
    if KIND == "call":
        answer(SOURCE, DATA)
    main = type(sys)("__main__")
    sys.modules["__main__"], driver = main, sys.modules["__main__"]
    exec(compile(SOURCE, "solution.py", "exec", dont_inherit=True), main.__dict__)
