"""What each form of reward function is given: from our prompt and completions to the arguments of its framework.

    G  completions of one prompt

"The answer's text" below is what the template already wrote of the answer (often "<think>"), and the completion.
No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl.experience import Completion, Prompt

Terms = Mapping[str, Sequence[float]]  # name of another term -> its value for each completion, NaN where it has none
Arguments = Callable[[Prompt, Sequence[Completion], Terms], dict[str, Any]]


def our_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """(problem, completion, *, prompt, terms) of one completion."""
    (completion,) = completions
    own = TermValues({name: values[0] for name, values in terms.items()})
    return {"problem": prompt.problem, "completion": completion, "prompt": prompt, "terms": own}


def group_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """(problem, completions, *, prompt, terms) of the whole group."""
    return {"problem": prompt.problem, "completions": completions, "prompt": prompt, "terms": TermValues(terms)}


class TermValues(dict[str, Any]):
    """The other terms' values by name; an unknown name is answered with those there are."""

    def __missing__(self, name: object) -> Any:
        raise ValueError(f"there is no reward term {name!r} to build on; there are {', '.join(self) or 'none'}")


def trl_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """What TRL's GRPOTrainer passes: a list of length G for each column of the data set.

    Chat prompts come as messages, and the completion as one with the answer's text; other prompts and completions are
    plain text. `solution` is TRL's name for the answer, unless the data has its own. `trainer_state`, `log_extra` and
    `log_metric` reach only a function that names them; what it logs is not kept.
    """
    size, problem = len(completions), prompt.problem
    constant = {"solution": problem.answer, **problem.metadata}
    constant |= {"answer": problem.answer, "id": problem.id, "source": problem.source}
    columns: dict[str, Any] = {name: [value] * size for name, value in constant.items()}
    columns["completion_ids"] = [completion.token_ids for completion in completions]
    if prompt.conversational:
        columns["prompts"] = [[dict(message) for message in problem.messages] for _ in completions]
        columns["completions"] = [[_said(prompt, completion)] for completion in completions]
    else:
        columns["prompts"] = [prompt.text] * size
        columns["completions"] = [completion.text for completion in completions]
    return columns


def trl_extras(completions: Sequence[Completion]) -> dict[str, Any]:
    """The arguments of TRL's trainer that are no columns."""
    state = TrainerState(max(completion.policy_step for completion in completions))
    return {"trainer_state": state, "log_extra": _ignore, "log_metric": _ignore}


class TrainerState:
    """What of transformers.TrainerState a reward can be told: the optimizer steps taken."""

    def __init__(self, global_step: int) -> None:
        self.global_step = global_step

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"trainer_state.{name} is not known to a reward here, only trainer_state.global_step is")


def _ignore(name: str, value: Any) -> None:
    """Where TRL would keep it for its table of completions or its metrics."""


def verl_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """(data_source, solution_str, ground_truth, extra_info) of one completion; `solution_str` is the answer's text.

    The data's own columns data_source and ground_truth go first; extra_info holds the other columns, and what is in a
    column extra_info of the data, on top of verl's usual keys.
    """
    (completion,) = completions
    problem, metadata = prompt.problem, prompt.problem.metadata
    extra: dict[str, Any] = {"index": problem.id, "question": problem.question, "answer": problem.answer, **metadata}
    own = extra.pop("extra_info", None)
    return {
        "data_source": metadata.get("data_source", problem.source),
        "solution_str": prompt.prefix + completion.text,
        "ground_truth": metadata.get("ground_truth", problem.answer),
        "extra_info": {**extra, **own} if isinstance(own, Mapping) else extra,
    }


def verl_batch_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """(data_sources, solution_strs, ground_truths, extra_infos), each a list of length G."""
    rows = [verl_arguments(prompt, [completion], terms) for completion in completions]
    plural = {"data_source": "data_sources", "solution_str": "solution_strs"}
    plural |= {"ground_truth": "ground_truths", "extra_info": "extra_infos"}
    return {plural[name]: [row[name] for row in rows] for name in plural}


def openrlhf_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """(queries, prompts, labels), lists of length G: prompt and completion in one text, the prompt, the answer."""
    size = len(completions)
    queries = [prompt.text + completion.text for completion in completions]
    return {"queries": queries, "prompts": [prompt.text] * size, "labels": [prompt.problem.answer] * size}


def verifiers_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """What a verifiers Rubric passes by name for one rollout: the state, its main fields, and the row's columns.

    Prompt and completion are messages, as in all versions of the last years; the completion's content is the answer's
    text. `task` is a column of that name, or else the whole row.
    """
    (completion,) = completions
    state = verifiers_state(prompt, completion)
    named = {name: state[name] for name in ("prompt", "completion", "answer", "info", "task")}
    return {**prompt.problem.metadata, **named, "state": state}


def verifiers_group_arguments(prompt: Prompt, completions: Sequence[Completion], terms: Terms) -> dict[str, Any]:
    """What a verifiers Rubric passes by name for a group of rollouts, lists of length G."""
    return verifiers_columns([verifiers_state(prompt, completion) for completion in completions])


def verifiers_columns(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The arguments of a verifiers group function, of the states of its rollouts."""
    plural = {"prompts": "prompt", "completions": "completion", "answers": "answer", "infos": "info", "tasks": "task"}
    return {"states": list(states), **{name: [state[one] for state in states] for name, one in plural.items()}}


def verifiers_state(prompt: Prompt, completion: Completion) -> dict[str, Any]:
    """A finished rollout of one turn, with the keys of a verifiers State."""
    problem = prompt.problem
    question = [Message(message) for message in problem.messages]
    reply = [Message(_said(prompt, completion))]
    info = problem.metadata.get("info", problem.metadata)
    row = {**problem.metadata, "prompt": question, "answer": problem.answer, "example_id": problem.id}
    tokens = {
        "prompt_ids": list(prompt.token_ids),
        "completion_ids": list(completion.token_ids),
        "completion_logprobs": list(completion.logprobs),
    }
    truncated = completion.finish_reason == "length"
    turn: dict[str, Any] = {"prompt": question, "completion": reply, "tokens": tokens, "is_truncated": truncated}
    turn |= {"reward": None, "advantage": None, "extras": {}}
    return {
        "prompt": question,
        "completion": reply,
        "answer": problem.answer,
        "info": dict(info) if isinstance(info, Mapping) else info,
        "task": problem.metadata.get("task", row),
        "input": row,
        "example_id": problem.id,
        "trajectory": [turn],
        "is_completed": True,
        "is_truncated": truncated,
        "stop_condition": None,
        "error": None,
        "reward": None,
        "metrics": None,
    }


class Message(dict[str, Any]):
    """A chat message that is read by key and by attribute: verifiers has had both."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


def _said(prompt: Prompt, completion: Completion) -> dict[str, str]:
    """The message with the answer's text."""
    return {"role": "assistant", "content": prompt.prefix + completion.text}
