"""Rollouts as JSON lines: one scored group a line, everything that a replay needs and a person wants to read.

Text is ASCII (other characters as \\u escapes), so any reader takes it. Floats come back to the last bit. A reward
that failed is null. Metadata that JSON cannot hold is written as its text, and its tuples come back as lists.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.problem import Problem
from rl.experience import NOT_RECORDED, Completion, Failure, Group, Prompt, Routing, ScoredGroup


def write_rollouts(path: str | Path, groups: Sequence[ScoredGroup]) -> None:
    """Writes the groups to `path`, whole or not at all: to a file beside it first, which is then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="ascii") as file:
            file.writelines(json.dumps(_to_json(group), allow_nan=False, default=str) + "\n" for group in groups)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_rollouts(path: str | Path) -> list[ScoredGroup]:
    """The groups of a file, as they were written. A malformed line is a ValueError with file and line."""
    with Path(path).open(encoding="utf-8") as file:
        return [_parse(line, f"{path}:{number}") for number, line in enumerate(file, start=1) if line.strip()]


def _parse(line: str, place: str) -> ScoredGroup:
    try:
        return _from_json(json.loads(line))
    except KeyError as error:
        raise ValueError(f"{place}: a recorded group needs the key {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{place}: not a recorded group: {error}") from error


def _to_json(scored: ScoredGroup) -> dict[str, Any]:
    """What a person reads comes first, the long lists of numbers last."""
    prompt = scored.group.prompt
    problem = prompt.problem
    return {
        "id": problem.id,
        "index": prompt.index,
        "source": problem.source,
        "question": problem.question,  # for the reader; it is the last of `messages`
        "answer": problem.answer,
        "prompt": prompt.text,
        "prefix": prompt.prefix,
        "completions": [_completion_to_json(scored, i) for i in range(len(scored.rewards))],
        "failures": [_failure_to_json(failure) for failure in scored.failures],
        "terms": list(scored.terms),
        "messages": list(problem.messages),
        "metadata": dict(problem.metadata),
        "conversational": prompt.conversational,
        "prompt_token_ids": prompt.token_ids,
        **_routing_to_json("prompt_routing", scored.group.prompt_routing),
    }


def _completion_to_json(scored: ScoredGroup, i: int) -> dict[str, Any]:
    completion = scored.group.completions[i]
    return {
        "text": completion.text,
        "reward": _number(scored.rewards[i]),
        "terms": {name: _number(values[i]) for name, values in scored.terms.items()},
        "finish_reason": completion.finish_reason,
        "policy_step": completion.policy_step,
        "token_ids": completion.token_ids,
        "logprobs": [_number(logprob) for logprob in completion.logprobs],
        **_routing_to_json("routing", completion.routing),
    }


def _routing_to_json(name: str, routing: Routing) -> dict[str, Any]:
    """Its sizes and its bytes in base 64; nothing where nothing was recorded."""
    if not routing.layers:
        return {}
    data = base64.b64encode(routing.data).decode("ascii")
    return {name: {"tokens": routing.tokens, "layers": routing.layers, "top_k": routing.top_k, "data": data}}


def _routing_from_json(row: dict[str, Any] | None) -> Routing:
    if row is None:
        return NOT_RECORDED
    return Routing(row["tokens"], row["layers"], row["top_k"], base64.b64decode(row["data"], validate=True))


def _failure_to_json(failure: Failure) -> dict[str, Any]:
    return {"term": failure.term, "index": failure.index, "kind": failure.kind, "message": failure.message}


def _from_json(row: dict[str, Any]) -> ScoredGroup:
    problem = Problem(row["id"], tuple(row["messages"]), row["answer"], row["source"], row["metadata"])
    prompt = Prompt(
        problem, row["index"], row["prompt"], tuple(row["prompt_token_ids"]), row["prefix"], row["conversational"]
    )
    completions = row["completions"]
    return ScoredGroup(
        Group(
            prompt,
            tuple(_completion_from_json(completion) for completion in completions),
            _routing_from_json(row.get("prompt_routing")),
        ),
        tuple(_float(completion["reward"]) for completion in completions),
        {name: tuple(_float(completion["terms"][name]) for completion in completions) for name in row["terms"]},
        tuple(Failure(**failure) for failure in row["failures"]),
    )


def _completion_from_json(row: dict[str, Any]) -> Completion:
    if row["finish_reason"] not in ("stop", "length"):
        raise ValueError(f"finish_reason must be 'stop' or 'length', got {row['finish_reason']!r}")
    logprobs = [_float(logprob) for logprob in row["logprobs"]]
    return Completion(
        row["text"], row["token_ids"], logprobs, row["finish_reason"], row["policy_step"],
        _routing_from_json(row.get("routing")),
    )  # fmt: skip


def _number(value: float) -> float | str | None:
    """JSON has no NaN and no infinity: null, "inf" and "-inf"."""
    if math.isfinite(value):
        return float(value)
    return None if math.isnan(value) else str(float(value))


def _float(value: float | str | None) -> float:
    return math.nan if value is None else float(value)
