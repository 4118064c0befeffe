"""More pairs equal, or different, by construction: complex numbers, quantities, sets of reals, functions, tiny parts.

Values are computed here: complex numbers as pairs of fractions, quantities by a table of exact factors, sets of reals
at every end and between the ends, functions by mpmath with 60 digits at points where both sides are real.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise

import mpmath
from math_cases.generate import Pair, number_texts

# -------------------------------------------------------------------------------------------------- complex numbers

Complex = tuple[Fraction, Fraction]


def _times(a: Complex, b: Complex) -> Complex:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _over(a: Complex, b: Complex) -> Complex:
    size = b[0] ** 2 + b[1] ** 2
    product = _times(a, (b[0], -b[1]))
    return product[0] / size, product[1] / size


def _tex(number: Fraction) -> str:
    sign, n, d = "-" if number < 0 else "", abs(number.numerator), number.denominator
    return f"{sign}{n}" if d == 1 else rf"{sign}\frac{{{n}}}{{{d}}}"


def _standard(z: Complex, draw: random.Random) -> str:
    real, imaginary = _tex(z[0]), _tex(abs(z[1])) if abs(z[1]) != 1 else ""
    part = draw.choice((imaginary + "i", f"i{imaginary}" if not imaginary[:1].isdigit() else imaginary + "i"))
    if draw.random() < 0.5:
        return f"{real}{'-' if z[1] < 0 else '+'}{part}"
    return f"{'-' if z[1] < 0 else ''}{part}{'-' if z[0] < 0 else '+'}{_tex(abs(z[0]))}"


def complex_numbers(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """a+bi against a product, a quotient or a power; conjugated, negated, swapped or one off."""
    draw = random.Random(seed)
    while count:
        a, b = (
            (
                Fraction(draw.choice([n for n in range(-9, 10) if n])),
                Fraction(draw.choice([n for n in range(-9, 10) if n])),
            )
            for _ in "ab"
        )
        one, two = f"({_standard(a, draw)})", f"({_standard(b, draw)})"
        z, text = draw.choice([
            (_times(a, b), one + two),
            (_times(a, a), one + "^2"),
            (_over(a, b), rf"\frac{{{one}}}{{{two}}}"),
            ((a[0] + b[0], a[1] - b[1]), f"{one}+{two}-{_tex(2 * b[1])}i"),
        ])  # fmt: skip
        w = z
        if not same:
            w = draw.choice(
                [(z[0], -z[1]), (-z[0], -z[1]), (z[1], z[0]), (z[0] + 1, z[1]), (z[0], z[1] + Fraction(1, 7))]
            )
        if 0 in z or 0 in w or (not same and w == z):
            continue
        count -= 1
        yield text.replace("--", "+"), _standard(w, draw)


# -------------------------------------------------------------------------------------------------------- quantities

UNITS: dict[str, dict[str, Fraction]] = {
    "length": {"mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": Fraction(1), "km": Fraction(1000)},
    "feet": {"inches": Fraction(1, 12), "feet": Fraction(1), "yards": Fraction(3), "miles": Fraction(5280)},
    "time": {"seconds": Fraction(1), "minutes": Fraction(60), "hours": Fraction(3600), "days": Fraction(86400)},
    "mass": {"mg": Fraction(1, 1000), "g": Fraction(1), "kg": Fraction(1000)},
    "volume": {"mL": Fraction(1, 1000), "L": Fraction(1)},
    "speed": {"m/s": Fraction(1), "km/h": Fraction(5, 18)},
    "area": {r"cm}^2\text{": Fraction(1, 10000), r"m}^2\text{": Fraction(1), r"km}^2\text{": Fraction(10**6)},
}


def quantities(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """The same quantity in two units; with another number, or with the unit of another kind."""
    draw = random.Random(seed)
    while count:
        kind = draw.choice(list(UNITS))
        one, other = draw.choice(list(UNITS[kind].items())), draw.choice(list(UNITS[kind].items()))
        number = Fraction(draw.randint(1, 5000), draw.choice((1, 1, 2, 4, 10)))
        converted, unit = number * one[1] / other[1], other[0]
        if not same:
            if draw.random() < 0.5:
                converted *= draw.choice((10, Fraction(1, 10), Fraction(1, 100), Fraction(101, 100)))
            else:
                unit = draw.choice([u for k, units in UNITS.items() if k != kind for u in units])
        if {kind, *(k for k, units in UNITS.items() if unit in units)} == {"length", "feet"}:
            continue  # an inch is a length too
        count -= 1
        yield _with_unit(number, one[0], draw), _with_unit(converted, unit, draw)


def _with_unit(number: Fraction, unit: str, draw: random.Random) -> str:
    text = draw.choice([t for t in number_texts(number) if "e" not in t and "{,}" not in t and "overline" not in t])
    return (text + rf"\text{{ {unit}}}").replace(r"\text{}", "")


# ------------------------------------------------------------------------------------------------------ sets of reals

Piece = tuple[Fraction, Fraction, bool, bool]  # low, high, whether each belongs to it


def _inside(pieces: list[Piece], x: Fraction) -> bool:
    return any(low < x < high or (x == low and a) or (x == high and b) for low, high, a, b in pieces)


def _probe(pieces: list[Piece], others: list[Piece]) -> bool:
    """Whether two unions are the same set: at all ends and between them."""
    ends = sorted({end for piece in pieces + others for end in piece[:2]})
    points = ends + [(a + b) / 2 for a, b in pairwise(ends)]
    return all(_inside(pieces, x) == _inside(others, x) for x in points)


def _drawn_pieces(draw: random.Random) -> list[Piece]:
    ends = [Fraction(n, 2) for n in sorted(draw.sample(range(-20, 21), 2 * draw.randint(2, 3)))]
    return [(a, b, draw.random() < 0.5, draw.random() < 0.5) for a, b in zip(ends[::2], ends[1::2], strict=True)]


def _split(pieces: list[Piece], draw: random.Random) -> list[Piece]:
    """The same set in other pieces: one is cut in two that touch, in any order."""
    i = draw.randrange(len(pieces))
    low, high, a, b = pieces[i]
    cut, left = (low + high) / 2, draw.random() < 0.5
    overlap = draw.random() < 0.3
    first = (low, (cut + high) / 2 if overlap else cut, a, left)
    return draw.sample([*pieces[:i], first, (cut, high, not left or overlap, b), *pieces[i + 1 :]], len(pieces) + 1)


def _as_intervals(pieces: list[Piece]) -> str:
    return r"\cup ".join(
        f"{'[' if a else '('}{_tex(low)},{_tex(high)}{']' if b else ')'}" for low, high, a, b in pieces
    )


def _as_inequalities(pieces: list[Piece]) -> str:
    sign = {True: r"\le ", False: "<"}
    return r"\text{ or }".join(f"{_tex(low)}{sign[a]}x{sign[b]}{_tex(high)}" for low, high, a, b in pieces)


def unions(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """Unions of intervals, cut and joined, as intervals or inequalities; a bracket or an end changed."""
    draw = random.Random(seed)
    while count:
        pieces = _drawn_pieces(draw)
        others = _split(pieces, draw)
        if not same:
            i = draw.randrange(len(others))
            low, high, a, b = others[i]
            others[i] = draw.choice([(low, high, not a, b), (low, high, a, not b), (low, high + Fraction(1, 9), a, b)])
        if _probe(pieces, others) != same:
            continue
        count -= 1
        yield _as_intervals(pieces), draw.choice((_as_intervals, _as_inequalities))(others)


# ---------------------------------------------------------------------------------------------------------- functions

# Identities in x, one side each, and what is put for x. All are real for 0 < x < 1.
IDENTITIES: list[tuple[str, str]] = [
    (r"\sin(2X)", r"2\sin(X)\cos(X)"),
    (r"\cos(2X)", r"1-2\sin^2(X)"),
    (r"\tan(X)", r"\frac{\sin(X)}{\cos(X)}"),
    (r"\sin(3X)", r"3\sin(X)-4\sin^3(X)"),
    (r"\cos(3X)", r"4\cos^3(X)-3\cos(X)"),
    (r"\sec^2(X)", r"1+\tan^2(X)"),
    (r"\sin^2(X)", r"\frac{1-\cos(2X)}{2}"),
    (r"\sin(X+\frac{\pi}{3})", r"\frac{\sin(X)+\sqrt{3}\cos(X)}{2}"),
    (r"e^{2X}", r"(e^{X})^2"),
    (r"e^{X+1}", r"e\cdot e^{X}"),
    (r"2^{X+3}", r"8\cdot 2^{X}"),
    (r"\ln(6X)", r"\ln 2+\ln 3+\ln(X)"),
    (r"\log_2(X)", r"\frac{\ln(X)}{\ln 2}"),
    (r"\sqrt{12X}", r"2\sqrt{3}\sqrt{X}"),
    (r"\frac{1}{\sqrt{X}+1}", r"\frac{\sqrt{X}-1}{X-1}"),
    (r"\cosh(X)", r"\frac{e^{X}+e^{-X}}{2}"),
    (r"\tanh(X)", r"1-\frac{2}{e^{2X}+1}"),
    (r"(X+1)^3", r"X^3+3X^2+3X+1"),
    (r"\frac{1}{X}-\frac{1}{X+1}", r"\frac{1}{X(X+1)}"),
    (r"\arctan(X)", r"\arcsin\left(\frac{X}{\sqrt{1+X^2}}\right)"),
]
INNER = ("x", "2x", r"\frac{x}{3}", "x^2")


def functions(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """Sums and products of identities, each side in its other form; different in one number or one function."""
    draw = random.Random(seed)
    for _ in range(count):
        sides, terms = ["", ""], draw.randint(1, 3)
        for term in range(terms):
            chosen, inner, k = draw.choice(IDENTITIES), draw.choice(INNER), draw.choice((1, 2, 3, 5))
            join = "" if not term else draw.choice(("+", "-"))
            for side, form in enumerate(draw.sample(chosen, 2)):
                body = form.replace("X", f"({inner})")
                sides[side] += join + (rf"{k}\left({body}\right)" if k > 1 or join == "-" else body)
        if not same:
            changed = [sides[1] + "+1", sides[1] + "-10^{-9}x", sides[1] + r"+\sin(x)"]
            if terms == 1:  # a difference of two terms could be zero, and twice zero is zero
                changed += [f"2({sides[1]})", f"-({sides[1]})"]
            sides[1] = draw.choice(changed)
        yield sides[0], sides[1]


# --------------------------------------------------------------------------------------------------------- tiny parts

TINY = (
    r"10^{-K}",
    r"2^{-K}",
    r"e^{-K}",
    r"\frac{1}{3^{K}}",
    r"\frac{1}{K!}",
    r"(1-\tanh K)",
    r"\pi^{-K}",
    r"10^{-K}\sqrt{2}",
)
WHOLE = (
    r"\sqrt{2}",
    r"\pi",
    "5",
    r"\frac{22}{7}",
    "e^2",
    r"\ln 3",
    "x^2+1",
    r"\sin x",
    r"\frac{1}{x+1}",
    "x",
    r"\sqrt{x^2+1}",
)


def tiny_parts(count: int, seed: int, same: bool) -> Iterator[Pair]:
    """A value and the same with a tiny part, which is no equal; or with the tiny part added and taken away again."""
    draw = random.Random(seed)
    for _ in range(count):
        whole, tiny = draw.choice(WHOLE), draw.choice(TINY).replace("K", str(draw.choice((12, 30, 60, 100, 200, 400))))
        if same:
            yield whole, f"{whole}+{tiny}-{tiny}"
        else:
            yield (
                whole,
                draw.choice([f"{whole}+{tiny}", f"{whole}-{tiny}", rf"\left({whole}\right)\left(1+{tiny}\right)"]),
            )


def check_identities() -> list[str]:
    """Those of the less known identities that do not hold to 50 digits at ten points, by mpmath."""
    mpmath.mp.dps = 60
    sides: list[tuple[str, Callable[[mpmath.mpf], mpmath.mpf], Callable[[mpmath.mpf], mpmath.mpf]]] = [
        ("sin 2X", lambda x: mpmath.sin(2 * x), lambda x: 2 * mpmath.sin(x) * mpmath.cos(x)),
        ("sin 3X", lambda x: mpmath.sin(3 * x), lambda x: 3 * mpmath.sin(x) - 4 * mpmath.sin(x) ** 3),
        ("cos 3X", lambda x: mpmath.cos(3 * x), lambda x: 4 * mpmath.cos(x) ** 3 - 3 * mpmath.cos(x)),
        (
            "sin(X + pi/3)",
            lambda x: mpmath.sin(x + mpmath.pi / 3),
            lambda x: (mpmath.sin(x) + mpmath.sqrt(3) * mpmath.cos(x)) / 2,
        ),
        ("1/(sqrt X + 1)", lambda x: 1 / (mpmath.sqrt(x) + 1), lambda x: (mpmath.sqrt(x) - 1) / (x - 1)),
        ("tanh X", mpmath.tanh, lambda x: 1 - 2 / (mpmath.exp(2 * x) + 1)),
        ("arctan X", mpmath.atan, lambda x: mpmath.asin(x / mpmath.sqrt(1 + x * x))),
    ]  # fmt: skip
    points = [mpmath.mpf(k) / 11 for k in range(1, 11)]
    return [name for name, one, other in sides if any(abs(one(x) - other(x)) > mpmath.mpf(10) ** -50 for x in points)]


FAMILIES: dict[str, Callable[[int, int, bool], Iterator[Pair]]] = {
    "complex_numbers": complex_numbers,
    "quantities": quantities,
    "unions": unions,
    "functions": functions,
    "tiny_parts": tiny_parts,
}
