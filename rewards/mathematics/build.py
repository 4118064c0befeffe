"""Putting nodes together as the parser meets them: sums, products, quantities, lists. Nonsense raises ParseError."""

from __future__ import annotations

import math
from fractions import Fraction

from rewards.mathematics import tree
from rewards.mathematics.lexer import ParseError
from rewards.mathematics.tree import (
    Add,
    Builder,
    Call,
    Const,
    Group,
    Interval,
    Matrix,
    Mul,
    NamedSet,
    Node,
    Num,
    Pow,
    Quantity,
    Rel,
    SetOp,
    Sym,
)
from rewards.mathematics.units import Unit, combine

EXPRESSIONS = (Num, Const, Sym, Add, Mul, Pow, Call)
SCALARS = frozenset(("t", "s", "k", "lambda", "mu"))  # that may stand before a vector
MAX_PAIRS = 100
MAX_DOUBLE = 300  # of n!!
SETS = (Interval, SetOp, NamedSet, Builder)


def is_set_like(node: Node) -> bool:
    return isinstance(node, SETS) or (isinstance(node, Group) and node.kind in ("set", "tuple", "bracket"))


def expression(node: Node) -> Node:
    """The node, if it is an expression: what stands in sums, powers and functions."""
    if not isinstance(node, EXPRESSIONS):
        raise ParseError(f"{type(node).__name__} where an expression must stand")
    return node


def negative(node: Node) -> Node:
    return times(tree.MINUS_ONE, node) if not isinstance(node, Num) else tree.neg(node)


def times(left: Node, right: Node) -> Node:
    """The product; a scalar times a matrix or a vector is multiplied out, a quantity keeps its unit."""
    for scalar, other in ((left, right), (right, left)):
        if isinstance(scalar, EXPRESSIONS):
            if isinstance(other, Matrix):
                return Matrix(tuple(tuple(times(scalar, item) for item in row) for row in other.rows))
            if (
                isinstance(other, Group)
                and other.kind in ("tuple", "angle", "bracket")
                and (isinstance(scalar, (Num, Pow, Mul)) or (isinstance(scalar, Sym) and scalar.name in SCALARS))
            ):
                return Group("angle", tuple(times(scalar, item) for item in other.items))
            if isinstance(other, Quantity):
                return Quantity(tree.mul(scalar, other.value), other.dims, other.factor, other.offset)
    if isinstance(left, Sym) and left.name.isupper() and isinstance(right, Group) and right.kind == "tuple":
        return Group("labelled", (left, right))  # the point P(5, 2)
    return tree.mul(expression(left), expression(right))


def crossed(left: Node, right: Node) -> Node:
    """A product written with a cross: of numbers; of finite sets, all pairs. Of vectors it does not commute."""
    if isinstance(left, Group) and isinstance(right, Group) and left.kind == right.kind == "set":
        if len(left.items) * len(right.items) > MAX_PAIRS:
            raise ParseError("too many pairs")
        return Group("set", tuple(Group("tuple", (a, b)) for a in left.items for b in right.items))
    if any(name.startswith("vec:") for node in (left, right) for name in tree.symbols(node)):
        raise ParseError("a product of vectors")
    return times(left, right)


def inverse(node: Node) -> Node:
    return tree.power(expression(node), tree.MINUS_ONE)


def quantity(value: Node, unit: Unit | None) -> Node:
    """The value in the unit; a value that has one already is in the product of both (dollars per hour)."""
    if unit is None:
        return value
    if isinstance(value, Quantity):
        dims = dict(value.dims)
        for name, exponent in unit.dims:
            dims[name] = dims.get(name, 0) + exponent
        left = tuple(sorted((name, exponent) for name, exponent in dims.items() if exponent))
        return Quantity(value.value, left, value.factor * unit.factor)
    return Quantity(expression(value), unit.dims, unit.factor, unit.offset)


