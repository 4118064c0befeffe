r"""A problem's own answer, written as a completion: in several forms, and in several notations of the same value.

gold   what the data set says is right, reduced to the answer: "18" of "9 * 2 = 18\n#### 18"
form   where in a completion the answer stands: <answer>18</answer>, \boxed{18}, #### 18, "The answer is 18."
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from data.problem import Problem
from rewards.math_answer import extract_answer

Kind = Literal["number", "choice", "formula", "text", "countdown", "code", "none"]
FORMS: Mapping[str, str] = {
    "answer": "<answer>{}</answer>",
    "boxed": "So it is \\boxed{{{}}}.",
    "boxed_answer": "<answer>\\boxed{{{}}}</answer>",
    "hashes": "#### {}",
    "phrase": "The answer is {}.",
    "code": "```python\n{}\n```",
}
THOUGHT = "Let us go through it step by step."
TEST_KEYS = {"tests", "test_cases", "test_list", "unit_tests", "input_output", "public_tests", "private_tests"}
PROGRAM_KEYS = TEST_KEYS | {"solutions", "canonical_solution"}  # beside which a program may be the answer
SOLUTION_KEYS = ("solutions", "solution", "canonical_solution", "code")
MAX_COUNTDOWN_NUMS = 5  # all expressions of five numbers are tried in a second, those of six are not
MAX_NUMBER_CHARS = 100

DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
DECIMAL = re.compile(rf"([-+]?)({DIGITS})(?:\.([0-9]+))?")
FRACTION = re.compile(r"([-+]?)(?:([0-9]+)/([0-9]+)|\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\})")


@dataclass(frozen=True, slots=True)
class Gold:
    """The answer of one problem, as far as it can be written down."""

    kind: Kind
    text: str  # what a completion would give; empty for kind "none"
    value: Fraction | None = None  # of kind "number"
    reason: str = ""  # of kind "none": why there is nothing to write

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms in which such an answer is given."""
        return ("code",) if self.kind == "code" else tuple(form for form in FORMS if form != "code")


def gold_of(problem: Problem, tests: Set[str] = frozenset()) -> Gold:
    """The answer that the problem's data set holds, or one found from it (countdown); else kind "none" and why.

    tests: the columns that the reward reads as tests of a program. A program is the answer of a problem that has one
    of them, and of one that has any tests, a program and no answer in words.
    """
    metadata = problem.metadata
    if tests & set(metadata):
        return _code(metadata)
    if _is_numbers(metadata.get("nums")):
        return _countdown(problem)
    if TEST_KEYS & set(metadata) and not re.search(r"\w", problem.answer):
        return _code(metadata)
    if "instruction_id_list" in metadata:
        return Gold("none", "", reason="instructions about a text have no one answer")
    text = _reduced(problem.answer).strip()
    if not text:
        return Gold("none", "", reason="the answer is empty")
    value = number(text)
    if value is not None:
        return Gold("number", text, value)
    if re.fullmatch(r"\(?[A-J]\)?\.?", text):
        return Gold("choice", text.strip("()."))
    return Gold("formula" if re.search(r"[\\^_={}\[\]<>*/+]|\d|^.$", text) else "text", text)


def number(text: str) -> Fraction | None:
    r"""An integer, decimal, a/b or \frac{a}{b}, between dollar signs or not; None for anything else."""
    text = text.strip().strip("$").strip()
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if match := DECIMAL.fullmatch(text):
        sign, whole, decimals = match.groups(default="")
        value = Fraction(int(whole.replace(",", "") + decimals), 10 ** len(decimals))
        return -value if sign == "-" else value
    if match := FRACTION.fullmatch(text):
        above, below = (int(part) for part in match.groups()[1:] if part)
        return Fraction(-above if match[1] == "-" else above, below) if below else None
    return None


def write(answer: str, form: str, prefix: str = "", thought: str = THOUGHT) -> str:
    """A completion that thinks and then gives this answer, going on from what the template already wrote."""
    body = FORMS[form].format(answer)
    if "</think>" in prefix:  # the template has closed the thinking at once
        return body
    return f"<think>{thought}</think>\n{body}".removeprefix(prefix.strip())


def thought_of(problem: Problem) -> str:
    """The worked solution where the data set has one: a gold is then judged in the text that belongs to it."""
    solution = problem.metadata.get("solution")
    plain = isinstance(solution, str) and not re.search(r"</?think>|</?answer>|```", solution)
    return str(solution) if plain and not TEST_KEYS & set(problem.metadata) else THOUGHT


def written_number(value: Fraction) -> str:
    """Digits where they end, else a/b: 7, -0.5, 1/3."""
    if value.denominator == 1:
        return str(value.numerator)
    digits = _decimals(value)
    if digits is None:
        return f"{value.numerator}/{value.denominator}"
    scaled = f"{abs(value.numerator) * 10**digits // value.denominator:0{digits + 1}d}"
    return f"{'-' if value < 0 else ''}{scaled[:-digits]}.{scaled[-digits:]}"


