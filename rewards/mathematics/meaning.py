"""Whether two trees mean the same: what an answer is (a value, solutions, a tuple, a set of reals, ...), kind by kind.

`meaning` turns a tree into one of the classes below; `same` compares them. A name goes with a value if the answer gave
it (x = 5): named and unnamed agree, two different names do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rewards.mathematics import tree
from rewards.mathematics.expressions import equal_expressions, proportional
from rewards.mathematics.realsets import RealSet, UnsolvedError, real_set, same_sets
from rewards.mathematics.tree import Builder as SetBuilder
from rewards.mathematics.tree import (
    Call,
    Const,
    Group,
    Interval,
    Matrix,
    Mul,
    NamedSet,
    Node,
    Num,
    Quantity,
    Rel,
    SetOp,
    Sym,
    Text,
    Time,
    Unread,
)
from rewards.mathematics.units import compatible

MAX_ITEMS = 200
EXPRESSIONS = (Num, Const, Sym, tree.Add, Mul, tree.Pow, Call)


@dataclass(frozen=True, slots=True)
class Value:
    """One value, perhaps named: an expression, quantity, time, text, tuple, matrix, interval with letters."""

    node: Node
    name: str = ""
    about: Node | None = None  # the decimal that was given beside it, after an approximation sign


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


def same(gold: Node, answer: Node) -> bool | None:
    """Whether the trees mean the same, None if that cannot be told."""
    if gold == answer:
        return True
    first, second = meaning(gold), meaning(answer)
    if first is None or second is None:
        return None if first is None else False
    return same_meaning(first, second)


# From trees to meanings


def meaning(node: Node) -> Meaning | None:
    """What an answer is; None for what is not understood."""
    if isinstance(node, Rel):
        return relation_meaning(node)
    if isinstance(node, Group) and node.kind in ("list", "or", "and", "set"):
        return several(node)
    if isinstance(node, (SetOp, NamedSet, SetBuilder, Interval)):
        try:
            reals = real_set(node)
        except UnsolvedError:
            return Value(node)
        return as_points(Reals(reals))
    if isinstance(node, Unread):
        return None
    if tree.has_call(node, "pm", "mp"):
        pair = tree.split_signs(node, True), tree.split_signs(node, False)
        return Values(tuple(Value(item) for item in pair))
    return Value(node)


def as_points(found: Reals) -> Meaning | None:
    """A finite set of reals is its values."""
    points = found.reals.points()
    if points is None or not points:
        return found
    return Values(tuple(Value(point, found.name) for point in points), braces=True)


def is_name(node: Node) -> str:
    """The name that stands at the left of a definition: x, f(x), AB; "" for other expressions."""
    if isinstance(node, Sym):
        return node.name
    if isinstance(node, Call) and node.name == "f" and all(isinstance(arg, (Sym, Num)) for arg in node.args):
        return "f()"
    if isinstance(node, Call) and node.name == "abs" and is_name(node.args[0]):
        return f"|{is_name(node.args[0])}|"
    if isinstance(node, Mul) and len(node.items) <= 4 and all(isinstance(item, (Sym, Const)) for item in node.items):
        names = [getattr(item, "name", "") for item in node.items]
        if len(names) == 2 and names[0] in "fghFGPpyVAS" and names[1] in "xtnrsz":
            return "f()"  # f(x), read as a product
        if all(name.isupper() for name in names):
            return "".join(names)  # AB, a segment
        return ""
    if (
        isinstance(node, Mul)
        and len(node.items) == 2
        and isinstance(node.items[0], Sym)
        and isinstance(node.items[1], Num)
    ):
        return "f()" if node.items[0].name in "fghFGPp" else ""
    if isinstance(node, Text):
        return f'"{node.words}"'
    return ""


def relation_meaning(node: Rel) -> Meaning | None:
    if "~" in node.ops:
        return approximate(node)
    if set(node.ops) == {"="}:
        return equation(node.items)
    if node.ops in (("in",), ("notin",)):
        name, right = is_name(node.items[0]), node.items[1]
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
            return Value(right, "(" + ",".join(names) + ")")
    name = is_name(left)
    rest = list(items[1:])
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
    for side in rest[:-1]:
        if same(rest[-1], side) is not True:
            return None
    inner = meaning(rest[-1])
    if isinstance(inner, Value):
        return Value(inner.node, name, inner.about)
    if isinstance(inner, Values):
        return Values(tuple(Value(item.node, name) for item in inner.items), inner.braces)
    if isinstance(inner, Reals):
        return Reals(inner.reals, name)
    return None


def several(node: Group) -> Meaning | None:
    """A list: of values in any order, of values for several names, or of conditions."""
    if len(node.items) > MAX_ITEMS:
        return None
    items, parameter = without_parameter(node.items)
    if len(items) == 1 and parameter:
        return meaning(items[0])
    parts = [meaning(item) for item in items]
    if any(part is None for part in parts):
        return None
    if any(isinstance(part, (Reals, Relation)) for part in parts) and node.kind != "set":
        try:
            return as_points(Reals(real_set(Group(node.kind, tuple(items))), variable(Group("list", tuple(items)))))
        except UnsolvedError:
            return Value(node)
    flat: list[Value] = []
    for part in parts:
        flat.extend(part.items if isinstance(part, Values) else (part,) if isinstance(part, Value) else ())
        if isinstance(part, (Assigned, Reals, Relation)):
            return Value(node)
    names = [value.name for value in flat]
    if node.kind != "set" and len(flat) == len(items) and len(set(names)) == len(names) > 1 and all(names):
        return Assigned(by_name(flat))
    if names and names[0] and not any(names[1:]):  # x = 1, 2
        flat = [Value(value.node, names[0], value.about) for value in flat]
    return Values(tuple(flat), node.kind == "set")


def by_name(values: list[Value]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(((value.name, value) for value in values), key=lambda item: item[0]))


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
            return [tree.rename(other, {name: "@n"}) for other in items if other is not item], name
    return list(items), ""


# Comparing meanings


def same_meaning(first: Meaning, second: Meaning) -> bool | None:
    """Whether two meanings are the same; the relation is symmetric, so the rarer kind is put first."""
    match first, second:
        case Value(), Value():
            return same_value(first, second)
        case Reals(), Reals():
            return named_alike(first.name, second.name) and same_sets(first.reals, second.reals)
        case Values(), Values():
            return same_values(first, second)
        case Assigned(), Assigned():
            return same_assigned(first, second)
        case Relation(), Relation():
            return same_relation(first, second)
    return mixed(first, second) if RANK[type(first)] > RANK[type(second)] else mixed(second, first)


RANK = {Value: 0, Values: 1, Reals: 2, Assigned: 3, Relation: 4}


def mixed(first: Meaning, second: Meaning) -> bool | None:
    """Meanings of two kinds."""
    match first, second:
        case Assigned(), _:
            return assigned_as(first, second)
        case Values(), Value():
            if len(first.items) == 1:
                return same_value(first.items[0], second)
            return python_list(first, second)
        case Reals(), Value():
            return interval_as(first, second)
        case Relation(op="="), Value() if second.name.isidentifier() and isinstance(second.node, EXPRESSIONS):
            return same_relation(first, Relation("=", Sym(second.name), second.node))
    return False


def named_alike(first: str, second: str) -> bool:
    """Whether two names may stand for the same: equal, or one not given; y and f(x) are both a function's."""
    return first == second or not first or not second or {first, second} in ({"y", "f()"}, {"f", "f()"})


