"""Whether two expressions have equal values: refuted in floats, confirmed in many digits, at fixed random points."""

from __future__ import annotations

import itertools
import math
import random
from functools import lru_cache
from typing import Any

from rewards.mathematics.evaluate import INTEGER_CALLS, Env, evaluate
from rewards.mathematics.fields import (
    COMPLEX_FLOATS,
    FLOATS,
    Digits,
    Floats,
    GivenUpError,
    ImpreciseError,
    TooLargeError,
    UndefinedError,
)
from rewards.mathematics.tree import Call, Const, Node, Num, Pow, children, symbols, walk

DIGITS = 50
MAX_DIGITS = 1_500
CORNERS = frozenset(
    ("abs", "sgn", "floor", "ceil", "max", "min", "arg", "ln", "log", "lg", "arcsin", "arccos", "arctan", "arccot")
)
FAR = (
    103.0,
    1007.0,
    1.03e4,
    1.1e6,
    1.3e9,
    1.7e13,
    1.9e18,
    2.3e25,
    2.9e40,
)  # for corners such as that of |sqrt(x) - 10^6|
COUNTERS = frozenset("nkmjN")
JUMPS = frozenset(("sgn", "floor", "ceil"))
MAX_SCALES = 12
MAX_FURTHER = 250
CLOSE = 1e-6  # floats further apart, relatively, belong to different values


Point = tuple[complex, ...]


