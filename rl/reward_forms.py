"""Reward functions of every form in use, called in the way that each was written for.

    G  completions of one prompt

A form is told by the names of a function's parameters, never by trying it: a wrong guess would score garbage. What
could be two forms, or is none, is refused with the list of those that are accepted. What a form is given is in
rl/reward_arguments.py, what it may give back in rl/reward_values.py. No torch here.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rl import reward_arguments as arguments
from rl import reward_rubric
from rl.binding import describe, fits, nearest_or_all, type_hints
from rl.experience import Completion, Prompt
from rl.reward_arguments import Arguments, Terms
from rl.reward_values import Failed, Outcome, failed, outcome, outcomes, row, shown

__all__ = ["ACCEPTED_FORMS", "BoundReward", "Failed", "Form", "Outcome", "bind"]

Form = Literal["ours", "group", "trl", "verl", "openrlhf", "verifiers"]

ACCEPTED_FORMS = """accepted are, with `def` or `async def`:
  ours:       f(problem, completion, *, options) -> float; may also name `prompt` and `terms`
  our group:  f(problem, completions, *, options) -> list of floats, all completions of a prompt at once
  TRL:        f(prompts, completions, **columns) -> list of floats; open-r1's f(completions, solution, **columns)
  verl:       f(data_source, solution_str, ground_truth, extra_info) -> float or {"score": float}; also all in plural
  OpenRLHF:   f(queries, prompts, labels, **kwargs) -> list or tensor, or {"rewards": list or tensor}
  verifiers:  f(prompt, completion, answer, state, info, ...) -> float, some of them; f(states) -> list; a Rubric"""

TERM_KEYS = ("weight", "gate", "clip", "on_error", "no_answer", "deadline_s")  # of every term, beside its options
Parameters = Mapping[str, inspect.Parameter]
BY_NAME = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _Calling(NamedTuple):
    """How functions of one form are called."""

    form: Form
    whole_group: bool  # one call gives a list with a value for each completion
    arguments: Arguments
    given: frozenset[str]  # what the framework passes, so no option may be called so
    columns: bool = False  # the data's columns are passed too: which there are is known only when called
    all_named: bool = False  # **kwargs gets everything that is given, not options alone


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


OURS = _Calling("ours", False, arguments.our_arguments, _names("problem completion prompt terms"))
GROUP = _Calling("group", True, arguments.group_arguments, _names("problem completions prompt terms"))
TRL_NAMES = _names("prompts completions completion_ids answer id source trainer_state log_extra log_metric")
TRL = _Calling("trl", True, arguments.trl_arguments, TRL_NAMES, columns=True, all_named=True)
VERL_NAMES = _names("data_source solution_str ground_truth extra_info")
VERL = _Calling("verl", False, arguments.verl_arguments, VERL_NAMES, all_named=True)
VERL_BATCH_NAMES = _names("data_sources solution_strs ground_truths extra_infos")
VERL_BATCH = _Calling("verl", True, arguments.verl_batch_arguments, VERL_BATCH_NAMES, all_named=True)
OPENRLHF = _Calling("openrlhf", True, arguments.openrlhf_arguments, _names("queries prompts labels"), all_named=True)
VERIFIERS_NAMES = _names("prompt completion answer state info task parser")
VERIFIERS = _Calling("verifiers", False, arguments.verifiers_arguments, VERIFIERS_NAMES, columns=True, all_named=True)
VERIFIERS_GROUP_NAMES = _names("prompts completions answers states infos tasks parser")
VERIFIERS_GROUP = _Calling(
    "verifiers", True, arguments.verifiers_group_arguments, VERIFIERS_GROUP_NAMES, all_named=True
)

# A parameter of one of these names can only mean that the function is of that form.
TELLING = {
    "solution_str": VERL,
    "solution_strs": VERL_BATCH,
    "queries": OPENRLHF,
    "completion_ids": TRL,
    "state": VERIFIERS,
    "states": VERIFIERS_GROUP,
}


# ---------------------------------------------------------------------------------------------------------------------
# From a function to a reward


@dataclass(frozen=True)
class BoundReward:
    """A reward function of any form with its options, to be called on our prompts and completions."""

    form: Form
    whole_group: bool  # called once, with all completions of the group
    wants_terms: bool  # names a parameter `terms`: the other terms come first
    is_async: bool
    own_process: bool  # says itself that it must not share a process with other rewards, as a model on a GPU does
    concurrency: int | None  # its parameter of that name, given or by default: how many calls of it may run at once
    _call: Callable[[Prompt, Sequence[Completion], Terms], Any]  # the value, or what is to be awaited for it
    _read: Callable[[Any, int], tuple[Outcome, ...]]  # the value, of so many completions

    def call(self, prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> tuple[Outcome, ...]:
        """One outcome for each of the completions: all of a group if `whole_group`. For functions that are not async.

        Never raises, whatever the function does short of ending the process; what it raised is in the outcome.
        """
        assert not self.is_async
        found: list[Outcome] = []
        for part, part_terms in self._calls(completions, terms):
            try:
                value = self._call(prompt, part, part_terms)
                found += self._read(value, len(part))
            except BaseException as error:  # SystemExit too: a reward does not end the worker
                found += (failed(error),) * len(part)
        return tuple(found)

    async def call_async(self, prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> tuple[Outcome, ...]:
        """As `call`, for async functions. Raises CancelledError when the task that awaits it is cancelled."""
        calls = [self._await(prompt, part, part_terms) for part, part_terms in self._calls(completions, terms)]
        return tuple(one for part in await asyncio.gather(*calls) for one in part)

    async def _await(self, prompt: Prompt, part: Sequence[Completion], terms: Terms) -> tuple[Outcome, ...]:
        try:
            value = self._call(prompt, part, terms)
            return self._read(await value if inspect.isawaitable(value) else value, len(part))
        except BaseException as error:  # where it is our own task that is cancelled, gather raises all the same
            return (failed(error),) * len(part)

    def _calls(self, completions: Sequence[Completion], terms: Terms) -> Iterator[tuple[Sequence[Completion], Terms]]:
        """The completions of each call with the other terms' values for them."""
        if self.whole_group:
            yield completions, terms
            return
        for index, completion in enumerate(completions):
            yield (completion,), {name: (values[index],) for name, values in terms.items()}


