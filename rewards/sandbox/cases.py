"""The tests of a programming problem, in the forms that data sets have them.

    {"inputs": [...], "outputs": [...]}                        standard input and output (APPS, TACO, CodeContests)
    {"inputs": [...], "outputs": [...], "fn_name": "f"}        calls of f, or of a method of class Solution
    [{"input": ..., "output": ...}, ...]                       the same, one by one (LiveCodeBench), "testtype" too
    ["assert f(1) == 2", ...]                                  MBPP
    "def check(candidate):\\n    assert candidate(1) == 2"      HumanEval

or any of these as JSON text. An expected value must never be inside the sandbox, so an assert is split into what is
computed there and a constant that stays outside; one that cannot be split is refused.
"""

from __future__ import annotations

import ast
import builtins
import json
import marshal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["stdin", "call", "expression"]


class BadTestsError(ValueError):
    """The problem's tests cannot be used: says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test. Only `stdin`, or `function` with `arguments`, or `expression` with `setup`, enters the sandbox."""

    kind: Kind
    expected: tuple[Any, ...]  # any of these is right; text for stdin
    stdin: str = ""
    function: str = ""
    arguments: tuple[Any, ...] = ()
    expression: str = ""
    setup: str = ""  # imports of an assert
    within: float | None = None  # of a number: how far from the expected one it may be
    loose: bool = field(default=False)  # expected came from JSON, see same_value


def read_cases(tests: Any, *, function: str | None = None, setup: str = "") -> list[Case]:
    """The tests of one problem. Raises BadTestsError with what is wrong with them."""
    tests = _parsed(tests) if isinstance(tests, str) else _plain(tests)
    if isinstance(tests, Sequence) and not tests:
        raise BadTestsError("it is empty: there are no tests")
    if isinstance(tests, str):
        cases = _asserts([tests], function, setup)
    elif isinstance(tests, Mapping):
        cases = _columns(tests, function)
    elif isinstance(tests, Sequence) and all(isinstance(test, str) for test in tests):
        cases = _asserts(list(tests), function, setup)
    elif isinstance(tests, Sequence) and all(isinstance(test, Mapping) for test in tests):
        cases = [_row(number, test, function) for number, test in enumerate(tests, 1)]
    else:
        raise BadTestsError(f"tests must be a mapping with inputs and outputs, or a list, got {type(tests).__name__}")
    if not cases:
        raise BadTestsError("there are no tests")
    return cases


def _plain(value: Any) -> Any:
    """Lists for the arrays that pandas and parquet files have in their place."""
    return value.tolist() if hasattr(value, "tolist") else value


def _parsed(text: str) -> Any:
    """JSON if it looks like it; else the text of asserts."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadTestsError(f"tests are not JSON: {error}") from None


def _columns(tests: Mapping[str, Any], function: str | None) -> list[Case]:
    inputs, outputs = _plain(tests.get("inputs")), _plain(tests.get("outputs"))
    if not isinstance(inputs, Sequence) or not isinstance(outputs, Sequence) or len(inputs) != len(outputs):
        raise BadTestsError("tests need lists inputs and outputs of the same length")
    function = tests.get("fn_name") or function
    if function is None:
        pairs = zip(inputs, outputs, strict=True)
        return [_stdin(number, given, expected) for number, (given, expected) in enumerate(pairs, 1)]
    # APPS wraps each result in a list of one. Where every test could be meant so, both readings are right.
    wrapped = all(_listed(expected) and len(expected) == 1 for expected in outputs)
    cases = []
    for number, (arguments, expected) in enumerate(zip(inputs, outputs, strict=True), 1):
        if not _listed(arguments):
            raise BadTestsError(f"test {number}: the inputs of function {function} must be the list of its arguments")
        right = (expected, expected[0]) if wrapped else (expected,)
        cases.append(_call(function, tuple(arguments), right))
    return cases


def _row(number: int, test: Mapping[str, Any], function: str | None) -> Case:
    if "input" not in test or "output" not in test:
        raise BadTestsError(f"test {number} needs input and output, it has {', '.join(map(str, test)) or 'nothing'}")
    function = test.get("fn_name") or function
    if test.get("testtype", "stdin" if function is None else "functional") != "functional":
        return _stdin(number, test["input"], test["output"])
    if function is None:
        raise BadTestsError(f"test {number} is functional, and neither it nor the problem names a function (fn_name)")
    given, expected = test["input"], test["output"]
    try:  # LiveCodeBench writes each argument as JSON on a line of its own, the result as JSON
        arguments = [json.loads(line) for line in given.split("\n") if line] if isinstance(given, str) else list(given)
        expected = json.loads(expected) if isinstance(given, str) and isinstance(expected, str) else expected
    except (ValueError, TypeError, RecursionError) as error:
        raise BadTestsError(f"test {number}: arguments and result are not JSON: {error}") from None
    return _call(function, tuple(arguments), (expected,))


def _call(function: str, arguments: tuple[Any, ...], expected: tuple[Any, ...]) -> Case:
    if not isinstance(function, str) or not function.isidentifier():
        raise BadTestsError(f"fn_name must be the name of a function, got {function!r}")
    try:
        marshal.dumps(arguments)
    except ValueError:
        raise BadTestsError(f"the arguments of {function} must be plain data, got {str(arguments)[:80]}") from None
    return Case(kind="call", function=function, arguments=arguments, expected=expected, loose=True)


def _stdin(number: int, given: Any, expected: Any) -> Case:
    return Case(kind="stdin", stdin=_text(number, given), expected=(_text(number, expected),))


def _text(number: int, value: Any) -> str:
    """Some data sets have the lines of a text in a list."""
    if isinstance(value, str):
        return value
    if _listed(value) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    raise BadTestsError(
        f"test {number}: input and output must be text, not {type(value).__name__}; is fn_name missing?"
    )


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _asserts(texts: list[str], function: str | None, setup: str) -> list[Case]:
    """Split `assert f(x) == 3`; HumanEval's function check(candidate) is read as the list of its asserts."""
    imports, cases = [setup] if setup else [], []
    for text in texts:
        try:
            body = ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BadTestsError(f"the test is not Python: {error}") from None
        for statement in _flattened(body):
            if isinstance(statement, ast.Assert):
                cases.append(_split(statement, function))
            elif isinstance(statement, (ast.Import, ast.ImportFrom)):
                imports.append(ast.unparse(statement))
            elif not _idle(statement):
                raise BadTestsError(
                    f"line {statement.lineno} of the tests, `{_short(statement)}`, is not an assert: its expected "
                    "values would have to enter the sandbox"
                )
    return [
        Case(kind="expression", setup="\n".join(imports), expected=(expected,), expression=code, within=within)
        for code, expected, within in cases
    ]


