"""What a step needs at least, over what this machine does in a matrix product and a copy."""

from __future__ import annotations

from typing import Any


def parameters(work: Any) -> tuple[int, int]:
    """Of all layers, and of the head (which is the embedding too)."""
    size = work.hidden // work.heads
    attention = work.hidden * size * (2 * work.heads + 2 * work.kv_heads)
    return work.layers * (attention + 3 * work.hidden * work.intermediate), work.vocabulary * work.hidden


def least_seconds(work: Any, tokens: float, roofs: dict[str, float]) -> dict[str, float]:
    """Seconds below which no phase can be: its floating-point operations, or its bytes where these take longer.

    Sampling: 2 operations per parameter and token, prompts once, the head for completions only, attention over what is
    cached; the weights are read once for each of the longest completion's tokens. Update: three times the forward pass,
    prompts once for their group. Rows end early, so `tokens` and not rows x max_tokens counts.
    """
    layers, head = parameters(work)
    prompt = work.prompts * sum(work.prompt_tokens) / 2
    rows = work.prompts * work.completions
    mean = tokens / rows
    seen = tokens * (sum(work.prompt_tokens) / 2 + mean / 2)  # token pairs of attention
    pairs = 4 * work.layers * work.hidden * seen
    bytes_each = {"float32": 4, "bfloat16": 2}
    forward = 2 * layers * (prompt + tokens) + 2 * head * tokens + pairs
    read = work.max_tokens * (layers + head) * bytes_each[work.rollout_dtype]
    bandwidth = roofs["copy_gb_s"] * 1e9
    return {
        "rollout_s": max(forward / (roofs[work.rollout_dtype] * 1e9), read / bandwidth),
        "update_s": 3 * forward / (roofs[work.dtype] * 1e9),
    }
