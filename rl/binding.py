"""A recipe names code by `_target_`; here that name becomes the object, and its options are held against its signature.

Signature defaults are the only defaults, and a mistyped option or value stops the run before a model loads.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?', or nothing where no known word is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]}?" if matches else ""


def nearest_or_all(words: Iterable[str], known: Sequence[str]) -> str:
    """'; did you mean X?' for the first of the words that is near to a known one, else all known ones if few."""
    for word in words:
        if close := difflib.get_close_matches(word, known, n=1):
            return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """ValueError unless the value of a recipe key is one of its choices."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, got {value!r}.{nearest(str(value), choices)}")


def locate(target: str, key: str) -> Callable[..., Any]:
    """The class or function of a dotted name such as "rl.algorithms.grpo.GRPO"."""
    module_name, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if not module_name or module_name.startswith("."):
        raise ValueError(f"{key}._target_ must be a dotted name such as package.module.name, got {target!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{key}._target_={target}: {module_name} cannot be imported: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{key}._target_={target}: {module_name} has no {name}.{nearest(name, vars(module))}")
    found: Callable[..., Any] = getattr(module, name)
    if not callable(found):
        raise ValueError(f"{key}._target_={target} is neither a function nor a class")
    return found


def build(section: Mapping[str, Any], key: str, **runtime: Any) -> Any:
    """Calls the `_target_` of a section with the section's options, and with what its signature names of `runtime`."""
    if "_target_" not in section:
        raise ValueError(f"{key} needs a _target_: the dotted name of what to build, got {dict(section)}")
    target = locate(section["_target_"], key)
    options = {name: value for name, value in section.items() if name != "_target_"}
    known = inspect.signature(target).parameters
    given = {name: value for name, value in runtime.items() if name in known and name not in options}
    check_options(target, options, key, given)
    return target(**options, **given)


def check_options(target: Callable[..., Any], options: Mapping[str, Any], key: str, given: Iterable[str] = ()) -> None:
    """ValueError for an unknown, missing or mistyped option of target."""
    parameters = inspect.signature(target).parameters
    hints = type_hints(target)
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in options.items():
        if name not in parameters and not takes_any:
            known = [known for known in parameters if known not in given]
            raise ValueError(f"{key} has no option {name}.{nearest(name, known)} Its options: {', '.join(known)}")
        if name in hints and not fits(value, hints[name]):
            raise ValueError(f"{key}.{name} must be {describe(hints[name])}, got {value!r}")
    for name, parameter in parameters.items():
        is_needed = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if is_needed and name not in options and name not in given:
            raise ValueError(f"{key}.{name} is missing: {getattr(target, '__name__', target)} needs it")


def type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The types of its parameters; those of a dataclass's fields are read where each field was written."""
    plain_class = inspect.isclass(target) and not dataclasses.is_dataclass(target)
    try:
        return typing.get_type_hints(target.__init__ if plain_class else target)
    except NameError:  # a type that its module imports for type checkers only: then values are not held against types
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML can be meant for a parameter of this type; True for types YAML cannot write."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if hint is str:
        return isinstance(value, str)
    if origin in (list, tuple) or hint in (list, tuple):
        return isinstance(value, list | tuple)
    return True


def describe(hint: Any) -> str:
    """The type in words."""
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) in (Union, UnionType):
        return " or ".join(describe(option) for option in typing.get_args(hint))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(hint, str(hint))