def _flattened(body: list[ast.stmt]) -> list[ast.stmt]:
    found = []
    for statement in body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "check":
            found += statement.body
        else:
            found.append(statement)
    return found


def _idle(statement: ast.stmt) -> bool:
    """METADATA = {...}, a docstring, pass, or the call check(...) itself."""
    if isinstance(statement, ast.Expr):
        call = statement.value
        return isinstance(call, ast.Constant) or (
            isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "check"
        )
    named = isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets)
    return isinstance(statement, ast.Pass) or (
        named and isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "METADATA"
    )


Split = tuple[str, Any, float | None]  # what to compute inside, what it must be, how far from it a number may be


def _split(statement: ast.Assert, function: str | None) -> Split:
    found = _truth(statement.test, function) or _equality(statement.test) or _closeness(statement.test)
    if found is None or any(isinstance(part, ast.Compare) for part in _outside_lambdas(found[0])):
        raise BadTestsError(
            f"`{_short(statement)}` cannot be split into a call and a constant that stays outside the sandbox; "
            "give the tests as inputs and outputs instead"
        )
    return _code(found[0], function), found[1], found[2]


Parts = tuple[ast.expr, Any, float | None] | None


def _truth(test: ast.expr, function: str | None) -> Parts:
    """assert f(x), assert not f(x): only the function itself, for all([f(1) == 2, ...]) would carry values inside."""
    negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    call = test.operand if isinstance(test, ast.UnaryOp) and negated else test
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        return None
    known = call.func.id in (function, "candidate") or (function is None and not hasattr(builtins, call.func.id))
    if not known or any(_calls(argument) for argument in call.args):
        return None
    return ast.Call(ast.Name("bool", ast.Load()), [call], []), not negated, None


def _equality(test: ast.expr) -> Parts:
    """assert f(x) == 3, assert 3 == f(x), assert f(x) is None."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Eq, ast.Is)):
        for inside, outside in ((test.left, test.comparators[0]), (test.comparators[0], test.left)):
            expected = _constant(outside)
            if expected is not _NONE and _calls(inside):
                return inside, expected, None
    return None


def _closeness(test: ast.expr) -> Parts:
    """assert abs(f(x) - 2.5) < 1e-6, assert math.isclose(f(x), 2.5, rel_tol=1e-6)."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Lt, ast.LtE)):
        difference, within = _difference(test.left), _constant(test.comparators[0])
        if difference is not None and isinstance(within, (int, float)):
            return (*difference, float(within))
    if isinstance(test, ast.Call) and ast.unparse(test.func) in ("math.isclose", "isclose") and len(test.args) == 2:
        expected = _constant(test.args[1])
        options = {word.arg: _constant(word.value) for word in test.keywords}
        if isinstance(expected, (int, float)) and all(isinstance(value, (int, float)) for value in options.values()):
            within = max(options.get("rel_tol", 1e-9) * abs(expected), options.get("abs_tol", 0.0))
            return test.args[0], float(expected), float(within)
    return None


_NONE = object()


def _constant(node: ast.expr) -> Any:
    """The value of a literal, of set(), list(), tuple() or float("inf") of one, or of - and ** on numbers; or _NONE."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) <= 1 and not node.keywords:
        kinds = {"set": set, "frozenset": frozenset, "tuple": tuple, "list": list, "dict": dict, "float": float}
        values = [_constant(argument) for argument in node.args]
        if node.func.id in kinds and _NONE not in values:
            try:
                return kinds[node.func.id](*values)
            except (TypeError, ValueError):
                return _NONE
    return _NONE


def _difference(node: ast.expr) -> tuple[ast.expr, float] | None:
    """f(x) and 2.5 from abs(f(x) - 2.5)."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) in ("abs", "math.fabs") and len(node.args) == 1):
        return None
    inner = node.args[0]
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
        for inside, outside in ((inner.left, inner.right), (inner.right, inner.left)):
            expected = _constant(outside)
            if _calls(inside) and isinstance(expected, (int, float)):
                return inside, float(expected)
    return None


def _calls(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _outside_lambdas(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, ast.Lambda):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _outside_lambdas(child)


def _code(node: ast.expr, function: str | None) -> str:
    """The text of what runs inside; HumanEval's `candidate` is the function under test."""
    if function is not None:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id == "candidate":
                part.id = function
    return ast.unparse(node)


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 80 else text[:80] + "..."