def notations(gold: Gold, problem: Problem, form: str) -> list[tuple[str, str]]:
    """(name, answer): the same answer as people and models write it. Every one is right."""
    if gold.kind in ("none", "code"):
        return []
    found = [("spaces", f"  {gold.text}  ")]
    if gold.kind == "countdown":
        return [*found, ("outer parentheses", f"({gold.text})"), ("no spaces", gold.text.replace(" ", ""))]
    if gold.kind in ("number", "formula"):
        bare = gold.text.strip("$")
        found += [("dollars", f"${bare}$"), ("\\( \\)", f"\\({bare}\\)"), ("\\displaystyle", f"\\displaystyle {bare}")]
        found += [("\\dfrac", bare.replace("\\frac", "\\dfrac"))] if "\\frac" in bare else []
    if gold.kind == "choice":
        found += [("parentheses", f"({gold.text})"), ("\\text", f"\\text{{{gold.text}}}")]
    if gold.kind != "formula" and form in ("answer", "hashes"):
        found += [("bold", f"**{gold.text}**")]
    if form == "answer" and not gold.text.endswith("."):
        found += [("full stop", f"{gold.text}.")]
    if gold.value is not None:
        found += _of_a_number(gold.value, problem.question)
    return found


def _of_a_number(value: Fraction, question: str) -> Iterator[tuple[str, str]]:
    """Notations of one rational number."""
    sign, size = "-" if value < 0 else "", abs(value)
    above, below = size.numerator, size.denominator
    if below == 1:
        yield "decimal point", f"{sign}{above}.0"
        yield "two decimals", f"{sign}{above}.00"
        yield "fraction not reduced", f"{sign}\\frac{{{2 * above}}}{{2}}"
        if above >= 1000:
            yield "thousands commas", f"{sign}{above:,}"
            yield "thousands commas, TeX", f"{sign}{above:,}".replace(",", "{,}")
        if value > 0 and "dollar" in question[question.rstrip(" ?.").rfind(".") + 1 :].lower():  # it asks for dollars
            yield "currency", f"\\${above:,}"
            yield "unit", f"{above} dollars"
    else:
        yield "fraction", f"{sign}{above}/{below}"
        yield "\\frac", f"{sign}\\frac{{{above}}}{{{below}}}"
        if _decimals(size) is not None:
            yield "decimals", written_number(value)
            yield "trailing zero", f"{written_number(value)}0"


def _decimals(value: Fraction) -> int | None:
    """How many decimals write the value exactly; None for 1/3."""
    below, twos, fives = value.denominator, 0, 0
    while below % 2 == 0:
        below, twos = below // 2, twos + 1
    while below % 5 == 0:
        below, fives = below // 5, fives + 1
    return max(twos, fives) if below == 1 else None


def _reduced(answer: str) -> str:
    """A worked solution becomes its answer; anything else stays."""
    return extract_answer(answer) or answer if "####" in answer or "\\boxed" in answer else answer


def _code(metadata: Mapping[str, Any]) -> Gold:
    for key in SOLUTION_KEYS:
        solution = metadata.get(key)
        if isinstance(solution, Sequence) and not isinstance(solution, str) and solution:
            solution = solution[0]
        if isinstance(solution, str) and solution.strip():
            return Gold("code", solution.strip())
    return Gold("none", "", reason="it has tests and no program: metadata['solutions'] would hold one")


def _is_numbers(nums: object) -> bool:
    return isinstance(nums, Sequence) and bool(nums) and all(isinstance(num, int) for num in nums)


def _countdown(problem: Problem) -> Gold:
    """An expression that reaches the target: the data set's, or one that is found."""
    nums, target = list(problem.metadata["nums"]), number(problem.answer)
    solution = problem.metadata.get("solution")
    if isinstance(solution, str) and solution.strip():
        return Gold("countdown", solution.strip())
    if target is None or len(nums) > MAX_COUNTDOWN_NUMS:
        return Gold("none", "", reason=f"{len(nums)} numbers: an expression is searched for up to {MAX_COUNTDOWN_NUMS}")
    found = next(_reaching(target, [(Fraction(num), str(num)) for num in nums]), None)
    return Gold("countdown", found) if found else Gold("none", "", reason=f"no expression of {nums} gives {target}")


def _reaching(target: Fraction, parts: list[tuple[Fraction, str]]) -> Iterator[str]:
    """Expressions over all the parts with the value `target`: any two are joined, until one part is left."""
    if len(parts) == 1:
        if parts[0][0] == target:
            yield parts[0][1].removeprefix("(").removesuffix(")") if parts[0][1].count("(") == 1 else parts[0][1]
        return
    for i, (left, left_text) in enumerate(parts):
        for j, (right, right_text) in enumerate(parts):
            if i == j:
                continue
            rest = [part for k, part in enumerate(parts) if k not in (i, j)]
            joined = [(left - right, "-")] + ([(left / right, "/")] if right else [])
            joined += [(left + right, "+"), (left * right, "*")] if i < j else []
            for value, sign in joined:
                yield from _reaching(target, [*rest, (value, f"({left_text} {sign} {right_text})")])