def same_value(first: Value, second: Value) -> bool | None:
    if not named_alike(first.name, second.name):
        return relation_of_values(first, second)
    if first.about is not None or second.about is not None:
        return same_about(first, second)
    return same_node(first.node, second.node)


def relation_of_values(first: Value, second: Value) -> bool | None:
    """y = 2x + 1 and x = (y - 1)/2 may be the same line; x = 5 and y = 5 are not the same."""
    nodes = first.node, second.node
    if not all(isinstance(node, EXPRESSIONS) and tree.symbols(node) for node in nodes):
        return False
    if not (first.name.isidentifier() and second.name.isidentifier()):
        return False
    return same_relation(Relation("=", Sym(first.name), nodes[0]), Relation("=", Sym(second.name), nodes[1]))


def same_about(gold: Value, answer: Value) -> bool | None:
    """Values of which one is stated to be approximate."""
    if answer.about is not None and answer.about is not answer.node and gold.about is None:
        if same_node(gold.node, answer.node):
            return rounds_to(answer.node, answer.about)
        return False if not same_node(gold.node, answer.about) else rounds_to(answer.node, answer.about)
    if gold.about is not None:
        given = answer.node
        if same_node(gold.node, given) or same_node(gold.about, given):
            return True
        return rounds_to(given, gold.about) and gold.node is gold.about
    return same_node(gold.node, answer.node)


