"""The typed tree that answers are read into, and the constructors that fold exact rational arithmetic.

Expressions are Num, Const, Sym, Add, Mul, Pow and Call; the rest is what answers are made of besides: relations,
lists, tuples, sets, intervals, matrices, quantities with a unit, times, text. A tree never holds a string of code:
functions are names of a fixed table (`numeric.FUNCTIONS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAX_BITS = 4096  # numerators and denominators that are folded; larger ones stay unevaluated


class Node:
    """Anything an answer can be."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Num(Node):
    """An exact rational; `places` counts the decimals of a literal such as 1.50, -1 where it was none."""

    value: Fraction
    places: int = -1


@dataclass(frozen=True, slots=True)
class Const(Node):
    """pi, e, i, or oo (infinity)."""

    name: str


@dataclass(frozen=True, slots=True)
class Sym(Node):
    """A variable, subscripts and primes included: x, x_1, \\theta, y'."""

    name: str


@dataclass(frozen=True, slots=True)
class Add(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mul(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pow(Node):
    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of a fixed table; "pm" and "mp" are the signs with two values, "percent" and "deg" units."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Rel(Node):
    """A chain of relations: 1 < x <= 2 is items (1, x, 2), ops ("<", "<="). Ops: = != < <= > >= in ~ (about)."""

    ops: tuple[str, ...]
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Group(Node):
    """Several things: kind "list" (1, 2), "or", "and", "tuple" ( ), "bracket" [ ], "angle" < >, "set" { }, "ratio"."""

    kind: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Interval(Node):
    low: Node
    high: Node
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class SetOp(Node):
    """op "union", "intersection" or "minus"."""

    op: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class NamedSet(Node):
    """R, Z, N, Q, C; "empty"."""

    name: str


@dataclass(frozen=True, slots=True)
class Builder(Node):
    """The set of what satisfies a condition: {x in domain | condition}."""

    element: Node
    condition: Node


@dataclass(frozen=True, slots=True)
class Matrix(Node):
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Quantity(Node):
    """A value with a unit: `factor` (and `offset`, for temperatures) leads to the base units named in `dims`."""

    value: Node
    dims: tuple[tuple[str, int], ...]
    factor: Fraction
    offset: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Time(Node):
    """A time of day in minutes; `half` is "am", "pm" or "" where it is not said."""

    minutes: int
    half: str = ""


@dataclass(frozen=True, slots=True)
class Text(Node):
    """Words, in lower case, single spaces, no punctuation."""

    words: str


@dataclass(frozen=True, slots=True)
class Unread(Node):
    """Text that is meant as mathematics but could not be read."""

    text: str
    reason: str


ZERO, ONE, MINUS_ONE = Num(Fraction(0)), Num(Fraction(1)), Num(Fraction(-1))
INFINITY = Const("oo")


def number(value: int | Fraction) -> Num:
    return Num(Fraction(value))


def small(value: Fraction) -> bool:
    return value.numerator.bit_length() <= MAX_BITS and value.denominator.bit_length() <= MAX_BITS


def add(*items: Node) -> Node:
    """The sum, nested sums flattened and rational terms folded."""
    flat: list[Node] = []
    total, seen = Fraction(0), 0
    for item in items:
        for term in item.items if isinstance(item, Add) else (item,):
            if isinstance(term, Num) and small(total):
                total, seen = total + term.value, seen + 1
            else:
                flat.append(term)
    if seen and (total or not flat):
        flat.append(Num(total))
    return flat[0] if len(flat) == 1 else Add(tuple(flat))


def mul(*items: Node) -> Node:
    """The product, nested products flattened and rational factors folded. 0 * x stays: x may be undefined."""
    flat: list[Node] = []
    total, seen = Fraction(1), 0
    for item in items:
        for factor in item.items if isinstance(item, Mul) else (item,):
            if isinstance(factor, Num) and small(total):
                total, seen = total * factor.value, seen + 1
            else:
                flat.append(factor)
    if seen and (total != 1 or not flat):
        flat.insert(0, Num(total))
    return flat[0] if len(flat) == 1 else Mul(tuple(flat))


def neg(item: Node) -> Node:
    if isinstance(item, Num):
        return Num(-item.value, item.places)
    return mul(MINUS_ONE, item)


def div(above: Node, below: Node) -> Node:
    return mul(above, power(below, MINUS_ONE))


def power(base: Node, exponent: Node) -> Node:
    """base ^ exponent; folded where both are rational, the result is exact and it is small enough to be written."""
    if isinstance(exponent, Num):
        if exponent.value == 1:
            return base
        if isinstance(base, Num):
            folded = rational_power(base.value, exponent.value)
            if folded is not None:
                return Num(folded)
    return Pow(base, exponent)


def rational_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """base ^ exponent for an integer exponent, None where that is undefined, irrational or large."""
    if exponent.denominator != 1 or (base == 0 and exponent <= 0):
        return None
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and size * abs(exponent.numerator) > MAX_BITS:
        return None
    if base in (1, -1, 0):
        return base if base != -1 or exponent.numerator % 2 else Fraction(1)
    return base**exponent.numerator


def children(node: Node) -> tuple[Node, ...]:
    """The parts of a node that are nodes."""
    match node:
        case Add(items) | Mul(items) | Call(_, items) | Rel(_, items) | Group(_, items) | SetOp(_, items):
            return items
        case Pow(left, right) | Interval(left, right, _, _) | Builder(left, right):
            return (left, right)
        case Matrix(rows):
            return tuple(item for row in rows for item in row)
        case Quantity(value=value):
            return (value,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(children(top))


def symbols(node: Node) -> frozenset[str]:
    """The free variables of a tree."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Sym) and not part.name.startswith("index:"))


def rebuild(node: Node, parts: tuple[Node, ...]) -> Node:
    """An expression like `node` with other children; other kinds are returned as they are."""
    match node:
        case Add():
            return add(*parts)
        case Mul():
            return mul(*parts)
        case Pow():
            return power(*parts)
        case Call(name, _):
            return Call(name, parts)
        case Rel(ops, _):
            return Rel(ops, parts)
        case Group(kind, _):
            return Group(kind, parts)
        case Interval(_, _, low_closed, high_closed):
            return Interval(parts[0], parts[1], low_closed, high_closed)
        case SetOp(op, _):
            return SetOp(op, parts)
        case Builder():
            return Builder(*parts)
        case Quantity(_, dims, factor, offset):
            return Quantity(parts[0], dims, factor, offset)
        case Matrix(rows):
            columns = len(rows[0])
            return Matrix(tuple(parts[k : k + columns] for k in range(0, len(parts), columns)))
    return node


def rename(node: Node, names: dict[str, str]) -> Node:
    """The tree with its symbols renamed."""
    if isinstance(node, Sym):
        return Sym(names.get(node.name, node.name))
    parts = children(node)
    return rebuild(node, tuple(rename(part, names) for part in parts)) if parts else node


def substitute(node: Node, values: dict[str, Num]) -> Node:
    """The tree with numbers for some of its symbols."""
    if isinstance(node, Sym):
        return values.get(node.name, node)
    parts = children(node)
    return rebuild(node, tuple(substitute(part, values) for part in parts)) if parts else node


def replaced(node: Node, old: Node, new: Node) -> Node:
    """The tree with one leaf for another."""
    if node == old:
        return new
    parts = children(node)
    return rebuild(node, tuple(replaced(part, old, new) for part in parts)) if parts else node


def outer_signs(node: Node, upper: bool = True) -> Node:
    """The tree with each plus-minus that stands in no other read as + or as -; those within it stay."""
    if isinstance(node, Call) and node.name in ("pm", "mp"):
        return node.args[0] if (node.name == "pm") == upper else neg(node.args[0])
    parts = children(node)
    return rebuild(node, tuple(outer_signs(part, upper) for part in parts)) if parts else node


def split_signs(node: Node, upper: bool = True) -> Node:
    """The tree with each plus-minus read as + (or, if not `upper`, as -), each minus-plus the other way."""
    parts = tuple(split_signs(part, upper) for part in children(node))
    if isinstance(node, Call) and node.name in ("pm", "mp"):
        return parts[0] if (node.name == "pm") == upper else neg(parts[0])
    return rebuild(node, parts) if parts else node


def has_call(node: Node, *names: str) -> bool:
    return any(isinstance(part, Call) and part.name in names for part in walk(node))
