"""Reward functions of every form: how each is told, what it is given, what counts as a value and what as a failure."""

from __future__ import annotations

import asyncio
import functools
import math
import re
from fractions import Fraction

import pytest
from reward_functions import function_of, score_with

from data.problem import Problem, ask
from rl.reward_forms import ACCEPTED_FORMS, bind


@pytest.fixture
def score(make_prompt, make_completion):
    return score_with(make_prompt, make_completion)


# Forms are told by names


FORMS = [
    ("problem, completion", "ours", False),
    ("completion, problem, *, prompt, factor=1", "ours", False),
    ("problem, completion, *, terms", "ours", False),
    ("problem, completion, **options", "ours", False),
    ("problem, completions", "group", True),
    ("problem, completions, *, prompt, terms, target=3", "group", True),
    ("prompts, completions", "trl", True),
    ("completions, **kwargs", "trl", True),
    ("completions, solution, **kwargs", "trl", True),
    ("completions, answer", "trl", True),
    ("completions, ground_truth, **kwargs", "trl", True),
    ("completion_ids, **kwargs", "trl", True),
    ("prompts, completions, completion_ids, answers", "trl", True),
    ("completions, trainer_state, log_extra, log_metric", "trl", True),
    ("completions, data_source, extra_info", "trl", True),
    ("data_source, solution_str, ground_truth, extra_info=None", "verl", False),
    ("data_source, solution_str, ground_truth, extra_info=None, **kwargs", "verl", False),
    ("solution_str, ground_truth, method='strict'", "verl", False),
    ("data_sources, solution_strs, ground_truths, extra_infos", "verl", True),
    ("queries, prompts, labels", "openrlhf", True),
    ("queries, prompts, labels, **kwargs", "openrlhf", True),
    ("prompt, completion, answer", "verifiers", False),
    ("completion, answer, **kwargs", "verifiers", False),
    ("completion", "verifiers", False),
    ("state", "verifiers", False),
    ("parser, completion, answer, info, task, state", "verifiers", False),
    ("states", "verifiers", True),
    ("prompts, completions, answers, states", "verifiers", True),
]


@pytest.mark.parametrize("prefix", ["", "async "], ids=["def", "async def"])
@pytest.mark.parametrize(("parameters", "form", "whole_group"), FORMS)
def test_a_form_is_told_by_the_names_of_the_parameters(parameters, form, whole_group, prefix):
    bound = bind(function_of(parameters, prefix=prefix), {})
    assert (bound.form, bound.whole_group, bound.is_async) == (form, whole_group, bool(prefix))
    assert bound.wants_terms == ("terms" in parameters)


def test_terms_is_a_column_of_the_data_in_other_forms():
    assert not bind(function_of("completions, terms"), {}).wants_terms
    assert not bind(function_of("completion, terms"), {}).wants_terms


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("", "takes ();"),
        ("text, answer", "takes (text, answer);"),
        ("*args, **kwargs", "takes (args, kwargs);"),
        ("problem", "takes (problem);"),
        ("prompts, **kwargs", "takes (prompts, kwargs);"),  # TRL's, or OpenRLHF's with queries in kwargs
        ("info, answer", "takes (info, answer);"),
        ("prompts, completion", "`completion` is verifiers' and `prompts` is TRL's"),
        ("problem, completion, completions", "`completion` is ours and `completions` is our group form's"),
        ("completion, completions", "`completion` is verifiers' and `completions` is TRL's"),
        ("problem, prompts, completions", "`completions` is our group form's and `prompts` is TRL's"),
        ("problem, completion, state", "`state` is verifiers' and `completion` is ours"),
        ("problem, completions, completion_ids", "`completion_ids` is TRL's and `completions` is our group form's"),
        ("completions, answers", "`completions` is TRL's and `answers` is verifiers'"),
        ("completions, infos, **kwargs", "`completions` is TRL's and `infos` is verifiers'"),
        ("solution_str, completion", "`solution_str` is verl's and `completion` is verifiers'"),
        ("solution_str, solution_strs", "`solution_str` is verl's and `solution_strs` is verl's"),
        ("queries, completions", "`queries` is OpenRLHF's and `completions` is TRL's"),
        ("completions, states, completion_ids", "`completion_ids` is TRL's and `states` is verifiers'"),
    ],
)
def test_what_is_of_no_form_or_of_several_is_refused_with_those_that_are_accepted(parameters, said):
    with pytest.raises(ValueError, match=r"^: it takes \(") as refusal:
        bind(function_of(parameters), {})
    assert said in str(refusal.value)
    assert str(refusal.value).endswith(ACCEPTED_FORMS)


