"""DAPO: GRPO with a wider clip upwards and a mean over all tokens (arXiv:2503.14476)."""

from __future__ import annotations

from dataclasses import dataclass

from rl.algorithms import Normalization
from rl.algorithms.grpo import GRPO


@dataclass(frozen=True, kw_only=True)
class DAPO(GRPO):
    """Clip-higher (section 3.1) and the token-level loss (section 3.3), eq. 8 together; no KL (section 2.3).

    Its two other parts are no loss: dynamic sampling (section 3.2) draws prompts anew whose completions all have the
    same reward, and overlong shaping (section 3.4) is the reward rewards/soft_overlong.py.
    """

    clip_high: float = 0.28  # "clip-higher": an unlikely token may grow by more, which keeps entropy up
    normalization: Normalization = "token"
