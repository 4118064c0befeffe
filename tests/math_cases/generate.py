"""Pairs of answers that are equal, or different, by construction: random expressions written in two ways.

A tree is a nested tuple: ("num", Fraction), ("var", name), ("add" | "sub" | "mul" | "div", left, right),
("pow", base, int), ("neg", tree). Its value is computed here, exactly, at random rational points: nothing of the grader
is used. `write` turns a tree into LaTeX or plain text in a randomly chosen notation; `rewrite` changes it by laws of
algebra; `mutate` changes its value, which `differ` proves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import gcd, isqrt
from typing import Any

Tree = tuple[Any, ...]
Pair = tuple[str, str]
NAMES = ("x", "y", "a", "b", "t", "n")
PRECEDENCE = {"add": 1, "sub": 1, "neg": 2, "mul": 3, "div": 3, "pow": 4, "num": 5, "var": 5}


def value(tree: Tree, point: dict[str, Fraction]) -> Fraction:
    """Exact; ZeroDivisionError where it is not defined."""
    kind = tree[0]
    if kind == "num":
        return tree[1]
    if kind == "var":
        return point[tree[1]]
    if kind == "neg":
        return -value(tree[1], point)
    if kind == "pow":
        return value(tree[1], point) ** tree[2]
    left, right = value(tree[1], point), value(tree[2], point)
    return {"add": left + right, "sub": left - right, "mul": left * right}[kind] if kind != "div" else left / right


def values(tree: Tree, count: int = 12) -> list[Fraction | None]:
    """At the same points for every tree; None where it is not defined."""
    draw, found = random.Random(7), []
    for _ in range(count):
        point = {name: Fraction(draw.randint(-40, 40), draw.randint(1, 13)) for name in NAMES}
        try:
            found.append(value(tree, point))
        except ZeroDivisionError:
            found.append(None)
    return found


def differ(one: Tree, other: Tree) -> bool:
    """Whether the two have different values somewhere where both are defined."""
    return any(a is not None and b is not None and a != b for a, b in zip(values(one), values(other), strict=True))


def equal(one: Tree, other: Tree) -> bool:
    both = [(a, b) for a, b in zip(values(one), values(other), strict=True) if a is not None and b is not None]
    return len(both) > 6 and all(a == b for a, b in both)


def grow(draw: random.Random, depth: int) -> Tree:
    if depth == 0 or draw.random() < 0.15:
        return ("var", draw.choice(NAMES[:4])) if draw.random() < 0.6 else ("num", Fraction(draw.randint(1, 12)))
    kind = draw.choice(("add", "add", "sub", "mul", "mul", "div", "pow", "neg"))
    if kind == "pow":
        return ("pow", grow(draw, depth - 1), draw.choice((2, 2, 3, -1)))
    if kind == "neg":
        return ("neg", grow(draw, depth - 1))
    return (kind, grow(draw, depth - 1), grow(draw, depth - 1))


def _num(n: int) -> Tree:
    return ("num", Fraction(n))


def _laws(tree: Tree, draw: random.Random) -> list[Tree]:
    """What this node may be replaced by."""
    kind, found = tree[0], [("neg", ("neg", tree)), ("mul", tree, _num(1)), ("add", tree, _num(0))]
    if kind in ("add", "mul"):
        found += [(kind, tree[2], tree[1])] * 4
    if kind == "sub":
        found += [("add", tree[1], ("neg", tree[2])), ("neg", ("sub", tree[2], tree[1]))] * 2
    if kind == "mul" and tree[2][0] in ("add", "sub"):
        found += [(tree[2][0], ("mul", tree[1], tree[2][1]), ("mul", tree[1], tree[2][2]))] * 4
    if kind == "div":
        k = _num(draw.randint(2, 5))
        found += [("mul", tree[1], ("pow", tree[2], -1)), ("div", ("mul", k, tree[1]), ("mul", k, tree[2]))] * 2
    if kind == "div" and tree[1][0] in ("add", "sub"):
        found += [(tree[1][0], ("div", tree[1][1], tree[2]), ("div", tree[1][2], tree[2]))] * 3
    if kind == "pow" and tree[2] == 2:
        found += [("mul", tree[1], tree[1])] * 3
    if kind == "pow" and tree[2] == -1:
        found += [("div", _num(1), tree[1])] * 3
    if kind == "pow" and tree[2] == 2 and tree[1][0] == "add":
        a, b = tree[1][1], tree[1][2]
        found += [("add", ("add", ("pow", a, 2), ("mul", _num(2), ("mul", a, b))), ("pow", b, 2))] * 3
    if kind == "num" and tree[1] > 1:
        found += [("add", ("num", tree[1] - 1), _num(1)), ("div", ("num", tree[1] * 3), _num(3))]
    return found


def rewrite(tree: Tree, draw: random.Random, chance: float = 0.35) -> Tree:
    """An equal tree."""
    parts = tuple(rewrite(p, draw, chance) if isinstance(p, tuple) else p for p in tree)
    return draw.choice(_laws(parts, draw)) if draw.random() < chance else parts


def _spots(tree: Tree, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    yield path
    for i, part in enumerate(tree):
        if isinstance(part, tuple):
            yield from _spots(part, (*path, i))


def _changed(tree: Tree, path: tuple[int, ...], change: Callable[[Tree], Tree]) -> Tree:
    if not path:
        return change(tree)
    i = path[0]
    return (*tree[:i], _changed(tree[i], path[1:], change), *tree[i + 1 :])


def mutate(tree: Tree, draw: random.Random) -> Tree:
    """One node changed: a sign, a number, an operation, an order, a name."""

    def change(node: Tree) -> Tree:
        kind = node[0]
        if kind == "num":
            return ("num", node[1] + draw.choice((-1, 1, 9)))
        if kind == "var":
            return ("var", draw.choice([n for n in NAMES[:4] if n != node[1]]))
        if kind == "pow":
            return ("pow", node[1], node[2] + 1)
        if kind == "neg":
            return node[1]
        swapped = {"add": "sub", "sub": "add", "mul": "add", "div": "mul"}[kind]
        return draw.choice([(swapped, node[1], node[2]), ("sub" if kind == "sub" else swapped, node[2], node[1])])

    return _changed(tree, draw.choice(list(_spots(tree))), change)


def write(tree: Tree, draw: random.Random, latex: bool) -> str:
    kind = tree[0]
    if kind in ("num", "var"):
        return str(tree[1])

    def part(of: Tree, least: int) -> str:
        text = write(of, draw, latex)
        if PRECEDENCE[of[0]] >= least:
            return text
        return rf"\left({text}\right)" if latex and draw.random() < 0.5 else f"({text})"

    space = draw.choice(("", " "))
    if kind == "neg":
        return "-" + part(tree[1], 3)
    if kind in ("add", "sub"):
        return part(tree[1], 1) + space + {"add": "+", "sub": "-"}[kind] + space + part(tree[2], 3)
    if kind == "pow":
        return part(tree[1], 5) + (f"^{{{tree[2]}}}" if latex else f"^({tree[2]})" if tree[2] < 0 else f"^{tree[2]}")
    if kind == "div" and latex:
        return rf"{draw.choice(_FRACTIONS)}{{{write(tree[1], draw, True)}}}{{{write(tree[2], draw, True)}}}"
    if kind == "div":
        return part(tree[1], 3) + "/" + part(tree[2], 4)
    left, right = part(tree[1], 3), part(tree[2], 4)
    if draw.random() < 0.5 and ((left.isdigit() and right[0].isalpha()) or left[-1] + right[0] == ")("):
        return left + right  # 2x and (a+b)(c+d), but not x(y+1), which could be a function
    return left + (draw.choice((r"\cdot ", r"\times ")) if latex else draw.choice(("*", " * "))) + right


_FRACTIONS = (r"\frac", r"\dfrac", r"\tfrac")


def expressions(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """Rational functions of up to four variables."""
    draw = random.Random(seed)
    while count:
        tree = grow(draw, draw.choice((2, 3, 3, 4)))
        if sum(v is None for v in values(tree)) > 4 or set(values(tree)) == {None}:
            continue
        other = rewrite(tree, draw)
        if not same:
            other = mutate(other, draw)
            if not differ(tree, other):
                continue
        elif not equal(tree, other):
            raise AssertionError(f"a law changed the value: {tree} became {other}")
        texts = write(tree, draw, draw.random() < 0.6), write(other, draw, draw.random() < 0.6)
        if max(map(len, texts)) > 400:
            continue
        count -= 1
        yield texts


def _monomial(coefficient: Fraction, name: str, power: int) -> str:
    size = abs(coefficient)
    number = str(size) if size.denominator == 1 else rf"\frac{{{size.numerator}}}{{{size.denominator}}}"
    if power == 0:
        return number
    return ("" if size == 1 else number) + (
        name if power == 1 else f"{name}^{power}" if power < 10 else f"{name}^{{{power}}}"
    )


def polynomial(coefficients: dict[int, Fraction], name: str, order: list[int]) -> str:
    text = ""
    for power in order:
        if coefficients.get(power):
            sign = "-" if coefficients[power] < 0 else "+" if text else ""
            text += sign + _monomial(coefficients[power], name, power)
    return text or "0"


def _product(one: dict[int, Fraction], other: dict[int, Fraction]) -> dict[int, Fraction]:
    found: dict[int, Fraction] = {}
    for i, a in one.items():
        for j, b in other.items():
            found[i + j] = found.get(i + j, Fraction(0)) + a * b
    return found


def polynomials(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """Factored against expanded in any order; different in one coefficient."""
    draw = random.Random(seed)
    for _ in range(count):
        name, product, text = draw.choice("xyztn"), {0: Fraction(1)}, ""
        for _ in range(draw.randint(2, 4)):
            a, b = draw.choice((1, 1, 2, 3)), draw.choice([i for i in range(-9, 10) if i])
            factor = {1: Fraction(a), 0: Fraction(b)}
            product = _product(product, factor)
            text += f"({polynomial(factor, name, draw.sample([1, 0], 2))})"
        if not same:
            product[draw.choice(list(product))] += draw.choice((-1, 1, Fraction(1, 1000)))
        yield text, polynomial(product, name, draw.sample(list(product), len(product)))


def number_texts(number: Fraction) -> list[str]:
    """An exact rational in the notations that it has."""
    sign, size = "-" if number < 0 else "", abs(number)
    n, d = size.numerator, size.denominator
    found = [rf"{sign}\frac{{{n}}}{{{d}}}", f"{sign}{n}/{d}", rf"{sign}\dfrac{{{3 * n}}}{{{3 * d}}}"]
    if d == 1:
        found = [
            f"{sign}{n}",
            f"{sign}{n:,}",
            f"{sign}{n:,}".replace(",", "{,}"),
            f"{sign}{n}.0",
            rf"\frac{{{sign}{2 * n}}}{{2}}",
        ]
    elif n > d:
        found += [rf"{sign}{n // d}\frac{{{n % d}}}{{{d}}}", f"{sign}{n // d} {n % d}/{d}"]
    power = next((k for k in range(12) if 10**k % d == 0), None)
    if power is not None:
        digits = str(n * 10**power // d).rjust(power + 1, "0")
        decimal = digits[: len(digits) - power] + ("." + digits[len(digits) - power :] if power else "")
        found += [sign + decimal, rf"{sign}{decimal}\times 10^{{0}}", f"{sign}{digits}e-{power}"]
        found += [rf"{sign}{digits}\cdot 10^{{-{power}}}"]
    elif d % 2 and d % 5 and d < 100 and n < d:
        period = next(k for k in range(1, d) if 10**k % d == 1)
        repetend = str(n * (10**period - 1) // d).rjust(period, "0")
        found += [rf"{sign}0.\overline{{{repetend}}}"]
    return found


def numbers(count: int, seed: int, same: bool) -> Iterator[Pair]:
    draw = random.Random(seed)
    while count:
        d = draw.choice((1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 25, 40, 100, 1000))
        number = Fraction(draw.randint(1, 10 ** draw.randint(1, 7)), d) * draw.choice((1, 1, -1))
        other = number
        if not same:
            n, d = number.numerator, number.denominator
            changes = [number + 1, number * 10, number / 100, -number, number + Fraction(1, 10**9), 1 / number]
            changes += [Fraction(int(str(abs(n))[::-1]), d), Fraction(n + 1, d), Fraction(n, d + 1)]
            other = draw.choice(changes)
            if other in (number, 0):
                continue
        count -= 1
        yield draw.choice(number_texts(number)), draw.choice(number_texts(other))


def roots(count: int, seed: int, same: bool) -> Iterator[Pair]:
    r"""\sqrt{n} with and without its square factors, and with a rational denominator."""
    draw = random.Random(seed)
    while count:
        a, b, c = draw.randint(2, 12), draw.choice((2, 3, 5, 6, 7, 10, 11, 13, 15)), draw.randint(-9, 9)
        simple, sign = rf"{a}\sqrt{{{b}}}", "+" if c >= 0 else "-"
        forms = [
            rf"\sqrt{{{a * a * b}}}",
            rf"\frac{{{a * b}}}{{\sqrt{{{b}}}}}",
            rf"\sqrt{{{b}}}\cdot {a}",
            f"{a}*sqrt({b})",
        ]
        forms += [rf"{a}\cdot {b}^{{1/2}}", rf"\sqrt[4]{{{a**4 * b * b}}}"]
        other = draw.choice(forms)
        if not same:
            wrong = a * a * b + draw.choice((-1, 1))
            other = draw.choice(
                [rf"\sqrt{{{wrong}}}", rf"{b}\sqrt{{{a}}}", str(isqrt(a * a * b)), f"{(a * a * b) ** 0.5:.10f}"]
            )
            if f"{b}" == f"{a}" or (a * a * b == b * b * a):
                continue
        count -= 1
        yield f"{c}+{simple}", f"{c}+{other}" if sign == "+" or draw.random() < 0.5 else f"{other}-{-c}"


def _shuffled(items: list[str], draw: random.Random) -> list[str]:
    return draw.sample(items, len(items))


def collections(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """Sets and lists in any order; tuples and matrices in theirs; one item changed, lost, added or moved."""
    draw = random.Random(seed)
    for _ in range(count):
        items = [
            Fraction(n, draw.choice((1, 1, 2, 4)))
            for n in draw.sample([i for i in range(-30, 31) if i], draw.randint(3, 5))
        ]
        items = list(dict.fromkeys(items))
        kind, other = draw.choice(("set", "list", "tuple", "matrix")), list(items)
        ordered = kind in ("tuple", "matrix")
        if not same:
            change = draw.choice(("change", "lose", "add") + (("move",) if ordered and len(items) > 1 else ()))
            if change == "change":
                other[draw.randrange(len(other))] += draw.choice((100, Fraction(1, 3)))
            elif change == "move":
                other = other[1:] + other[:1]
            else:
                other = other[:-1] if change == "lose" and len(other) > 2 else [*other, Fraction(99)]
        texts = [[draw.choice(number_texts(item)).replace("{,}", "") for item in side] for side in (items, other)]
        if not ordered:
            texts[1] = _shuffled(texts[1], draw)
        yield tuple(_bracketed(kind, side) for side in texts)  # type: ignore[misc]


def _bracketed(kind: str, items: list[str]) -> str:
    inside = ", ".join(items)
    if kind == "matrix":
        return rf"\begin{{pmatrix}}{'&'.join(items)}\end{{pmatrix}}"
    return {"set": rf"\{{{inside}\}}", "list": inside, "tuple": f"({inside})"}[kind]


def intervals(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """Interval notation against inequalities; one bracket or one end changed."""
    draw = random.Random(seed)
    for _ in range(count):
        low = Fraction(draw.randint(-20, 10), draw.choice((1, 2, 3)))
        high = low + Fraction(draw.randint(1, 30), draw.choice((1, 2)))
        closed = [draw.random() < 0.5, draw.random() < 0.5]
        ends, marks = [low, high], list(closed)
        if not same:
            if draw.random() < 0.6:
                side = draw.randrange(2)
                marks[side] = not marks[side]
            else:
                ends[draw.randrange(2)] += Fraction(draw.choice((-1, 1)), draw.choice((1, 7, 1000)))
        one = f"{'[' if closed[0] else '('}{_fraction(low)},{_fraction(high)}{']' if closed[1] else ')'}"
        signs = [draw.choice((r"\le ", r"\leq ", "<=")) if mark else "<" for mark in marks]
        yield one, f"{_fraction(ends[0])}{signs[0]}x{signs[1]}{_fraction(ends[1])}"


def _fraction(number: Fraction) -> str:
    sign = "-" if number < 0 else ""
    n, d = abs(number.numerator), number.denominator
    return f"{sign}{n}" if d == 1 else rf"{sign}\frac{{{n}}}{{{d}}}"


def lines(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """y = mx + b against Ax + By = C, scaled at will; one coefficient changed."""
    draw = random.Random(seed)
    for _ in range(count):
        m = Fraction(draw.choice([i for i in range(-9, 10) if i]), draw.randint(1, 6))
        b = Fraction(draw.choice([i for i in range(-9, 10) if i]), draw.randint(1, 4))
        scale = m.denominator * b.denominator // gcd(m.denominator, b.denominator) * draw.choice((1, 2, -1, -3))
        x, y, c = m * scale, Fraction(-scale), -b * scale
        if not same:
            x, y, c = draw.choice([(x, -y, c), (x, y, -c), (x + 1, y, c), (x, y, c + 1), (y, x, c)])
            if x * Fraction(-scale) == m * scale * y and c * Fraction(-scale) == -b * scale * y:
                c += 1
        left = _monomial(x, "x", 1) if x else "0"
        left = (
            ("-" if x < 0 else "")
            + left
            + ("-" if y < 0 else "+" if y > 0 else "")
            + (_monomial(y, "y", 1) if y else "")
        )
        slope = "-" if m == -1 else "" if m == 1 else _fraction(m)
        yield f"y={slope}x{'+' if b > 0 else '-'}{_fraction(abs(b))}", f"{left}={_fraction(c)}"


FAMILIES: dict[str, Callable[[int, int, bool], Iterator[Pair]]] = {
    "expressions": expressions,
    "polynomials": polynomials,
    "numbers": numbers,
    "roots": roots,
    "collections": collections,
    "intervals": intervals,
    "lines": lines,
}