def test_each_accepted_form_is_listed_and_is_accepted():
    for line in ACCEPTED_FORMS.splitlines()[1:]:
        for parameters in re.findall(r"f\(([^)]*)\)", line):
            parameters = parameters.replace("*, options", "*, options=1").replace(", ...", "")
            assert bind(function_of(parameters), {}).form in line.lower().replace("our group", "group")


class Length:
    """A user's class whose objects can be called."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, problem, completion, *, offset: float = 0.0):
        return self.factor * len(completion.text) + offset

    def method(self, problem, completion):
        return self.factor * len(completion.text)

    @staticmethod
    def static(problem, completion):
        return len(completion.text)

    @classmethod
    def of_class(cls, problem, completion):
        return len(completion.text)


class AsyncLength:
    async def __call__(self, problem, completion):
        return float(len(completion.text))


def scaled(factor, problem, completion, offset=0.0):
    return factor * len(completion.text) + offset


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def blocking(function):
    """Makes a plain function of an async one."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))

    return wrapper


async def later(problem, completion):
    await asyncio.sleep(0)
    return len(completion.text)


def by_position(problem, completion, /):
    return len(completion.text)


@pytest.mark.parametrize(
    ("function", "options", "expected"),
    [
        (Length(2.0), {"offset": 1}, 7.0),
        (Length(2.0).method, {}, 6.0),
        (Length.static, {}, 3.0),
        (Length.of_class, {}, 3.0),
        (AsyncLength(), {}, 3.0),
        (functools.partial(scaled, 2.0), {}, 6.0),
        (functools.partial(scaled, 2.0, offset=1.0), {}, 7.0),
        (functools.partial(scaled, factor=2.0), {"offset": 2}, 8.0),
        (functools.partial(functools.partial(scaled, 2.0), offset=5), {}, 11.0),
        (functools.partial(Length(2.0), offset=5), {}, 11.0),
        (functools.partial(later), {}, 3.0),
        (functools.partial(AsyncLength()), {}, 3.0),
        (logged(Length(2.0).method), {}, 6.0),
        (logged(later), {}, 3.0),
        (blocking(later), {}, 3.0),
        (functools.lru_cache(lambda problem, completion: 3.0), {}, "TypeError: unhashable"),
        (by_position, {}, 3.0),
        (lambda problem, completion: len(completion.text), {}, 3.0),
    ],
)
def test_anything_that_can_be_called_is_a_reward(function, options, expected, score):
    (found,) = score(function, "abc", options=options)
    assert found.message.startswith(expected) if isinstance(expected, str) else found == expected


def test_a_decorated_async_function_works_inside_a_running_loop(make_prompt, make_completion):
    bound = bind(logged(later), {})

    async def worker():
        return bound.call(make_prompt(), [make_completion("abc")], {})

    assert asyncio.run(worker()) == (3.0,)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (Length, "Length is a class; name a function, or an object of the class that can be called"),
        (Fraction, "Fraction is a class"),
        (3, "it is int 3, not a function; accepted are"),
        (None, "it is NoneType None, not a function"),
        (min, "its parameters cannot be read"),
        (print, "it takes"),
    ],
)
def test_what_is_no_function_is_refused_in_words(function, said):
    with pytest.raises(ValueError, match=said):
        bind(function, {})


