"""From a recipe's `rewards` section to functions that can be called. No torch here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import math
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from rl.binding import nearest_or_all
from rl.reward_forms import TERM_KEYS, BoundReward, bind
from rl.reward_rubric import is_rubric

OnError = Literal["mask", "zero", "stop"]
NoAnswer = Literal["mask", "zero"]
KEYS = ("_target_", "fn", *TERM_KEYS)  # all others are options


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTerm:
    """One summand of the reward: what is called, and what becomes of its value (rl/combine.py)."""

    name: str
    target: str  # "rewards.math_answer.math_answer" or "/absolute/path/file.py:function"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the function
    weight: float = 1.0
    gate: str = ""  # the term that must be above 0 for this one to count; empty: it always counts
    clip: tuple[float, float] | None = None  # its value is moved into this range before it is weighted
    on_error: OnError = "mask"  # what a verdict undecided, timeout, error or bad_gold does: "stop" ends the run
    no_answer: NoAnswer = "mask"  # what a completion without an answer gets
    deadline_s: float | None = None  # for one completion; None: scoring.deadline_s, or more for an async function


def bound_reward(term: RewardTerm) -> BoundReward:
    """The term's function with its options. Raises ValueError whose text continues "rewards.<name>"."""
    return bind(load(term.target), term.options)


def reward_terms(rewards: Mapping[str, Mapping[str, Any]]) -> list[RewardTerm]:
    """The recipe's `rewards` section, checked: every function is imported and its options bound.

    {name: {_target_: module.function, or fn: file.py:function or module:function, weight: 1.0, **options}}, with the
    other fields of RewardTerm as keys. A relative file is meant from the current working directory. Raises ValueError
    that names the key to change.
    """
    if not rewards:
        raise ValueError("rewards is empty: a recipe needs at least one, for example rewards=math")
    for name, section in rewards.items():
        if isinstance(section, Mapping) and section and set(section) <= set(TERM_KEYS):
            others = [other for other in rewards if other != name]
            raise ValueError(
                f"rewards.{name} has no _target_ and no fn: no such reward{nearest_or_all([name], others)}"
            )
    terms = [_reward_term(str(name), section) for name, section in rewards.items()]
    for term in terms:
        others = [other.name for other in terms if other.name != term.name]
        if term.gate and term.gate not in others:
            raise ValueError(
                f"rewards.{term.name}.gate={term.gate} names no other reward{nearest_or_all([term.gate], others)}"
            )
    return terms


def _reward_term(name: str, section: Mapping[str, Any]) -> RewardTerm:
    key = f"rewards.{name}"
    if not isinstance(section, Mapping):
        raise ValueError(f"{key} must be a mapping with `_target_` or `fn`, got {section!r}")
    options = {str(option): value for option, value in section.items() if option not in KEYS}
    term = RewardTerm(
        name=name,
        target=_target(key, section, options),
        options=options,
        weight=_number(f"{key}.weight", section.get("weight", 1.0)),
        gate=str(section.get("gate") or ""),
        clip=_range(f"{key}.clip", section.get("clip")),
        on_error=_choice(f"{key}.on_error", section.get("on_error", "mask"), get_args(OnError)),
        no_answer=_choice(f"{key}.no_answer", section.get("no_answer", "mask"), get_args(NoAnswer)),
        deadline_s=_seconds(f"{key}.deadline_s", section.get("deadline_s")),
    )
    try:
        function = load(term.target)
        for taken in set(KEYS) & set(section) & set(_parameters(function)):
            raise ValueError(f".{taken} is a key of every reward and an option of this function: rename the option")
        bind(function, options)
    except ValueError as error:
        raise ValueError(f"{key}{error}") from error
    return term


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, got {value!r}")
    return float(value)


def _range(key: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{key} must be a list of two numbers, [lowest, highest], got {value!r}")
    lowest, highest = (_number(key, bound) for bound in value)
    if lowest > highest:
        raise ValueError(f"{key} must be [lowest, highest], got {value!r}")
    return lowest, highest


def _choice(key: str, value: Any, choices: Sequence[str]) -> Any:
    if value not in choices:
        raise ValueError(
            f"{key} must be one of {', '.join(choices)}, got {value!r}{nearest_or_all([str(value)], choices)}"
        )
    return value


def _seconds(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if _number(key, value) <= 0:
        raise ValueError(f"{key} must be a positive number of seconds, got {value!r}")
    return float(value)


def _parameters(function: Callable[..., Any]) -> Sequence[str]:
    with contextlib.suppress(TypeError, ValueError):
        return list(inspect.signature(function).parameters)
    return []


def _target(key: str, section: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The one function that the section names, as RewardTerm.target wants it."""
    dotted, function = section.get("_target_"), section.get("fn")
    if dotted is not None and function is not None:
        raise ValueError(f"{key} has both _target_ ({dotted}) and fn ({function}); give one")
    if dotted is None and function is None:
        near = nearest_or_all(options, KEYS)
        raise ValueError(f"{key} needs _target_: module.function or fn: file.py:function, got {dict(section)!r}{near}")
    if function is None:
        if not isinstance(dotted, str) or "." not in dotted:
            raise ValueError(f"{key}._target_ must look like rewards.math_answer.math_answer, got {dotted!r}")
        return dotted
    where, colon, what = str(function).rpartition(":")
    if not colon or not where or not what:
        raise ValueError(f"{key}.fn must look like my_rewards.py:function or module:function, got {function!r}")
    return f"{Path(where).expanduser().resolve()}:{what}" if where.endswith(".py") else f"{where}.{what}"


def load(target: str) -> Callable[..., Any]:
    """The function that a target names. Raises ValueError whose text continues "rewards.<name>"."""
    where, is_file, what = target.rpartition(":")
    if is_file:
        key, module = ".fn", _load_file(Path(where))
    else:
        where, _, what = target.rpartition(".")
        key, module = f": {target}", _load_module(where)
    function: Any = getattr(module, what, None)
    if not callable(function) and not is_rubric(function):
        found = "is not there" if function is None else f"is {function!r}, not a function"
        names = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(f"{key}: {what} {found} in {where}{nearest_or_all([what], names)}")
    return function


def _load_file(path: Path) -> ModuleType:
    """The module in a file, executed once a process. Modules beside it can be imported from it."""
    name = f"reward_file_{path.stem}_{abs(hash(str(path)))}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        near = nearest_or_all([path.name], [other.name for other in path.parent.glob("*.py")])
        raise ValueError(f".fn: there is no file {path}{near}")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit):
        del sys.modules[name]
        raise ValueError(f".fn: importing {path} failed:\n{traceback.format_exc()}") from None
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):  # an import inside the module is what failed
            raise ValueError(f": importing {name} failed:\n{traceback.format_exc()}") from None
        raise ValueError(f": there is no module {error.name}{nearest_or_all([name], _siblings(name))}") from None
    except (Exception, SystemExit):
        raise ValueError(f": importing {name} failed:\n{traceback.format_exc()}") from None


def _siblings(module: str) -> list[str]:
    """The modules in the package in which `module` was looked for."""
    package = module.rpartition(".")[0]
    with contextlib.suppress(ImportError):
        path = importlib.import_module(package).__path__ if package else None
        return [f"{package}.{found.name}" if package else found.name for found in pkgutil.iter_modules(path)]
    return []
