r"""Functions of one variable given by cases, against each other however they are cut, and against one expression.

|x| is x where x >= 0 and -x where x < 0. On each interval where one case of either function holds, the two
expressions must be equal: at the ends that belong to it, and between them, which x runs through as t does the reals:

    (a, oo)  a + 1/(1 + t^2)  and  a + 1 + t^2           (a, b)  a + (b - a)/(2 + t^2)  and  b - (b - a)/(2 + t^2)
"""

from __future__ import annotations

import math

from rewards.mathematics import realsets, tree
from rewards.mathematics.build import EXPRESSIONS
from rewards.mathematics.expressions import equal_expressions
from rewards.mathematics.numeric import constant_value
from rewards.mathematics.realsets import EVERYTHING, NOTHING, Piece, RealSet, UnsolvedError, real_set
from rewards.mathematics.tree import Group, Node, Sym, Text

MAX_CASES = 8
ELSE = frozenset(("otherwise", "else", "elsewhere", "if otherwise", "for other x", "all other x"))
RUNNING = Sym("t")
SQUARE = tree.power(RUNNING, tree.number(2))
SHRINKING = tree.power(tree.add(tree.ONE, SQUARE), tree.MINUS_ONE)

Case = tuple[RealSet, Node]  # where it holds, and the value there


def is_cases(node: Node) -> bool:
    return isinstance(node, Group) and node.kind == "cases"


def same_functions(gold: Node, answer: Node) -> bool:
    """Whether two functions of one variable, at least one of them by cases, have the same domain and values."""
    names = tree.symbols(gold) | tree.symbols(answer)
    if len(names) != 1:
        return False
    variable = Sym(next(iter(names)))
    try:
        first, second = cases(gold), cases(answer)
        return (
            covers(first, answer, variable)
            and covers(second, gold, variable)
            and all(
                same_on(piece, one, other, variable)
                for where, one in first
                for elsewhere, other in second
                for piece in realsets.intersection(where, elsewhere).pieces
            )
        )
    except UnsolvedError:
        return False


def cases(node: Node) -> list[Case]:
    """The values and where they hold. Raises UnsolvedError where that is not found."""
    if isinstance(node, EXPRESSIONS):
        return [(EVERYTHING, node)]
    if not isinstance(node, Group) or node.kind != "cases" or len(node.items) > MAX_CASES:
        raise UnsolvedError("no function by cases")
    found: list[Case] = []
    for row in node.items:
        match row:
            case Group("case", (value, Text(words))) if words in ELSE and row is node.items[-1]:
                found.append((realsets.complement(domain(found)), value))
            case Group("case", (value, condition)) if tree.symbols(condition):
                found.append((real_set(condition), value))
            case _:
                raise UnsolvedError("no case with a condition")
    return found


def domain(found: list[Case]) -> RealSet:
    total = NOTHING
    for where, _ in found:
        total = realsets.union(total, where)
    return total


def covers(found: list[Case], other: Node, variable: Sym) -> bool:
    """Whether the cases are given wherever the other function has a value: an expression may lack it at some points."""
    left_out = realsets.complement(domain(found))
    if is_cases(other):
        return not realsets.intersection(left_out, domain(cases(other))).pieces
    points = left_out.points()
    return points is not None and all(constant_value(tree.replaced(other, variable, point)) is None for point in points)


def same_on(piece: Piece, first: Node, second: Node, variable: Sym) -> bool:
    """Whether two expressions are equal on an interval, its ends included where it is closed."""
    values = [end.node for end, closed in ((piece.low, piece.low_closed), (piece.high, piece.high_closed)) if closed]
    if realsets.compare(piece.low, piece.high):
        values += running(piece)
    return all(
        equal_expressions(tree.replaced(first, variable, value), tree.replaced(second, variable, value))
        for value in values
    )


def running(piece: Piece) -> list[Node]:
    """What runs through the interval without its ends as t runs through the numbers."""
    low, high = piece.low.node, piece.high.node
    if math.isinf(piece.low.at) and math.isinf(piece.high.at):
        return [RUNNING]
    if math.isinf(piece.high.at):
        return [tree.add(low, SHRINKING), tree.add(low, tree.ONE, SQUARE)]
    if math.isinf(piece.low.at):
        return [tree.add(high, tree.neg(SHRINKING)), tree.add(high, tree.MINUS_ONE, tree.neg(SQUARE))]
    part = tree.div(tree.add(high, tree.neg(low)), tree.add(tree.number(2), SQUARE))
    return [tree.add(low, part), tree.add(high, tree.neg(part))]
