"""What an answer is: a value, values in any order, values for names, a set of reals, or a relation.

A name goes with a value if the answer gave it: x = 5, f(x) = 2x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.mathematics import tree
from rewards.mathematics.expressions import infinity
from rewards.mathematics.realsets import RealSet, UnsolvedError, real_set
from rewards.mathematics.tree import Builder as SetBuilder
from rewards.mathematics.tree import (
    Call,
    Const,
    Group,
    Interval,
    Mul,
    NamedSet,
    Node,
    Num,
    Quantity,
    Rel,
    SetOp,
    Sym,
    Text,
    Unread,
)

MAX_ITEMS = 200
PARAMETER = "@n"  # what an integer that counts solutions is renamed to
COUNTERS = frozenset("nkmjlN")
EXPRESSIONS = (Num, Const, Sym, tree.Add, Mul, tree.Pow, Call)


@dataclass(frozen=True, slots=True)
class Value:
    """One value, perhaps named: an expression, quantity, time, text, tuple, matrix, interval with letters."""

    node: Node
    name: str = ""
    about: Node | None = None  # the decimal that was given beside it, after an approximation sign
    steps: tuple[Node, ...] = ()  # what was said to be equal to it on the way: 2 + 3 = 5
    bound: tuple[str, ...] = ()  # the variables of f(x) = ..., which may have any names


@dataclass(frozen=True, slots=True)
class Values:
    """Several values in any order; `braces` if they were written as a set."""

    items: tuple[Value, ...]
    braces: bool = False


@dataclass(frozen=True, slots=True)
class Assigned:
    """A value for each of several names: x = 1, y = 2."""

    items: tuple[tuple[str, Value], ...]  # by name


@dataclass(frozen=True, slots=True)
class Reals:
    """A set of real numbers, perhaps of a named variable."""

    reals: RealSet
    name: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation or inequality that is no value and no set: left op right."""

    op: str
    left: Node
    right: Node


Meaning = Value | Values | Assigned | Reals | Relation


def meaning(node: Node) -> Meaning | None:
    """What an answer is; None for what is not understood."""
    if isinstance(node, Rel):
        return relation_meaning(node)
    if isinstance(node, Group) and node.kind in ("list", "or", "and", "set"):
        return several(node)
    if isinstance(node, SetBuilder) and isinstance(node.condition, Group) and node.condition.kind == "list":
        first = node.condition.items[0]
        if isinstance(first, Rel) and first.ops == ("=",) and first.items[0] == node.element:
            return several(Group("list", (first.items[1], *node.condition.items[1:])))  # {x | x = -1, 0, 1}
    if isinstance(node, SetBuilder) and (counted := counted_set(node)):
        return counted
    if isinstance(node, (SetOp, NamedSet, SetBuilder)):
        try:
            reals = real_set(node)
        except UnsolvedError:
            return Value(node)
        return as_points(Reals(reals))
    if isinstance(node, Unread):
        return None
    if isinstance(node, Group) and node.kind == "cases" and not any(is_case(item) for item in node.items):
        return several(Group("list", node.items))  # a system of equations
    if isinstance(node, Group) and len(node.items) == 2 and any(infinity(item) for item in node.items):
        node = as_interval(node)
    if isinstance(node, Interval):
        try:
            return as_points(Reals(real_set(node)))
        except UnsolvedError:
            return Value(node)
    components = unit_vectors(node)
    if components is not None:
        return Value(Group("angle", components))
    if tree.has_call(node, "pm", "mp"):
        pair: tuple[Node, ...] = (tree.outer_signs(node, True), tree.outer_signs(node, False))
        if any(tree.has_call(item, "pm", "mp") for item in pair):  # +-sqrt(2 +- sqrt(3)) are four values
            pair = *(tree.split_signs(item) for item in pair), *(tree.split_signs(item, False) for item in pair)
        return Values(tuple(Value(item) for item in pair))
    return Value(node)