def rounds_to(exact: Node, decimal: Node) -> bool:
    """Whether an exact value, rounded to the decimals that the other has, is the other."""
    from rewards.mathematics.numeric import constant_value

    if not isinstance(decimal, Num) or not isinstance(exact, EXPRESSIONS):
        return False
    value = constant_value(exact)
    return value is not None and abs(Fraction(value) - decimal.value) <= Fraction(51, 100) / 10 ** max(
        decimal.places, 0
    )


def same_node(gold: Node, answer: Node) -> bool | None:
    """Whether two single values are equal, by their kind."""
    if gold == answer:
        return True
    if isinstance(gold, EXPRESSIONS) and isinstance(answer, EXPRESSIONS):
        return same_number(gold, answer)
    if isinstance(gold, (Quantity, *EXPRESSIONS)) and isinstance(answer, (Quantity, *EXPRESSIONS)):
        return same_quantity(gold, answer)
    rows = as_rows(gold), as_rows(answer)
    if rows[0] is not None and rows[1] is not None:
        return same_rows(gold, answer)
    if isinstance(gold, Text) or isinstance(answer, Text):
        return same_text(gold, answer)
    if isinstance(gold, Time) and isinstance(answer, Time):
        return same_time(gold, answer)
    if isinstance(gold, (Time, Group)) and isinstance(answer, (Time, Group, *EXPRESSIONS)):
        return same_ratio(gold, answer)
    if isinstance(answer, (Time, Group)) and isinstance(gold, EXPRESSIONS):
        return same_ratio(gold, answer)
    if type(gold) is type(answer) and isinstance(gold, (Interval, SetOp, SetBuilder, Rel)):
        return same_parts(gold, answer)
    return False


def bare(node: Node) -> Node:
    """An angle or percentage without its sign."""
    while isinstance(node, Call) and node.name in ("deg", "rad", "percent"):
        node = node.args[0]
    return node


def same_number(gold: Node, answer: Node) -> bool | None:
    """Two expressions; of degrees, radians and percent, the sign may be missing on one side."""
    outcome = equal_expressions(gold, answer)
    if outcome:
        return True
    heads = [
        node.name if isinstance(node, Call) and node.name in ("deg", "rad", "percent") else ""
        for node in (gold, answer)
    ]
    for head, node, other in ((heads[0], gold, answer), (heads[1], answer, gold)):
        if not head or (head in heads[1:] and heads[0] == heads[1]) or (heads[0] and heads[1]):
            continue
        if head == "percent" and not large_percent(bare(node)):
            continue
        if head in ("deg", "rad") and tree.has_call(other, "deg"):
            continue
        if equal_expressions(bare(node), other):
            return True
    return outcome


