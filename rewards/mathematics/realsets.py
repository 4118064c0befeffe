"""Sets of real numbers as unions of intervals, from intervals, sets, and inequalities in one variable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key

from rewards.mathematics import tree
from rewards.mathematics.expressions import equal_expressions, infinity
from rewards.mathematics.numeric import constant_value
from rewards.mathematics.polynomial import factors, linear, real_roots, value_at
from rewards.mathematics.tree import Builder, Call, Group, Interval, NamedSet, Node, Num, Rel, SetOp, Sym, number

MAX_PIECES = 50


class UnsolvedError(ValueError):
    """Not a set of real numbers, or one that this module cannot find."""


@dataclass(frozen=True, slots=True)
class End:
    """An end of an interval: its expression and about where it lies; +-inf for the infinities."""

    at: float
    node: Node


@dataclass(frozen=True, slots=True)
class Piece:
    low: End
    high: End
    low_closed: bool
    high_closed: bool

    def empty(self) -> bool:
        order = compare(self.low, self.high)
        return order > 0 or (order == 0 and not (self.low_closed and self.high_closed))


@dataclass(frozen=True, slots=True)
class RealSet:
    """Disjoint pieces in order, none touching the next."""

    pieces: tuple[Piece, ...]

    def points(self) -> tuple[Node, ...] | None:
        """The elements of a finite set, None for an infinite one."""
        if any(compare(piece.low, piece.high) for piece in self.pieces):
            return None
        return tuple(piece.low.node for piece in self.pieces)


LOWEST, HIGHEST = End(-math.inf, tree.neg(tree.INFINITY)), End(math.inf, tree.INFINITY)
EVERYTHING = RealSet((Piece(LOWEST, HIGHEST, False, False),))
NOTHING = RealSet(())


def compare(first: End, second: End) -> int:
    """-1, 0 or 1 as the first end lies below, at or above the second; what floats cannot part is compared exactly."""
    if first.at == second.at and (math.isinf(first.at) or first.node == second.node):
        return 0
    if abs(first.at - second.at) <= 1e-9 * max(1.0, abs(first.at), abs(second.at)):
        outcome = equal_expressions(first.node, second.node)
        if outcome is None:
            raise UnsolvedError("ends that cannot be told apart")
        if outcome:
            return 0
        if first.at == second.at:
            raise UnsolvedError("ends that cannot be ordered")
    return -1 if first.at < second.at else 1


def end(node: Node) -> End:
    sign = infinity(node)
    if sign:
        return HIGHEST if sign > 0 else LOWEST
    if not isinstance(node, (Num, tree.Const, tree.Add, tree.Mul, tree.Pow, Call)):
        raise UnsolvedError("an end that is no number")
    value = constant_value(node)
    if value is None:
        raise UnsolvedError("an end without a value")
    return End(value, node)


def normal(pieces: list[Piece]) -> RealSet:
    """The union of pieces."""
    if len(pieces) > MAX_PIECES:
        raise UnsolvedError("too many pieces")
    pieces = [piece for piece in pieces if not piece.empty()]

    def order(a: Piece, b: Piece) -> int:
        return compare(a.low, b.low) or b.low_closed - a.low_closed

    merged: list[Piece] = []
    for piece in sorted(pieces, key=cmp_to_key(order)):
        if merged:
            last = merged[-1]
            gap = compare(last.high, piece.low)
            if gap > 0 or (gap == 0 and (last.high_closed or piece.low_closed)):
                reach = compare(last.high, piece.high)
                high, closed = (piece.high, piece.high_closed) if reach < 0 else (last.high, last.high_closed)
                if reach == 0:
                    closed = last.high_closed or piece.high_closed
                merged[-1] = Piece(last.low, high, last.low_closed, closed)
                continue
        merged.append(piece)
    return RealSet(tuple(merged))


def union(first: RealSet, second: RealSet) -> RealSet:
    return normal([*first.pieces, *second.pieces])


def intersection(first: RealSet, second: RealSet) -> RealSet:
    pieces = []
    for a in first.pieces:
        for b in second.pieces:
            low, high = compare(a.low, b.low), compare(a.high, b.high)
            pieces.append(
                Piece(
                    a.low if low >= 0 else b.low,
                    a.high if high <= 0 else b.high,
                    a.low_closed and b.low_closed if low == 0 else (a.low_closed if low > 0 else b.low_closed),
                    a.high_closed and b.high_closed if high == 0 else (a.high_closed if high < 0 else b.high_closed),
                )
            )
    return normal(pieces)


def complement(given: RealSet) -> RealSet:
    pieces = []
    low, closed = LOWEST, False
    for piece in given.pieces:
        pieces.append(Piece(low, piece.low, closed, not piece.low_closed))
        low, closed = piece.high, not piece.high_closed
    pieces.append(Piece(low, HIGHEST, closed, False))
    return normal([piece for piece in pieces if not piece.empty()])


def point(node: Node) -> RealSet:
    at = end(node)
    return RealSet((Piece(at, at, True, True),))


def same_sets(first: RealSet, second: RealSet) -> bool:
    if len(first.pieces) != len(second.pieces):
        return False
    for a, b in zip(first.pieces, second.pieces, strict=True):
        if (a.low_closed, a.high_closed) != (b.low_closed, b.high_closed):
            return False
        if compare(a.low, b.low) or compare(a.high, b.high):
            return False
    return True


# From trees


def real_set(node: Node) -> RealSet:
    """The set of reals that a tree writes. Raises UnsolvedError."""
    match node:
        case Interval(low, high, low_closed, high_closed):
            return interval(low, high, low_closed, high_closed)
        case Group("tuple" | "bracket" as kind, (low, high)):
            return interval(low, high, kind == "bracket", kind == "bracket")
        case Group("set", items):
            return normal([piece for item in items for piece in point(item).pieces])
        case NamedSet("R"):
            return EVERYTHING
        case NamedSet("empty"):
            return NOTHING
        case SetOp(op, (left, right)):
            first = real_set(left)
            second = real_set(right) if not isinstance(right, (Num, tree.Mul)) else point(right)
            if op == "union":
                return union(first, second)
            return intersection(first, second if op == "intersection" else complement(second))
        case Builder(element, condition):
            return built(element, condition)
        case Rel():
            return solutions(node)
        case Group("or", items):
            found = NOTHING
            one_variable(node)
            for item in items:
                found = union(found, real_set(item))
            return found
        case Group("and" | "list", items):
            return conditions(node)
    raise UnsolvedError(type(node).__name__)


def interval(low: Node, high: Node, low_closed: bool, high_closed: bool) -> RealSet:
    first, second = end(low), end(high)
    if first.at > second.at:
        raise UnsolvedError("an interval from high to low")
    if (low_closed and math.isinf(first.at)) or (high_closed and math.isinf(second.at)):
        raise UnsolvedError("an interval that contains infinity")
    piece = Piece(first, second, low_closed, high_closed)
    return RealSet(() if piece.empty() else (piece,))


def one_variable(node: Node) -> str:
    names = tree.symbols(node)
    if len(names) > 1:
        raise UnsolvedError("several variables")
    return next(iter(names), "")


def built(element: Node, condition: Node) -> RealSet:
    domain, inside = EVERYTHING, NamedSet("R")
    if isinstance(condition, Group) and condition.kind == "list":
        condition = Group("and", condition.items)
    if isinstance(element, Rel) and element.ops == ("in",):
        element, inside = element.items  # type: ignore[assignment]
        domain = EVERYTHING if inside in WHOLE else real_set(inside)
    if not isinstance(element, Sym) or tree.symbols(condition) != {element.name}:
        raise UnsolvedError("a condition on something else")
    if isinstance(condition, Rel) and condition.ops == ("=",):
        return roots(condition, element.name)
    found = intersection(domain, real_set(condition))
    return whole_numbers(found, WHOLE[inside]) if inside in WHOLE else found


def roots(equation: Rel, name: str) -> RealSet:
    """The real solutions of an equation of polynomials."""
    parts = factors(tree.add(equation.items[0], tree.neg(equation.items[1])), name)
    zeros = real_roots(parts[0]) if parts and len(parts[1]) == 1 else None
    if zeros is None:
        raise UnsolvedError("roots that cannot be written")
    return normal([piece for zero in zeros for piece in point(zero).pieces])


WHOLE = {NamedSet("Z"): -math.inf, NamedSet("N"): None, NamedSet("Z+"): 1.0}


def whole_numbers(found: RealSet, least: float | None) -> RealSet:
    """The integers of a bounded set. Whether the naturals begin at 0 is not agreed, so they must begin above it."""
    points: list[Piece] = []
    for piece in found.pieces:
        if math.isinf(piece.high.at) or max(piece.low.at, least or -math.inf) == -math.inf:
            raise UnsolvedError("infinitely many integers")
        if least is None and piece.low.at < 1:
            raise UnsolvedError("naturals from 0 or 1")
        low = max(math.ceil(piece.low.at - 1e-9), math.ceil(least or -math.inf) if least and least > 0 else -(10**9))
        if piece.high.at - low > MAX_PIECES:
            raise UnsolvedError("too many integers")
        inside = [number(k) for k in range(low, math.floor(piece.high.at + 1e-9) + 1)]
        points += [p for k in inside for p in intersection(RealSet((piece,)), point(k)).pieces]
    return normal(points)


def conditions(node: Group) -> RealSet:
    """Several conditions: all hold; of x < -1, x > 1, which cannot both hold, one does."""
    one_variable(node)
    sets: list[RealSet] = []
    previous: Node = node
    for item in node.items:
        if isinstance(item, Rel):
            previous = item
        elif isinstance(previous, Rel) and previous.ops == ("!=",) and not tree.symbols(item):  # x != 1, 2
            item = Rel(("!=",), (previous.items[0], item))
        else:
            raise UnsolvedError("a list of what are no conditions")
        sets.append(real_set(item))
    both, either = EVERYTHING, NOTHING
    for found in sets:
        both, either = intersection(both, found), union(either, found)
    return both if both.pieces or node.kind == "and" else either


def solutions(node: Rel) -> RealSet:
    """Of a chain of relations in one variable, each of them linear, or of |linear| against a number."""
    name = one_variable(node)
    if not name:
        raise UnsolvedError("no variable")
    found = EVERYTHING
    for op, left, right in zip(node.ops, node.items, node.items[1:], strict=False):
        found = intersection(found, solved(op, left, right, name))
    return found


FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}


def solved(op: str, left: Node, right: Node, name: str) -> RealSet:
    if op in ("in", "notin"):
        if left != Sym(name):
            raise UnsolvedError("a membership of something else")
        inside = real_set(right)
        return inside if op == "in" else complement(inside)
    if op not in FLIPPED:
        raise UnsolvedError(op)
    if not tree.symbols(left):
        left, right, op = right, left, FLIPPED[op]
    if left == Sym(name) and not tree.symbols(right):
        return half_line(op, right)
    if isinstance(left, Call) and left.name == "abs" and not tree.symbols(right):
        return absolute(op, left.args[0], right, name)
    difference = tree.add(left, tree.neg(right))
    coefficients = linear(difference, name)
    if coefficients is None:
        return by_signs(op, difference, name)
    slope, offset = coefficients
    return half_line(op if slope > 0 else FLIPPED[op], Num(-offset / slope))


def by_signs(op: str, difference: Node, name: str) -> RealSet:
    """Where a quotient of polynomials is above, below or at 0: its sign between its zeros and poles, one by one.

    Equations are not solved: an answer x^2 = 4 repeats the question whose answer is 2, -2.
    """
    parts = factors(difference, name)
    if parts is None or op == "=":
        raise UnsolvedError("not a quotient of polynomials")
    above, below = parts
    zeros, poles = real_roots(above), real_roots(below)
    if zeros is None or poles is None or len(above) + len(below) > 12:
        raise UnsolvedError("roots that cannot be written")
    ends = sorted((end(root) for root in zeros + poles), key=cmp_to_key(compare))
    excluded = RealSet(()) if not poles else normal([piece for pole in poles for piece in point(pole).pieces])
    pieces = []
    for low, high in zip([LOWEST, *ends], [*ends, HIGHEST], strict=True):
        if compare(low, high) == 0:
            continue
        middle = between(low.at, high.at)
        value = value_at(above, middle) / value_at(below, middle)
        if value > 0 if op in (">", ">=") else value < 0 if op in ("<", "<=") else True:
            pieces.append(Piece(low, high, False, False))
    found = normal(pieces)
    if op in (">=", "<="):
        for zero in zeros:
            found = union(found, point(zero))
    return intersection(found, complement(excluded))


def between(low: float, high: float) -> Fraction:
    if math.isinf(low):
        return Fraction(0) if math.isinf(high) else Fraction(high) - 1
    return Fraction(low) + 1 if math.isinf(high) else (Fraction(low) + Fraction(high)) / 2


def absolute(op: str, inner: Node, bound: Node, name: str) -> RealSet:
    """|inner| op bound, for a bound that is not negative."""
    if op not in ("<", "<=", ">", ">=") or end(bound).at < 0:
        raise UnsolvedError("an absolute value against a negative number")
    above = solved(op, inner, bound, name)
    below = solved(FLIPPED[op], inner, tree.neg(bound), name)
    return intersection(above, below) if op in ("<", "<=") else union(above, below)


def half_line(op: str, bound: Node) -> RealSet:
    at = end(bound)
    if math.isinf(at.at) and op in ("=", "!="):
        raise UnsolvedError("infinity is no number")
    match op:
        case "<" | "<=":
            pieces = [Piece(LOWEST, at, False, op == "<=" and not math.isinf(at.at))]
        case ">" | ">=":
            pieces = [Piece(at, HIGHEST, op == ">=" and not math.isinf(at.at), False)]
        case "=":
            return point(bound)
        case _:
            return complement(point(bound))
    return normal([piece for piece in pieces if not piece.empty()])
