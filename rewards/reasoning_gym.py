r"""reasoning-gym's problems, judged by its own scorers (arXiv:2505.24760), made safe for what a policy writes.

As they come (release 0.1.25) nine scorers run the answer as Python, by eval or by sympy's parse_expr, and some others
accept too much or raise. What is changed here, and nothing else:

    string_insertion, spiral_matrix, binary_matrix, n_queens      eval is ast.literal_eval
    simple_integration, intermediate_integration,                 only formulas of numbers, one-letter names and
    polynomial_multiplication                                     known functions reach parse_expr
    countdown, puzzle24                                           judged by rewards/countdown.py; puzzle24's scorer does
                                                                  not look which numbers were used, and 24.9 is 24 to it
    game_of_life_halting                                          the word must be right; to its scorer any word is
    complex_arithmetic                                            nan is wrong; to its scorer it is any number
    arc_agi, rearc                                                an entry that was JSON gets its tuples back
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from data.problem import Problem
from rewards.countdown import countdown
from rewards.thinking import split_thinking
from rl.experience import Completion, Prompt, Verdict

MAX_ANSWER_CHARS = 20_000
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
EVALUATING = {
    "string_insertion": "algorithmic.string_insertion",
    "spiral_matrix": "algorithmic.spiral_matrix",
    "binary_matrix": "algorithmic.binary_matrix",
    "n_queens": "games.n_queens",
}
FORMULAS = {"simple_integration", "intermediate_integration", "polynomial_multiplication"}
MAX_FORMULA_CHARS = 500
FORMULA = re.compile(  # possessive throughout; no dot beside a name, no quotes or brackets: it can only be arithmetic
    r"(?a:[0-9]++(?:\.[0-9]++)?+|(?<![A-Za-z])(?:[A-Za-z]|pi|exp|log|ln|sqrt|a?(?:sin|cos|tan)h?)(?![A-Za-z])"
    r"|[-+*/()\s])++"
)
GREAT_POWER = re.compile(r"\*\*[\s(+-]*[0-9]{3}|\*\*[^*]*\*\*[^*]*\*\*")  # x**1000 and towers take for ever
GRIDS = {"arc_agi", "rearc"}

Scorer = Callable[[str, Mapping[str, Any]], float]


def reasoning_gym(problem: Problem, completion: Completion, *, prompt: Prompt, partial: bool = False) -> float:
    r"""1.0 if the kind's own scorer calls the answer wholly right; with partial=True the credit that it gives.

    metadata["dataset"] names the kind and metadata["entry"] is the library's entry, as data/reasoning_gym.py has them.
    The answer is the last <answer> block after the thinking, else the last \boxed{}; without either the verdict is
    no_answer. Some scorers raise on malformed answers: those are wrong. Partial credit is mostly 0.01 to 0.2 for
    anything at all, which a group of wrong answers would be trained on: therefore it is off.
    bad_gold: no such kind or entry, or its scorer does not accept the entry's own answer.
    """
    name, entry = problem.metadata.get("dataset"), problem.metadata.get("entry")
    if not isinstance(name, str) or not isinstance(entry, Mapping) or not isinstance(entry.get("metadata"), Mapping):
        reason = f"problem {problem.id}: reasoning_gym needs metadata['dataset'] and metadata['entry'], with metadata"
        return Verdict(state="bad_gold", reason=reason)
    answer = last_answer(split_thinking(prompt, completion)[1])
    if answer is None:
        return Verdict(state="no_answer", reason=r"no <answer> block and no \boxed{} after the thinking")
    if name in ("countdown", "puzzle24"):
        return _expression(problem, completion, answer, entry["metadata"])
    scorer = _scorer(name)
    if scorer is None or not _accepts_its_own(scorer, _with_tuples(name, entry)):
        return Verdict(state="bad_gold", reason=f"problem {problem.id}: no kind {name!r}, or not with this entry")
    score = _score(scorer, answer, _with_tuples(name, entry)) if _acceptable(name, answer) else 0.0
    return Verdict(score if partial or score >= 1.0 else 0.0)


def last_answer(text: str) -> str | None:
    r"""The content of the last <answer>...</answer>, else of the last \boxed{...}; None for neither or an empty one.

    >>> last_answer(r"<answer>1 2\n3 4</answer> or \boxed{5}"), last_answer(r"\boxed{f(\{1\})}")
    ('1 2\\n3 4', 'f(\\{1\\})')
    """
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    if start >= 0:
        return text[start + len("<answer>") : end].strip() or None
    start = text.rfind("\\boxed{")
    depth = 0
    for brace in BRACE.finditer(text, start + len("\\boxed")) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start + len("\\boxed{") : brace.start()].strip() or None
    return None


def _expression(problem: Problem, completion: Completion, answer: str, metadata: Mapping[str, Any]) -> float:
    """The two kinds whose answer is an arithmetic expression over given numbers."""
    game = dataclasses.replace(
        problem, answer=str(metadata.get("target", 24)), metadata={"nums": metadata.get("numbers")}
    )
    return countdown(game, dataclasses.replace(completion, text=f"<answer>{answer}</answer>"))


def _acceptable(name: str, answer: str) -> bool:
    """Whether the library's scorer may see the answer at all."""
    if len(answer) > MAX_ANSWER_CHARS:
        return False
    if name in FORMULAS:
        return len(answer) <= MAX_FORMULA_CHARS and bool(FORMULA.fullmatch(answer)) and not GREAT_POWER.search(answer)
    return not (name == "complex_arithmetic" and "nan" in answer.lower())


def _score(scorer: Scorer, answer: str, entry: Mapping[str, Any]) -> float:
    """The scorer's value; 0.0 if it cannot read the answer."""
    try:
        return float(scorer(answer, entry))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, SyntaxError, TypeError, ValueError):
        return 0.0


def _accepts_its_own(scorer: Scorer, entry: Mapping[str, Any]) -> bool:
    """Whether the entry's answer is right, or it has none: else a broken entry would look like a wrong answer."""
    answer = entry.get("answer")
    return answer is None or _score(scorer, answer, entry) >= 1.0


@functools.lru_cache(maxsize=200)
def _scorer(name: str) -> Scorer | None:
    """The library's scorer of one kind, changed as the head of this file says; None if there is no such kind."""
    from reasoning_gym import get_score_answer_fn  # half a second: only where it is used
    from reasoning_gym.factory import DATASETS

    if name == "game_of_life_halting":
        return lambda answer, entry: float(answer.lower() == str(entry["answer"]).lower())
    if name not in DATASETS or name == "composite":
        return None
    if name in EVALUATING:
        module: Any = importlib.import_module(f"reasoning_gym.{EVALUATING[name]}")
        module.eval = ast.literal_eval  # a module's own name comes before the builtin one
    scorer: Scorer = get_score_answer_fn(name)
    return scorer


def _with_tuples(name: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry with grids as tuples, which JSON makes lists of and their scorers compare with."""
    if name not in GRIDS:
        return entry
    grids = {key: tuple(map(tuple, value)) for key, value in entry["metadata"].items() if key in ("input", "output")}
    return {**entry, "metadata": {**entry["metadata"], **grids}}
