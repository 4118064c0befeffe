"""Log-probabilities of a packed micro-batch: those of the plain model, without ever making all the logits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM, Gemma2Config, GPT2Config, GraniteConfig, PreTrainedModel

import rl.head as head_module
from rl.batch import MicroBatch, Trajectory, empty_micro_batch, micro_batch, trajectory
from rl.policy import Policy, SoftCapped, check_model_path, load_model, load_tokenizer, output_head, token_logprobs
from rl.tiny import build_tiny_model

TEMPERATURES = [1.0, 0.6]


@pytest.fixture(scope="module")
def tied(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("tied")
    return build_tiny_model(directory, hidden=32, layers=2, heads=2, kv_heads=1, intermediate=48)


@pytest.fixture(scope="module")
def untied(tied, tmp_path_factory) -> Path:
    """The same body with a head of its own, and dropout and a window that training must not see."""
    model = AutoModelForCausalLM.from_pretrained(tied)
    model.config.tie_word_embeddings = False
    model.config.attention_dropout = 0.5
    model.lm_head = nn.Linear(32, model.config.vocab_size, bias=False)
    torch.nn.init.normal_(model.lm_head.weight, generator=torch.Generator().manual_seed(1))
    directory = tmp_path_factory.mktemp("untied")
    model.save_pretrained(directory)
    return directory


def saved_with_wide_weights(config, directory: Path) -> Path:
    """A model of this configuration whose weights are large enough for a cap or a dropout to be seen."""
    model = AutoModelForCausalLM.from_config(config)
    draw = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3, generator=draw)
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Path:
    """Gemma 2: a soft cap on the logits, tight enough to bend all of them, and windows of four tokens."""
    config = Gemma2Config(
        vocab_size=256, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=4, final_logit_softcapping=1.5,
    )  # fmt: skip
    return saved_with_wide_weights(config, tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> Path:
    """GPT-2: dropout as modules in four places, here at a half, and positions that are learnt."""
    config = GPT2Config(
        vocab_size=256, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2,
        resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5,
    )  # fmt: skip
    return saved_with_wide_weights(config, tmp_path_factory.mktemp("gpt2"))


def draw_batch(count: int = 5, longest: int = 12) -> tuple[list[Trajectory], MicroBatch]:
    draw = random.Random(0)
    items = []
    for _ in range(count):
        prompt = [draw.randrange(200) for _ in range(draw.randint(1, 6))]
        answer = [draw.randrange(200) for _ in range(draw.randint(1, longest))]
        items.append(trajectory(prompt, answer, [-1.0] * len(answer), 1.0))
    return items, micro_batch(items, [1.0] * count)


def plain_scores(model: nn.Module, items: list[Trajectory], temperature: float) -> tuple[Tensor, Tensor]:
    """One sequence at a time, the model's own logits whole: log-probabilities and entropies of completion tokens."""
    logprobs, entropies = [], []
    for item in items:
        ids = torch.tensor([[*item.prompt_ids, *item.completion_ids]])
        scores = torch.log_softmax(model(input_ids=ids).logits[0] / temperature, dim=-1)
        start = len(item.prompt_ids)
        for place in range(start, ids.shape[1]):
            logprobs.append(scores[place - 1, ids[0, place]])  # the token before it predicts it
            entropies.append(-(scores[place - 1].exp() * scores[place - 1]).sum())
    return torch.stack(logprobs), torch.stack(entropies)


