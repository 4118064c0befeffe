"""The tiny model: a plain Hugging Face directory, the same for the same seed."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rl.tiny import build_tiny_model, build_tokenizer

COMPLETION = "<think>7+8=15\n15-3=12</think><answer>12</answer>"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), seed=0)


@pytest.fixture(scope="module")
def tokenizer(directory):
    return AutoTokenizer.from_pretrained(directory)


def test_the_directory_loads_as_a_qwen2_of_about_a_million_parameters(directory, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.config.model_type == "qwen2"
    assert 1e6 < model.num_parameters() < 3e6
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.pad_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")


def test_weights_depend_on_the_seed_alone_and_the_global_random_state_is_untouched(directory, tmp_path):
    state = torch.random.get_rng_state()
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    build_tiny_model(tmp_path / "same", seed=0)
    build_tiny_model(tmp_path / "other", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.random.set_rng_state(state)
    first, same, other = (
        AutoModelForCausalLM.from_pretrained(path).model.layers[0].mlp.up_proj.weight
        for path in (directory, tmp_path / "same", tmp_path / "other")
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_weights_start_wide_enough_for_a_narrow_model(directory):
    weight = AutoModelForCausalLM.from_pretrained(directory).model.layers[0].mlp.up_proj.weight
    assert weight.std().item() == pytest.approx(192**-0.5, rel=0.02)


def test_the_tags_survive_decoding_and_the_special_tokens_do_not(tokenizer):
    ids = tokenizer(COMPLETION + "<|im_end|><|endoftext|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == COMPLETION
    assert tokenizer.decode(ids) == COMPLETION + "<|im_end|><|endoftext|>"


def test_tags_digits_and_the_end_are_one_token_each(tokenizer):
    # 2 tags, 7 characters, a line feed, 8 characters, 2 tags, 2 digits, a tag and the end.
    ids = tokenizer(COMPLETION + "<|im_end|>")["input_ids"]
    assert len(ids) == 1 + 6 + 1 + 7 + 2 + 2 + 1 + 1
    assert ids[-1] == tokenizer.eos_token_id


def test_the_chat_template_renders_a_conversation_and_opens_the_answer(tokenizer):
    messages = [{"role": "system", "content": "Think."}, {"role": "user", "content": "What is 7+8-3?"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\nWhat is 7+8-3?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.apply_chat_template(messages[:1], tokenize=False).endswith("Think.<|im_end|>\n")


@pytest.mark.parametrize(
    "text",
    ["What is 12+3?", "tabs\tand  blanks \n\n 12345", "Gr\u00fc\u00dfe \u6f22\u5b57 \U0001f600", "it isn't <thin k>"],
)
def test_any_text_survives_the_round_trip_and_loading_changes_no_token(text, tokenizer):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert build_tokenizer()(text)["input_ids"] == ids


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"hidden": 100}, r"hidden=100 must be a multiple of 2 \* heads = 12"),
        ({"heads": 6, "kv_heads": 4}, r"heads=6 must be a multiple of kv_heads=4"),
        ({"layers": 0}, r"needs positive sizes, got .* layers=0"),
    ],
)
def test_an_impossible_shape_is_refused(shape, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        build_tiny_model(tmp_path, **shape)