def bind(function: Callable[..., Any], options: Mapping[str, Any]) -> BoundReward:
    """The function with the recipe's options. Raises ValueError, whose text continues "rewards.<name>"."""
    if reward_rubric.is_rubric(function):
        return _bind_rubric(function, options)
    parameters = _parameters(function)
    calling = _calling(function, parameters)
    _check_options(function, parameters, calling, options)
    form = calling.form
    return BoundReward(
        form=form,
        whole_group=calling.whole_group,
        wants_terms=form in ("ours", "group") and "terms" in parameters,
        is_async=_is_async(function),
        own_process=_own_process(function),
        concurrency=_concurrency(parameters, options),
        _call=_caller(function, parameters, calling, options),
        _read=functools.partial(_read, calling),
    )


def _bind_rubric(rubric: Any, options: Mapping[str, Any]) -> BoundReward:
    if options:
        raise ValueError(f".{min(options)} is no option: a verifiers Rubric takes none, set it where it is built")
    if not list(reward_rubric.parts(rubric)):
        raise ValueError(": the verifiers Rubric has no reward functions")
    return BoundReward(
        form="verifiers",
        whole_group=reward_rubric.is_grouped(rubric),
        wants_terms=False,
        is_async=True,
        own_process=bool(getattr(rubric, "own_process", False)),
        concurrency=None,
        _call=lambda prompt, completions, terms: reward_rubric.score(rubric, prompt, completions),
        _read=lambda values, size: values,
    )


