"""Equality of expressions: structure, floats at random points, exact expansion, many digits, and at last sympy."""

from __future__ import annotations

from fractions import Fraction

from rewards.mathematics import numeric, tree
from rewards.mathematics.constants import constant_part, integration_constant
from rewards.mathematics.polynomial import equal_quotients
from rewards.mathematics.symbolic import equal_symbolically
from rewards.mathematics.tree import Add, Mul, Node, Num, Pow, Sym, number

MAX_PRIME = 1_000
POINTS = (Fraction(1237, 811), Fraction(-739, 401), Fraction(2531, 617), Fraction(353, 1009), Fraction(-4177, 907))


def equal_expressions(gold: Node, answer: Node) -> bool | None:
    """Whether two expressions have the same value, wherever they have one; None if that cannot be told."""
    if gold == answer:
        return True
    if isinstance(gold, Num) and isinstance(answer, Num):
        return gold.value == answer.value
    infinite = [infinity(node) for node in (gold, answer)]
    if any(infinite):
        return infinite[0] == infinite[1]
    constant = integration_constant(gold)
    if constant is not None and isinstance(gold, Add):
        return equal_antiderivatives(gold, answer, constant)
    if numeric.refuted(gold, answer):
        return False
    outcome = equal_quotients(gold, answer) or numeric.equal(gold, answer)
    if outcome is None and not tree.symbols(gold) and not tree.symbols(answer):
        outcome = equal_powers(gold, answer)
    return equal_symbolically(gold, answer) if outcome is None else outcome


def equal_antiderivatives(gold: Add, answer: Node, constant: Sym) -> bool | None:
    """F + C and G + K: equal if F - G is constant."""
    rest = tree.add(*(item for item in gold.items if item is not constant))
    other = constant_part(answer, tree.symbols(rest))
    if other is None:
        return False
    difference = tree.add(rest, tree.neg(other))
    names = sorted(tree.symbols(difference))
    if not names:
        return True
    start = tree.substitute(difference, {name: number(2 + k) for k, name in enumerate(names)})
    return equal_expressions(rest, other) or numeric.equal(difference, start)


def equal_powers(gold: Node, answer: Node) -> bool | None:
    """Products of rational powers by their prime factors, however large: 9^{5 10^8} = 3^{10^9}; None of others."""
    first, second = prime_powers(gold), prime_powers(answer)
    return None if first is None or second is None else first == second


def prime_powers(node: Node) -> dict[int, Fraction] | None:
    """Prime -> exponent of a positive product of powers whose bases have small prime factors only."""
    if isinstance(node, Num) and node.value > 0:
        found: dict[int, Fraction] = {}
        for value, sign in ((node.value.numerator, 1), (node.value.denominator, -1)):
            rest, prime = value, 2
            while prime < MAX_PRIME and rest > 1:
                while rest % prime == 0:
                    rest //= prime
                    found[prime] = found.get(prime, Fraction(0)) + sign
                prime += 1
            if rest > 1:
                return None
        return found
    if isinstance(node, Mul):
        total: dict[int, Fraction] = {}
        for item in node.items:
            part = prime_powers(item)
            if part is None:
                return None
            for prime, exponent in part.items():
                total[prime] = total.get(prime, Fraction(0)) + exponent
        return {prime: exponent for prime, exponent in total.items() if exponent}
    if isinstance(node, Pow) and isinstance(node.exponent, Num):
        inner = prime_powers(node.base)
        return None if inner is None else {p: e * node.exponent.value for p, e in inner.items() if node.exponent.value}
    return None


def infinity(node: Node) -> int:
    """1 for infinity, -1 for minus infinity, 0 for anything else."""
    if node == tree.INFINITY:
        return 1
    if isinstance(node, Add) and not tree.symbols(node):
        signs = {sign for item in node.items if (sign := infinity(item))}
        return signs.pop() if len(signs) == 1 else 0
    if (
        isinstance(node, Mul)
        and len(node.items) == 2
        and node.items[1] == tree.INFINITY
        and isinstance(node.items[0], Num)
    ):
        return 1 if node.items[0].value > 0 else -1
    return 0


def proportional(first: Node, second: Node) -> float | bool | None:
    """The constant c, not 0, with second = c first (its sign is what counts), False if none, None if unknown."""
    names = sorted(tree.symbols(first))
    if names != sorted(tree.symbols(second)) or not names:
        return False
    for shift in range(3):
        point = {name: Num(POINTS[(k + shift) % len(POINTS)]) for k, name in enumerate(names)}
        at_first, at_second = tree.substitute(first, point), tree.substitute(second, point)
        values = numeric.constant_value(at_first), numeric.constant_value(at_second)
        if values[0] is None or values[1] is None:
            continue
        if abs(values[0]) < 1e-9 or abs(values[1]) < 1e-9:
            if abs(values[0]) < 1e-9 and abs(values[1]) < 1e-9:
                continue
            return False
        outcome = equal_expressions(tree.mul(first, at_second), tree.mul(second, at_first))
        return values[1] / values[0] if outcome else outcome
    return None
