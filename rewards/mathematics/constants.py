r"""Arbitrary constants: the C of an antiderivative F(x) + C, and those of a family of solutions C_1 e^x + C_2 e^{-x}.

Their names say nothing, but only where it is certain that they are arbitrary: the c of a + b + c is a number like a.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

from rewards.mathematics import numeric, tree
from rewards.mathematics.tree import Add, Mul, Node, Num, Pow, Sym, number

NAMES = ("C", "c", "K", "k")
VARIABLES = frozenset(("x", "y", "z", "t", "u", "v", "w", "r", "s", "theta"))  # of integration
EARLIER = {"C": {"A", "B"}, "c": {"a", "b", "m"}, "K": {"k"}}  # beside these it is one of several given numbers
LETTERED = re.compile(r"(?:[A-DKck]|[ck]_[0-9]|C_[0-9])")
NUMBERED = re.compile(r"[CcKk]_[0-9]")
MAX_CONSTANTS = 3
MAX_SLOPE = 1000  # the denominator of the a in F + a K


def integration_constant(node: Node) -> Sym | None:
    """The C of F(x) + C: a term of the sum that occurs nowhere else in it, beside a function of a usual variable."""
    if not isinstance(node, Add):
        return None
    for term in node.items:
        if not isinstance(term, Sym) or (stem := term.name.split("_")[0]) not in EARLIER:
            continue
        others = frozenset(name for item in node.items if item is not term for name in tree.symbols(item))
        if term.name in others or not others & VARIABLES or others & EARLIER[stem]:
            continue
        if stem != "c" or (others <= VARIABLES and not all(is_linear(item) for item in node.items)):
            return term
    return None


def is_linear(node: Node) -> bool:
    """A number, a variable, or a number times a variable."""
    items = node.items if isinstance(node, Mul) else (node,)
    return all(isinstance(item, (Num, Sym)) for item in items) and sum(isinstance(item, Sym) for item in items) <= 1


def constant_part(answer: Node, variables: frozenset[str]) -> Node | None:
    """The answer with 0 for its own constant of integration K, None if it has none: F + K, (G + K)/3, not F + K x.

    It must be F + a K with a number a > 0: then it runs through the same functions as F + C. F - C would too, but who
    writes that has more likely lost a sign.
    """
    for name in sorted(tree.symbols(answer) - variables):
        if name.split("_")[0] not in NAMES:
            continue
        start, later = (tree.substitute(answer, {name: number(k)}) for k in (0, 1))
        point = {other: number(2 + k) for k, other in enumerate(sorted(tree.symbols(start)))}
        slope = numeric.constant_value(tree.substitute(tree.add(later, tree.neg(start)), point))
        exact = Num(Fraction(slope or 0).limit_denominator(MAX_SLOPE))
        if exact.value > 0 and numeric.equal(answer, tree.add(start, tree.mul(exact, Sym(name)))):
            return start
    return None


def renamed_families(gold: Node, answer: Node) -> list[Node]:
    """The answer with its arbitrary constants called as the gold's are, in each way; none where there are no such.

    Both must be linear in the constants, with one variable besides; A and B count beside C_1 and C_2, and a single C
    as the factor of a power whose exponent varies.
    """
    first, second = tree.symbols(gold), tree.symbols(answer)
    common = first & second
    wanted = sorted(name for name in first if NUMBERED.fullmatch(name)) or sorted(first - common)
    found = sorted(name for name in second if NUMBERED.fullmatch(name)) or sorted(second - common)
    if not 0 < len(wanted) == len(found) <= MAX_CONSTANTS or len(first - set(wanted)) != 1:
        return []
    if first - set(wanted) != second - set(found) or not all(LETTERED.fullmatch(name) for name in (*wanted, *found)):
        return []
    if not any(NUMBERED.fullmatch(name) for name in (*wanted, *found)) and not (grows(gold) and grows(answer)):
        return []
    if not (is_family(gold, wanted) and is_family(answer, found)):
        return []
    ways = itertools.permutations(wanted)
    return [tree.rename(answer, dict(zip(found, way, strict=True))) for way in ways]


def grows(node: Node) -> bool:
    """Whether it holds a power whose exponent varies, such as e^{2x}."""
    return any(isinstance(part, Pow) and tree.symbols(part.exponent) for part in tree.walk(node))


def is_family(node: Node, constants: list[str]) -> bool:
    """Whether an expression is a sum of terms, each with one of the constants at most, and that as a factor."""
    terms = node.items if isinstance(node, Add) else (node,)
    for term in terms:
        factors = term.items if isinstance(term, Mul) else (term,)
        inside = [factor for factor in factors if tree.symbols(factor) & set(constants)]
        if len(inside) > 1 or any(not isinstance(factor, Sym) and not isinstance(factor, Add) for factor in inside):
            return False
        if inside and isinstance(inside[0], Add) and not is_family(inside[0], constants):
            return False
    return True
