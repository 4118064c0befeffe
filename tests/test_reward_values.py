"""What a reward function may return or raise, and what becomes of it: a value, or one completion without one."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest
import torch
from reward_functions import function_of, score_with

from rl.experience import Verdict
from rl.reward_forms import Failed, bind


@pytest.fixture
def score(make_prompt, make_completion):
    return score_with(make_prompt, make_completion)


class Odd:
    """An object that is no number, and says so loudly."""

    def __repr__(self):
        raise RuntimeError("no words for it")


class Silent:
    def __repr__(self):
        raise SystemExit


class Shouts(float):
    def __float__(self):
        raise SystemExit("not even this")


async def coroutine():
    return 1.0


BAD = [
    (lambda: None, "got NoneType None"),
    (lambda: "1.0", "got str '1.0'"),
    (lambda: b"1", "got bytes b'1'"),
    (lambda: [1.0], "got list [1.0]"),
    (lambda: (1.0,), "got tuple (1.0,)"),
    (lambda: {"value": 1.0}, "dict"),
    (lambda: {1.0}, "got set {1.0}"),
    (lambda: math.nan, "finite number, got float nan"),
    (lambda: math.inf, "finite number, got float inf"),
    (lambda: -math.inf, "finite number, got float -inf"),
    (lambda: Verdict(math.nan), "finite number, got Verdict"),
    (lambda: 1j, "got complex 1j"),
    (lambda: 10**400, "finite number, got int of 1329 bits"),
    (lambda: 10**10_000, "finite number, got int of 33220 bits"),
    (lambda: numpy.float64("nan"), "finite number, got float64"),
    (lambda: numpy.array([1.0, 2.0]), "got ndarray array([1., 2.])"),
    (lambda: numpy.array([1.0]), "got ndarray array([1.])"),
    (lambda: numpy.array("1.0"), "got ndarray array('1.0'"),
    (lambda: numpy.str_("1.0"), "got str_"),
    (lambda: numpy.complex64(1), "got complex64"),
    (lambda: torch.ones(2), "got Tensor tensor([1., 1.])"),
    (lambda: torch.ones(1), "got Tensor tensor([1.])"),
    (lambda: torch.tensor(math.nan), "finite number, got Tensor"),
    (lambda: torch.tensor(1j), "got Tensor"),
    (lambda: (x for x in [1.0]), "got generator"),
    (lambda: coroutine(), "got coroutine"),
    (lambda: object(), "got object"),
    (lambda: Odd(), "got Odd <Odd instance at"),
    (lambda: Silent(), "got Silent (its repr raises SystemExit)"),
    (lambda: Shouts(1.0), "not even this"),
    (lambda: len, "got builtin_function_or_method"),
    (lambda: float, "got type <class 'float'>"),
    (lambda: Decimal("NaN"), "finite number, got Decimal"),
    (lambda: "x" * 10**6, "got str 'xxx"),
    (lambda: [1.0] * 10**6, "got list [1.0,"),
    (lambda: Failed, "got type"),
]


@pytest.mark.parametrize(("bad", "said"), BAD)
@pytest.mark.filterwarnings("error")  # a coroutine that was never awaited would warn
@pytest.mark.parametrize(
    "parameters", ["problem, completion", "completion, answer", "solution_str, ground_truth", "state"]
)
def test_what_is_no_number_fails_its_completion_and_is_shown(bad, said, parameters, score):
    text = {"problem, completion": "completion.text", "completion, answer": "completion[0].content"}
    text |= {"solution_str, ground_truth": "solution_str", "state": "state['completion'][-1]['content']"}
    f = function_of(parameters, f"bad() if {text[parameters]} == 'bad' else 0.5", bad=bad)
    before, failure, after = score(f, "a", "bad", "b")
    assert (before, after) == (0.5, 0.5)
    assert isinstance(failure, Failed)
    assert failure.state == "error"
    assert said in failure.message
    assert len(failure.message) < 700


@pytest.mark.parametrize(("bad", "said"), BAD)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "parameters",
    ["problem, completions", "completions, **kwargs", "queries, prompts, labels", "states", "solution_strs"],
)
def test_a_bad_value_in_a_list_fails_its_completion_only(bad, said, parameters, score):
    f = function_of(parameters, "[0.5, bad(), 1]", bad=bad)
    before, failure, after = score(f, "a", "b", "c")
    assert (before, after) == (0.5, 1.0)
    if parameters.startswith("completions") and said == "got NoneType None":
        assert failure == Verdict(0.0)  # in TRL it means "does not apply"
        assert (failure.state, failure.reason) == ("ok", "None: does not apply")
    else:
        assert isinstance(failure, Failed)
        assert said in failure.message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (2, 2.0),
        (-0.25, -0.25),
        (Fraction(1, 4), 0.25),
        (Decimal("0.5"), 0.5),
        (numpy.float32(0.5), 0.5),
        (numpy.bool_(True), 1.0),
        (numpy.int64(3), 3.0),
        (numpy.array(3.0), 3.0),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(True), 1.0),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
        (torch.nn.Parameter(torch.tensor(2.0)).detach(), 2.0),
    ],
)
def test_numbers_of_any_kind_are_values(value, expected, score):
    f = function_of("problem, completion", "value", value=value)
    (found,) = score(f, "a")
    assert (float(found), found.state) == (expected, "ok")
    assert type(float(found)) is float


def test_zero_is_wrong_and_a_verdict_keeps_what_it_says(score):
    verdicts = [
        0.0,
        Verdict(0.0, state="ok"),
        Verdict(0.5, reason="half"),
        Verdict(state="no_answer", reason="no box"),
        Verdict(state="bad_gold"),
        Verdict(state="undecided"),
        Verdict(state="error", reason="judge"),
    ]
    f = function_of("problem, completions", "verdicts", verdicts=verdicts)
    found = score(f, *"abcdefg")
    states = ["wrong", "ok", "ok", "no_answer", "bad_gold", "undecided", "error"]
    assert [outcome.state for outcome in found] == states
    assert [float(outcome) for outcome in found] == [0, 0, 0.5, 0, 0, 0, 0]
    assert [outcome.reason for outcome in found] == ["", "", "half", "no box", "", "", "judge"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("[1.0, 2.0]", "a list of 3 numbers, one per completion, got of length 2 list [1.0, 2.0]"),
        ("[1.0] * 4", "got of length 4 list"),
        ("[]", "got of length 0 list []"),
        ("None", "got NoneType None"),
        ("1.0", "got float 1.0"),
        ("'abc'", "got str 'abc'"),
        ("b'abc'", "got bytes b'abc'"),
        ("{0: 1.0, 1: 2.0, 2: 3.0}", "got dict {0: 1.0"),
        ("{1.0, 2.0, 3.0}", "got set"),
        ("(x for x in [1.0, 2.0, 3.0])", "got generator"),
        ("map(float, [1, 2, 3])", "got map"),
        ("numpy.ones((3, 1))", "got ndarray"),
        ("torch.ones(1, 3)", "got Tensor"),
        ("torch.tensor(1.0)", "got Tensor tensor(1.)"),
        ("coroutine()", "got coroutine"),
    ],
)
@pytest.mark.parametrize("parameters", ["problem, completions", "completions, **kwargs", "queries", "states"])
@pytest.mark.filterwarnings("error")
def test_what_is_no_list_of_the_right_length_fails_all(values, said, parameters, score):
    f = function_of(parameters, values, numpy=numpy, torch=torch, coroutine=coroutine)
    found = score(f, "a", "b", "c")
    assert [type(outcome) for outcome in found] == [Failed] * 3
    assert said in found[0].message


@pytest.mark.parametrize(
    "values", ["(1.0, 2.0)", "numpy.array([1.0, 2.0])", "torch.tensor([1.0, 2.0])", "torch.tensor([1, 2])"]
)
def test_lists_of_any_kind_are_values(values, score):
    f = function_of("completions", values, numpy=numpy, torch=torch)
    assert score(f, "a", "b") == (1.0, 2.0)


@pytest.mark.parametrize(
    ("parameters", "result", "expected"),
    [
        ("solution_str, ground_truth", "{'score': 0.5, 'acc': True}", 0.5),
        (
            "solution_str, ground_truth",
            "{'acc': True}",
            "dict it returns must have 'score', got dict {'acc': True}",
        ),
        ("solution_str, ground_truth", "{'score': None}", "got NoneType None"),
        ("solution_str, ground_truth", "(True, 'text')", "got tuple"),
        ("queries", "{'rewards': torch.tensor([0.5]), 'scores': torch.tensor([1.0]), 'extra_logs': {}}", 0.5),
        ("queries", "{'rewards': [0.5]}", 0.5),
        ("queries", "{'reward': [0.5]}", "the dict it returns must have 'rewards', got dict {'reward': [0.5]}"),
        ("queries", "{'rewards': [0.5, 1]}", "a list of 1 numbers"),
        ("completions", "{'rewards': [0.5]}", "got dict"),
        ("completion", "{'score': 0.5}", "got dict"),
    ],
)
def test_dicts_are_values_where_their_framework_has_them(parameters, result, expected, score):
    f = function_of(parameters, result, torch=torch)
    (found,) = score(f, "a")
    assert expected in found.message if isinstance(expected, str) else found == expected


# Failures


def raises(problem, completion):
    if completion.text == "fine":
        return 1.0
    if completion.text == "json":
        return __import__("json").loads("{")
    if completion.text == "deep":
        return raises(problem, completion)
    if completion.text == "long":
        raise ValueError("x" * 10**6)
    raise {
        "key": KeyError("missing"),
        "exit": SystemExit("bye"),
        "interrupt": KeyboardInterrupt(),
        "generator": GeneratorExit(),
        "memory": MemoryError(),
        "stop": StopIteration(3),
        "cancelled": asyncio.CancelledError(),
        "group": ExceptionGroup("several", [ValueError("a")]),
        "mute": MuteError(),
    }[completion.text]


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")


async def raises_later(problem, completion):
    await asyncio.sleep(0)
    return raises(problem, completion)


@pytest.mark.parametrize("function", [raises, raises_later])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key", "KeyError: 'missing' ("),
        ("exit", "SystemExit: bye ("),
        ("interrupt", "KeyboardInterrupt ("),
        ("generator", "GeneratorExit ("),
        ("memory", "MemoryError ("),
        ("stop", "StopIteration"),
        ("cancelled", "CancelledError ("),
        ("group", "several (1 sub-exception)"),
        ("mute", "MuteError: <exception str() failed>"),
        ("json", "JSONDecodeError"),
        ("deep", "RecursionError"),
        ("long", "ValueError: xxx"),
    ],
)
def test_whatever_is_raised_fails_one_completion_with_its_place(function, text, said, score):
    before, failure, after = score(function, "fine", text, "fine")
    assert (before, after) == (1.0, 1.0)
    assert said in failure.message
    assert re.search(r"\(.*test_reward_values\.py:\d+\)$", failure.message)  # not a place in json, not one of ours
    assert failure.trace.startswith("Traceback (most recent call last)")
    assert "rl/reward_" not in failure.trace
    assert len(failure.message) < 1000


def test_what_is_raised_for_a_group_fails_the_group(score):
    found = score(function_of("completions", "1 / 0"), "a", "b")
    assert [outcome.message.split(" (")[0] for outcome in found] == ["ZeroDivisionError: division by zero"] * 2


def test_a_task_that_is_cancelled_ends(make_prompt, make_completion):
    async def forever(problem, completion):
        await asyncio.sleep(60)

    async def stop_it():
        call = bind(forever, {}).call_async(make_prompt(), [make_completion("a")], {})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, timeout=0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await bind(forever, {}).call_async(make_prompt(), [make_completion("a")], {})

    asyncio.run(stop_it())


def test_async_calls_for_several_completions_run_at_once(make_prompt, make_completion):
    barrier, waiting = asyncio.Event(), []

    async def meet(problem, completion):
        waiting.append(completion.text)
        if len(waiting) == 3:
            barrier.set()
        await asyncio.wait_for(barrier.wait(), timeout=5)
        return 1.0

    completions = [make_completion(text) for text in "abc"]
    assert asyncio.run(bind(meet, {}).call_async(make_prompt(), completions, {})) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("parameters", "result"),
    [
        ("problem, completion", "2.0"),
        ("problem, completions", "[2.0, 2.0]"),
        ("completions, **kwargs", "[2.0, 2.0]"),
        ("data_source, solution_str, ground_truth, extra_info", "{'score': 2.0}"),
        ("solution_strs, ground_truths", "[2.0, 2.0]"),
        ("queries, prompts, labels", "{'rewards': [2.0, 2.0]}"),
        ("completion, answer", "2.0"),
        ("states", "[2.0, 2.0]"),
    ],
)
def test_async_functions_of_every_form(parameters, result, score):
    f = function_of(parameters, result, prefix="async ")
    assert bind(f, {}).is_async
    assert score(f, "a", "b") == (2.0, 2.0)


def test_calls_work_outside_the_main_thread(make_prompt, make_completion):
    found = []
    bound = bind(raises, {})

    def work():
        found.append(bound.call(make_prompt(), [make_completion("fine"), make_completion("exit")], {}))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0][0] == 1.0
    assert found[0][1].message.startswith("SystemExit: bye")


def test_an_option_that_is_a_list_reaches_every_call_as_it_is_in_the_recipe(score):
    def grows(problem, completion, *, words):
        words.append("x")
        return len(words)

    assert score(grows, "a", "b", options={"words": []}) == (1.0, 1.0)