def total(items: list[Node]) -> Node:
    """The sum: of expressions, of quantities of one dimension, of matrices of one shape."""
    if all(isinstance(item, EXPRESSIONS) for item in items):
        return tree.add(*items)
    quantities = [item for item in items if isinstance(item, Quantity)]
    if len(quantities) == len(items) and len({item.dims for item in quantities}) == 1:
        scaled = [tree.mul(Num(item.factor), item.value) for item in quantities]
        return Quantity(tree.add(*scaled), quantities[0].dims, Fraction(1))
    if len(quantities) == 1 and isinstance(items[-1], Quantity) and all(isinstance(i, EXPRESSIONS) for i in items[:-1]):
        last = quantities[0]  # 4 + 2 sqrt(5) cm
        return Quantity(tree.add(*items[:-1], last.value), last.dims, last.factor, last.offset)
    vectors = [item.items for item in items if isinstance(item, Group) and item.kind in ("tuple", "angle")]
    if len(vectors) == len(items) and len({len(vector) for vector in vectors}) == 1:
        return Group("angle", tuple(total(list(entries)) for entries in zip(*vectors, strict=True)))
    raise ParseError("a sum of what cannot be added")


def transposed(node: Node) -> Node:
    """A matrix with rows for columns; a tuple is a column, or a row, anyhow."""
    if isinstance(node, Matrix):
        return Matrix(tuple(zip(*node.rows, strict=True)))
    if isinstance(node, Group) and node.kind in ("tuple", "angle", "bracket"):
        return Group("angle", node.items)
    raise ParseError("a power of what is no expression")


def determinant(rows: list[tuple[Node, ...]]) -> Node:
    """By expansion along the first row, of at most 4 by 4 entries."""
    if len(rows) != len(rows[0]) or len(rows) > 4:
        raise ParseError("a determinant that is not square, or too large")
    if len(rows) == 1:
        return expression(rows[0][0])
    terms = []
    for k, entry in enumerate(rows[0]):
        minor = determinant([row[:k] + row[k + 1 :] for row in rows[1:]])
        terms.append(tree.mul(Num(Fraction((-1) ** k)), expression(entry), minor))
    return tree.add(*terms)


def barred(node: Node) -> Node:
    r"""\overline: the conjugate of what is complex; of letters another name, but for AB, a segment."""
    letters = node.items if isinstance(node, Mul) else (node,)
    names = [item.name if isinstance(item, Sym) else "" for item in letters]
    if isinstance(node, Num):
        raise ParseError("a bar over a number")
    if not isinstance(node, EXPRESSIONS) or not tree.symbols(node) | {p for p in tree.walk(node) if p == Const("i")}:
        return node
    if not all(names) or names[0][0] in "zw":
        return Call("conj", (node,)) if not all(name.isupper() for name in names) else node
    return Sym("bar:" + "".join(names)) if len(names) == 1 or not "".join(names).isupper() else node


def derivative(above: Node, below: Node) -> Node | None:
    """dy/dx and its like are names of their own, no quotients; None for other fractions. d/dx alone is not read."""
    match below:
        case Mul((Sym("d"), Sym(variable))):
            order: Node = tree.ONE
        case Mul((Sym("d"), Pow(Sym(variable), order))):
            pass
        case _:
            return None
    match above:
        case Mul((Sym("d"), Sym(name))) if order == tree.ONE:
            return Sym(f"d:{name}/{variable}")
        case Mul((Pow(Sym("d"), power), Sym(name))) if order == power and isinstance(power, Num):
            return Sym(f"d{power.value}:{name}/{variable}")
        case Sym("d"):
            raise ParseError("a derivative that is not worked out")
    return None


def primed(node: Node, sign: str) -> Node:
    """x' is another variable; 5' is five feet, 5'' or 5\" five inches."""
    if isinstance(node, Sym):
        return Sym(node.name + sign)
    if isinstance(node, Num):
        return quantity(node, combine([("foot" if sign == "'" else "inch", 1)]))
    raise ParseError("a prime on what is no variable")