def counted_set(node: SetBuilder) -> Meaning | None:
    """{2k : k in Z} is 2k for all integers k; {2k - 1 : 1 <= k <= 5} its five values; None of other sets."""
    names = tree.symbols(node.element)
    if not isinstance(node.element, EXPRESSIONS) or len(names) != 1 or isinstance(node.element, Sym):
        return None
    name = next(iter(names))
    conditions = list(node.condition.items) if isinstance(node.condition, Group) else [node.condition]
    whole = Rel(("in",), (Sym(name), NamedSet("Z")))
    if conditions == [whole]:
        return Value(tree.rename(node.element, {name: PARAMETER}))
    try:
        inside = real_set(SetBuilder(whole, Group("and", tuple(item for item in conditions if item != whole))))
    except UnsolvedError:
        return None
    if name not in COUNTERS and whole not in conditions:
        return None
    values = (tree.replaced(node.element, Sym(name), point) for point in inside.points() or ())
    return Values(tuple(Value(value) for value in values), braces=True)


def unit_vectors(node: Node) -> tuple[Node, ...] | None:
    """The components of a i + b j + c k, the unit vectors in bold or with an arrow or a hat; None of anything else."""
    found = {name for name in tree.symbols(node) if name in ("vec:i", "vec:j", "vec:k")}
    if not found or not isinstance(node, EXPRESSIONS):
        return None
    axes = ("vec:i", "vec:j", "vec:k") if "vec:k" in found else ("vec:i", "vec:j")
    parts = []
    for axis in axes:
        at = {name: tree.ONE if name == axis else tree.ZERO for name in axes}
        parts.append(tree.substitute(node, at))
    return tuple(parts)


def is_case(node: Node) -> bool:
    return isinstance(node, Group) and node.kind == "case"


def as_points(found: Reals) -> Meaning | None:
    """A finite set of reals is its values."""
    points = found.reals.points()
    if points is None or not points:
        return found
    return Values(tuple(Value(point, found.name) for point in points), braces=True)


def as_interval(node: Group) -> Interval:
    return Interval(node.items[0], node.items[1], node.kind == "bracket", node.kind == "bracket")


USUAL = frozenset(("x", "y", "z", "t", "n", "s", "r", "u", "v", "w", "theta"))
COORDINATES = frozenset("xyz")
ANSWERS = frozenset(("true", "false", "yes", "no"))
ARGUMENTS = frozenset("xtnrszu")


def is_name(node: Node) -> str:
    """The name that stands at the left of a definition: x, f(x), AB; "" for other expressions."""
    match node:
        case Sym(name) if name.startswith("d:") and name[-1] in ARGUMENTS and name[-2] == "/":
            return f"{name[2:-2]}'"  # dy/dx is y'
        case Sym(name):
            return name
        case Call(name, (Num(value),)) if name.startswith("f:"):
            return f"{name[2:]}({value})"
        case Call(name, args) if name.startswith("f:") and all(isinstance(arg, Sym) for arg in args):
            return f"{name[2:]}()" if args[0] != args[-1] or len(args) == 1 else ""
        case Call("det", (Sym(name),)):
            return f"det {name}"
        case Call("abs", (inner,)) if is_name(inner):
            return f"|{is_name(inner)}|"
        case Mul((tree.Pow(Sym(name), tree.MINUS_ONE), Sym(argument))) if argument in ARGUMENTS:
            return f"{name}^-1()"
        case Mul(items) if len(items) <= 4 and all(isinstance(item, (Sym, Const)) for item in items):
            names = [getattr(item, "name", "") for item in items]
            return "".join(names) if all(name.isupper() for name in names) else ""  # AB, a segment
        case Text(words):
            return f'"{words}"'
    return ""


def bound_names(left: Node) -> tuple[str, ...]:
    """The variables that the left side of a definition names: x of f(x); () if it names none."""
    match left:
        case Call(name, args) if name.startswith("f:") and all(isinstance(arg, Sym) for arg in args):
            return tuple(arg.name for arg in args if isinstance(arg, Sym))
        case Mul((tree.Pow(), Sym(argument))) if is_name(left).endswith("()"):
            return (argument,)
    return ()


