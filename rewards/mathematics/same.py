"""Whether two trees mean the same: their meanings compared, kind by kind."""

from __future__ import annotations

import functools
import itertools
import re
from fractions import Fraction
from functools import lru_cache

from rewards.mathematics import tree
from rewards.mathematics.build import EXPRESSIONS
from rewards.mathematics.expressions import equal_expressions, infinity
from rewards.mathematics.meaning import (
    Assigned,
    Meaning,
    Reals,
    Relation,
    Value,
    Values,
    as_interval,
    meaning,
    named_alike,
    reordered,
    several,
)
from rewards.mathematics.numeric import constant_value
from rewards.mathematics.piecewise import is_cases, same_functions
from rewards.mathematics.progressions import is_stated, same_unions
from rewards.mathematics.realsets import EVERYTHING, UnsolvedError, real_set, same_sets, union
from rewards.mathematics.relations import (
    interval_of,
    inverse_functions,
    inverse_proportion,
    is_asked,
    relation_of_values,
    same_relation,
)
from rewards.mathematics.tree import (
    Builder,
    Call,
    Group,
    Interval,
    Matrix,
    Node,
    Num,
    Quantity,
    Rel,
    SetOp,
    Sym,
    Text,
    Time,
)
from rewards.mathematics.values import every, same_number, same_quantity, same_ratio, same_text, same_time


def same(gold: Node, answer: Node) -> bool | None:
    """Whether the trees mean the same, None if that cannot be told."""
    if gold == answer:
        return True
    first, second = meaning(with_unit_vectors(gold, answer)), meaning(with_unit_vectors(answer, gold))
    if first is None or second is None:
        return None if first is None else False
    outcome = same_meaning(first, second)
    return True if not outcome and same_families(first, second) else outcome


def same_families(first: Meaning, second: Meaning) -> bool:
    """Whether two sets of numbers that an integer counts through are the same, however they are cut into families."""
    sides = [list(meant.items) if isinstance(meant, Values) else [meant] for meant in (first, second)]
    values = [value for side in sides for value in side if isinstance(value, Value)]
    if len(values) < len(sides[0]) + len(sides[1]) or not any(is_stated(value.node) for value in values):
        return False
    if not all(named_alike(one.name, other.name) for one, other in itertools.combinations(values, 2)):
        return False
    left, right = ([value.node for value in side if isinstance(value, Value)] for side in sides)
    return same_unions(left, right)


def with_unit_vectors(node: Node, other: Node) -> Node:
    """3i - 4j with unit vectors for its letters, if the other is a vector: otherwise i is the imaginary unit."""
    if not isinstance(node, EXPRESSIONS) or not frozenset() < tree.symbols(node) <= {"j", "k"}:
        return node
    if as_rows(other) or any(name.startswith("vec:") for name in tree.symbols(other)):
        node = tree.rename(node, {"j": "vec:j", "k": "vec:k"})
        return tree.replaced(node, tree.Const("i"), Sym("vec:i"))
    return node


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
        case Reals(), Value(node=Sym("R")):  # all reals, without its double stroke
            return same_sets(first.reals, EVERYTHING)
        case Assigned(), _:
            return assigned_as(first, second)
        case Values(), Value():
            single = same_value(first.items[0], second) if len(first.items) == 1 else False
            return single or python_list(first, second) or single
        case Reals(), Value():
            return interval_as(first, second)
        case Relation(op="="), Value(name="") if is_asked(first.left) and not (
            tree.symbols(first.right) or tree.symbols(second.node)
        ):
            return same_node(first.right, second.node)  # m + n = 36, where m + n is asked for
        case Relation(op="="), Value() if second.name.isidentifier() and isinstance(second.node, EXPRESSIONS):
            if same_relation(first, Relation("=", Sym(second.name), second.node)):
                return True
            return inverse_proportion(first, second)
        case Relation(op="<" | "<=" | ">" | ">=" as op, left=left, right=right), Value():
            return same_bounds(Rel((op,), (left, right)), second.node, second.name)
    return False


def same_value(first: Value, second: Value) -> bool | None:
    for value in (first, second):
        if value.steps and not every(same_node(value.node, step) for step in value.steps):
            return False
    if first.name.startswith("(") and second.name.startswith("("):
        second = reordered(first, second)
    if not named_alike(first.name, second.name):
        return relation_of_values(first, second) or inverse_functions(first, second)
    if first.about is not None or second.about is not None:
        return same_about(first, second)
    if first.bound and second.bound and first.bound != second.bound:
        return same_definition(first, second)
    return same_node(first.node, second.node)