def double_factorial(node: Node) -> Node:
    """n!! = n (n - 2) (n - 4) ..., of a small number its value."""
    if isinstance(node, Num) and node.value.denominator == 1 and 0 < node.value <= MAX_DOUBLE:
        return tree.number(math.prod(range(int(node.value), 0, -2)))
    return Call("f:!!", (expression(node),))


def in_base(digits: str, base: int) -> Node:
    """The value of digits written in a base, kept apart from the plain number by its call."""
    if not 2 <= base <= 36:
        raise ParseError("a base outside 2 to 36")
    try:
        return Num(Fraction(int(digits, base)))
    except ValueError:
        raise ParseError("digits that the base has not") from None


def listed(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Group) and node.kind in ("list", "and", "or") else (node,)


def is_declaration(node: Node) -> bool:
    """n in Z: what n is, said of all that stands before it."""
    return isinstance(node, Rel) and node.ops == ("in",) and node.items[1] == NamedSet("Z")


def one_subject(items: list[Node]) -> bool:
    """Whether all equations among the items are of the same left side."""
    return len({item.items[0] for item in items if isinstance(item, Rel)}) <= 1


def alternatives(items: list[Node], separators: list[str]) -> list[list[Node]]:
    """x = 2, y = 3 or x = 3, y = 2: the equations of each alternative, if all give values to the same two letters."""
    found: list[list[Node]] = [[items[0]]]
    for separator, item in zip(separators, items[1:], strict=True):
        if separator == "or":
            found.append([item])
        else:
            found[-1].append(item)
    names = []
    for system in found:
        lefts = [item.items[0] for item in system if isinstance(item, Rel) and item.ops == ("=",)]
        if len(lefts) < len(system) or not all(isinstance(left, Sym) for left in lefts):
            return []
        names.append(set(lefts))
    same = all(each == names[0] and len(each) == len(system) for each, system in zip(names, found, strict=True))
    return found if same and len(names[0]) > 1 else []


def gather(items: list[Node], separators: list[str]) -> Node:
    """One node of separated elements."""
    if len(items) == 1:
        return items[0]
    if not {"land", "lor"}.isdisjoint(separators):
        if not all(isinstance(item, Rel) for item in items):
            raise ParseError("a formula of logic")
        separators = [{"land": "and", "lor": "or"}.get(separator, separator) for separator in separators]
    kinds = set(separators)
    relations = any(isinstance(item, Rel) for item in items)
    if kinds >= {",", "or"} and separators[-1] == "," and is_declaration(items[-1]) and one_subject(items[:-1]):
        return Group("list", (*listed(gather(items[:-1], separators[:-1])), items[-1]))
    if kinds >= {",", "or"} and (systems := alternatives(items, separators)):
        return Group("or", tuple(Group("list", tuple(system)) for system in systems))
    if kinds >= {",", "or"} and (len(kinds) > 2 or separators.index("or") < len(separators) - 1):
        raise ParseError("commas and alternatives mixed")  # who is to say which binds more
    if kinds == {",", "or"}:
        return Group("or", tuple(items))
    if "or" in kinds and relations and len(kinds) > 1:
        groups: list[list[Node]] = [[items[0]]]
        for separator, item in zip(separators, items[1:], strict=True):
            if separator == "or":
                groups.append([item])
            else:
                groups[-1].append(item)
        parts = [part[0] if len(part) == 1 else Group("and", tuple(part)) for part in groups]
        return Group("or", tuple(parts))
    if "or" in kinds:
        return Group("or", tuple(items))
    if kinds == {"and"} and relations:
        return Group("and", tuple(items))
    quantities = [item for item in items if isinstance(item, Quantity)]
    if kinds == {"and"} and len(quantities) == len(items) == 2:
        first, second = quantities  # 3 hours and 20 minutes
        if first.dims == second.dims and first.factor > second.factor:
            return total(items)
    return Group("list", tuple(items))