def large_percent(node: Node) -> bool:
    """50 for 50% is a missing sign; 1 or 0.5 for 1% or 0.5% is not, since these are percentages of their own."""
    return not isinstance(node, Num) or abs(node.value) > 1 or node.value == 0


def same_quantity(gold: Node, answer: Node) -> bool | None:
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        if gold.dims == answer.dims:
            return equal_expressions(base_value(gold), base_value(answer))
        if compatible(gold.dims, answer.dims):
            return equal_expressions(base_value(gold), base_value(answer))
        return False
    quantity, other = (gold, answer) if isinstance(gold, Quantity) else (answer, gold)
    if not isinstance(quantity, Quantity) or tree.has_call(other, "deg", "percent", "rad"):
        return False
    return equal_expressions(quantity.value, other)


def base_value(quantity: Quantity) -> Node:
    scaled = tree.mul(Num(quantity.factor), quantity.value)
    return tree.add(scaled, Num(quantity.offset)) if quantity.offset else scaled


def same_text(gold: Node, answer: Node) -> bool:
    if isinstance(gold, Text) and isinstance(answer, Text):
        return gold.words == answer.words or gold.words.replace(" ", "") == answer.words.replace(" ", "")
    text, other = (gold, answer) if isinstance(gold, Text) else (answer, gold)
    return isinstance(other, Sym) and isinstance(text, Text) and text.words == other.name.lower()


def same_time(gold: Time, answer: Time) -> bool:
    """Times of day; where only one says am or pm, the other may be meant by it."""
    if gold.half and answer.half:
        return gold == answer
    first, second = (_minutes(item) for item in (gold, answer))
    if not gold.half and not answer.half:
        return first == second
    return first == second or gold.minutes == answer.minutes


def _minutes(item: Time) -> int:
    if not item.half:
        return item.minutes
    return item.minutes % 720 + (720 if item.half == "pm" else 0)


