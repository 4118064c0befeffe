"""Arithmetic for the values of expressions: in floats, to refute equality, and in many digits, to confirm it.

Every power, factorial and function is bounded before it is computed; what would be too large raises TooLargeError. Over
the reals a root of odd degree of a negative number is real; with i in either expression, principal complex values hold.
Floats refute only where they are to be trusted: sums that cancel, poles and jumps nearby raise ImpreciseError.
"""

from __future__ import annotations

import cmath
import math
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

MAX_LOG2 = 20_000  # of any value that is computed


class UndefinedError(ArithmeticError):
    """No value here: a pole, or outside the domain."""


class TooLargeError(ArithmeticError):
    """A value that would take too long to compute."""


class GivenUpError(ArithmeticError):
    """A value that is not found here: it takes too many steps, or it is an integral or a limit."""


class ImpreciseError(ArithmeticError):
    """A float whose error may be large."""


class Floats:
    """Real arithmetic in double precision."""

    pi, e = math.pi, math.e
    real, exact = True, False

    def num(self, value: Fraction) -> Any:
        try:
            return value.numerator / value.denominator
        except OverflowError:
            raise TooLargeError from None

    def sample(self, value: complex) -> Any:
        return value.real

    def total(self, terms: list[Any]) -> Any:
        """The sum, unless its terms nearly cancel."""
        result = math.fsum(terms)
        if abs(result) < 1e-4 * max(map(abs, terms)):
            raise ImpreciseError
        return result

    def root(self, base: Any, exponent: Fraction) -> Any:
        """base ^ (p/q), real for odd q."""
        p, q = exponent.numerator, exponent.denominator
        check_power(base, float(exponent))
        if base == 0:
            if p <= 0:
                raise UndefinedError
            return 0.0
        if q == 1 and abs(p) < 10**6:
            return base**p
        if abs(p) >= 10**6:
            raise ImpreciseError
        if base > 0:
            return base ** float(exponent)
        if q % 2 == 0:
            raise UndefinedError
        return (-1.0) ** p * (-base) ** float(exponent)

    def power(self, base: Any, exponent: Any) -> Any:
        check_power(base, exponent)
        if abs(exponent) > 1e6:
            raise ImpreciseError
        if base > 0:
            return base**exponent
        if base == 0 and exponent > 0:
            return 0.0
        if abs(exponent - round(exponent)) < 1e-9:
            raise ImpreciseError
        raise UndefinedError

    def call(self, name: str, x: Any) -> Any:
        if name == "exp":
            check_power(math.e, x)
        if name in ("sin", "cos", "tan") and abs(x) > 1e6:
            raise ImpreciseError
        if name == "ln":
            if x <= 0:
                raise UndefinedError
            if abs(x - 1) < 1e-4:
                raise ImpreciseError
        result = FLOAT_FUNCTIONS[name](x)
        if name in ("sin", "cos", "tan") and not 1e-4 < abs(result) < 1e4 and abs(x) > 1e-3:
            raise ImpreciseError
        return result

    def whole(self, name: str, x: Any) -> Any:
        if abs(x) > 1e12 or abs(x - round(x)) < 1e-6:
            raise ImpreciseError
        return float(math.floor(x) if name == "floor" else math.ceil(x))

    def gamma(self, x: Any) -> Any:
        return math.gamma(x)

    def conj(self, x: Any) -> Any:
        return x

    def parts(self, x: Any) -> tuple[Any, Any]:
        return x, 0.0

    def arg(self, x: Any) -> Any:
        return 0.0 if x > 0 else math.pi


