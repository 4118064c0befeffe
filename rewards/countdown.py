"""The countdown game: reach the target with the given numbers, each used once.

The grammar, read by a parser of its own and never by eval; division is exact:

    sum      = product (("+" | "-") product)*
    product  = factor (("*" | "/") factor)*
    factor   = number | "(" sum ")"
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from data.problem import Problem
from rewards.mathematics.extract import extract_answer
from rl.experience import Completion, Prompt, Verdict

MAX_EXPRESSION_CHARS = 200
MAX_DEPTH = 50  # of parentheses
TARGET = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30}|/0{0,9}[1-9][0-9]{0,20})?")
SIGNS = {  # other ways to write the operators
    **dict.fromkeys(["\\times", "\\cdot", "\N{MULTIPLICATION SIGN}", "\N{MIDDLE DOT}", "\N{DOT OPERATOR}"], "*"),
    **{"\\div": "/", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-"},
    **dict.fromkeys(["\\left", "\\right", "\\(", "\\)"], ""),
}
TOKEN = re.compile(r"\s*([0-9]+|[-+*/()])")


def countdown(problem: Problem, completion: Completion, *, prompt: Prompt | None = None) -> float:
    r"""1.0 if the expression that is given as the answer equals the target and uses each number exactly once.

    `problem.metadata["nums"]` holds the numbers and `problem.answer` the target. Only + - * / and parentheses: no
    sign before a number, no power, no //, no decimals, no number glued from two. \times, \cdot, \div and their Unicode
    signs are read as * and /. "= target" may follow the expression.

    The expression stands after </think>, in an <answer> block, in \boxed{} or after "the answer is"; if several are
    given, all must be right. Without one the verdict is "no_answer"; a problem without numbers or without a target is
    "bad_gold". The task is that of TinyZero (github.com/Jiayi-Pan/TinyZero), the grammar is ours.
    """
    nums, target = _numbers(problem), _target(problem)
    if nums is None:
        return Verdict(state="bad_gold", reason="countdown needs metadata['nums'], a list of non-negative integers")
    if target is None:
        return Verdict(state="bad_gold", reason=f"countdown needs a number as answer, got {problem.answer[:40]!r}")
    found = extract_answer(completion.text, problem.question, prefix=prompt.prefix if prompt else "")
    if found.answer is None:
        return Verdict(state="wrong" if found.refused else "no_answer", reason=found.reason)
    others = [other for other in found.others if other.strip(" $") != str(target)]  # "which is 24" is no other answer
    return Verdict(float(all(_reaches(target, nums, expression) for expression in (found.answer, *others))))


def _reaches(target: Fraction, nums: list[str], expression: str) -> bool:
    """Whether the expression is one of the grammar, uses exactly these numbers and has this value."""
    if len(expression) > MAX_EXPRESSION_CHARS:
        return False
    for sign, plain in SIGNS.items():
        expression = expression.replace(sign, plain)
    left, equals, right = expression.strip("$ ").partition("=")
    if equals and right.strip() != str(target):
        return False
    tokens = _tokens(left)
    if tokens is None or Counter(token for token in tokens if token.isdigit()) != Counter(nums):
        return False
    return _value(tokens) == target


def _numbers(problem: Problem) -> list[str] | None:
    """The numbers of the problem as they are to be written, "03" is not 3; None if it has none."""
    nums = problem.metadata.get("nums")
    if isinstance(nums, str) or not isinstance(nums, Sequence) or not nums:
        return None
    return [str(num) for num in nums] if all(type(num) is int and num >= 0 for num in nums) else None


def _target(problem: Problem) -> Fraction | None:
    """The target, exactly: an integer, a decimal or a fraction."""
    match = TARGET.fullmatch(problem.answer.strip())
    return Fraction(match.group()) if match else None


def _tokens(text: str) -> list[str] | None:
    """The numbers, operators and parentheses of the text; None if it has anything else."""
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            return None
        tokens.append(match.group(1))
        position = match.end()
    return tokens


def _value(tokens: list[str]) -> Fraction | None:
    """The value of the whole token list; None if it is not an expression of the grammar or divides by zero."""
    try:
        value, rest = _sum(tokens, 0, 0)
    except (SyntaxError, ZeroDivisionError):
        return None
    return value if rest == len(tokens) else None


def _sum(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    """The sum that begins at token `at`: its value, and where the tokens after it begin."""
    value, at = _product(tokens, at, depth)
    while at < len(tokens) and tokens[at] in "+-":
        right, after = _product(tokens, at + 1, depth)
        value = value + right if tokens[at] == "+" else value - right
        at = after
    return value, at


def _product(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _factor(tokens, at, depth)
    while at < len(tokens) and tokens[at] in "*/":
        right, after = _factor(tokens, at + 1, depth)
        value = value * right if tokens[at] == "*" else value / right
        at = after
    return value, at


def _factor(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    if at >= len(tokens) or depth > MAX_DEPTH:
        raise SyntaxError("the expression ends too early or is nested too deeply")
    if tokens[at].isdigit():
        return Fraction(int(tokens[at])), at + 1
    if tokens[at] != "(":
        raise SyntaxError(f"expected a number or a parenthesis, got {tokens[at]}")
    value, at = _sum(tokens, at + 1, depth + 1)
    if at >= len(tokens) or tokens[at] != ")":
        raise SyntaxError("a parenthesis is not closed")
    return value, at + 1