@pytest.mark.parametrize("logits_per_chunk", [1, 2000, 1 << 24])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("head", ["tied", "untied", "gemma", "gpt2"])
def test_scores_and_gradients_equal_a_plain_log_softmax_of_all_logits(
    head, temperature, logits_per_chunk, request, monkeypatch
):
    monkeypatch.setattr(head_module, "LOGITS_PER_CHUNK", logits_per_chunk)
    path = str(request.getfixturevalue(head))
    ours, plain = load_model(path, "float32").train(), load_model(path, "float32").train()
    items, batch = draw_batch()
    scores = token_logprobs(ours, batch, temperature)
    logprobs, entropies = plain_scores(plain, items, temperature)
    assert_close(scores.logprobs[batch.loss_mask], logprobs, rtol=1e-5, atol=1e-5)
    assert_close(scores.entropy[batch.loss_mask], entropies.detach(), rtol=1e-5, atol=1e-5)

    weights = torch.linspace(-1, 1, len(logprobs))
    (scores.logprobs[batch.loss_mask] * weights).sum().backward()
    (logprobs * weights).sum().backward()
    for (name, mine), (_, other) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        scale = float(other.grad.abs().max())
        assert scale > 0, name
        assert (mine.grad - other.grad).abs().max() < 1e-5 * scale, name


@pytest.mark.parametrize("logits_per_chunk", [1, 2000, 1 << 24])
@pytest.mark.parametrize("head", ["tied", "untied", "gemma", "gpt2"])
def test_the_gradient_of_a_loss_with_entropies_equals_that_of_all_logits(head, logits_per_chunk, request, monkeypatch):
    # gemma's head has a soft cap and is not fused; the others' are.
    monkeypatch.setattr(head_module, "LOGITS_PER_CHUNK", logits_per_chunk)
    path = str(request.getfixturevalue(head))
    ours, plain = load_model(path, "float32").train(), load_model(path, "float32").train()
    items, batch = draw_batch()
    policy = Policy(ours, 0.6)
    assert (policy.fused_head is None) == (head == "gemma")
    logprobs, entropies = plain_scores(plain, items, 0.6)
    weights = torch.zeros(len(batch.token_ids)).masked_scatter(batch.loss_mask, torch.linspace(-1, 1, len(logprobs)))
    _, _, loss = policy(
        batch, lambda logprobs, index, entropy: (weights[index] * logprobs - 0.5 * entropy).sum(), entropy_gradient=True
    )
    expected = (weights[batch.loss_mask] * logprobs - 0.5 * entropies).sum()
    assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    expected.backward()
    for (name, mine), (_, other) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        scale = float(other.grad.abs().max())
        assert scale > 0, name
        assert (mine.grad - other.grad).abs().max() < 1e-5 * scale, name


def test_the_gemma_above_is_one_whose_cap_bends_the_logits(gemma):
    model = load_model(str(gemma), "float32")
    batch = draw_batch()[1]
    capped = token_logprobs(model, batch).logprobs
    model.config.final_logit_softcapping = None
    assert (token_logprobs(model, batch).logprobs - capped).abs().max() > 1


def test_scores_are_float32_whatever_the_weights(tied):
    exact, half = (load_model(str(tied), dtype) for dtype in ("float32", "bfloat16"))
    batch = draw_batch()[1]
    scores = token_logprobs(half, batch)
    assert half.dtype == torch.bfloat16
    assert scores.logprobs.dtype == scores.entropy.dtype == torch.float32
    # bfloat16 has 8 bits: were the softmax in it, every log-probability below -4 would be a multiple of 1/32.
    low = scores.logprobs[scores.logprobs < -4]
    assert len(low) > 5
    assert (low * 32 % 1 != 0).any()
    assert_close(scores.logprobs, token_logprobs(exact, batch).logprobs, rtol=0.02, atol=0.05)


def test_scoring_leaves_the_batch_as_it_was(tied):
    batch, again = draw_batch()[1], draw_batch()[1]
    token_logprobs(load_model(str(tied), "float32"), batch, 0.7).logprobs.sum().backward()
    for name in MicroBatch.__slots__:
        if getattr(again, name) is not None:
            assert torch.equal(getattr(batch, name), getattr(again, name)), name


@pytest.mark.parametrize("head", ["tied", "untied", "gemma"])
def test_an_empty_micro_batch_gives_every_weight_a_gradient_of_zero(head, request):
    # A rank without work takes part in the reduction of every parameter's gradient, and adds nothing to it.
    model, batch = load_model(str(request.getfixturevalue(head)), "float32"), empty_micro_batch()
    (batch.loss_weights * token_logprobs(model, batch).logprobs).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad == 0).all(), name


