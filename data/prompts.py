"""Problem -> Prompt: the templates, and the only place that calls the tokenizer's encode.

    P  tokens of one prompt

A template sees `problem.messages` alone; what the rewards know never passes through here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from data.examples import Example
from data.problem import Message, Problem
from rl.experience import Prompt

TEMPLATES = ("chat", "r1_zero", "few_shot", "none")
QUESTION = "{question}"

# Table 1 of DeepSeek-R1 (arXiv:2501.12948), word for word: what R1-Zero learned from.
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: {question}. Assistant:"
)

# Some chat templates open the thinking themselves, some close it again at once: both belong to the answer.
OPENED_THINKING = re.compile(r"<think>\s*(</think>\s*)?$")


@dataclass(frozen=True, kw_only=True)
class PromptBuilder:
    """Renders problems by one template and tokenises them; fields are the recipe's `data` section."""

    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    template: str  # one of TEMPLATES
    max_tokens: int  # data.max_prompt_tokens
    system: str | None = None  # instruction before the question; a problem's own system message comes first
    wording: str = QUESTION  # how the question is put: a text with {question} in it
    prefill: str = ""  # text that starts every answer, "<think>"; it becomes Prompt.prefix
    examples: Sequence[Example] = ()  # of few_shot

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            near = get_close_matches(self.template, TEMPLATES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"data.template={self.template!r} must be one of {', '.join(TEMPLATES)}{hint}")
        if self.template == "chat" and not self.tokenizer.chat_template:
            raise ValueError(
                f"data.template=chat needs a tokenizer with a chat template, and that of {self.tokenizer.name_or_path} "
                "has none; base models take data.template=r1_zero or few_shot"
            )
        if self.template == "r1_zero" and self.system:
            raise ValueError("data.template=r1_zero brings its own instruction; set data.system=null")
        if self.wording.count(QUESTION) != 1:
            raise ValueError(f"data.wording needs {QUESTION} once, where the question goes, got {self.wording!r}")
        if self.wording != QUESTION and self.template == "few_shot":
            raise ValueError("data.template=few_shot words questions as its examples do; leave data.wording out")
        if self.examples and self.template != "few_shot":
            raise ValueError(f"examples are read by data.template=few_shot only, got data.template={self.template}")
        if self.max_tokens < 1:
            raise ValueError(f"data.max_prompt_tokens must be at least 1, got {self.max_tokens}")

    def build(self, problem: Problem, index: int) -> Prompt:
        """The prompt of one problem; `index` is its position in the stream of prompts.

        ValueError if it has more than max_tokens tokens: `split_by_length` drops such problems at start.
        """
        text, prefix = self.render(problem)
        token_ids = self.encode([text])[0]
        if len(token_ids) > self.max_tokens:
            raise ValueError(
                f"problem {problem.id}: its prompt has {len(token_ids)} tokens, more than "
                f"data.max_prompt_tokens={self.max_tokens}"
            )
        return Prompt(
            problem=problem,
            index=index,
            text=text,
            token_ids=tuple(token_ids),
            prefix=prefix,
            conversational=self.template == "chat",
        )

    def render(self, problem: Problem) -> tuple[str, str]:
        """The prompt as text, and the end of it that already belongs to the answer."""
        match self.template:
            case "chat":
                return self._chat(problem)
            case "r1_zero":
                question = self._worded(_only_question(problem, self.template)).removesuffix(".")
                text, gap = R1_ZERO.replace(QUESTION, question), " "
            case "few_shot":
                text, gap = self._few_shot(_only_question(problem, self.template)), " "
            case _:
                text, gap = self._instructed(self._worded(_only_question(problem, self.template))), ""
        return (text + gap + self.prefill if self.prefill else text), self.prefill

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts.

        A chat template writes the special tokens out, so none is added: a second beginning-of-sequence token would
        be one that the model never saw. Other templates follow the tokenizer's convention, except that an
        end-of-sequence token it may append would end the answer before it begins.
        """
        add = self.template != "chat"
        encoded: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=add)["input_ids"]
        end = self.tokenizer.eos_token_id
        return [ids[:-1] if add and ids and ids[-1] == end else ids for ids in encoded]

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of a given answer, to be learned by heart: the text and the end-of-sequence token."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]

    def _chat(self, problem: Problem) -> tuple[str, str]:
        asked: Message = {"role": "user", "content": self._worded(problem.question)}
        text = self._apply_chat_template(self._with_system([*problem.messages[:-1], asked]), problem.id)
        opened = OPENED_THINKING.search(text)
        if opened is None:
            return text + self.prefill, self.prefill
        # "<think>" twice would be a thought within a thought.
        added = self.prefill.removeprefix("<think>").lstrip() if self.prefill.startswith("<think>") else self.prefill
        return text + added, opened[0] + added

    def _worded(self, question: str) -> str:
        return self.wording.replace(QUESTION, question)

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        if not self.system or messages[0]["role"] == "system":
            return list(messages)
        return [{"role": "system", "content": self.system}, *messages]

    def _apply_chat_template(self, messages: list[Message], problem_id: str) -> str:
        from jinja2 import TemplateError

        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"problem {problem_id}: the chat template of {self.tokenizer.name_or_path} refused the messages "
                f"({roles}): {error}; if it takes no system message, set data.system=null"
            ) from error
        return str(text)

    def _few_shot(self, question: str) -> str:
        shown = [example for example in self.examples if example.question != question]
        blocks = [f"Question: {example.question}\nAnswer: {example.solution}" for example in shown]
        return self._instructed("\n\n".join([*blocks, f"Question: {question}\nAnswer:"]))

    def _instructed(self, text: str) -> str:
        return f"{self.system}\n\n{text}" if self.system else text


def _only_question(problem: Problem, template: str) -> str:
    """The question of a problem that is nothing else."""
    if len(problem.messages) != 1:
        roles = ", ".join(message["role"] for message in problem.messages)
        raise ValueError(
            f"problem {problem.id}: data.template={template} takes one user message, found {len(problem.messages)} "
            f"({roles}); conversations need data.template=chat"
        )
    return problem.question


def split_by_length(
    builder: PromptBuilder, problems: Sequence[Problem], chunk: int = 1024
) -> tuple[list[Problem], list[Problem]]:
    """The problems whose prompts fit data.max_prompt_tokens, and those to drop, each in order.

    Called once at start, so that an over-long prompt is counted there rather than met in the middle of a run.
    """
    kept: list[Problem] = []
    dropped: list[Problem] = []
    for start in range(0, len(problems), chunk):
        part = problems[start : start + chunk]
        encoded = builder.encode([builder.render(problem)[0] for problem in part])
        for problem, token_ids in zip(part, encoded, strict=True):
            (kept if len(token_ids) <= builder.max_tokens else dropped).append(problem)
    return kept, dropped
