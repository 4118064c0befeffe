"""Exact expansion: an expression as a quotient of two polynomials with rational coefficients, if it is one and small.

A polynomial is {exponents: coefficient}, one exponent for each of the given variables; a monomial that is not there has
coefficient 0. Two rational functions a/b and c/d are equal if a d = c b.
"""

from __future__ import annotations

import math
from fractions import Fraction

from rewards.mathematics.tree import MAX_BITS, Add, Mul, Node, Num, Pow, Sym, add, mul, number, power, symbols

MAX_MONOMIALS = 300
MAX_PRODUCTS = 20_000
MAX_DEGREE = 60
MAX_DIVISOR = 2_000  # of the coefficients in which rational roots are looked for

Polynomial = dict[tuple[int, ...], Fraction]
Quotient = tuple[Polynomial, Polynomial]


class NotRationalError(ArithmeticError):
    """Not a quotient of polynomials, or one too large to expand."""


def equal_quotients(first: Node, second: Node) -> bool | None:
    """Equality by expansion, a proof either way; None if an expression is no small quotient of polynomials."""
    names = sorted(symbols(first) | symbols(second))
    try:
        (a, b), (c, d) = quotient(first, names), quotient(second, names)
        return multiply(a, d) == multiply(c, b)
    except NotRationalError:
        return None


def linear(node: Node, name: str) -> tuple[Fraction, Fraction] | None:
    """(a, b) if the expression is a x + b with rational a and b, a not 0."""
    try:
        above, below = quotient(node, [name])
    except NotRationalError:
        return None
    if list(below) != [(0,)] or not set(above) <= {(0,), (1,)} or (1,) not in above:
        return None
    scale = below[(0,)]
    return above[(1,)] / scale, above.get((0,), Fraction(0)) / scale


def factors(node: Node, name: str) -> tuple[list[Fraction], list[Fraction]] | None:
    """Numerator and denominator of a quotient in one variable, as coefficients, the constant's first."""
    try:
        pair = quotient(node, [name])
    except NotRationalError:
        return None
    above, below = (
        [part.get((k,), Fraction(0)) for k in range(max((m[0] for m in part), default=0) + 1)] for part in pair
    )
    return above, below


def real_roots(coefficients: list[Fraction]) -> list[Node] | None:
    """The real roots, each once, if rational ones and a quadratic are all there are; None if others are left."""
    rest = list(coefficients)
    found: list[Node] = []
    while len(rest) > 3 or (len(rest) == 3 and rest[0] == 0):
        root = rational_root(rest)
        if root is None:
            return None
        found.append(Num(root))
        rest = deflated(rest, root)
    if len(rest) == 2:
        found.append(Num(-rest[0] / rest[1]))
    if len(rest) == 3:
        c, b, a = rest
        inside = b * b - 4 * a * c
        if inside >= 0:
            for sign in (1, -1) if inside else (1,):
                root_of = mul(number(sign), power(Num(inside), Num(Fraction(1, 2))))
                found.append(mul(Num(1 / (2 * a)), add(Num(-b), root_of)))
    return found


def rational_root(coefficients: list[Fraction]) -> Fraction | None:
    """A rational root p/q, p dividing the constant and q the leading coefficient, both of them small."""
    if coefficients[0] == 0:
        return Fraction(0)
    scale = math.lcm(*(c.denominator for c in coefficients))
    last, first = abs(int(coefficients[0] * scale)), abs(int(coefficients[-1] * scale))
    if max(last, first) > MAX_DIVISOR:
        return None
    for below in (k for k in range(1, first + 1) if first % k == 0):
        for above in (k for k in range(1, last + 1) if last % k == 0):
            for root in (Fraction(above, below), Fraction(-above, below)):
                if value_at(coefficients, root) == 0:
                    return root
    return None


def value_at(coefficients: list[Fraction], x: Fraction) -> Fraction:
    total = Fraction(0)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def deflated(coefficients: list[Fraction], root: Fraction) -> list[Fraction]:
    """The polynomial divided by x - root."""
    result: list[Fraction] = []
    carry = Fraction(0)
    for coefficient in reversed(coefficients):
        carry = carry * root + coefficient
        result.append(carry)
    return result[-2::-1]


def quotient(node: Node, names: list[str]) -> Quotient:
    """(numerator, denominator) of an expression. Raises NotRationalError."""
    one: Polynomial = {(0,) * len(names): Fraction(1)}
    if isinstance(node, Num):
        return ({(0,) * len(names): node.value} if node.value else {}), one
    if isinstance(node, Sym) and node.name in names:
        return {tuple(int(name == node.name) for name in names): Fraction(1)}, one
    if isinstance(node, Add):
        above, below = quotient(node.items[0], names)
        for item in node.items[1:]:
            more, under = quotient(item, names)
            if below == under:
                above = plus(above, more)
            else:
                above, below = plus(multiply(above, under), multiply(more, below)), multiply(below, under)
        return above, below
    if isinstance(node, Mul):
        above, below = one, one
        for item in node.items:
            more, under = quotient(item, names)
            above, below = multiply(above, more), multiply(below, under)
        return above, below
    if isinstance(node, Pow) and isinstance(node.exponent, Num) and node.exponent.value.denominator == 1:
        exponent = node.exponent.value.numerator
        above, below = quotient(node.base, names)
        if exponent < 0:
            above, below = below, above
        if not below:
            raise NotRationalError("a division by 0")
        return raised(above, abs(exponent), one), raised(below, abs(exponent), one)
    raise NotRationalError(type(node).__name__)


def plus(first: Polynomial, second: Polynomial) -> Polynomial:
    total = dict(first)
    for monomial, coefficient in second.items():
        value = total.get(monomial, Fraction(0)) + coefficient
        if value:
            total[monomial] = value
        else:
            total.pop(monomial, None)
    return total


def multiply(first: Polynomial, second: Polynomial) -> Polynomial:
    if len(first) * len(second) > MAX_PRODUCTS:
        raise NotRationalError("too many products")
    total: Polynomial = {}
    for left, a in first.items():
        for right, b in second.items():
            monomial = tuple(i + j for i, j in zip(left, right, strict=True))
            if any(exponent > MAX_DEGREE for exponent in monomial):
                raise NotRationalError("too high a degree")
            value = total.get(monomial, Fraction(0)) + a * b
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
                raise NotRationalError("too long a coefficient")
            total[monomial] = value
    total = {monomial: value for monomial, value in total.items() if value}
    if len(total) > MAX_MONOMIALS:
        raise NotRationalError("too many monomials")
    return total


def raised(base: Polynomial, exponent: int, one: Polynomial) -> Polynomial:
    if exponent > MAX_DEGREE:
        raise NotRationalError("too high a power")
    result = one
    for _ in range(exponent):
        result = multiply(result, base)
    return result
