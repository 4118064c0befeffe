"""Equations and inequalities in several variables, and values that are solved for one of their variables."""

from __future__ import annotations

from rewards.mathematics import tree
from rewards.mathematics.build import EXPRESSIONS
from rewards.mathematics.expressions import equal_expressions, proportional
from rewards.mathematics.meaning import Relation, Value
from rewards.mathematics.numeric import constant_value
from rewards.mathematics.tree import Interval, Node, Rel, Sym

VARIABLES = frozenset("xyzt")  # that an inequality says something of, rather than of the letter on its other side
RISING, FALLING = frozenset(("<", "<=")), frozenset((">", ">="))


def is_asked(node: Node) -> bool:
    """A sum, product or quotient of two letters or more, which a number may be the value of: m + n, m/n."""
    if not isinstance(node, (tree.Add, tree.Mul)) or len(tree.symbols(node)) < 2:
        return False
    factors = isinstance(node, tree.Mul)
    bases = [item.base if factors and isinstance(item, tree.Pow) else item for item in node.items]
    exponents = [item.exponent for item in node.items if isinstance(item, tree.Pow)]
    return all(isinstance(base, Sym) for base in bases) and all(each == tree.MINUS_ONE for each in exponents)


def relation_of_values(first: Value, second: Value) -> bool | None:
    """y = 2x + 1 and x = (y - 1)/2 may be the same line; x = 5 and y = 5 are not the same."""
    nodes = first.node, second.node
    if not all(isinstance(node, EXPRESSIONS) and tree.symbols(node) for node in nodes):
        return False
    if not (first.name.isidentifier() and second.name.isidentifier()):
        return False
    return same_relation(Relation("=", Sym(first.name), nodes[0]), Relation("=", Sym(second.name), nodes[1]))


def inverse_functions(first: Value, second: Value) -> bool:
    """y = e^x and x = ln(y): each put into the other gives the variable back, wherever it is defined.

    Both are needed: sqrt(x)^2 = x where the root is real, but sqrt(y^2) is not y, so y = x^2 has more points than
    x = sqrt(y).
    """
    y, x = Sym(first.name), Sym(second.name)
    if tree.symbols(first.node) != {second.name} or tree.symbols(second.node) != {first.name}:
        return False
    back, forth = tree.replaced(second.node, y, first.node), tree.replaced(first.node, x, second.node)
    return equal_expressions(back, x) is True and equal_expressions(forth, y) is True


def inverse_proportion(relation: Relation, value: Value) -> bool:
    """x y = 6 against y = 6/x: linear in y, with a constant that is not 0, so that nothing is gained or lost."""
    difference = tree.add(relation.left, tree.neg(relation.right))
    at = [tree.substitute(difference, {value.name: tree.number(k)}) for k in (0, 1)]
    constant = tree.substitute(at[0], {name: tree.number(2) for name in tree.symbols(at[0])})
    if constant_value(constant) in (None, 0.0) or equal_expressions(at[0], constant) is not True:
        return False
    slope = tree.add(at[1], tree.neg(at[0]))
    if equal_expressions(difference, tree.add(at[0], tree.mul(slope, Sym(value.name)))) is not True:
        return False
    return equal_expressions(tree.mul(slope, value.node), tree.neg(at[0])) is True


def interval_of(node: Node) -> tuple[str, Interval] | None:
    """The variable and the interval of x < a or a <= x < b, where the bounds are letters; None of other relations."""
    if not isinstance(node, Rel) or len(node.ops) > 2 or not (set(node.ops) <= RISING or set(node.ops) <= FALLING):
        return None
    ops, items = node.ops, node.items
    if set(ops) <= FALLING:
        ops, items = tuple(FLIPPED[op] for op in reversed(ops)), tuple(reversed(items))
    if len(items) == 2:
        below = isinstance(items[0], Sym) and items[0].name in VARIABLES
        items = (tree.neg(tree.INFINITY), *items) if below else (*items, tree.INFINITY)
        ops = ("<", *ops) if below else (*ops, "<")
    low, inner, high = items
    bounds = tree.symbols(low) | tree.symbols(high)
    if not isinstance(inner, Sym) or inner.name not in VARIABLES or bounds & VARIABLES:
        return None
    return inner.name, Interval(low, high, ops[0] == "<=", ops[1] == "<=")


FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}


def same_relation(first: Relation, second: Relation) -> bool | None:
    """Equations up to a nonzero constant factor, inequalities up to a positive one (or negative, turned around)."""
    if first.op not in (second.op, FLIPPED[second.op]):
        return False
    left = tree.add(first.left, tree.neg(first.right))
    right = tree.add(second.left, tree.neg(second.right))
    ratio = proportional(left, right)
    if ratio is None or ratio is False:
        return ratio
    if first.op in ("=", "!="):
        return True
    return (ratio > 0) == (first.op == second.op)