def test_a_process_of_its_own_is_asked_for_by_an_attribute():
    def heavy(problem, completions):
        return [0.0] * len(completions)

    assert not bind(heavy, {}).own_process
    heavy.own_process = True
    assert all(bind(one, {}).own_process for one in (heavy, logged(heavy), functools.partial(heavy)))


def test_a_partial_of_an_async_object_is_async():
    assert bind(functools.partial(AsyncLength()), {}).is_async


@pytest.mark.parametrize(
    ("parameters", "options", "expected"),
    [
        ("problem, completion, *, concurrency=16", {}, 16),
        ("problem, completion, *, concurrency=16", {"concurrency": 4}, 4),
        ("problem, completion, *, concurrency=None", {}, None),
        ("problem, completion, *, concurrency", {"concurrency": 0}, None),
        ("problem, completion", {}, None),
    ],
)
def test_a_function_may_say_how_many_calls_of_it_run_at_once(parameters, options, expected):
    assert bind(function_of(parameters, prefix="async "), options).concurrency == expected


# Options


def with_options(problem, completion, *, factor: int, name: str = "a"):
    return float(factor)


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (with_options, {}, r"^\.factor is missing: its function has no default for it"),
        (with_options, {"factr": 1}, r"^\.factr is not an option of its function; did you mean factor\?"),
        (with_options, {"factor": 1, "wieght": 1}, r"^\.wieght is not an option .*did you mean weight\?"),
        (with_options, {"factor": "x"}, r"^\.factor must be a whole number, got 'x'"),
        (with_options, {"factor": 1, "problem": 1}, r"^\.problem is no option: the framework passes it"),
        (with_options, {"factor": 1, "terms": 1}, r"^\.terms is no option"),
        (functools.partial(with_options, name="b"), {"factor": "x"}, r"^\.factor must be a whole number"),
        (Length(), {"offset": "x"}, r"^\.offset must be a number"),
        (function_of("completions, **kwargs"), {"completion_ids": 1}, r"^\.completion_ids is no option"),
        (function_of("completions, **kwargs"), {"trainer_state": 1}, r"^\.trainer_state is no option"),
        (function_of("completions"), {"method": 1}, r"^\.method is not an option"),
        (function_of("solution_str, ground_truth, method"), {}, r"^\.method is missing"),
        (function_of("solution_str, ground_truth"), {"extra_info": 1}, r"^\.extra_info is no option"),
        (function_of("queries, prompts, labels, scale"), {}, r"^\.scale is missing"),
        (function_of("queries, **kwargs"), {"labels": 1}, r"^\.labels is no option"),
        (function_of("completion, **kwargs"), {"state": 1}, r"^\.state is no option"),
        (function_of("problem, completions, *, size"), {}, r"^\.size is missing"),
    ],
)
def test_options_are_held_against_the_signature(function, options, said):
    with pytest.raises(ValueError, match=said):
        bind(function, options)


def test_options_reach_functions_of_every_form(score):
    forms = {
        "problem, completion, *, x": "x",
        "problem, completions, *, x": "[x] * len(completions)",
        "completions, x": "[x] * len(completions)",
        "completions, **more": "[more['x']] * len(completions)",
        "solution_str, ground_truth, x": "x",
        "solution_strs, ground_truths, x": "[x] * len(solution_strs)",
        "queries, prompts, labels, x": "[x] * len(queries)",
        "completion, x": "x",
        "states, x": "[x] * len(states)",
    }
    for parameters, body in forms.items():
        assert score(function_of(parameters, body), "a", "b", options={"x": 7}) == (7.0, 7.0), parameters


# What each form is given


@pytest.fixture
def seen():
    """A function factory: what it was called with is left in `calls`."""

    class Seen:
        def __init__(self):
            self.calls = []

        def function(self, parameters, result="1.0", is_async=False):
            names = [name for name in re.findall(r"\*{0,2}\w+", parameters.replace("*,", "")) if name != "*"]
            taken = ", ".join(f"'{name.strip('*')}': {name.strip('*')}" for name in names)
            scope = {"calls": self.calls}
            kind = "async def" if is_async else "def"
            exec(f"{kind} f({parameters}):\n calls.append({{{taken}}})\n return {result}", scope)
            return scope["f"]

    return Seen()


