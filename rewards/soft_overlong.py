"""DAPO's soft punishment of completions that come near the length limit."""

from __future__ import annotations

from data.problem import Problem
from rl.experience import Completion


def soft_overlong(problem: Problem, completion: Completion, *, max_tokens: int, cache_tokens: int) -> float:
    """0 up to max_tokens - cache_tokens, then falling in a straight line to -1 at max_tokens; -1 beyond.

        reward = 0                                  |y| <= L_max - L_cache
                 (L_max - L_cache - |y|) / L_cache  L_max - L_cache < |y| <= L_max     DAPO, arXiv:2503.14476, eq. 13
                 -1                                 L_max < |y|

    Lengths in tokens. DAPO expects 16,384 tokens and allows 4,096 more: max_tokens=20480, cache_tokens=4096, and the
    recipe's sampling.max_tokens is max_tokens. cache_tokens=0 punishes from max_tokens + 1 on, at once.
    Raises ValueError for options out of range.
    """
    if not 0 <= cache_tokens <= max_tokens or max_tokens < 1:
        raise ValueError(
            f"0 <= cache_tokens <= max_tokens and max_tokens >= 1 needed, got {cache_tokens}, {max_tokens}"
        )
    over = len(completion.token_ids) - (max_tokens - cache_tokens)
    if over <= 0:
        return 0.0
    return max(-1.0, -over / cache_tokens) if cache_tokens else -1.0