class ComplexFloats(Floats):
    """Principal values in double precision."""

    real = False

    def sample(self, value: complex) -> Any:
        return value

    def num(self, value: Fraction) -> Any:
        return complex(super().num(value))

    def total(self, terms: list[Any]) -> Any:
        result = sum(terms)
        if abs(result) < 1e-4 * max(map(abs, terms)):
            raise ImpreciseError
        return result

    def root(self, base: Any, exponent: Fraction) -> Any:
        return self.power(base, complex(float(exponent)))

    def power(self, base: Any, exponent: Any) -> Any:
        check_power(abs(base), abs(exponent))
        if base == 0:
            if exponent.real <= 0:
                raise UndefinedError
            return 0j
        if exponent.imag == 0 and base.real < 0 and abs(base.imag) < 1e-9 * abs(base.real) and exponent.real % 1:
            raise ImpreciseError  # a rounding error decides between two branches
        return base**exponent

    def call(self, name: str, x: Any) -> Any:
        if abs(x) > 300 and name != "ln":
            raise ImpreciseError
        if name == "ln":
            if x == 0:
                raise UndefinedError
            if (x.real < 0 and abs(x.imag) < 1e-9 * abs(x.real)) or abs(x - 1) < 1e-4:
                raise ImpreciseError
        result = COMPLEX_FUNCTIONS[name](x)
        if not 1e-4 < abs(result) < 1e4:
            raise ImpreciseError
        return result

    def whole(self, name: str, x: Any) -> Any:
        return complex(super().whole(name, x.real))

    def gamma(self, x: Any) -> Any:
        return complex(math.gamma(x.real))

    def conj(self, x: Any) -> Any:
        return x.conjugate()

    def parts(self, x: Any) -> tuple[Any, Any]:
        return complex(x.real), complex(x.imag)

    def arg(self, x: Any) -> Any:
        if abs(x.imag) < 1e-9 * abs(x):
            raise ImpreciseError
        return complex(cmath.phase(x))


class Digits(Floats):
    """Real or complex arithmetic in as many digits as asked for, by mpmath."""

    exact = True

    def __init__(self, digits: int, real: bool) -> None:
        self.ctx = context(digits, threading.get_ident())
        self.real = real
        self.pi, self.e = +self.ctx.pi, +self.ctx.e
        self.tiny = self.ctx.mpf(10) ** (8 - digits)
        self.digits = digits
        self.lost = 0.0  # digits that cancelled in sums so far

    def num(self, value: Fraction) -> Any:
        return self.ctx.mpf(value.numerator) / value.denominator

    def sample(self, value: complex) -> Any:
        return self.ctx.mpf(value.real) if self.real else self.ctx.mpc(value)

    def total(self, terms: list[Any]) -> Any:
        result = sum(terms[1:], terms[0])
        sizes = [abs(term) for term in terms]
        largest = max(sizes)
        least = largest * self.least()
        if any(0 < size < least for size in sizes):
            raise ImpreciseError("a term that these digits do not hold")
        size = abs(result)
        if size < self.tiny * largest:
            return self.ctx.mpf(0)
        if size < 1e-3 * largest:
            self.lost += float(self.ctx.log10(largest / size))
        return self.clean(result)

    def clean(self, value: Any) -> Any:
        """The value without an imaginary part that is rounding error; over the reals one that is none is an error."""
        if isinstance(value, self.ctx.mpc):
            if abs(value.imag) <= self.tiny * abs(value.real):
                return value.real
            if self.real:
                raise UndefinedError
            if abs(value.real) <= self.tiny * abs(value.imag):
                return self.ctx.mpc(0, value.imag)
        return value

    def root(self, base: Any, exponent: Fraction) -> Any:
        p, q = exponent.numerator, exponent.denominator
        check_power(abs(base), exponent)
        if base == 0:
            if p <= 0:
                raise UndefinedError
            return self.ctx.mpf(0)
        if abs(p) > 1000:
            self.lost += math.log10(abs(p))
        if q == 1:
            return self.clean(base**p)
        if self.real and base < 0:
            if q % 2 == 0:
                raise UndefinedError
            return (-1) ** p * (-base) ** self.num(exponent)
        return self.clean(self.ctx.power(base, self.num(exponent)))

    def power(self, base: Any, exponent: Any) -> Any:
        check_power(abs(base), abs(exponent))
        if base == 0:
            if self.ctx.re(exponent) <= 0:
                raise UndefinedError
            return self.ctx.mpf(0)
        if 0 < abs(exponent) < self.least():
            raise ImpreciseError
        if abs(exponent) > 1000:
            self.lost += float(self.ctx.log10(abs(exponent) * (1 + abs(self.ctx.log(base)))))
        nearest = self.ctx.nint(self.ctx.re(exponent))
        if abs(exponent - nearest) <= self.tiny * max(1, abs(nearest)):
            return self.clean(base ** int(nearest))
        return self.clean(self.ctx.power(base, exponent))

    def call(self, name: str, x: Any) -> Any:
        if name == "ln" and x == 0:
            raise UndefinedError
        if (abs(x) > MAX_LOG2 and name in ("exp", "sinh", "cosh", "tanh")) or abs(x) > 1e300:
            raise TooLargeError
        self.saturated(name, x)
        if name in ("sinh", "cosh", "tanh"):  # by exponentials, whose small one must show in the sum
            above = self.total([self.ctx.exp(x), (1 if name == "cosh" else -1) * self.ctx.exp(-x)]) / 2
            return self.clean(above / self.call("cosh", x) if name == "tanh" else above)
        function = getattr(self.ctx, MP_NAMES.get(name, name))
        result = self.clean(function(x))
        if name in ("sin", "cos", "tan"):
            error = self.tiny * max(1, abs(x))
            if error > 1e-9:
                raise ImpreciseError
            if abs(result) < error:
                return self.ctx.mpf(0)
        self.conditioned(name, x, result)
        if name == "tan" and abs(result) * self.tiny > 1:
            raise UndefinedError
        return result

    def conditioned(self, name: str, x: Any, result: Any) -> None:
        """Counts the digits that a function loses: log10 of |x f'(x) / f(x)|."""
        size, value = abs(x), abs(result)
        if name == "exp":
            factor = size
        elif name in ("sin", "cos", "tan") and value:
            factor = size / value * (1 + value * value)
        elif name == "ln" and value:
            factor = 1 / value
        elif name in ("arcsin", "arccos", "arctanh", "arccosh") and size != 1 and value:
            factor = 1 / (abs(1 - size) * value)
        else:
            return
        if factor > 1e3:
            self.lost += float(self.ctx.log10(factor))

    def least(self) -> Any:
        """Relative to the whole, what is smaller may be lost when values are compared."""
        return self.ctx.mpf(10) ** (14 + self.lost - self.digits)

    def saturated(self, name: str, x: Any) -> None:
        """Raises ImpreciseError where these digits do not tell a value from its limit: cos x from 1, sin x from x."""
        size, least = abs(x), self.least()
        if name == "exp" and 0 < size < least:
            raise ImpreciseError
        if name in ("cos", "sin", "tan", "arcsin", "arctan", "arcsinh", "arctanh") and 0 < size * size < least:
            raise ImpreciseError
        if name == "arctan" and size * least > 1:
            raise ImpreciseError

    def whole(self, name: str, x: Any) -> Any:
        nearest = self.ctx.nint(self.ctx.re(x))
        if abs(x - nearest) <= self.tiny * max(1, abs(nearest)):
            return nearest
        return self.ctx.floor(x) if name == "floor" else self.ctx.ceil(x)

    def gamma(self, x: Any) -> Any:
        return self.ctx.gamma(x)

    def conj(self, x: Any) -> Any:
        return self.ctx.conj(x)

    def parts(self, x: Any) -> tuple[Any, Any]:
        return self.ctx.re(x), self.ctx.im(x)

    def arg(self, x: Any) -> Any:
        return self.ctx.arg(x)