def same_definition(first: Value, second: Value) -> bool | None:
    """f(x) = x + a and f(t) = t + a, but not f(x) = 2x and f(y) = 2x."""
    if len(first.bound) != len(second.bound):
        return False
    places = [f"@{k}" for k in range(len(first.bound))]
    renamed = (tree.rename(item.node, dict(zip(item.bound, places, strict=True))) for item in (first, second))
    return same_node(*renamed)


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
    if is_cases(gold) or is_cases(answer):
        return same_cases(gold, answer) or same_functions(gold, answer)
    if isinstance(gold, Group) and isinstance(answer, Group) and gold.kind == answer.kind:
        if gold.kind == "set":
            first, second = several(gold), several(answer)
            return same_meaning(first, second) if first and second else False
        if gold.kind == "mod":
            return same_residue(gold, answer)
        if gold.kind in ("case", "or", "and", "list"):
            return same_cases(gold, answer)
    if is_labelled(gold) or is_labelled(answer):
        return same_labelled(gold, answer)
    rows = as_rows(gold), as_rows(answer)
    if rows[0] is not None and rows[1] is not None:
        return same_rows(gold, answer)
    if isinstance(gold, Matrix) and isinstance(answer, Sym):
        name = IDENTITY.fullmatch(answer.name)
        return name is not None and name[1] in (None, "n", str(len(gold.rows))) and is_identity(gold)
    if isinstance(gold, Text) or isinstance(answer, Text):
        return same_text(gold, answer)
    if isinstance(gold, Time) and isinstance(answer, Time):
        return same_time(gold, answer)
    if isinstance(gold, (Time, Group)) and isinstance(answer, (Time, Group, *EXPRESSIONS)):
        return same_ratio(gold, answer)
    if isinstance(answer, (Time, Group)) and isinstance(gold, EXPRESSIONS):
        return same_ratio(gold, answer)
    if isinstance(gold, Rel) and isinstance(answer, (Interval, Group)):
        return same_bounds(gold, answer)
    if isinstance(answer, Rel) and isinstance(gold, (Interval, Group)):
        return same_bounds(answer, gold)
    if type(gold) is type(answer) and isinstance(gold, (Interval, SetOp, Builder, Rel)):
        return same_parts(gold, answer)
    return False


def is_labelled(node: Node) -> bool:
    return isinstance(node, Group) and node.kind == "labelled"


def same_labelled(gold: Node, answer: Node) -> bool | None:
    """A point with its name, P(5, 2), against one without; against a number, P(5, 2) = 5!/3! permutations."""
    nodes = [
        node.items if isinstance(node, Group) and node.kind == "labelled" else (None, node) for node in (gold, answer)
    ]
    (first, left), (second, right) = nodes
    if first and second:
        return first == second and same_node(left, right)
    point, other = (nodes[0], right) if first else (nodes[1], left)
    if isinstance(other, EXPRESSIONS):
        if point[0] not in (Sym("P"), Sym("C")) or not isinstance(point[1], Group) or len(point[1].items) != 2:
            return False
        n, k = point[1].items
        orders = Call("factorial", (k,)) if point[0] == Sym("P") else tree.ONE
        return equal_expressions(tree.mul(orders, Call("binom", (n, k))), other)
    return same_node(left, right)


IDENTITY = re.compile(r"I(?:_([0-9n]))?")


def is_identity(matrix: Matrix) -> bool:
    """Whether it has 1 on its diagonal and 0 elsewhere."""
    size = len(matrix.rows)
    units = tuple(tuple(tree.number(int(i == k)) for k in range(size)) for i in range(size))
    return len(matrix.rows[0]) == size and same_rows(matrix, Matrix(units)) is True


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


def same_residue(gold: Group, answer: Group) -> bool | None:
    """Congruences: the same modulus, and residues that differ by a multiple of it."""
    (first, modulus), (second, other) = gold.items, answer.items
    if equal_expressions(modulus, other) is not True:
        return False
    if isinstance(first, Num) and isinstance(second, Num) and isinstance(modulus, Num) and modulus.value:
        return (first.value - second.value) % modulus.value == 0
    return equal_expressions(first, second)