ROW = Problem("sums/train/1", ask("2 + 2?"), "4", "sums", {"level": 3, "unit_tests": ["t"]})
CHAT = {"problem": ROW, "prefix": "<think>", "conversational": True}
TEXT = {"problem": ROW, "text": "2 + 2?\n<think>", "prefix": "<think>"}


def test_ours_gets_the_problem_the_completion_and_what_else_it_names(score, seen):
    f = seen.function("problem, completion, *, prompt, terms")
    score(f, "a", "b", terms={"right": [1.0, 0.0], "long": [5.0, math.nan]}, **CHAT)
    assert [call["completion"].text for call in seen.calls] == ["a", "b"]
    assert all(call["problem"] is ROW and call["prompt"].prefix == "<think>" for call in seen.calls)
    assert seen.calls[0]["terms"] == {"right": 1.0, "long": 5.0}
    assert seen.calls[1]["terms"]["right"] == 0.0
    assert math.isnan(seen.calls[1]["terms"]["long"])


def test_any_other_keyword_of_ours_is_an_option(score, seen):
    score(seen.function("problem, completion, **options"), "a", options={"x": 1}, terms={"right": [1.0]}, **CHAT)
    assert seen.calls[0]["options"] == {"x": 1}


def test_a_group_function_is_called_once(score, seen):
    f = seen.function("problem, completions, *, prompt, terms", "[1.0, 2.0]")
    assert score(f, "a", "b", terms={"right": [1.0, 0.0]}, **CHAT) == (1.0, 2.0)
    (call,) = seen.calls
    assert [completion.text for completion in call["completions"]] == ["a", "b"]
    assert call["problem"] is ROW
    assert call["terms"] == {"right": [1.0, 0.0]}


@pytest.mark.parametrize("parameters", ["problem, completion, *, terms", "problem, completions, *, terms"])
def test_a_term_that_is_not_there_is_answered_with_those_that_are(parameters, score):
    failure = score(function_of(parameters, "terms['rihgt']"), "a", terms={"right": [1.0], "long": [2.0]})[0]
    assert "there is no reward term 'rihgt' to build on; there are right, long" in failure.message


def test_trl_gets_lists_of_messages_for_chats(score, seen):
    score(seen.function("prompts, completions, **columns", "[1.0, 1.0]"), "a</think>b", "c", **CHAT)
    (call,) = seen.calls
    assert call["prompts"] == [[{"role": "user", "content": "2 + 2?"}]] * 2
    assert [message["content"] for (message,) in call["completions"]] == ["<think>a</think>b", "<think>c"]
    assert call["columns"] == {
        "solution": ["4", "4"],
        "answer": ["4", "4"],
        "id": ["sums/train/1"] * 2,
        "source": ["sums"] * 2,
        "level": [3, 3],
        "unit_tests": [["t"], ["t"]],
        "completion_ids": [[ord(char) for char in "a</think>b"], [ord("c")]],
    }


def test_trl_gets_lists_of_texts_otherwise(score, seen):
    score(seen.function("prompts, completions, level", "[1.0, 1.0]"), "a", "b", **TEXT)
    assert seen.calls == [{"prompts": ["2 + 2?\n<think>"] * 2, "completions": ["a", "b"], "level": [3, 3]}]


def test_the_datas_own_solution_goes_first(score, seen):
    row = Problem("sums/train/1", ask("2 + 2?"), "4", "sums", {"solution": "2 + 2 = 4", "answer": "not this"})
    score(seen.function("completions, solution, answer", "[1.0]"), "a", problem=row)
    assert seen.calls == [{"completions": ["a"], "solution": ["2 + 2 = 4"], "answer": ["4"]}]


def test_trl_functions_that_name_them_get_the_trainers_state_and_loggers(score):
    def f(completions, trainer_state, log_extra, log_metric):
        log_extra("kind", ["a"] * len(completions))
        log_metric("share", 0.5)
        return [trainer_state.global_step + 1.0] * len(completions)

    def asks_more(completions, trainer_state):
        return [trainer_state.max_steps] * len(completions)

    assert score(f, "a", "b") == (1.0, 1.0)  # the completions' policy_step is 0
    assert "trainer_state.max_steps is not known to a reward here" in score(asks_more, "a")[0].message