def relation_meaning(node: Rel) -> Meaning | None:
    if "~" in node.ops:
        return approximate(node)
    if set(node.ops) <= {"=", "equiv"}:
        return equation(node.items)
    if node.ops in (("in",), ("notin",)):
        name, right = is_name(node.items[0]), node.items[1]
        if not name:
            return Value(node)
        inner = meaning(right)
        if node.ops == ("in",) and isinstance(inner, Reals):
            return Reals(inner.reals, name)
        if node.ops == ("in",) and isinstance(inner, Values):
            return Values(tuple(Value(item.node, name) for item in inner.items), inner.braces)
        if node.ops == ("in",) and isinstance(right, Group) and len(right.items) == 2:
            try:
                return Reals(real_set(as_interval(right)), name)
            except UnsolvedError:
                return Value(right, name)
    try:
        return as_points(Reals(real_set(node), variable(node)))
    except UnsolvedError:
        pass
    if len(node.ops) > 1 and set(node.ops) <= {">", ">="}:  # c > b > a
        ops = tuple("<" if op == ">" else "<=" for op in reversed(node.ops))
        return Value(Rel(ops, tuple(reversed(node.items))))
    if len(node.ops) == 1 and node.ops[0] in ("<", "<=", ">", ">=", "!="):
        return Relation(node.ops[0], node.items[0], node.items[1])
    return Value(node)


def variable(node: Node) -> str:
    names = tree.symbols(node)
    return next(iter(names)) if len(names) == 1 else ""


def approximate(node: Rel) -> Meaning | None:
    """x = sqrt(2) ~ 1.414: the exact value, with the decimal beside it."""
    at = node.ops.index("~")
    if any(op not in ("=", "~") for op in node.ops):
        return None
    exact, about = node.items[at], node.items[-1]
    before = [*node.items[:at]]
    name = is_name(before[0]) if before else ""
    if is_name(exact) and not before:
        return Value(about, is_name(exact), about)
    return Value(exact, name, about)


def equation(items: Sequence[Node]) -> Meaning | None:
    """x = 5 and 5 = x are a named value; a chain is its last side, if all sides with a value agree."""
    left, right = items[0], items[-1]
    if isinstance(left, Group) and isinstance(right, Group) and left.kind == right.kind == "tuple" and len(items) == 2:
        names = [is_name(item) for item in left.items]
        if all(names) and len(left.items) == len(right.items):
            if set(names) <= COORDINATES:  # (y, x) = (3, 2) is the point (2, 3)
                pairs = sorted(zip(names, right.items, strict=True), key=lambda pair: pair[0])
                names, right = [name for name, _ in pairs], Group("tuple", tuple(item for _, item in pairs))
            return Value(right, "(" + ",".join(names) + ")")
    name = is_name(left)
    rest = list(items[1:])
    if name and len(items) == 2 and isinstance(left, Sym) and name in tree.symbols(right):
        return Relation("=", left, right)  # x = 2x gives x no value
    if not name and len(items) == 2 and is_name(right) and not tree.symbols(left):
        name, rest = is_name(right), [left]
    if not name and len(items) == 2:
        if (
            isinstance(left, EXPRESSIONS)
            and isinstance(right, EXPRESSIONS)
            and tree.symbols(left) | tree.symbols(right)
        ):
            return Relation("=", left, right)
        if not isinstance(left, EXPRESSIONS) and not isinstance(left, Quantity):
            return None
        rest = list(items)
    if name and len(rest) > 1 and all(is_name(item) for item in rest[:-1]):  # x = y = 1
        names = [name, *(is_name(item) for item in rest[:-1])]
        if len(set(names)) == len(names) and not is_name(rest[-1]):
            return Assigned(by_name([Value(rest[-1], each) for each in names]))
        if len(set(names)) == len(names):
            return Value(Group("list", tuple(items)))  # x = y = z
    inner = meaning(rest[-1])
    if isinstance(inner, Value):
        bound = bound_names(left)
        if any(each not in USUAL and each not in tree.symbols(inner.node) for each in bound):
            name, bound = f"{name[:-1]}{','.join(bound)})", ()  # P(A) = 0.3 says nothing of P(B)
        return Value(inner.node, name, inner.about, tuple(rest[:-1]), bound)
    if len(rest) > 1:
        return None
    if isinstance(inner, Values):
        return Values(tuple(Value(item.node, name) for item in inner.items), inner.braces)
    if isinstance(inner, Reals):
        return Reals(inner.reals, "" if name.isupper() else name)  # D = (0, 1)
    return None


