"""The last stage: integrals, limits and infinite sums, by sympy, in a process of its own with a deadline.

Trees are turned into sympy's expressions node by node; no text is ever parsed or evaluated. The process is started at
the first question, stays warm, and is killed when an answer takes longer than DEADLINE. It is let start in peace: until
it has, questions stay undecided and unremembered. Where SYMPY_IN_PROCESS is set sympy runs in the caller, for tests.
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import threading
import time
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from rewards.mathematics.tree import INFINITY, Add, Call, Const, Mul, Node, Num, Pow, Sym, walk

DEADLINE = 1.2  # seconds for all questions of one comparison
MEMORY = 1 << 30  # bytes of the process
MAX_NODES = 100
SAMPLES = (Fraction(1237, 811), Fraction(2531, 617), Fraction(353, 1009))
ROOT = Path(__file__).resolve().parents[2]


def equal_symbolically(first: Node, second: Node) -> bool | None:
    """Whether two expressions are equal, one of which holds an integral, limit, sum or product that sympy finds."""
    parts = [part for node in (first, second) for part in walk(node)]
    if len(parts) > MAX_NODES or not any(needs_sympy(part) for part in parts):
        return None
    if os.environ.get("SYMPY_IN_PROCESS") == "1":
        return judged(first, second)
    return WORKER.ask(encoded(first), encoded(second))


class Clock(threading.local):
    """When this thread's comparison must be over, and whether it was cut short: that is no verdict to remember."""

    until = math.inf
    cut = False


CLOCK = Clock()


def start_clock() -> None:
    """Called where a comparison begins."""
    CLOCK.until, CLOCK.cut = time.monotonic() + DEADLINE, False


def needs_sympy(node: Node) -> bool:
    """Whether a node is an integral, a limit, or a sum or product without end."""
    return isinstance(node, Call) and (
        node.name in ("int", "lim") or (node.name in ("sum", "prod") and INFINITY in node.args)
    )


# Trees as lists, to send them


def encoded(node: Node) -> list[Any]:
    match node:
        case Num(value):
            return ["num", value.numerator, value.denominator]
        case Const(name):
            return ["const", name]
        case Sym(name):
            return ["sym", name]
        case Add(items):
            return ["add", *map(encoded, items)]
        case Mul(items):
            return ["mul", *map(encoded, items)]
        case Pow(base, exponent):
            return ["pow", encoded(base), encoded(exponent)]
        case Call(name, args):
            return ["call", name, *map(encoded, args)]
    raise ValueError(f"{type(node).__name__} is no expression")


def decoded(data: list[Any]) -> Node:
    kind, *rest = data
    if kind == "num":
        return Num(Fraction(rest[0], rest[1]))
    if kind in ("const", "sym"):
        return Const(rest[0]) if kind == "const" else Sym(rest[0])
    if kind == "call":
        return Call(rest[0], tuple(map(decoded, rest[1:])))
    parts = tuple(map(decoded, rest))
    return Add(parts) if kind == "add" else Mul(parts) if kind == "mul" else Pow(parts[0], parts[1])


