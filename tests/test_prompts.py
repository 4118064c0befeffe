"""Templates: what the policy reads, token by token, and which end of it belongs to its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from data.examples import Example
from data.problem import Problem, ask
from data.prompts import TEMPLATES, PromptBuilder, split_by_length

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML


def make_tokenizer(chat_template: str | None = CHATML, frame: str | None = None) -> PreTrainedTokenizerFast:
    """One token per byte, and the special tokens. `frame`: what the tokenizer adds around a text, "<bos> $A"."""
    special = ["<bos>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(special + letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    if frame:
        tokenizer.post_processor = processors.TemplateProcessing(
            frame, special_tokens=[("<bos>", 0), ("<|im_end|>", 2)]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<|im_end|>")
    fast.chat_template = chat_template
    return fast


def builder(template: str, **fields: object) -> PromptBuilder:
    options = {"tokenizer": make_tokenizer(), "max_tokens": 2000, **fields}
    return PromptBuilder(template=template, **options)


def conversation(*turns: tuple[str, str]) -> Problem:
    return Problem(id="c/1", messages=tuple({"role": r, "content": c} for r, c in turns), answer="SECRET", source="c")


def test_chat_is_the_tokenizers_own_template_with_the_assistants_turn_opened(problem):
    prompt = builder("chat").build(problem, 7)
    assert prompt.text == "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert (prompt.index, prompt.prefix, prompt.conversational) == (7, "", True)


def test_r1_zero_puts_the_question_into_the_published_template(problem):
    prompt = builder("r1_zero").build(problem, 0)
    assert prompt.text.startswith("A conversation between User and Assistant. The user asks a question,")
    assert prompt.text.endswith("<answer> answer here </answer>. User: What is 2 + 2?. Assistant:")
    assert (prompt.prefix, prompt.conversational) == ("", False)


def test_r1_zero_ends_a_statement_with_one_full_stop_and_keeps_braces():
    text, _ = builder("r1_zero").render(replace_question("Find {x} in {question}."))
    assert text.endswith(" User: Find {x} in {question}. Assistant:")


def replace_question(question: str) -> Problem:
    return Problem(id="q/1", messages=ask(question), answer="SECRET", source="q")


def test_few_shot_shows_worked_examples_and_then_asks(problem):
    examples = (Example("What is 1 + 1?", "1 + 1 = 2"), Example("What is 3 + 3?", "3 + 3 = 6"))
    assert builder("few_shot", examples=examples).build(problem, 0).text == (
        "Question: What is 1 + 1?\nAnswer: 1 + 1 = 2\n\n"
        "Question: What is 3 + 3?\nAnswer: 3 + 3 = 6\n\n"
        "Question: What is 2 + 2?\nAnswer:"
    )


def test_few_shot_never_shows_the_solution_of_the_question_it_asks(problem):
    examples = (Example(problem.question, "2 + 2 = 4"),)
    assert builder("few_shot", examples=examples).build(problem, 0).text == "Question: What is 2 + 2?\nAnswer:"


def test_none_is_the_question_itself(problem):
    assert builder("none").build(problem, 0).text == "What is 2 + 2?"


@pytest.mark.parametrize(
    ("template", "wording", "text"),
    [
        ("chat", "{question} Think!", "<|im_start|>user\nFind {x}. Think!<|im_end|>\n<|im_start|>assistant\n"),
        ("none", "Q: {question}\nA:", "Q: Find {x}.\nA:"),
        ("r1_zero", "{question} In a \\boxed{}.", r"User: Find {x}. In a \boxed{}. Assistant:"),
    ],
)
def test_wording_goes_around_the_question_in_every_template(template, wording, text):
    assert builder(template, wording=wording).render(replace_question("Find {x}."))[0].endswith(text)


def test_wording_is_for_the_last_turn_of_a_conversation():
    text, _ = builder("chat", wording="{question}!").render(
        conversation(("user", "a"), ("assistant", "b"), ("user", "c"))
    )
    assert "user\na<|im_end|>" in text
    assert "user\nc!<|im_end|>" in text


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("chat", "<|im_start|>assistant\n<think>"),
        ("r1_zero", "Assistant: <think>"),
        ("few_shot", "Answer: <think>"),
        ("none", "2 + 2?<think>"),
    ],
)
def test_a_prefill_ends_the_prompt_and_belongs_to_the_answer(template, end, problem):
    prompt = builder(template, prefill="<think>").build(problem, 0)
    assert prompt.text.endswith(end)
    assert prompt.prefix == "<think>"


@pytest.mark.parametrize(
    ("opening", "prefill", "prefix"),
    [
        ("<think>", "", "<think>"),
        ("<think>\n", "", "<think>\n"),
        ("<think>\n", "<think>", "<think>\n"),
        ("<think>\n", "<think>\nLet us see", "<think>\nLet us see"),
        ("<think>\n\n</think>\n\n", "", "<think>\n\n</think>\n\n"),
        ("<think>\n\n</think>\n\n", "<answer>", "<think>\n\n</think>\n\n<answer>"),
        ("", "<think>\n", "<think>\n"),
        ("", "", ""),
    ],
)
def test_a_chat_template_that_opens_the_thinking_itself_gives_the_prefix(opening, prefill, prefix, problem):
    template = CHATML.replace("assistant\n{% endif %}", f"assistant\n{{{{ {opening!r} }}}}{{% endif %}}")
    prompt = builder("chat", tokenizer=make_tokenizer(template), prefill=prefill).build(problem, 0)
    assert prompt.prefix == prefix
    assert prompt.text.endswith("assistant\n" + prefix)
    assert prompt.text.count("<think>") <= 1


def test_think_tags_in_the_question_are_not_the_answers():
    prompt = builder("chat").build(replace_question("What does <think> mean?"), 0)
    assert prompt.prefix == ""


def test_the_system_message_comes_first_unless_the_problem_brings_its_own():
    built = builder("chat", system="Think first.")
    assert built.render(conversation(("user", "a?")))[0].startswith("<|im_start|>system\nThink first.<|im_end|>")
    text, _ = built.render(conversation(("system", "Be brief."), ("user", "a?")))
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert "Think first." not in text


def test_chat_takes_a_conversation_of_several_turns():
    text, _ = builder("chat").render(conversation(("user", "a?"), ("assistant", "b"), ("user", "c?")))
    assert text == (
        "<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("template", "text"), [("none", "Think.\n\na?"), ("few_shot", "Think.\n\nQuestion: a?\nAnswer:")]
)
def test_plain_templates_start_with_the_instruction(template, text):
    assert builder(template, system="Think.").render(replace_question("a?"))[0] == text


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_answer_is_in_no_prompt(template):
    examples = (Example("x?", "y"),) if template == "few_shot" else ()
    assert "SECRET" not in builder(template, examples=examples).build(replace_question("a?"), 0).text


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("frame", [None, "<bos> $A", "<bos> $A <|im_end|>"])
def test_special_tokens_are_added_once_and_the_answer_is_never_ended(template, frame, problem):
    tokenizer = make_tokenizer("<bos>" + CHATML, frame)
    prompt = builder(template, tokenizer=tokenizer).build(problem, 0)
    bos_expected = 1 if template == "chat" or frame else 0
    assert prompt.token_ids.count(0) == bos_expected
    assert prompt.token_ids[0] == 0 or not bos_expected
    assert prompt.token_ids[-1] != tokenizer.eos_token_id
    assert tokenizer.decode(prompt.token_ids).removeprefix("<bos>") == prompt.text.removeprefix("<bos>")


def test_an_answer_to_learn_ends_with_one_end_of_sequence_token():
    built = builder("none", tokenizer=make_tokenizer(CHATML, "<bos> $A <|im_end|>"))
    token_ids = built.encode_answer("<think>4</think>")
    assert built.tokenizer.decode(token_ids) == "<think>4</think><|im_end|>"


def test_a_prompt_that_is_too_long_is_refused_with_its_length(problem):
    built = builder("none", max_tokens=len("What is 2 + 2?"))
    assert len(built.build(problem, 0).token_ids) == 14
    message = r"problem sums/train/1: its prompt has 14 tokens, more than data\.max_prompt_tokens=13"
    with pytest.raises(ValueError, match=message):
        replace(built, max_tokens=13).build(problem, 0)


def test_problems_that_are_too_long_are_dropped_at_start_in_order():
    problems = [replace_question("x" * length) for length in (3, 9, 1, 5, 4)]
    kept, dropped = split_by_length(builder("none", max_tokens=4), problems, chunk=2)
    assert [len(problem.question) for problem in kept] == [3, 1, 4]
    assert [len(problem.question) for problem in dropped] == [9, 5]
    for problem in kept:
        builder("none", max_tokens=4).build(problem, 0)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"template": "r1zero"}, r"data\.template='r1zero' must be one of .*; did you mean 'r1_zero'\?"),
        ({"template": "qqq"}, r"data\.template='qqq' must be one of chat, r1_zero, few_shot, none$"),
        ({"template": "chat", "tokenizer": make_tokenizer(None)}, r"data\.template=chat needs .* chat template"),
        ({"template": "r1_zero", "system": "Think."}, r"set data\.system=null"),
        ({"template": "chat", "examples": (Example("a", "b"),)}, r"read by data\.template=few_shot only"),
        ({"template": "none", "wording": "Think."}, r"data\.wording needs {question} once, .* got 'Think\.'"),
        ({"template": "none", "wording": "{question}{question}"}, r"data\.wording needs {question} once"),
        ({"template": "few_shot", "wording": "{question}!"}, r"leave data\.wording out"),
        ({"template": "none", "max_tokens": 0}, r"data\.max_prompt_tokens must be at least 1, got 0"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_start(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        builder(**fields)


@pytest.mark.parametrize("template", ["r1_zero", "few_shot", "none"])
def test_plain_templates_refuse_a_conversation(template):
    with pytest.raises(
        ValueError, match=r"problem c/1: data\.template=.* takes one user message, found 2 \(system, user\)"
    ):
        builder(template).build(conversation(("system", "s"), ("user", "a?")), 0)


def test_a_chat_template_without_system_role_says_which_key_to_unset(problem):
    built = builder("chat", tokenizer=make_tokenizer(NO_SYSTEM), system="Think.")
    with pytest.raises(ValueError, match=r"\(system, user\): no system role; .* set data\.system=null"):
        built.build(problem, 0)