def test_trl_functions_that_want_a_column_the_data_lacks_are_told_which_it_has(score):
    failure = score(function_of("completions, unit_tests"), "a")[0]
    assert failure.message == (
        "TypeError: it wants the column unit_tests, this data has "
        "answer, completion_ids, completions, id, prompts, solution, source"
    )


def test_verl_gets_the_answer_and_the_row(score, seen):
    f = seen.function("data_source, solution_str, ground_truth, extra_info")
    assert score(f, "a", "b", **CHAT) == (1.0, 1.0)
    assert seen.calls[1] == {
        "data_source": "sums",
        "solution_str": "<think>b",
        "ground_truth": "4",
        "extra_info": {"index": "sums/train/1", "question": "2 + 2?", "answer": "4", "level": 3, "unit_tests": ["t"]},
    }


def test_the_datas_own_columns_for_verl_go_first(score, seen):
    metadata = {"data_source": "gsm8k", "ground_truth": {"target": 24}, "extra_info": {"index": 7, "split": "train"}}
    row = Problem("sums/train/1", ask("2 + 2?"), "4", "sums", metadata)
    score(seen.function("data_source, solution_str, ground_truth, extra_info, **kwargs"), "a", problem=row)
    (call,) = seen.calls
    assert (call["data_source"], call["ground_truth"], call["kwargs"]) == ("gsm8k", {"target": 24}, {})
    assert call["extra_info"]["index"] == 7
    assert call["extra_info"]["split"] == "train"


def test_verl_in_plural_is_called_once(score, seen):
    f = seen.function("data_sources, solution_strs, ground_truths, extra_infos", "[1.0, {'score': 0.5, 'acc': 1}]")
    assert score(f, "a", "b", **CHAT) == (1.0, 0.5)
    (call,) = seen.calls
    assert call["solution_strs"] == ["<think>a", "<think>b"]
    assert call["ground_truths"] == ["4", "4"]


def test_openrlhf_gets_queries_prompts_and_labels(score, seen):
    assert score(seen.function("queries, prompts, labels, **kwargs", "[1.0, 2.0]"), "a", "b", **TEXT) == (1.0, 2.0)
    prompt = "2 + 2?\n<think>"
    queries = [prompt + "a", prompt + "b"]
    assert seen.calls == [{"queries": queries, "prompts": [prompt] * 2, "labels": ["4", "4"], "kwargs": {}}]


def test_verifiers_gets_messages_the_row_and_the_state(score, seen):
    assert score(seen.function("prompt, completion, answer, info, task, level, state"), "a", "b", **CHAT) == (1, 1)
    call = seen.calls[1]
    assert call["prompt"] == [{"role": "user", "content": "2 + 2?"}]
    assert call["completion"] == [{"role": "assistant", "content": "<think>b"}]
    assert call["completion"][-1].content == "<think>b"
    assert (call["answer"], call["level"]) == ("4", 3)
    assert call["info"] == {"level": 3, "unit_tests": ["t"]}
    assert call["task"]["example_id"] == "sums/train/1"
    state = call["state"]
    assert state["completion"] is call["completion"]
    assert state["trajectory"][0]["tokens"]["completion_ids"] == [ord("b")]
    assert state["is_completed"]
    assert not state["is_truncated"]


def test_verifiers_group_functions_get_lists(score, seen):
    f = seen.function("prompts, completions, answers, infos, tasks, states", "[1.0, 2.0]")
    assert score(f, "a", "b", **CHAT) == (1.0, 2.0)
    (call,) = seen.calls
    assert [completion[0]["content"] for completion in call["completions"]] == ["<think>a", "<think>b"]
    assert call["answers"] == ["4", "4"]
    assert [state["completion"] for state in call["states"]] == call["completions"]
