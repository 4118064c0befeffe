"""What a program has printed or returned, against what was expected. Runs outside the sandbox, on text alone."""

from __future__ import annotations

import json
import math
from typing import Any

SHOWN_CHARS = 60


class Opaque:
    """A returned object that is no plain data: equal to nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind} object>"

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


def decode(text: bytes) -> Any:
    """The value that the driver's `encode` has written. Raises ValueError if it is not such a text."""
    try:
        return _decoded(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"not a value: {error}") from None


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = value["~"], value["v"]
    if kind == "int":
        return int(content, 16)
    if kind == "dict":
        return {_decoded(key): _decoded(item) for key, item in content}
    if kind in ("tuple", "set", "frozenset"):
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](_decoded(item) for item in content)
    if kind == "complex":
        return complex(*content)
    if kind == "bytes":
        return bytes.fromhex(content)
    return Opaque(str(kind) if kind != "object" else str(content))


def same_value(expected: Any, got: Any, *, tolerance: float = 0.0, loose: bool = False) -> bool:
    """Python's ==, with numbers up to `tolerance` (relative, absolute below 1) where the expected one is a float.

    loose: a tuple is as good as a list and keys of a dict may be written as text, for expected values that come from
    JSON, which has neither tuples nor other keys. nan equals nan.
    """
    try:
        return _same(expected, got, tolerance, loose)
    except RecursionError:
        return False


def _same(expected: Any, got: Any, tolerance: float, loose: bool) -> bool:
    if isinstance(expected, float) and isinstance(got, (int, float)):
        return same_number(expected, got, tolerance)
    if loose and isinstance(got, tuple):
        got = list(got)
    if loose and isinstance(expected, tuple):
        expected = list(expected)
    if isinstance(expected, (list, tuple)):
        if type(got) is not type(expected) or len(got) != len(expected):
            return False
        return all(_same(one, other, tolerance, loose) for one, other in zip(expected, got, strict=True))
    if isinstance(expected, dict) and isinstance(got, dict):
        if loose and expected.keys() != got.keys():
            got = {str(key): item for key, item in got.items()}
        return expected.keys() == got.keys() and all(
            _same(item, got[key], tolerance, loose) for key, item in expected.items()
        )
    return bool(expected == got)


def same_number(expected: float, got: float, tolerance: float) -> bool:
    if expected == got or (math.isnan(expected) and isinstance(got, float) and math.isnan(got)):
        return True
    if not tolerance or not math.isfinite(expected):
        return False
    try:
        return abs(expected - got) <= tolerance * max(1.0, abs(expected))
    except OverflowError:  # an int beyond all floats
        return False


def same_text(expected: str, got: str, *, tolerance: float = 0.0) -> bool:
    """The whole output, line by line; white space at the ends of lines and of the output does not count.

    With a tolerance, words that differ may be numbers that agree up to it (relative, absolute below 1), where the
    expected one is written with a point or an exponent; the number of lines and of words must be the same.
    """
    wanted, printed = _lines(expected), _lines(got)
    if wanted == printed:
        return True
    if not tolerance or len(wanted) != len(printed):
        return False
    return all(_same_line(line, other, tolerance) for line, other in zip(wanted, printed, strict=True))


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_line(expected: str, got: str, tolerance: float) -> bool:
    if expected == got:
        return True
    wanted, printed = expected.split(), got.split()
    return len(wanted) == len(printed) and all(
        word == other or _same_word(word, other, tolerance) for word, other in zip(wanted, printed, strict=True)
    )


def _same_word(expected: str, got: str, tolerance: float) -> bool:
    if not expected.isascii() or not got.isascii() or not set(expected).intersection(".eE") or "_" in expected + got:
        return False
    try:
        return same_number(float(expected), float(got), tolerance)
    except ValueError:
        return False


def shown(value: Any) -> str:
    """A value in a message, not longer than a line."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits, a structure too deep
        text = f"<{type(value).__name__}>"
    text = ascii(text[: SHOWN_CHARS + 1])[1:-1] if isinstance(value, str) else text
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."