def _parameters(function: Callable[..., Any]) -> Parameters:
    """Its parameters as it is called: those that a partial has filled, and `self`, are not among them."""
    if inspect.isclass(function):
        raise ValueError(
            f": {function.__name__} is a class; name a function, or an object of the class that can be called, made "
            f"in the same file: my_reward = {function.__name__}(...)"
        )
    if not callable(function):
        raise ValueError(f": it is {shown(function)}, not a function; {ACCEPTED_FORMS}")
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise ValueError(f": its parameters cannot be read ({error}); wrap it in a function of your own") from None


def _calling(function: Callable[..., Any], parameters: Parameters) -> _Calling:
    """The one form that these names can mean. Raises ValueError for none or several."""
    named = {name for name, parameter in parameters.items() if parameter.kind in BY_NAME}
    found = {name: calling for name, calling in TELLING.items() if name in named}
    _tell_by_completion(named, found)
    callings = list({id(calling): calling for calling in found.values()}.values())
    taken = f": it takes ({', '.join(parameters)})"
    if len(callings) > 1:
        why = " and ".join(f"`{name}` is {_described(calling)}" for name, calling in found.items())
        raise ValueError(f"{taken}, which could be of several forms: {why}; {ACCEPTED_FORMS}")
    if not callings:
        raise ValueError(f"{taken}; {ACCEPTED_FORMS}")
    return callings[0]


def _tell_by_completion(named: set[str], found: dict[str, _Calling]) -> None:
    """Adds to `found` what `completion`, `completions` and `prompts` mean beside the other names."""
    single, grouped = (OURS, GROUP) if "problem" in named else (VERIFIERS, TRL)
    if "completion" in named:
        found["completion"] = single
    if "completions" in named and VERIFIERS_GROUP not in found.values():
        found["completions"] = grouped
        also = sorted(named & _names("answers infos tasks"))
        if also and grouped is TRL and "completion_ids" not in named:  # columns of the data, or lists of rollouts?
            found[also[0]] = VERIFIERS_GROUP
    if "prompts" in named and ("completion" in named or "problem" in named):
        found["prompts"] = TRL


def _described(calling: _Calling) -> str:
    names = {"ours": "ours", "group": "our group form's", "trl": "TRL's", "verl": "verl's"}
    return {**names, "openrlhf": "OpenRLHF's", "verifiers": "verifiers'"}[calling.form]


def _check_options(
    function: Callable[..., Any], parameters: Parameters, calling: _Calling, options: Mapping[str, Any]
) -> None:
    """Raises ValueError for options that the function cannot be given."""
    if taken := calling.given & set(options):
        raise ValueError(f".{min(taken)} is no option: the framework passes it to the function")
    known = [name for name, one in parameters.items() if one.kind in BY_NAME and name not in calling.given]
    unknown = [option for option in options if option not in known]
    if unknown and not _takes_any(parameters):
        raise ValueError(
            f".{unknown[0]} is not an option of its function{nearest_or_all(unknown, [*known, *TERM_KEYS])}"
        )
    hints = _hints(function)
    for name, value in options.items():
        if name in hints and not fits(value, hints[name]):
            raise ValueError(f".{name} must be {describe(hints[name])}, got {value!r}")
    missing = [name for name in _required(parameters) if name in known and name not in options]
    if missing and not calling.columns:
        raise ValueError(f".{missing[0]} is missing: its function has no default for it")
    if "parser" in _required(parameters) and calling.form == "verifiers":
        _default_parser()


def _takes_any(parameters: Parameters) -> bool:
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def _required(parameters: Parameters) -> list[str]:
    return [name for name, one in parameters.items() if one.kind in BY_NAME and one.default is one.empty]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Its parameters' types, {} where they cannot be read: then values are not held against them."""
    while isinstance(function, functools.partial):
        function = function.func
    plain = inspect.isroutine(function)
    try:
        return type_hints(function if plain else type(function).__call__)
    except Exception:  # evaluates annotations, which are any code
        return {}