def several(node: Group) -> Meaning | None:
    """A list: of values in any order, of values for several names, or of conditions."""
    if len(node.items) > MAX_ITEMS:
        return None
    if node.kind == "set" and any(isinstance(item, Rel) for item in node.items):
        node = Group("list", node.items)
    if Text("...") in node.items:
        return Value(Group("tuple", node.items))  # 1, 2, ..., 10: in order
    if all(isinstance(item, Text) and item.words in ANSWERS for item in node.items):
        return Value(Group("tuple", node.items))  # one for each question
    items, parameter = without_parameter(with_modulus(node.items))
    if len(items) == 1 and parameter:
        return meaning(items[0])
    parts = [Value(item) if isinstance(item, Group) and item.kind == "set" else meaning(item) for item in items]
    if any(part is None for part in parts):
        return None
    if any(isinstance(part, (Reals, Relation)) for part in parts) and node.kind != "set":
        try:
            return as_points(Reals(real_set(Group(node.kind, tuple(items))), variable(Group("list", tuple(items)))))
        except UnsolvedError:
            return Value(node)
    if parts and all(isinstance(part, Assigned) for part in parts):
        return points_of([part for part in parts if isinstance(part, Assigned)]) or Value(node)
    flat: list[Value] = []
    for part in parts:
        flat.extend(part.items if isinstance(part, Values) else (part,) if isinstance(part, Value) else ())
        if isinstance(part, (Assigned, Reals, Relation)):
            return Value(node)
    names = [value.name for value in flat]
    if node.kind == "or" and len(set(names) - {""}) > 1:
        return Value(node)  # x = 1 or y = 2 gives no value to either
    if node.kind != "set" and len(flat) == len(items) and len(set(names)) == len(names) > 1 and all(names):
        return Assigned(by_name(flat))
    if names and names[0] and not any(names[1:]):  # x = 1, 2
        flat = [Value(value.node, names[0], value.about) for value in flat]
    return Values(tuple(flat), node.kind == "set")


def points_of(systems: list[Assigned]) -> Values | None:
    """x = 2, y = 3 or x = 3, y = 2 as the points (2, 3), (3, 2); None if not all give values to the same names."""
    if len({tuple(name for name, _ in system.items) for system in systems}) > 1:
        return None
    return Values(tuple(Value(Group("tuple", tuple(value.node for _, value in system.items))) for system in systems))


def by_name(values: list[Value]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(((value.name, value) for value in values), key=lambda item: item[0]))


def with_modulus(items: tuple[Node, ...]) -> tuple[Node, ...]:
    """Of n = 1, 5 (mod 8), where one modulus stands for all: the residues, each with it."""
    last = items[-1].items[-1] if isinstance(items[-1], Rel) else items[-1]
    if not isinstance(last, Group) or last.kind != "mod":
        return items
    modulus = last.items[1]
    found: list[Node] = []
    for item in items:
        if isinstance(item, Rel) and item.ops == ("equiv",) and isinstance(item.items[1], EXPRESSIONS):
            found.append(Rel(item.ops, (item.items[0], Group("mod", (item.items[1], modulus)))))
        else:
            found.append(Group("mod", (item, modulus)) if isinstance(item, EXPRESSIONS) else item)
    return tuple(found)


def without_parameter(items: tuple[Node, ...]) -> tuple[list[Node], str]:
    """The items without "n in Z", the n in the others renamed to one name for all."""
    for item in items:
        if (
            isinstance(item, Rel)
            and item.ops == ("in",)
            and isinstance(item.items[0], Sym)
            and item.items[1] == NamedSet("Z")
        ):
            name = item.items[0].name
            return [tree.rename(other, {name: PARAMETER}) for other in items if other is not item], name
    return list(items), ""


ALIKE = ({"y", "f()", "f"}, {"y'", "f'()", "f'"})


def reordered(first: Value, second: Value) -> Value:
    """The second value with its components in the first's order: (q, p) = (5, 3) beside (p, q) = (3, 5)."""
    names, others = (value.name.strip("()").split(",") for value in (first, second))
    node = second.node
    if names == others or sorted(names) != sorted(others) or not isinstance(node, Group) or len(names) < 2:
        return second
    if len(set(names)) < len(names) or len(node.items) != len(names):
        return second
    return Value(Group(node.kind, tuple(node.items[others.index(name)] for name in names)), first.name)


def named_alike(first: str, second: str) -> bool:
    """Whether two names may stand for the same: equal, or one not given; y and f(x) are both a function's."""
    if first == second or not first or not second or any({first, second} <= names for names in ALIKE):
        return True
    return plain_name(first) == plain_name(second)


def plain_name(name: str) -> str:
    r"""The letter: h of h(t), v of \vec{v}, y of \hat{y}."""
    return name.removesuffix("()").removeprefix("vec:").removeprefix("hat:")