def same_cases(gold: Node, answer: Node) -> bool | None:
    """Piecewise: the same pieces in any order; one piece: its value and its condition."""
    if not isinstance(gold, Group) or not isinstance(answer, Group) or gold.kind != answer.kind:
        return False
    if len(gold.items) != len(answer.items):
        return False
    if gold.kind == "case":
        return every(same(a, b) for a, b in zip(gold.items, answer.items, strict=True))
    left = list(answer.items)
    for item in gold.items:
        found = next((k for k, other in enumerate(left) if same(item, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def same_parts(gold: Node, answer: Node) -> bool | None:
    """Two nodes of the same kind, part by part."""
    first, second = tree.children(gold), tree.children(answer)
    if len(first) != len(second):
        return False
    commutes = isinstance(gold, SetOp) and isinstance(answer, SetOp) and gold.op == answer.op != "minus"
    if commutes and every(same(a, b) for a, b in zip(first, reversed(second), strict=True)):
        return True
    if tree.rebuild(gold, second) != tree.rebuild(answer, second):  # other brackets, other operations
        return False
    return every(same(a, b) for a, b in zip(first, second, strict=True))


def same_bounds(relation: Node, interval: Node, name: str = "") -> bool | None:
    """x < a against (-oo, a), with letters for bounds."""
    if isinstance(interval, Group) and is_pair(interval):
        interval = as_interval(interval)
    found = interval_of(relation)
    if found is None or not isinstance(interval, Interval) or not named_alike(found[0], name):
        return False
    return same_parts(found[1], interval)


def interval_as(reals: Reals, value: Value) -> bool | None:
    """A set of reals against what may be an interval, (1, 2) or [1, 2], or a list of its pieces, one without end."""
    if not named_alike(reals.name, value.name):
        return False
    node = value.node
    if not isinstance(node, Group):
        return False
    items = node.items if node.kind in ("list", "and", "or") and len(node.items) == len(reals.reals.pieces) else (node,)
    intervals = [as_interval(item) if isinstance(item, Group) and is_pair(item) else item for item in items]
    unbounded = any(isinstance(item, Interval) and (infinity(item.low) or infinity(item.high)) for item in intervals)
    if not all(isinstance(item, Interval) for item in intervals) or not (len(items) == 1 or unbounded):
        return False
    try:
        return same_sets(reals.reals, functools.reduce(union, map(real_set, intervals)))
    except UnsolvedError:
        return False


def is_pair(node: Group) -> bool:
    return node.kind in ("tuple", "bracket") and len(node.items) == 2


def python_list(many: Values, one: Value) -> bool | None:
    """Values against [1, 2, 3]: three or more in square brackets are a list."""
    node = one.node
    if isinstance(node, Group) and node.kind == "bracket" and len(node.items) > 2:
        inner = several(Group("list", node.items))
        if isinstance(inner, Values):
            return same_values(many, inner)
    if isinstance(node, Group) and node.kind == "bracket" and many.braces and len(many.items) == 1:
        low, high = node.items  # [1, 1]
        return every((same(low, high), same(many.items[0].node, low)))
    return False


def same_values(first: Values, second: Values) -> bool | None:
    """As sets, multiplicities counted unless both are in braces."""
    left, right = list(first.items), list(second.items)
    if len(left) * len(right) > MAX_PAIRS and not (fingerprinted(left) and fingerprinted(right)):
        return None
    if first.braces and second.braces:
        left, right = distinct(left), distinct(right)
    if len(left) != len(right):
        return False
    unknown = False
    for item in left:
        outcomes: list[bool | None] = []
        mark = fingerprint(item.node)
        for k, other in enumerate(right):
            outcome = near(mark, fingerprint(other.node)) and same_value(item, other)
            if outcome:
                del right[k]
                break
            outcomes.append(outcome)
        else:
            if None not in outcomes:
                return False
            unknown = True
    return None if unknown else True


@lru_cache(maxsize=4_096)
def fingerprint(node: Node) -> float | None:
    """The value of an expression at one point, which parts most that differ; None if there is none."""
    if not isinstance(node, EXPRESSIONS) or (isinstance(node, Call) and node.name in ("deg", "rad", "percent")):
        return None  # the sign of degrees may be missing from the other
    at = {name: Num(Fraction(sum(map(ord, name)) % 89 + 100, 73)) for name in tree.symbols(node)}
    return constant_value(tree.substitute(node, at))


def fingerprinted(values: list[Value]) -> bool:
    return all(fingerprint(value.node) is not None for value in values)


def near(first: float | None, second: float | None) -> bool:
    """Whether two fingerprints leave it open that the expressions are equal."""
    if first is None or second is None:
        return True
    return abs(first - second) <= 1e-6 * max(1.0, abs(first), abs(second))


def distinct(values: list[Value]) -> list[Value]:
    kept: list[Value] = []
    for value in values:
        mark = fingerprint(value.node)
        if not any(near(mark, fingerprint(other.node)) and same_value(value, other) for other in kept):
            kept.append(value)
    return kept


def same_assigned(first: Assigned, second: Assigned) -> bool | None:
    names = zip((name for name, _ in first.items), (name for name, _ in second.items), strict=False)
    if len(first.items) != len(second.items) or not all(named_alike(*pair) for pair in names):
        return False
    return every(same_value(a, b) for (_, a), (_, b) in zip(first.items, second.items, strict=True))


MAX_PAIRS = 2_500  # of values without a fingerprint that are compared with each other
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
