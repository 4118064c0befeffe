"""What a reward function gave back, as a verdict or as the reason why it is none. No torch here.

A reward is somebody's function: it may return anything and raise anything. One bad value costs one completion its value
and says what was returned; nothing here raises.
"""

from __future__ import annotations

import inspect
import math
import numbers
import reprlib
import sysconfig
import traceback
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from rl.experience import State, Verdict

OURS = {str(Path(__file__).with_name(f"reward_{name}.py")) for name in ("forms", "values", "arguments", "rubric")}
LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen")
SHOWN_CHARS = 80
MESSAGE_CHARS = 500


class Failed(NamedTuple):
    """Why a call gave no value for one completion."""

    state: State  # "error" here; "timeout" is for who kept the time
    message: str  # type, text and place of what was raised, or what was returned
    trace: str = ""


Outcome = Verdict | Failed


def outcome(value: Any, *, none_is_nothing: bool = False) -> Outcome:
    """A returned value as a verdict: one as it is, a number as "ok", or "wrong" if it is 0; Failed for anything else.

    `none_is_nothing`: None means "does not apply", as in TRL, whose sum over the terms leaves it out. It is worth 0.
    """
    if isinstance(value, Failed):
        return value
    if value is None and none_is_nothing:
        return Verdict(0.0, state="ok", reason="None: does not apply")
    try:
        number = _number(value)
        return value if isinstance(value, Verdict) else Verdict(number)
    except BaseException as error:  # a number's own __float__ may raise anything
        return failed(error)


def outcomes(values: Any, size: int, *, none_is_nothing: bool = False) -> tuple[Outcome, ...]:
    """A returned list as one outcome for each of `size` completions."""
    if isinstance(values, Failed):
        return (values,) * size
    try:
        each = row(values, size)
    except BaseException as error:
        return (failed(error),) * size
    return tuple(outcome(value, none_is_nothing=none_is_nothing) for value in each)


def failed(error: BaseException) -> Failed:
    """What was raised, as one line with the place in the user's own code, and as a traceback without our frames."""
    frames = _frames(error) or (_frames(error.__cause__) if error.__cause__ else [])
    own = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)] or frames
    what = "".join(traceback.format_exception_only(error)).strip()
    what = what if len(what) <= MESSAGE_CHARS else what[:MESSAGE_CHARS] + "..."
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    trace = "".join(["Traceback (most recent call last):\n", *traceback.format_list(frames), what]) if frames else ""
    return Failed("error", what + where, trace)


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Where it was raised, without our own calls."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in OURS]


def shown(value: object) -> str:
    """Type and beginning of any value, however large, and whatever its own __repr__ does."""
    if inspect.iscoroutine(value):
        value.close()  # nobody will await it
    kind = type(value).__name__
    if isinstance(value, int) and value.bit_length() > 256:  # Python refuses to write out the largest
        return f"{kind} of {value.bit_length()} bits"
    try:
        # A str of 1 MB or a list of a million is cut before it is written out; a short one is shown as it is.
        text = repr(value) if isinstance(value, str) and len(value) <= SHOWN_CHARS else reprlib.repr(value)
    except BaseException as error:
        return f"{kind} (its repr raises {type(error).__name__})"
    return f"{kind} {text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + '...'}"


def _number(value: Any) -> float:
    """A returned value as a float: int, bool, float, Fraction, Decimal, and scalars of numpy and torch."""
    if not isinstance(value, numbers.Real | Decimal) and not _is_scalar(value):
        raise TypeError(f"a reward must return a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"a reward must return a finite number, got {shown(value)}")
    return number


def _is_scalar(value: Any) -> bool:
    """A number without dimensions of numpy, torch or the like. Never text or complex, of which float() makes some."""
    if getattr(value, "shape", None) != () or not hasattr(value, "__float__"):
        return False
    dtype = getattr(value, "dtype", None)
    return getattr(dtype, "kind", "f") in "biuf" and not getattr(dtype, "is_complex", False)


def row(values: Any, size: int) -> list[Any]:
    """The values of a group: a list, a tuple, or an array or tensor of one dimension."""
    is_list = isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray | memoryview)
    is_vector = not isinstance(values, Mapping) and len(getattr(values, "shape", ())) == 1
    if not (is_list or is_vector) or len(values) != size:
        length = f" of length {len(values)}" if is_list or is_vector else ""
        raise TypeError(f"it must return a list of {size} numbers, one per completion, got{length} {shown(values)}")
    return list(values)