class Worker:
    """The process that runs sympy. One question at a time; a fork of the caller starts its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0
        self.is_ready = False

    def ask(self, first: list[Any], second: list[Any]) -> bool | None:
        with self.lock:
            if time.monotonic() > CLOCK.until:
                CLOCK.cut = True
                return None
            if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
                self.start()
            process = self.process
            if process is None or process.stdin is None or process.stdout is None:
                return None
            if not self.is_ready:
                self.is_ready = bool(self.line(process.stdout))
            if not self.is_ready and process.poll() is None:
                CLOCK.cut = True
                return None
            try:
                process.stdin.write(json.dumps([first, second]).encode() + b"\n")
                process.stdin.flush()
                line = self.line(process.stdout)
            except OSError:
                line = b""
            if not line:
                CLOCK.cut = True
                process.kill()
                process.wait()
                self.process = None
                return None
            answer = json.loads(line)
            return answer if isinstance(answer, bool) else None

    def line(self, pipe: IO[bytes]) -> bytes:
        """The next one; empty if there is none before the comparison must be over."""
        ready, _, _ = select.select([pipe], [], [], max(0.0, CLOCK.until - time.monotonic()))
        return pipe.readline() if ready else b""

    def start(self) -> None:
        self.owner, self.is_ready = os.getpid(), False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rewards.mathematics.symbolic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )


WORKER = Worker()


# In the process


@lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """Function name -> sympy's."""
    import sympy

    names = "sin cos tan cot sec csc sinh cosh tanh coth sech csch exp factorial floor"
    found = {name: getattr(sympy, name) for name in names.split()}
    for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"):
        found["arc" + name] = getattr(sympy, "a" + name)
    found |= {"ln": sympy.log, "abs": sympy.Abs, "ceil": sympy.ceiling, "binom": sympy.binomial, "sgn": sympy.sign}
    return found


def to_sympy(node: Node) -> Any:
    """sympy's expression, built node by node; integrals, limits, sums and products are carried out. None if unknown."""
    import sympy

    match node:
        case Num(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Const(name):
            return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}[name]
        case Sym(name):
            return sympy.Symbol(name.replace(":", "_"), real=True)
        case Add(items):
            return sympy.Add(*map(to_sympy, items))
        case Mul(items):
            return sympy.Mul(*map(to_sympy, items))
        case Pow(base, exponent):
            return sympy.Pow(to_sympy(base), to_sympy(exponent))
        case Call(name, args):
            return call(name, [to_sympy(arg) for arg in args])
    raise ValueError(type(node).__name__)


def call(name: str, args: list[Any]) -> Any:
    import sympy

    if name == "int":
        return sympy.integrate(args[0], (args[1], args[2], args[3]))
    if name == "lim":
        return sympy.limit(args[0], args[1], args[2], "+-")
    if name in ("sum", "prod"):
        index = sympy.Symbol(args[1].name, integer=True)
        operator = sympy.summation if name == "sum" else sympy.product
        return operator(args[0].subs(args[1], index), (index, args[2], args[3]))
    if name in ("log", "lg"):
        return sympy.log(args[0], args[1] if len(args) > 1 else 10)
    if name in ("percent", "deg"):
        return args[0] / 100 if name == "percent" else args[0] * sympy.pi / 180
    return table()[name](*args)


def judged(first: Node, second: Node) -> bool | None:
    """Whether the difference of two expressions simplifies to 0; that it does not vanish at some point refutes it."""
    import sympy

    try:
        left, right = to_sympy(first), to_sympy(second)
        if left == right:
            return True
        if left.has(sympy.oo, -sympy.oo, sympy.nan, sympy.zoo) or right.has(sympy.oo, -sympy.oo, sympy.nan, sympy.zoo):
            return False if left.is_number and right.is_number and not left.has(sympy.nan) else None
        difference = left - right
        if difference.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Piecewise):
            return None
        names = sorted(difference.free_symbols, key=str)
        for shift in range(3 if names else 1):
            at = {name: SAMPLES[(k + shift) % 3] + k // 3 for k, name in enumerate(names)}
            value = difference.subs({name: sympy.Rational(v.numerator, v.denominator) for name, v in at.items()})
            size = abs(sympy.N(value, 60, maxn=2000))
            if not size.is_number or size.has(sympy.nan, sympy.zoo):
                return None
            if size > sympy.Float("1e-50"):
                return False
        return True if sympy.simplify(difference) == 0 else None
    except (ArithmeticError, AttributeError, KeyError, NotImplementedError, RecursionError, TypeError, ValueError):
        return None


def main() -> None:
    """Answers questions, one a line, until the input ends."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    table()  # loads sympy
    print("ready", flush=True)
    for line in sys.stdin:
        first, second = json.loads(line)
        try:
            answer = judged(decoded(first), decoded(second))
        except MemoryError:
            answer = None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