@lru_cache(maxsize=256)
def points(whole: tuple[bool, ...]) -> tuple[Point, ...]:
    """Where variables are sampled, the same each time: all positive, all negative, mixed; small and large.

    `whole` says of each variable whether it stands for an integer.
    """
    chance = random.Random(20_240 + len(whole))
    found = []
    for trial in range(24):
        low, high = ((0.3, 0.95), (1.1, 4.0), (0.2, 6.0), (5.0, 40.0))[trial % 4]
        row = []
        for integer in whole:
            if trial >= 6:
                low, high = chance.choice(((0.3, 0.95), (1.1, 4.0), (0.2, 6.0), (5.0, 40.0)))
            sign = (1, -1, chance.choice((1, -1)), chance.choice((1, -1)))[(trial // 4 + trial) % 4]
            real = sign * round(chance.uniform(low, high) * 2**20) / 2**20
            count = chance.randint(2, 25)
            row.append(complex(count if integer else real, round(chance.uniform(0.1, 1.2) * 2**20) / 2**20))
        found.append(tuple(row))
    return tuple(found)


def beyond(nodes: tuple[Node, ...], count: int) -> list[Point]:
    """Points beyond the constants of expressions with corners or jumps: |x - 1000| is 1000 - x up to 1000 only."""
    scales: set[float] = set()
    for node in nodes:
        for part in constants(node):
            value = abs(constant_value(part) or 0.0)
            scales |= {value, 1 / value} if 1e-150 < value < 1 else {value}
    wanted = sorted(scale for scale in scales if 1e-150 < scale < 1e150)[:MAX_SCALES]
    reals = [(a + b) / 2 for a, b in itertools.pairwise(wanted)]
    for scale in wanted:
        reals += [2.0113 * scale, 0.5137 * scale, scale + 1.0037, scale - 1.0037]  # and not on a zero or pole
        reals += [1.5 * math.exp(scale), scale * scale * 1.5] if 4 < scale < 300 else []
    reals += FAR
    found = []
    for real in (sign * real for real in reals for sign in (1, -1)):
        found.append(tuple(complex(real * (1 + k / 8)) for k in range(count)))
        found += [tuple(complex(real if k == j else 0.7 + k) for k in range(count)) for j in range(count) if count > 1]
    return found[:MAX_FURTHER]


def at_jumps(first: Node, second: Node) -> list[float]:
    """Where floor, sgn and their like may jump: 0, the constants of the expressions, and twice these."""
    values = {abs(constant_value(part) or 0.0) for node in (first, second) for part in constants(node)}
    values |= {1 / value for value in values if 1e-150 < value < 1}
    wanted = [value for value in sorted(values) if value < 1e150][:MAX_SCALES]
    return [0.0, *(factor * value for value in wanted for factor in (1, -1, 2))]


def has_corner(node: Node) -> bool:
    """Whether an expression itself, its parts aside, is not analytic in its variables."""
    if isinstance(node, Call):
        return node.name in CORNERS and bool(symbols(node))
    return isinstance(node, Pow) and isinstance(node.exponent, Num) and node.exponent.value.denominator > 1


def constants(node: Node) -> list[Node]:
    """The largest parts without variables."""
    if not symbols(node):
        return [node]
    return [found for part in children(node) for found in constants(part)]


def integers_of(*nodes: Node) -> frozenset[str]:
    """The variables that must be integers: in the bounds of sums, in gcd and its like, the n of (-1)^n."""
    found: set[str] = set()
    for node in nodes:
        for part in walk(node):
            if isinstance(part, Call) and part.name in INTEGER_CALLS:
                args = part.args[2:] if part.name in ("sum", "prod") else part.args
                found.update(name for arg in args for name in symbols(arg))
            elif isinstance(part, Pow) and isinstance(part.base, Num) and part.base.value < 0:  # (-1)^n
                found.update(name for name in symbols(part.exponent) if name in COUNTERS)
    return frozenset(found)


def environment(names: list[str], point: Point, field: Floats) -> Env:
    """The variables' values; over the complex numbers only z and w, with their indices, are not real."""
    return {
        name: field.sample(value if name[0] in "zw" and not field.real else complex(value.real))
        for name, value in zip(names, point, strict=True)
    }


def is_complex(*nodes: Node) -> bool:
    return any(
        (isinstance(part, Const) and part.name == "i")
        or (isinstance(part, Call) and part.name in ("conj", "Re", "Im", "cis"))
        for node in nodes
        for part in walk(node)
    )


def value_of(node: Node, env: Env, field: Floats) -> Any:
    """The value; every arithmetic failure as one of the three errors above; None for UndefinedError."""
    try:
        value = evaluate(node, env, field)
        if not field.exact and (value != value or abs(value) == math.inf):
            raise TooLargeError
        return value
    except UndefinedError:
        return None
    except (TooLargeError, ImpreciseError):
        raise
    except (ZeroDivisionError, ValueError):  # the domain errors of math, cmath and mpmath
        return None
    except OverflowError:
        raise TooLargeError from None


def apart(first: Any, second: Any) -> bool:
    """Whether two floats belong to different values."""
    largest = max(abs(first), abs(second))
    return bool(abs(first - second) > CLOSE * largest and largest > 1e-9)


def refuted(first: Node, second: Node) -> bool:
    """Whether floats tell two expressions apart at the first points where both have a value that is to be trusted."""
    names = sorted(symbols(first) | symbols(second))
    if integers_of(first, second):
        return False
    field = COMPLEX_FLOATS if is_complex(first, second) else FLOATS
    for point in points((False,) * len(names))[:4] if names else ((),):
        env = environment(names, point, field)
        try:
            values = value_of(first, env, field), value_of(second, env, field)
        except (ImpreciseError, TooLargeError):
            continue
        except GivenUpError:
            return False
        if values[0] is not None and values[1] is not None and apart(*values):
            return True
    return False


def equal(first: Node, second: Node) -> bool | None:
    """Whether two expressions have equal values wherever both have one; None if that cannot be told.

    Where one is defined and the other is not, at a point of positive measure, they differ unless their principal
    complex values agree there: e^{ln x} is x, but ln(x^2) is not 2 ln(x).
    """
    names = sorted(symbols(first) | symbols(second))
    complexly = is_complex(first, second)
    whole = integers_of(first, second)
    mask = tuple(name in whole for name in names)
    try:
        outcome = _equal(first, second, names, complexly, mask)
        if outcome is None and not complexly:  # nowhere defined over the reals
            outcome = _equal(first, second, names, True, mask)
        if outcome is None and not all(mask):  # (-1)^n
            outcome = _equal(first, second, names, complexly, (True,) * len(names))
    except GivenUpError:
        return None
    return outcome


def _equal(first: Node, second: Node, names: list[str], complexly: bool, whole: tuple[bool, ...]) -> bool | None:
    trusted: list[Point] = []  # points to confirm at
    doubtful: list[Point] = []  # and those where floats did not serve
    field = COMPLEX_FLOATS if complexly else FLOATS
    corners = any(has_corner(part) for node in (first, second) for part in walk(node))
    wanted = 24 if corners else 12 if any(whole) else 6
    further = beyond((first, second), len(names)) if corners else []
    jumps = [part for node in (first, second) for part in walk(node) if isinstance(part, Call) and part.name in JUMPS]
    landings = [tuple(complex(scale) for _ in names) for scale in at_jumps(first, second)] if jumps and names else []
    further = landings + further
    for number, point in enumerate((*further, *points(whole)) if names else ((),)):
        env = environment(names, point, field)
        try:
            values = value_of(first, env, field), value_of(second, env, field)
        except (ImpreciseError, TooLargeError) as error:
            if isinstance(error, ImpreciseError) or not names:
                doubtful.append(point)
            continue
        if values[0] is None and values[1] is None:
            continue
        if values[0] is None or values[1] is None:
            if number < len(landings):
                continue
            if complexly or any(whole):
                return False
            if not names:
                return None
            if continued(first, second, names, point) is False:  # None: too large, as 2^x is for the float that x is
                return False
            continue
        if apart(*values):
            return False
        trusted.append(point)
        if number >= len(further) and number >= len(further) + wanted - 1:
            break
    most = 10 if further or any(whole) else 4
    chosen = doubtful[: 2 * most] + trusted[-most:]
    return confirmed(first, second, names, chosen, complexly) if chosen else None


def continued(first: Node, second: Node, names: list[str], point: Point) -> bool | None:
    """Whether the principal complex values agree where only one of two expressions has a real one; None if too large.

    e^{ln x} = x for all x; but not ln(x^2) = 2 ln(x), nor sqrt(x y) = sqrt(x) sqrt(y).
    """
    return confirmed(first, second, names, [tuple(complex(value.real) for value in point)], True)


def literal_digits(*nodes: Node) -> int:
    """How many digits the longest number of the trees has."""
    bits = [
        max(part.value.numerator.bit_length(), part.value.denominator.bit_length())
        for node in nodes
        for part in walk(node)
        if isinstance(part, Num)
    ]
    return int(max(bits, default=0) * 0.302)


def confirmed(first: Node, second: Node, names: list[str], trusted: list[Point], complexly: bool) -> bool | None:
    """Equality in DIGITS digits, more if the numbers are longer, at several points.

    At a point where twice the digits do not hold every part of the expressions nothing is said: if they agree at others
    where all parts show, they are equal. A constant has no other point, so more digits are tried.
    """
    digits = min(DIGITS + literal_digits(first, second), MAX_DIGITS)
    seen = 0
    for point in trusted:
        for precision in (digits, 2 * digits + 60) if names else (digits, 2 * digits + 60, MAX_DIGITS):
            field = Digits(precision, not complexly)
            env = environment(names, point, field)
            outcome = None
            try:
                values = value_of(first, env, field), value_of(second, env, field)
            except ImpreciseError:
                continue
            except TooLargeError:
                if not names:
                    return None
                break
            if values[0] is None or values[1] is None:
                outcome = None if values[0] is values[1] or not (names or complexly) else False
                if outcome is False and not complexly and continued(first, second, names, point):
                    outcome = None
                break
            largest, unit = max(abs(values[0]), abs(values[1])), field.ctx.mpf(10)
            if precision - field.lost < digits - 5:
                continue
            outcome = bool(abs(values[0] - values[1]) <= largest * unit ** (12 + field.lost - precision))
            if outcome or largest > unit ** (16 - precision):
                break
            outcome = True  # both vanish as far as can be seen; at twice the digits this is certain
        if outcome is False:
            return False
        seen += outcome is True
    return True if seen else None


def constant_value(node: Node) -> float | None:
    """The real value of an expression without variables, None if it has none that floats can hold."""
    if symbols(node):
        return None
    for field in (FLOATS, Digits(DIGITS, True)):
        try:
            value = value_of(node, {}, field)
            return None if value is None else float(value)
        except ImpreciseError:
            continue
        except (TooLargeError, GivenUpError, OverflowError):
            return None
    return None