def test_prompts_score_zero_and_the_entropy_carries_no_gradient(tied):
    _, batch = draw_batch()
    scores = token_logprobs(load_model(str(tied), "float32"), batch)
    assert (scores.logprobs[~batch.loss_mask] == 0).all()
    assert (scores.entropy[~batch.loss_mask] == 0).all()
    assert (scores.entropy[batch.loss_mask] > 0).all()
    assert scores.logprobs.requires_grad
    assert not scores.entropy.requires_grad


def test_a_sequence_scores_the_same_whatever_it_is_packed_with(tied):
    model = load_model(str(tied), "float32")
    items, batch = draw_batch()
    together = token_logprobs(model, batch).logprobs[batch.loss_mask]
    alone = []
    for item in items:
        one = micro_batch([item], [1.0])
        alone.append(token_logprobs(model, one).logprobs[one.loss_mask])
    assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_no_tensor_is_larger_than_one_chunk_of_logits(tied, monkeypatch):
    model = load_model(str(tied), "float32")
    vocabulary = model.config.vocab_size
    _, batch = draw_batch(count=40, longest=30)
    num_tokens = int(batch.loss_mask.sum())
    chunk = 16 * vocabulary
    monkeypatch.setattr(head_module, "LOGITS_PER_CHUNK", chunk)
    largest = Largest(vocabulary)
    with largest:
        token_logprobs(model, batch).logprobs.sum().backward()
    assert largest.logits == chunk  # logits were seen, 16 rows of them
    assert num_tokens * vocabulary > 20 * chunk
    assert largest.numel < num_tokens * vocabulary


def test_no_logits_are_kept_for_the_backward_pass(tied):
    kept: list[torch.Size] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    model = load_model(str(tied), "float32")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_logprobs(model, draw_batch()[1]).logprobs.sum().backward()
    assert kept
    assert not [shape for shape in kept if shape[-1:] == (model.config.vocab_size,)]


def test_all_that_is_kept_for_the_backward_pass_is_together_smaller_than_all_logits(tied, monkeypatch):
    """In numbers, where the vocabulary is far wider than the model: 8000 columns beside a width of 32."""
    model = load_model(str(tied), "float32")
    model.resize_token_embeddings(8000)
    _, batch = draw_batch(count=30, longest=30)
    monkeypatch.setattr(head_module, "LOGITS_PER_CHUNK", 8 * 8000)
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(0 if tensor.data_ptr() in weights else tensor.numel())
        return tensor

    with Largest(8000) as made, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_logprobs(model, batch).logprobs.sum().backward()
    all_logits = int(batch.loss_mask.sum()) * 8000
    assert 0 < sum(kept) < all_logits / 2
    assert made.logits == 8 * 8000
    assert made.numel == 8000 * 32 < all_logits / 10  # the embedding's gradient is the largest of all that is made


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Watches every operation, those of the backward pass too, for the largest tensor it makes."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.numel, self.logits = vocabulary, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
                if tensor.dim() == 2 and tensor.shape[1] == self.vocabulary and tensor.shape[0] != 32:
                    self.logits = max(self.logits, tensor.numel())
        return result


@pytest.mark.parametrize("head", ["untied", "gpt2"])
def test_dropout_is_off_in_a_model_that_trains(head, request):
    path = str(request.getfixturevalue(head))
    model, batch = load_model(path, "float32").train(), draw_batch()[1]
    first, second = token_logprobs(model, batch).logprobs, token_logprobs(model, batch).logprobs
    assert torch.equal(first, second)
    as_saved: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path).train()  # would drop, were it not loaded so
    assert not torch.equal(token_logprobs(as_saved, batch).logprobs, token_logprobs(as_saved, batch).logprobs)


def test_the_models_own_setting_of_dropout_is_saved_with_it(untied, tmp_path):
    model = load_model(str(untied), "float32")
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).attention_dropout == 0.5
    assert model.config.attention_dropout == 0.5  # the model's own setting; the modules' are what forward reads