def ratio_items(node: Node) -> tuple[Node, ...] | None:
    if isinstance(node, Group) and node.kind == "ratio":
        return node.items
    if isinstance(node, Time) and not node.half:
        return (tree.number(node.minutes // 60), tree.number(node.minutes % 60))
    return None


def same_ratio(gold: Node, answer: Node) -> bool | None:
    """3:4 = 6:8 = 3/4. What can be a time of day is equal to another such only as a time."""
    if isinstance(gold, Time) and gold.minutes // 60 == 0:
        return False
    items = ratio_items(gold), ratio_items(answer)
    if items[0] and items[1]:
        if len(items[0]) != len(items[1]):
            return False
        first = [tree.div(item, items[0][0]) for item in items[0][1:]]
        second = [tree.div(item, items[1][0]) for item in items[1][1:]]
        return every(equal_expressions(a, b) for a, b in zip(first, second, strict=True))
    found = items[0] or items[1]
    other = answer if items[0] else gold
    if not found or len(found) != 2 or not isinstance(other, EXPRESSIONS):
        return False
    return equal_expressions(tree.div(found[0], found[1]), other)


def every(outcomes: Iterable[bool | None]) -> bool | None:
    """False if one is False, else None if one is None, else True."""
    unknown = False
    for outcome in outcomes:
        if outcome is False:
            return False
        unknown |= outcome is None
    return None if unknown else True


def as_rows(node: Node) -> tuple[tuple[Node, ...], ...] | None:
    """A matrix or vector as rows; a tuple as one."""
    if isinstance(node, Matrix):
        return node.rows
    if isinstance(node, Group) and node.kind in ("tuple", "angle", "bracket"):
        return (node.items,)
    return None


def same_rows(gold: Node, answer: Node) -> bool | None:
    first, second = as_rows(gold), as_rows(answer)
    if first is None or second is None:
        return False
    groups = [node for node in (gold, answer) if isinstance(node, Group)]
    if len(groups) == 2 and {node.kind for node in groups} == {"tuple", "bracket"} and len(first[0]) == 2:
        return False  # an open and a closed interval
    if len(groups) == 1:  # a tuple is a column or a row
        first, second = (_flat(first),), (_flat(second),)
    if not first[0] or [len(row) for row in first] != [len(row) for row in second]:
        return False
    pairs = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    return every(same(a, b) for a, b in pairs)


def _flat(rows: tuple[tuple[Node, ...], ...]) -> tuple[Node, ...]:
    """The entries of a matrix with one row or one column; a matrix with more is none."""
    if len(rows) == 1:
        return rows[0]
    return tuple(row[0] for row in rows) if all(len(row) == 1 for row in rows) else ()


def same_parts(gold: Node, answer: Node) -> bool | None:
    """Two nodes of the same kind, part by part."""
    first, second = tree.children(gold), tree.children(answer)
    if len(first) != len(second):
        return False
    if tree.rebuild(gold, second) != tree.rebuild(answer, second):  # other brackets, other operations
        return False
    return every(same(a, b) for a, b in zip(first, second, strict=True))


def as_interval(node: Group) -> Interval:
    return Interval(node.items[0], node.items[1], node.kind == "bracket", node.kind == "bracket")


def interval_as(reals: Reals, value: Value) -> bool | None:
    """A set of reals against what may be an interval: (1, 2) or [1, 2]."""
    if not named_alike(reals.name, value.name):
        return False
    node = value.node
    if isinstance(node, Group) and node.kind in ("tuple", "bracket") and len(node.items) == 2:
        try:
            return same_sets(reals.reals, real_set(as_interval(node)))
        except UnsolvedError:
            return False
    return False


def python_list(many: Values, one: Value) -> bool | None:
    """Values against [1, 2, 3]: three or more in square brackets are a list."""
    node = one.node
    if isinstance(node, Group) and node.kind == "bracket" and len(node.items) > 2:
        inner = several(Group("list", node.items))
        if isinstance(inner, Values):
            return same_values(many, inner)
    return False


def same_values(first: Values, second: Values) -> bool | None:
    """As sets, multiplicities counted unless both are in braces."""
    left, right = list(first.items), list(second.items)
    if first.braces and second.braces:
        left, right = distinct(left), distinct(right)
    if len(left) != len(right):
        return False
    unknown = False
    for item in left:
        outcomes = []
        for k, other in enumerate(right):
            outcome = same_value(item, other)
            if outcome:
                del right[k]
                break
            outcomes.append(outcome)
        else:
            if None not in outcomes:
                return False
            unknown = True
    return None if unknown else True


def distinct(values: list[Value]) -> list[Value]:
    kept: list[Value] = []
    for value in values:
        if not any(same_value(value, other) for other in kept):
            kept.append(value)
    return kept


def same_assigned(first: Assigned, second: Assigned) -> bool | None:
    if [name for name, _ in first.items] != [name for name, _ in second.items]:
        return False
    return every(same_value(a, b) for (_, a), (_, b) in zip(first.items, second.items, strict=True))


STEM = re.compile(r"([a-zA-Z]+)_[0-9]+")


def assigned_as(first: Assigned, second: Meaning) -> bool | None:
    """x = 1, y = 2 as the tuple (1, 2); x_1 = 1, x_2 = 2 as the solutions 1, 2."""
    values = [value for _, value in first.items]
    if isinstance(second, Value) and isinstance(second.node, Group) and second.node.kind in ("tuple", "angle"):
        names = second.name.strip("()").split(",") if second.name else [name for name, _ in first.items]
        if sorted(names) != [name for name, _ in first.items] or len(names) != len(second.node.items):
            return False
        table = dict(first.items)
        pairs = zip(names, second.node.items, strict=True)
        return every(same(table[name].node, item) for name, item in pairs)
    stems = {match[1] if (match := STEM.fullmatch(name)) else name for name, _ in first.items}
    if isinstance(second, Values) and len(stems) == 1:
        return same_values(Values(tuple(Value(value.node, "") for value in values)), second)
    return False


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
