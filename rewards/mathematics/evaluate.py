"""The value of an expression in one of the arithmetics of `fields`."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from rewards.mathematics.fields import FLOAT_FUNCTIONS, Digits, Floats, GivenUpError, TooLargeError, UndefinedError
from rewards.mathematics.tree import INFINITY, Add, Call, Const, Mul, Node, Num, Pow, Sym, walk

MAX_FACTORIAL = 3_000
MAX_TERMS = 1_000
MAX_STEPS = 10_000  # nodes evaluated within sums, functions counted as 20
BUDGET = "@budget"
RECIPROCAL = {"cot": "tan", "sec": "cos", "csc": "sin", "coth": "tanh", "sech": "cosh", "csch": "sinh"}
OF_RECIPROCAL = {"arcsec": "arccos", "arccsc": "arcsin"}
INTEGER_CALLS = ("sum", "prod", "gcd", "lcm", "mod", "f:!!")

Env = dict[str, Any]


def evaluate(node: Node, env: Env, field: Floats) -> Any:
    """The value of an expression. Raises UndefinedError, TooLargeError or ImpreciseError."""
    kind = type(node)
    if kind is Num:
        return field.num(node.value)  # type: ignore[attr-defined]
    if kind is Sym:
        if (value := env.get(node.name)) is None:  # type: ignore[attr-defined]
            raise UndefinedError
        return value
    if isinstance(node, Add):
        return field.total([evaluate(item, env, field) for item in node.items])
    if isinstance(node, Mul):
        result = evaluate(node.items[0], env, field)
        for item in node.items[1:]:
            result = result * evaluate(item, env, field)
        return result
    if isinstance(node, Pow):
        if isinstance(node.base, Const) and node.base.name == "e":
            return field.call("exp", evaluate(node.exponent, env, field))
        base = evaluate(node.base, env, field)
        if isinstance(node.exponent, Num):
            return field.root(base, node.exponent.value)
        return field.power(base, evaluate(node.exponent, env, field))
    if isinstance(node, Const):
        return constant(node.name, field)
    if isinstance(node, Call):
        return call(node, env, field)
    raise UndefinedError(f"{kind.__name__} has no value")


def constant(name: str, field: Floats) -> Any:
    if name == "i":
        if field.real:
            raise UndefinedError
        return field.ctx.mpc(0, 1) if isinstance(field, Digits) else 1j
    if name == "oo":
        raise UndefinedError
    value = field.pi if name == "pi" else field.e
    return value if field.real or field.exact else complex(value)


def call(node: Call, env: Env, field: Floats) -> Any:
    """The value of a function; functions that others express are reduced to them."""
    name = node.name
    if name in ("sum", "prod"):
        return big_operator(node, env, field)
    if name in ("int", "lim"):
        raise GivenUpError
    args = [evaluate(arg, env, field) for arg in node.args]
    x = args[0]
    if name in FLOAT_FUNCTIONS:
        return field.call(name, x)
    if name == "f:!!":
        return double_factorial(x, field)
    if name.startswith("f:"):
        return unknown_function(name, args, field)
    if name == "cis":
        return field.call("cos", x) + constant("i", field) * field.call("sin", x)
    if name in RECIPROCAL:
        below = field.call(RECIPROCAL[name], x)
        if below == 0:
            raise UndefinedError
        return 1 / below
    if name in OF_RECIPROCAL:
        return field.call(OF_RECIPROCAL[name], 1 / x)
    match name:
        case "log" | "lg":
            base = args[1] if len(args) > 1 else field.num(Fraction(10))
            return field.call("ln", x) / field.call("ln", base)
        case "abs":
            return abs(x)
        case "percent":
            return x / 100
        case "deg":
            return x * constant("pi", field) / 180
        case "rad":
            return x
        case "floor" | "ceil":
            return field.whole(name, real_part(x, field))
        case "arccot":
            return constant("pi", field) / 2 - field.call("arctan", x)
        case "sgn":
            x = real_part(x, field)
            return (x > 0) - (x < 0) + 0 * x
        case "max" | "min" if field.real:
            return max(args) if name == "max" else min(args)
        case "gcd" | "lcm":
            return integers(name, args, field)
        case "factorial":
            return factorial(x, field)
        case "binom" if len(args) == 2:
            return factorial(x, field) / (factorial(args[1], field) * factorial(x - args[1], field))
        case "conj":
            return field.conj(x)
        case "Re" | "Im":
            return field.parts(x)[name == "Im"]
        case "arg":
            return field.arg(x)
        case "mod" if field.real:
            return integers("mod", args, field)
    raise UndefinedError(f"{name} has no value")


def unknown_function(name: str, args: list[Any], field: Floats) -> Any:
    """A function of which nothing is known, by a polynomial whose coefficients come from its name."""
    mark = sum((k + 1) * ord(letter) for k, letter in enumerate(name)) % 89
    linear = sum(arg * (k + 3 + mark % 7) for k, arg in enumerate(args)) / 7
    return args[0] * args[0] * field.num(Fraction(41 + mark, 100)) + linear + field.num(Fraction(13 + mark, 11))


def real_part(x: Any, field: Floats) -> Any:
    """The value, which must be real: of jumps there is no other."""
    if field.real:
        return x
    if abs(x.imag) > 1e-12 * abs(x):
        raise UndefinedError
    return x.real


def factorial(x: Any, field: Floats) -> Any:
    if abs(x) > MAX_FACTORIAL:
        raise TooLargeError
    real = field.parts(x)[0]
    if field.exact and real >= 0 and x == int(real):
        return field.num(Fraction(math.factorial(int(real))))
    return field.gamma(x + 1)


def double_factorial(x: Any, field: Floats) -> Any:
    """n!! = n (n - 2) (n - 4) ..., of a whole number; -1!! = 0!! = 1."""
    if abs(x) > MAX_FACTORIAL:
        raise TooLargeError
    real = real_part(x, field)
    if real != int(real) or real < -1:
        raise UndefinedError
    return field.num(Fraction(math.prod(range(int(real), 0, -2))))


def integers(name: str, args: list[Any], field: Floats) -> Any:
    values = []
    for arg in args:
        real = arg.real if not field.real else arg
        if abs(real) > 1e15 or real != int(real):
            raise UndefinedError
        values.append(int(real))
    if name == "mod":
        return field.num(Fraction(values[0] % values[1]))
    return field.num(Fraction(math.gcd(*values) if name == "gcd" else math.lcm(*values)))


def big_operator(node: Call, env: Env, field: Floats) -> Any:
    """A sum or product over a range of integers, of at most MAX_TERMS terms."""
    body, variable, low, high = node.args
    if INFINITY in (low, high):
        raise GivenUpError
    start, stop = (evaluate(bound, env, field) for bound in (low, high))
    start, stop = (bound if field.real else bound.real for bound in (start, stop))
    if start != int(start) or stop != int(stop):
        raise UndefinedError
    budget = env.setdefault(BUDGET, [MAX_STEPS // 2 if field.exact else MAX_STEPS])
    if stop - start > MAX_TERMS:
        raise TooLargeError
    cost = sum(20 if isinstance(part, Call) else 1 for part in walk(body))
    inner, name = dict(env), getattr(variable, "name", "")
    result = field.num(Fraction(0 if node.name == "sum" else 1))
    for k in range(int(start), int(stop) + 1):
        budget[0] -= cost
        if budget[0] < 0:
            raise GivenUpError
        inner[name] = field.num(Fraction(k))
        term = evaluate(body, inner, field)
        if node.name == "prod":
            result = result * term
        elif term:
            result = field.total([result, term]) if result else term
    return result