def test_greedy_sampling_is_scored_at_temperature_one(tied):
    _, batch = draw_batch()
    model = load_model(str(tied), "float32")
    assert torch.equal(Policy(model, 0.0)(batch)[0], token_logprobs(model, batch, 1.0).logprobs)


def test_the_soft_cap_of_gemma_bounds_the_logits(tied):
    model = load_model(str(tied), "float32")
    model.config.final_logit_softcapping = 2.0
    head = output_head(model)
    assert isinstance(head, SoftCapped)
    hidden = torch.randn(3, 32) * 100
    assert_close(head(hidden), 2 * torch.tanh(model.lm_head(hidden) / 2))


def test_the_soft_cap_of_gemmas_attention_is_not_lost(tmp_path):
    """transformers' sdpa drops it without a word."""
    config = Gemma2Config(
        vocab_size=256, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, attn_logit_softcapping=0.5,
    )  # fmt: skip
    path = saved_with_wide_weights(config, tmp_path)
    tokens = torch.arange(20).unsqueeze(0)
    capped = load_model(str(path), "float32")(tokens).logits
    eager = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    assert_close(capped, eager(tokens).logits)
    eager.set_attn_implementation("sdpa")
    assert (capped - eager(tokens).logits).abs().max() > 0.1  # so this test would see it
    with pytest.raises(ValueError, match=r"model\.attention=sdpa ignores the soft cap"):
        load_model(str(path), "float32", attention="sdpa")


def test_a_model_with_scaled_logits_is_refused(tmp_path):
    config = GraniteConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, logits_scaling=8.0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="logits are scaled by logits_scaling"):
        load_model(str(tmp_path), "float32")


def test_a_lora_model_is_scored_with_its_adapters(tied):
    from launch.models import with_lora
    from rl.config import LoraConfig

    model = with_lora(load_model(str(tied), "float32"), LoraConfig(rank=2))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    items, batch = draw_batch()
    scores = token_logprobs(model, batch).logprobs[batch.loss_mask]
    assert_close(scores, plain_scores(model, items, 1.0)[0], rtol=1e-5, atol=1e-5)
    with model.disable_adapter():
        assert (token_logprobs(model, batch).logprobs[batch.loss_mask] - scores).abs().max() > 1e-3


# ---------------------------------------------------------------------- paths


@pytest.mark.parametrize("path", ["/nowhere/model", "./model", "~/no such model", "just-a-name", "a/b/c"])
def test_a_model_path_that_does_not_exist_is_refused_before_anything_loads(path):
    with pytest.raises(ValueError, match=r"model\.path=.* does not exist, and is not of the form owner/name"):
        check_model_path(path)


def test_a_directory_without_a_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is a directory without a config\.json"):
        check_model_path(str(tmp_path))


def test_a_hub_model_that_cannot_be_reached_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"hf download nobody/no-such-model --local-dir DIR.*model\.path=DIR"):
        check_model_path("nobody/no-such-model")


def test_a_model_directory_is_accepted(tied):
    check_model_path(str(tied))
    assert load_tokenizer(str(tied)).eos_token == "<|im_end|>"


def test_a_home_directory_is_spelt_out(tied, monkeypatch):
    monkeypatch.setenv("HOME", str(tied.parent))
    check_model_path(f"~/{tied.name}")
    assert load_model(f"~/{tied.name}", "float32").dtype == torch.float32
    assert load_tokenizer(f"~/{tied.name}").eos_token == "<|im_end|>"


def test_a_model_without_a_tokenizer_is_refused_with_the_files_that_would_be_one(untied):
    with pytest.raises(ValueError, match=r"model\.path=.* has no tokenizer: none of tokenizer\.json, .* is there"):
        load_tokenizer(str(untied))


def test_a_tokenizer_without_an_end_of_sequence_token_is_refused(tied, tmp_path):
    tokenizer = load_tokenizer(str(tied))
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.path=.*: the tokenizer has no end-of-sequence token"):
        load_tokenizer(str(tmp_path))