def _layers(function: Any) -> Iterator[Any]:
    """The function, and what it wraps: partials, then decorators that say so as functools.wraps does."""
    seen: list[Any] = []
    while function is not None and len(seen) < 100:
        seen.append(function)
        yield function
        function = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)


def _is_coroutine_function(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine. A decorator decides: it may make a plain function of an async one."""
    while isinstance(function, functools.partial):
        function = function.func
    return _is_coroutine_function(function)


def _own_process(function: Callable[..., Any]) -> bool:
    return any(bool(getattr(layer, "own_process", False)) for layer in _layers(function))


def _concurrency(parameters: Parameters, options: Mapping[str, Any]) -> int | None:
    """None where it has no such parameter, or one that is no number above 0."""
    if "concurrency" not in parameters:
        return None
    number = options.get("concurrency", parameters["concurrency"].default)
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None


# ---------------------------------------------------------------------------------------------------------------------
# From a prompt and its completions to a call, and from what it returned to outcomes


def _caller(
    function: Callable[..., Any], parameters: Parameters, calling: _Calling, options: Mapping[str, Any]
) -> Callable[[Prompt, Sequence[Completion], Terms], Any]:
    """Calls the function with the arguments of its form. Gives what it returned, a coroutine if it is async."""
    by_position = [name for name, one in parameters.items() if one.kind is inspect.Parameter.POSITIONAL_ONLY]
    takes_all = _takes_any(parameters) and calling.all_named
    required = _required(parameters)
    wants_parser = calling.form == "verifiers" and "parser" in parameters
    mutable = any(isinstance(value, list | dict) for value in options.values())
    hides_coroutine = not _is_async(function) and any(map(_is_coroutine_function, _layers(function)))

    def call(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> Any:
        available = calling.arguments(prompt, completions, terms)
        known = sorted(available)
        if calling.form == "trl":
            available |= {name: one for name, one in arguments.trl_extras(completions).items() if name in parameters}
        if wants_parser:
            available["parser"] = _default_parser()
        available = available if takes_all else {name: one for name, one in available.items() if name in parameters}
        available |= copy.deepcopy(options) if mutable else options
        if missing := [name for name in required if name not in available]:
            raise TypeError(f"it wants the column {missing[0]}, this data has {', '.join(known)}")
        value = function(*[available.pop(name) for name in by_position if name in available], **available)
        return _run(value) if hides_coroutine and inspect.iscoroutine(value) else value

    return call


def _run(coroutine: Any) -> Any:
    """The value of a coroutine, in an event loop of its own."""
    with ThreadPoolExecutor(1) as thread:  # this thread may have a loop that is running
        return thread.submit(asyncio.run, coroutine).result()


@functools.cache
def _default_parser() -> Any:
    """What a verifiers Rubric passes to functions that name `parser`, unless it was given one."""
    try:
        import verifiers
    except ImportError:
        raise ValueError(
            ": it wants verifiers' `parser`, and verifiers is not installed: install it, or name a Rubric with a parser"
        ) from None
    return verifiers.Parser()


def _read(calling: _Calling, value: Any, size: int) -> tuple[Outcome, ...]:
    """What a function of this form returned, as one outcome for each completion."""
    if calling.form == "openrlhf" and isinstance(value, Mapping):
        value = _entry(value, "rewards")
    if calling.form == "verl":
        values = row(value, size) if calling.whole_group else [value]
        return tuple(outcome(_entry(one, "score")) for one in values)
    if not calling.whole_group:
        return (outcome(value),)
    return outcomes(value, size, none_is_nothing=calling.form == "trl")


def _entry(value: Any, name: str) -> Any:
    """The entry of a returned dict, or any other value as it is."""
    if not isinstance(value, Mapping):
        return value
    if name not in value:
        return failed(TypeError(f"the dict it returns must have {name!r}, got {shown(value)}"))
    return value[name]
