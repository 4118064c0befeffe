r"""Arithmetic progressions over all integers n, a + b n: solutions of trigonometric equations, classes of residues.

The letter that counts may be any (2 pi k, 2 pi n), and so may the progressions that make up a set:
pi/4 + n pi/2 is what pi/4 + n pi and 3 pi/4 + n pi are together.
"""

from __future__ import annotations

import math
from fractions import Fraction

from rewards.mathematics import tree
from rewards.mathematics.expressions import equal_expressions
from rewards.mathematics.meaning import COUNTERS, PARAMETER
from rewards.mathematics.numeric import constant_value
from rewards.mathematics.tree import Call, Const, Group, Node, Num, Sym

COUNTING = "n"  # which numeric.py knows for an integer in (-1)^n
MAX_STEP = 60  # of one progression in another's
MAX_STARTS = 120  # within one common period

Progression = tuple[Node, Node]  # where it starts and its step


def renamed(gold: Node, answer: Node) -> tuple[Node, Node]:
    """Both with one name for the integer of 2 pi k, which each may call as it likes, stated to be an integer or not."""
    first, second = counter(gold), counter(answer)
    if not first or not second or (first == second == PARAMETER):
        return gold, answer
    if first in tree.symbols(answer) - {second} or second in tree.symbols(gold) - {first}:
        return gold, answer
    return tree.rename(gold, {first: PARAMETER}), tree.rename(answer, {second: PARAMETER})


def counter(node: Node) -> str:
    """The letter that counts periods: of a term such as 2 pi k or 180 degrees n, linear in it; "" if there is none."""
    names = tree.symbols(node)
    if PARAMETER in names:
        return PARAMETER
    terms = node.items if isinstance(node, tree.Add) else (node,)
    for term in terms:
        for part in (term, *tree.children(term)):
            items = part.items if isinstance(part, tree.Mul) else ()
            turns = any(item == Const("pi") or (isinstance(item, Call) and item.name == "deg") for item in items)
            found = [item.name for item in items if isinstance(item, Sym) and item.name in COUNTERS]
            others = [other for other in terms if other is not term]
            if turns and len(found) == 1 and not any(found[0] in tree.symbols(other) for other in others):
                return found[0]
    return ""


def same_progression(gold: Node, answer: Node, stated: bool) -> bool:
    """Whether a + b n and c + d n are the same numbers over all integers n: b = d or -d, a - c a multiple of b.

    Where the gold does not state that n is any integer it must show.
    """
    if not stated and any(tree.symbols(node) != {PARAMETER} for node in (gold, answer)):
        return False
    starting = [tree.substitute(node, {PARAMETER: tree.ZERO}) for node in (gold, answer)]
    steps = [growth(node, PARAMETER) for node in (gold, answer)]
    if steps[0] is None or steps[1] is None:
        return False
    if not (equal_expressions(steps[0], steps[1]) or equal_expressions(steps[0], tree.neg(steps[1]))):
        return False
    if not stated and not shows(gold):
        return False
    return is_multiple(starting[0], starting[1], steps[0])


def shows(node: Node) -> bool:
    """Whether it can only be meant for all integers n: pi/3 + 2 pi n; 2 pi n may be the n-th of a sequence."""
    name = counter(node)
    step = growth(node, name) if name else None
    if step is None:
        return False
    phase = constant_value(tree.div(tree.substitute(node, {name: tree.ZERO}), step))
    return phase is not None and abs(phase - round(phase)) > 1e-6


def growth(node: Node, name: str, count: int = 1) -> Node | None:
    """By how much an expression grows from n to n + count, None if that depends on n."""
    node = tree.rename(node, {name: COUNTING})
    first = tree.substitute(node, {COUNTING: tree.ZERO})
    later = tree.substitute(node, {COUNTING: tree.number(count)})
    found = tree.add(later, tree.neg(first))
    ahead = tree.replaced(node, Sym(COUNTING), tree.add(Sym(COUNTING), tree.number(count)))
    return found if equal_expressions(ahead, tree.add(node, found)) else None


def same_unions(gold: list[Node], answer: list[Node]) -> bool:
    """Whether two lists of progressions, one of which is stated to be over the integers, hold the same numbers.

    Of the gold it must be stated, or show: 2n + 1 may be the n-th of a sequence, and an answer that says "for all
    integers n" does not make 2n - 1 of it.
    """
    if not any(is_stated(node) for node in (*gold, *answer)):
        return False
    if not any(is_stated(node) or shows(node) for node in gold):
        return False
    first, second = progressions(gold), progressions(answer)
    if not first or not second:
        return False
    period = common_period([*first, *second])
    if period is None:
        return False
    left, right = starts(first, period), starts(second, period)
    return bool(left and right) and within(left, right, period) and within(right, left, period)


def is_stated(node: Node) -> bool:
    return PARAMETER in tree.symbols(node) or (isinstance(node, Group) and node.kind == "mod")


def progressions(nodes: list[Node]) -> list[Progression] | None:
    """Of each its progression: a + b n with n an integer, or a residue class; None if one of them is none."""
    found: list[Progression] = []
    for node in nodes:
        match node:
            case Group("mod", (Num() as start, Num() as step)) if step.value > 0:
                found.append((start, step))
                continue
            case Group() | Num():
                return None
        letters = tree.symbols(node)
        name = counter(node) or (next(iter(letters)) if len(letters) == 1 and letters <= COUNTERS else "")
        if letters != {name}:
            return None
        for count in (1, 2):  # (-1)^n pi/6 + n pi are two progressions
            grown = growth(node, name, count)
            if grown is not None and constant_value(grown):
                found += [(tree.substitute(node, {name: tree.number(k)}), grown) for k in range(count)]
                break
        else:
            return None
    return found


def common_period(found: list[Progression]) -> Node | None:
    """The least number that is a whole multiple of every step; None if there is none, or none that is small."""
    unit = found[0][1]
    multiple = Fraction(1)
    for _, step in found:
        ratio = Fraction(constant_value(tree.div(step, unit)) or 0).limit_denominator(MAX_STEP)
        if not ratio or not equal_expressions(tree.mul(Num(ratio), unit), step):
            return None
        multiple = Fraction(
            math.lcm(multiple.numerator, ratio.numerator), math.gcd(multiple.denominator, ratio.denominator)
        )
    return tree.mul(Num(multiple), unit)


def starts(found: list[Progression], period: Node) -> list[Node]:
    """One number of each class modulo the period; none if these are too many."""
    counts = [round(abs(constant_value(tree.div(period, step)) or 0)) for _, step in found]
    if sum(counts) > MAX_STARTS:
        return []
    return [
        tree.add(start, tree.mul(tree.number(k), step))
        for (start, step), count in zip(found, counts, strict=True)
        for k in range(count)
    ]


def within(some: list[Node], others: list[Node], period: Node) -> bool:
    return all(any(is_multiple(one, other, period) for other in others) for one in some)


def is_multiple(first: Node, second: Node, period: Node) -> bool:
    """Whether two numbers differ by a whole multiple of the period."""
    difference = tree.add(first, tree.neg(second))
    turns = constant_value(tree.div(difference, period))
    if turns is None or abs(turns - round(turns)) > 1e-6 or abs(turns) > 1e6:
        return False
    return equal_expressions(tree.mul(tree.number(round(turns)), period), difference) is True
