"""code_tests: which programs pass, in every form of test, and what the others are called."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from test_sandbox import gone, needs_sandbox

from data.problem import Problem, ask
from rewards.code_tests import code_tests, extract_program
from rewards.sandbox.cases import BadTestsError, read_cases
from rewards.sandbox.outputs import same_text, same_value
from rewards.sandbox.watch import below
from rl.experience import Group
from rl.scoring import Scorer, reward_terms

ADD = "a, b = map(int, input().split())\nprint(a + b)"
ADD_TESTS = {"inputs": ["1 2\n", "30 4\n"], "outputs": ["3\n", "34\n"]}
CALL_TESTS = {"fn_name": "add", "inputs": [[1, 2], [30, 4]], "outputs": [[3], [34]]}


def about(**metadata):
    return Problem(id="sums/1", messages=ask("Add."), answer="", source="sums", metadata=metadata)


def fenced(program):
    return f"<think>first\n```python\nprint(0)\n```\n</think>\nSo:\n```python\n{program}\n```\nDone."


@pytest.fixture
def judged(make_completion):
    def judge(program, tests, *, metadata=None, **options):
        return code_tests(about(tests=tests, **(metadata or {})), make_completion(fenced(program)), **options)

    return judge


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "tests", "value"),
    [
        (ADD, ADD_TESTS, 1.0),
        ("print(3)", ADD_TESTS, 0.0),  # the first test only
        ("print('3\\n34')", ADD_TESTS, 0.0),
        ("input(); print()", ADD_TESTS, 0.0),
        ("print(3", ADD_TESTS, 0.0),
        (ADD + "\nraise ValueError", ADD_TESTS, 0.0),
        (ADD + "\nprint()\nprint('  ')", ADD_TESTS, 1.0),  # white space at the end
        ("print(' ', end='')\n" + ADD, ADD_TESTS, 0.0),  # but not at the start
        ("def add(a, b): return a + b", CALL_TESTS, 1.0),
        ("class Solution:\n    def add(self, a: int, b: int) -> int: return a + b", CALL_TESTS, 1.0),
        ("def add(a: List[int], b: Optional[int]): return a + b", CALL_TESTS, 1.0),  # names that answers take as given
        ("def add(a, b): return 3", CALL_TESTS, 0.0),
        ("def add(a, b): print(a + b)", CALL_TESTS, 0.0),
        ("def plus(a, b): return a + b", CALL_TESTS, 0.0),
        ("def add(a, b):\n    print('noise')\n    return a + b", CALL_TESTS, 1.0),
        ("def add(a, b): exit(0)", CALL_TESTS, 0.0),
        ("class Any:\n    def __eq__(self, other): return True\ndef add(a, b): return Any()", CALL_TESTS, 0.0),
        ("class One(int):\n    def __eq__(self, other): return True\ndef add(a, b): return One()", CALL_TESTS, 0.0),
        ("def f(x): return (x, [x])", ["assert f(1) == (1, [1])", "assert f(2) == (2, [2])"], 1.0),
        ("def f(x): return [x, [x]]", ["assert f(1) == (1, [1])"], 0.0),
        ("def f(x): return {x, x}", ["assert f(1) == {1}", "assert set([2]) == f(2)"], 1.0),
        ("def f(x): return x / 3", ["import math\nassert math.isclose(f(1), 0.333333, rel_tol=1e-5)"], 1.0),
        ("def f(x): return x / 3", ["assert abs(f(1) - 0.333333) < 1e-5", "assert abs(f(3e6) - 1000001) < 1e-5"], 0.0),
        ("def f(x): return x > 1", ["assert f(2)", "assert not f(1)", "assert f(0) == False"], 1.0),
        ("def f(x): return 10 ** 5000 + x", ["assert str(f(1) % 100) == '1'"], 1.0),
        ("def f(x): return x", ["assert f(float('nan')) is None"], 0.0),
    ],
)
def test_a_program_gets(judged, program, tests, value):
    verdict = judged(program, tests)
    assert float(verdict) == value, verdict.reason
    assert verdict.state == ("ok" if value else "wrong")


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    [
        "import sys, os, atexit\natexit.register(os._exit, 0)\nprint('all tests passed')",
        "def add(a, b):\n    import os\n    os.write(3, b'3'); os._exit(0)",  # forges its result, and only guesses it
        "def add(a, b):\n    import sys\n    return sys._getframe(1).f_locals.get('expected')",
        "import json\njson.dumps = lambda value: '3'\ndef add(a, b): return 0",
        "def add(a, b):\n    import gc\n    return [x for x in gc.get_objects() if type(x) is dict and 'outputs' in x]",
        "import builtins\nbuiltins.eval = builtins.compile = lambda *a: None\ndef add(a, b): return 'x' * a",
        "def add(a, b):\n    x = []\n    x.append(x)\n    return x",
        "def add(a, b):\n    x = 3\n    for _ in range(10**5): x = [x]\n    return x",
        "def add(a, b):\n    while True: pass",
        "class Endless(list):\n    def __iter__(self):\n        while True: yield 1\ndef add(a, b): return Endless()",
    ],
)
def test_a_function_cannot_claim_to_be_right(judged, program):
    assert judged(program, CALL_TESTS, timeout_s=1.0, memory_mb=128).state == "wrong"


@needs_sandbox
def test_options(judged):
    thirds = {"inputs": ["1", "2"], "outputs": ["0.333333", "0.666667"]}
    program = "print(int(input()) / 3)"
    assert judged(program, thirds) == 0.0
    assert judged(program, thirds, tolerance=1e-5) == 1.0
    assert judged("print(3)", ADD_TESTS, all_or_nothing=False) == 0.5
    assert judged("print(3)", ADD_TESTS, max_tests=1) == 1.0  # the first only
    assert judged("print(34)", {key: [*values, *values] for key, values in ADD_TESTS.items()}, max_tests=2) == 0.0
    assert judged("import time; time.sleep(0.3); print(3)", ADD_TESTS, timeout_s=0.2).reason.endswith("time limit")
    slow = {"inputs": [""] * 20, "outputs": ["1"] * 20}
    late = judged("import time; time.sleep(.2); print(1)", slow, total_timeout_s=0.5)
    assert late.reason.endswith("all tests took more than 0.5 s")
    six = {"inputs": [""], "outputs": ["6"]}
    assert judged("import numpy; print(numpy.arange(4).sum())", six, site_packages=True) == 1.0
    assert judged("import numpy; print(numpy.arange(4).sum())", six) == 0.0
    with pytest.raises(ValueError, match="language=cobol: code_tests runs python only"):
        judged(ADD, ADD_TESTS, language="cobol")


@pytest.mark.parametrize(
    ("tests", "complaint"),
    [
        ({"inputs": ["1"], "outputs": []}, "same length"),
        ({"inputs": [], "outputs": []}, "no tests"),
        ([], "it is empty"),
        ("", "it is empty"),
        ("{nonsense", "not JSON"),
        ({"inputs": [[1]], "outputs": [[2]]}, "is fn_name missing"),
        ({"inputs": [1], "outputs": [2], "fn_name": "f"}, "list of its arguments"),
        ({"inputs": [[1]], "outputs": [2], "fn_name": "f(); import os"}, "name of a function"),
        ([{"input": "1"}], "needs input and output"),
        (["assert all(f(x) == x for x in range(3))"], "cannot be split"),
        (["assert all([f(1) == 2])"], "cannot be split"),
        (["assert f(2) == g(2)"], "cannot be split"),
        (["assert (f(1) == 2) == True"], "cannot be split"),
        (["assert f(2) =="], "not Python"),
        (["for i in range(3):\n    assert f(i) == i"], "is not an assert"),
        (3, "got int"),
    ],
)
def test_tests_that_cannot_be_used_are_the_problems_fault(judged, tests, complaint):
    verdict = judged(ADD, tests)
    assert verdict.state == "bad_gold"
    assert complaint in verdict.reason


def test_tests_that_no_program_could_pass_are_the_problems_fault(judged):
    assert "more output than output_mb=1e-06" in judged(ADD, ADD_TESTS, output_mb=1e-6).reason
    large = {"inputs": ["x" * (17 << 20)], "outputs": [""]}
    assert judged("input()", large).state == "bad_gold"
    assert judged(ADD, {"fn_name": "f", "inputs": [[object()]], "outputs": [[1]]}).state == "bad_gold"


def test_a_problem_without_tests_says_which_columns_it_has(make_completion):
    verdict = code_tests(about(test_list=[]), make_completion(fenced(ADD)))
    assert verdict.state == "bad_gold"
    assert "there are test_list" in verdict.reason


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\na\n```", "a\n"),
        ("```py\na\n```\nthen\n```python\nb\n```", "b\n"),
        ("```python\na\n```\noutput:\n```\n3\n```", "a\n"),  # a labelled block before any other
        ("```\na\n```", "a\n"),
        ("```cpp\na\n```", None),
        ("```python\na\n```\n```cpp\nb\n```", "a\n"),
        ("```python\na", None),  # cut off
        ("```python\na\n```\n```python\nb", "a\n"),
        ("<think>```python\na\n```", None),
        ("<think>\n```python\na\n```\n</think>", None),
        ("<think>\n```python\na\n```\n</think>\n```python\nb\n```", "b\n"),
        ("no code: `a`", None),
        ("", None),
        ("  ```python\n  a\n    b\n  ```", "a\n  b\n"),  # in a list
        ("````python\na = '''\n```\n'''\n````", "a = '''\n```\n'''\n"),
        ("```Python title=x\na\n```", "a\n"),
        ("```python\r\na\r\n```", "a\r\n"),
    ],
)
def test_the_program_is(text, program):
    assert extract_program(text) == program


def test_thinking_that_the_template_has_opened_counts(make_completion, make_prompt):
    completion = make_completion("```python\nprint(3)\n```")
    verdict = code_tests(about(tests=ADD_TESTS), completion, prompt=make_prompt("<think>\n"))
    assert verdict.state == "no_answer"


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ("1\n2\n", "1\n2", True),
        ("1\n2\n", "1  \r\n2\n\n", True),
        ("1\n2", "1\n\n2", False),
        ("1\n2", "1 2", False),
        ("1 2", "1  2", False),
        ("a", "A", False),
        ("1.0", "1", False),
        ("", "\n", True),
        ("1", "1\n2", False),
    ],
)
def test_whole_outputs_are_compared(expected, got, same):
    assert same_text(expected, got) == same


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ("0.5 1", "0.50000001 1", True),
        ("0.5 1", "0.51 1", False),
        ("3", "3.0000001", False),  # an integer is written as one
        ("1e6", "1000000.5", True),
        ("0.5", "nan", False),
        ("0.5", "0.5 0.5", False),
        ("x.5", "y.5", False),
        ("1_0.0", "10.0", False),
    ],
)
def test_floats_in_outputs_within_a_tolerance(expected, got, same):
    assert same_text(expected, got, tolerance=1e-6) == same


@pytest.mark.parametrize(
    ("expected", "got", "loose", "same"),
    [
        ([1, 2], [1, 2], False, True),
        ([1, 2], (1, 2), False, False),
        ([1, 2], (1, 2), True, True),
        ([[1], 2], ((1,), 2), True, True),
        ({"1": 2}, {1: 2}, True, True),
        ({"1": 2}, {1: 2}, False, False),
        ({1, 2}, {2, 1}, False, True),
        (0.1, 0.1 + 1e-9, False, True),
        ([0.1], [0.2], False, False),
        (3, 3.5, False, False),
        (float("nan"), float("nan"), False, True),
        (0.5, 10**400, False, False),
        ("1", 1, True, False),
        (None, 0, False, False),
    ],
)
def test_values_are_compared(expected, got, loose, same):
    assert same_value(expected, got, tolerance=1e-6, loose=loose) == same


@pytest.mark.parametrize(
    ("tests", "kinds"),
    [
        ([{"input": "1\n", "output": "2\n", "testtype": "stdin"}], ["stdin"]),
        ([{"input": "[1, 2]\n3", "output": "5", "testtype": "functional"}], ["call"]),
        ('{"inputs": [["1", "2"]], "outputs": [["3"]]}', ["call"]),
        (
            "def check(candidate):\n    '''Doc.'''\n    assert candidate(1) == 2\n    assert candidate(2) == 3",
            ["expression"] * 2,
        ),
        ({"inputs": np.array([[1], [2]]), "outputs": np.array([3, 4])}, ["call", "call"]),
        ("METADATA = {}\n\ndef check(candidate):\n    assert candidate(1) == 2\n\ncheck(f)", ["expression"]),
    ],
)
def test_forms_of_tests(tests, kinds):
    assert [case.kind for case in read_cases(tests, function="f")] == kinds


def test_no_expected_value_is_in_what_enters_the_sandbox():
    cases = read_cases(["assert f(1) == 'secret'", "assert 'secret' == f(2)", "assert abs(f(3) - 777.25) < 1e-3"])
    assert [case.expression for case in cases] == ["f(1)", "f(2)", "f(3)"]
    assert "secret" not in "".join(case.setup for case in cases)
    with pytest.raises(BadTestsError):
        read_cases(["assert f(1, [g(2) == 'secret']) == 1"])


def test_without_a_sandbox_nothing_runs_unless_it_is_allowed(judged, monkeypatch, tmp_path):
    monkeypatch.setattr("rewards.sandbox.bubblewrap.find_bwrap", lambda: None)
    monkeypatch.setattr("rewards.sandbox.check._sound", set())
    refused = judged(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + ADD, ADD_TESTS)
    assert refused.state == "error"
    assert "allow_unsandboxed is true" in refused.reason
    assert "apt install bubblewrap" in refused.reason
    assert not (tmp_path / "ran").exists()
    assert judged(ADD, ADD_TESTS, allow_unsandboxed=True) == 1.0
    assert judged("print(3)", ADD_TESTS, allow_unsandboxed=True) == 0.0
    endless = "import os\nos.fork()\nwhile True: pass"
    assert judged(endless, ADD_TESTS, allow_unsandboxed=True, timeout_s=0.5).reason.endswith("time limit")


def scored(make_prompt, make_completion, *programs, **options):
    """The states that a recipe's scorer finds, its workers and their limits included."""
    prompt = make_prompt(problem=about(tests=ADD_TESTS))
    group = Group(prompt, tuple(make_completion(fenced(program)) for program in programs))
    terms = reward_terms({"code": {"_target_": "rewards.code_tests.code_tests", "on_error": "mask", **options}})
    with Scorer(terms, workers=2, stop_when_broken=False) as scorer:
        scorer.check(prompt)
        started = time.monotonic()
        found = scorer.score([group])[0]
        below_us = below(os.getpid())
    return found, time.monotonic() - started, below_us


@needs_sandbox
def test_programs_are_judged_in_the_reward_workers(make_prompt, make_completion):
    programs = [ADD, "print(3)", "while True: pass", ADD]
    found, _, started = scored(make_prompt, make_completion, *programs, deadline_s=20, timeout_s=1.0)
    assert found.rewards == (1.0, 0.0, 0.0, 1.0), found
    assert gone(started, 10.0)


@needs_sandbox
def test_a_worker_that_is_killed_at_its_deadline_takes_the_sandbox_with_it(make_prompt, make_completion):
    endless = "import os\nos.fork() or os.setsid()\nwhile True: pass"
    found, took_s, started = scored(make_prompt, make_completion, endless, deadline_s=1.5, timeout_s=30.0)
    assert not found.scored[0]
    assert took_s < 10.0  # not 30
    assert gone(started, 10.0)
