"""The cosine reward: correct answers had better be short, wrong ones long, for a wrong answer wants more thought."""

from __future__ import annotations

import math
from collections.abc import Mapping

from data.problem import Problem
from rewards.other_terms import RIGHT, unknown, values_of
from rl.experience import Completion


def cosine_length(
    problem: Problem,
    completion: Completion,
    *,
    terms: Mapping[str, float],
    max_tokens: int,
    correct: str = "math_answer",
    correct_short: float = 2.0,
    correct_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    exceed: float | None = -10.0,
) -> float:
    """Half a cosine from the value of a short completion to that of a long one, by correctness.

        reward = r_L + (r_0 - r_L) / 2 * (1 + cos(pi * L / L_max))    arXiv:2502.03373, section 4.2 and appendix C.1
                 r_e  if the completion was cut off at L_max

    L in tokens; L_max = max_tokens, which should be the recipe's sampling.max_tokens. The names here and the paper's,
    whose values are the defaults: correct_short r_0^c, correct_long r_L^c, wrong_short r_0^w, wrong_long r_L^w, exceed
    r_e. With `exceed: null` nothing is special about the end. L is clamped to L_max: the cosine would rise again.

    In the paper this is the whole reward, so correctness is in it: give the term `correct`, which tells (1 or more)
    whether the completion is right, weight 0. Where that has no value (NaN) this is "undecided", but a completion
    that was cut off gets r_e whatever else is known of it.
    Raises ValueError for an option out of range or if the recipe has no term named by `correct`.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1 (the recipe's sampling.max_tokens), got {max_tokens}")
    value = values_of(terms, correct)
    tokens = len(completion.token_ids)
    if exceed is not None and (completion.finish_reason == "length" or tokens > max_tokens):
        return exceed
    if math.isnan(value):
        return unknown(correct)
    short, long = (correct_short, correct_long) if value >= RIGHT else (wrong_short, wrong_long)
    return long + (short - long) / 2 * (1 + math.cos(math.pi * min(tokens / max_tokens, 1.0)))
