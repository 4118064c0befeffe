"""Whether two expressions have equal values: refuted in floats, confirmed in many digits, at fixed random points."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import Any

from rewards.mathematics.fields import (
    COMPLEX_FLOATS,
    FLOATS,
    INTEGER_CALLS,
    Digits,
    Env,
    Floats,
    ImpreciseError,
    TooLargeError,
    UndefinedError,
    evaluate,
)
from rewards.mathematics.tree import Call, Const, Node, Num, has_call, symbols, walk

DIGITS = 50
MAX_DIGITS = 1_500
CLOSE = 1e-6  # floats further apart, relatively, belong to different values


@lru_cache(maxsize=64)
def points(count: int, whole: bool) -> tuple[tuple[complex, ...], ...]:
    """Where `count` variables are sampled: the same each time; all positive, all negative, mixed; small and large."""
    chance = random.Random(20_240 + count)
    found = []
    for trial in range(24):
        low, high = ((0.3, 0.95), (1.1, 4.0), (0.2, 6.0), (5.0, 40.0))[trial % 4]
        row = []
        for _ in range(count):
            sign = (1, -1, chance.choice((1, -1)), chance.choice((1, -1)))[(trial // 4 + trial) % 4]
            real = float(chance.randint(2, 12)) if whole else sign * round(chance.uniform(low, high) * 2**20) / 2**20
            row.append(complex(real, 0.0 if whole else round(chance.uniform(0.1, 1.2) * 2**20) / 2**20))
        found.append(tuple(row))
    return tuple(found)


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


def refuted(first: Node, second: Node) -> bool:
    """Whether floats tell two expressions apart at the first points where both have a value that is to be trusted."""
    names = sorted(symbols(first) | symbols(second))
    complexly = is_complex(first, second)
    if any(has_call(node, *INTEGER_CALLS) for node in (first, second)):
        return False
    field = COMPLEX_FLOATS if complexly else FLOATS
    for point in points(len(names), False)[:4] if names else ((),):
        env = {name: field.sample(value) for name, value in zip(names, point, strict=True)}
        try:
            values = value_of(first, env, field), value_of(second, env, field)
        except (ImpreciseError, TooLargeError):
            continue
        if values[0] is None or values[1] is None:
            continue
        if abs(values[0] - values[1]) > CLOSE * max(abs(values[0]), abs(values[1])) and max(map(abs, values)) > 1e-9:
            return True
    return False


def equal(first: Node, second: Node) -> bool | None:
    """Whether two expressions have equal values wherever both have one; None if that cannot be told.

    Where one is defined and the other is not, at a point of positive measure, they differ: ln(x^2) is not 2 ln(x).
    """
    names = sorted(symbols(first) | symbols(second))
    complexly = is_complex(first, second)
    whole = any(has_call(node, *INTEGER_CALLS) for node in (first, second))
    outcome = _equal(first, second, names, complexly, whole)
    if outcome is None and not complexly:  # nowhere defined over the reals
        outcome = _equal(first, second, names, True, whole)
    if outcome is None and names and not whole:  # (-1)^n
        outcome = _equal(first, second, names, complexly, True)
    return outcome


def _equal(first: Node, second: Node, names: list[str], complexly: bool, whole: bool) -> bool | None:
    trusted: list[tuple[complex, ...]] = []  # points to confirm at
    field = COMPLEX_FLOATS if complexly else FLOATS
    for point in points(len(names), whole) if names else ((),):
        env = {name: field.sample(value) for name, value in zip(names, point, strict=True)}
        try:
            values = value_of(first, env, field), value_of(second, env, field)
        except ImpreciseError:
            trusted.append(point)
            continue
        except TooLargeError:
            if not names:
                trusted.append(point)
            continue
        if values[0] is None and values[1] is None:
            continue
        if values[0] is None or values[1] is None:
            if complexly or (names and whole):
                return False
            if not names:
                return None
            if not continued(first, second, names, point):
                return False
            continue
        if abs(values[0] - values[1]) > CLOSE * max(abs(values[0]), abs(values[1])) and max(map(abs, values)) > 1e-9:
            return False
        trusted.append(point)
        if len(trusted) >= 6:
            break
    if not trusted:
        return None
    return confirmed(first, second, names, trusted, complexly)


def continued(first: Node, second: Node, names: list[str], point: tuple[complex, ...]) -> bool:
    """Whether the principal complex values agree where only one of two expressions has a real one.

    e^{ln x} = x for all x; but not ln(x^2) = 2 ln(x), nor sqrt(x y) = sqrt(x) sqrt(y).
    """
    return confirmed(first, second, names, [tuple(complex(value.real) for value in point)], True) is True


def literal_digits(*nodes: Node) -> int:
    """How many digits the longest number of the trees has."""
    bits = [
        max(part.value.numerator.bit_length(), part.value.denominator.bit_length())
        for node in nodes
        for part in walk(node)
        if isinstance(part, Num)
    ]
    return int(max(bits, default=0) * 0.302)


def confirmed(
    first: Node, second: Node, names: list[str], trusted: list[tuple[complex, ...]], complexly: bool
) -> bool | None:
    """Equality in DIGITS digits, more if the numbers are longer, at several points."""
    digits = min(DIGITS + literal_digits(first, second), MAX_DIGITS)
    seen = 0
    for point in trusted[:4]:
        outcome: bool | None = None
        for precision in (digits, 2 * digits + 60, MAX_DIGITS):
            field = Digits(precision, not complexly)
            env = {name: field.sample(value) for name, value in zip(names, point, strict=True)}
            try:
                values = value_of(first, env, field), value_of(second, env, field)
            except ImpreciseError:
                continue
            except TooLargeError:
                return None
            if values[0] is None or values[1] is None:
                outcome = None if values[0] is values[1] or not (names or complexly) else False
                if outcome is False and not complexly and continued(first, second, names, point):
                    outcome = None
                break
            largest, unit = max(abs(values[0]), abs(values[1])), field.ctx.mpf(10)
            outcome = bool(abs(values[0] - values[1]) <= largest * unit ** (12 - precision))
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
        except (TooLargeError, OverflowError):
            return None
    return None