FLOAT_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan,
    "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh, "arcsinh": math.asinh, "arccosh": math.acosh,
    "arctanh": math.atanh, "exp": math.exp, "ln": math.log,
}  # fmt: skip
COMPLEX_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "arcsin": cmath.asin, "arccos": cmath.acos,
    "arctan": cmath.atan,
    "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh, "arcsinh": cmath.asinh, "arccosh": cmath.acosh,
    "arctanh": cmath.atanh, "exp": cmath.exp, "ln": cmath.log,
}  # fmt: skip
MP_NAMES = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "ln": "log",
}  # fmt: skip
FLOATS, COMPLEX_FLOATS = Floats(), ComplexFloats()


@lru_cache(maxsize=64)
def context(digits: int, thread: int) -> Any:
    """mpmath's arithmetic with its own precision; one for each thread, as its functions change it while they run."""
    from mpmath.ctx_mp import MPContext

    ctx = MPContext()
    ctx.dps = digits
    return ctx


def check_power(base: Any, exponent: Any) -> None:
    """Raises TooLargeError before base ^ exponent is computed, if it would leave the range."""
    size = abs(base)
    if size == 0 or size == 1:
        return
    try:
        bits = abs(math.log2(size)) if isinstance(size, float) else abs(_log2(size))
        if bits * abs(exponent) > MAX_LOG2:
            raise TooLargeError
    except OverflowError:
        raise TooLargeError from None


def _log2(size: Any) -> float:
    """log2 of an mpf from its exponent: enough for a bound."""
    return float(size.man.bit_length() + size.exp) if hasattr(size, "man") and size.man else 1.0
