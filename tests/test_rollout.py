"""Our own samplers: transformers' tokens, the trainer's log-probabilities, rows that do not know each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import FAMILIES, build
from transformers import AutoModelForCausalLM, GPT2Config

import rl.rollout.cache as cache_module
import rl.rollout.decoder as decoder_module
from data.problem import Problem, ask
from rl.batch import build_micro_batches, trajectory
from rl.experience import Prompt, SamplingParams
from rl.policy import load_model, load_tokenizer, token_logprobs
from rl.rollout.cache import Cache
from rl.rollout.hf import HFRollout
from rl.rollout.native import NativeRollout
from rl.rollout.sampling import draw, row_seed, row_uniforms, truncate
from rl.tiny import build_tiny_model

CPU = torch.device("cpu")
NATIVE = [family for family in FAMILIES if family != "deepseek_v3"]
QUESTIONS = ["What is 1+2?", "Why?", "What is 9+8-7+6-5+4, and what is it twice?"]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("rollout") / "model"
    return str(build_tiny_model(directory, hidden=32, layers=2, heads=2, kv_heads=1, intermediate=48))


@pytest.fixture(scope="module")
def tokenizer(path):
    return load_tokenizer(path)


@pytest.fixture
def prompts(tokenizer):
    """Three prompts of different lengths."""
    ids = [tuple(tokenizer(question)["input_ids"]) for question in QUESTIONS]
    return [Prompt(Problem(q, ask(q), "", "x"), i, q, ids[i]) for i, q in enumerate(QUESTIONS)]


@pytest.fixture(params=[HFRollout, NativeRollout])
def kind(request):
    return request.param


@pytest.fixture
def rollout(kind, path, tokenizer):
    return kind(path, tokenizer, "float32", CPU)


def tokens(groups) -> list[list[list[int]]]:
    return [[done.token_ids for done in group.completions] for group in groups]


def assert_greedy_is_generates(rollout, prompts):
    params = SamplingParams(completions=1, max_tokens=20, temperature=0.0)
    ours = rollout.generate(prompts, params, seed=0)
    for prompt, group in zip(prompts, ours, strict=True):
        theirs = rollout.model.generate(
            torch.tensor([prompt.token_ids]), do_sample=False, max_new_tokens=20, eos_token_id=list(rollout.end_ids)
        )
        assert group.completions[0].token_ids == theirs[0, len(prompt.token_ids) :].tolist()


def test_greedy_tokens_are_those_of_generate_one_by_one(rollout, prompts):
    assert_greedy_is_generates(rollout, prompts)  # together and padded on the left, against each alone


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_generate_for_every_family(family, prompts, tokenizer, tmp_path, kind):
    path = build(family, tmp_path, eos_token_id=tokenizer.eos_token_id)
    if kind is NativeRollout and family not in NATIVE:
        with pytest.raises(ValueError, match=rf"rollout=native knows llama, .*, not {family}: take rollout=hf"):
            kind(path, tokenizer, "float32", CPU)
        return
    assert_alone_and_together_as_generate(kind(path, tokenizer, "float32", CPU), prompts)


def test_positions_that_are_absolute_are_not_shifted_by_padding(prompts, tokenizer, tmp_path):
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=300, n_positions=256, initializer_range=0.2)
    config.bos_token_id, config.eos_token_id = None, tokenizer.eos_token_id
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert_alone_and_together_as_generate(HFRollout(str(tmp_path), tokenizer, "float32", CPU), prompts)
    with pytest.raises(ValueError, match=r"rollout=native knows llama, .*, not gpt2: take rollout=hf"):
        NativeRollout(str(tmp_path), tokenizer, "float32", CPU)


def assert_alone_and_together_as_generate(engine, prompts):
    assert_greedy_is_generates(engine, prompts)
    params = SamplingParams(completions=3, max_tokens=24)
    together = tokens(engine.generate(prompts, params, seed=2))
    assert [tokens(engine.generate([prompt], params, seed=2))[0] for prompt in prompts] == together


# Every matrix in oneDNN's own order and prompts read where they lie, or none and a copy in each row.
@pytest.mark.parametrize(("worth_packing", "copied_prompt"), [(1, 0), (1 << 30, 64)])
@pytest.mark.parametrize("family", NATIVE)
def test_the_native_engine_samples_what_transformers_modules_sample(
    family, worth_packing, copied_prompt, prompts, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(decoder_module, "WORTH_PACKING", worth_packing)
    monkeypatch.setattr(cache_module, "COPIED_PROMPT", copied_prompt)
    path = build(family, tmp_path, eos_token_id=tokenizer.eos_token_id)
    params = SamplingParams(completions=5, max_tokens=24, temperature=0.9, top_p=0.95, min_p=0.001)
    expected = HFRollout(path, tokenizer, "float32", CPU).generate(prompts, params, seed=1)
    for max_rows in (256, 7, 1):  # all at once; rows that come in where others left; one by one
        engine = NativeRollout(path, tokenizer, "float32", CPU, max_rows=max_rows)
        found = engine.generate(prompts, params, seed=1)
        assert tokens(found) == tokens(expected)
        for one, other in zip(found, expected, strict=True):
            for ours, theirs in zip(one.completions, other.completions, strict=True):
                assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)
                assert ours.logprobs == pytest.approx(theirs.logprobs, abs=2e-5)


def test_new_weights_reach_the_native_engines_own_copies(prompts, tokenizer, tmp_path, monkeypatch):
    """Its fused and reordered matrices, its norms and a tied head: a changed one of each must be sampled from."""
    monkeypatch.setattr(decoder_module, "WORTH_PACKING", 1)
    tied = {"tie_word_embeddings": True, "attention_bias": True}
    path = build("qwen3", tmp_path, eos_token_id=tokenizer.eos_token_id, **tied)
    engine = NativeRollout(path, tokenizer, "float32", CPU)
    params = SamplingParams(completions=2, max_tokens=12)
    model = load_model(path, "float32")
    for name in [name for name, _ in model.named_parameters() if "layers.1" not in name]:
        with torch.no_grad():
            model.get_parameter(name).add_(0.3 * torch.randn_like(model.get_parameter(name)))
        model.save_pretrained(path)
        engine.load_weights(model.named_parameters(), policy_step=1)
        expected = NativeRollout(path, tokenizer, "float32", CPU).generate(prompts, params, seed=0)
        found = engine.generate(prompts, params, seed=0)
        assert [c.logprobs for g in found for c in g.completions] == [
            c.logprobs for g in expected for c in g.completions
        ]


def test_completions_are_handed_over_as_they_end(prompts, path, tokenizer):
    engine = NativeRollout(path, tokenizer, "float32", CPU, max_rows=4)
    ended = []
    params = SamplingParams(completions=6, max_tokens=24, temperature=2.0)
    groups = engine.generate(prompts, params, seed=0, finished=lambda *event: ended.append(event))
    assert sorted((i, j) for i, j, _ in ended) == [(i, j) for i in range(3) for j in range(6)]
    assert all(groups[i].completions[j] is done for i, j, done in ended)
    waited = [(i, j) for i, j, _ in ended]
    assert waited != sorted(waited)  # shorter ones first, not in order


@pytest.mark.parametrize("copied_prompt", [0, 64])
def test_the_cache_stays_within_its_memory_and_says_when_one_row_does_not_fit(
    copied_prompt, prompts, path, tokenizer, monkeypatch
):
    monkeypatch.setattr(cache_module, "COPIED_PROMPT", copied_prompt)
    params = SamplingParams(completions=8, max_tokens=16)
    plain = NativeRollout(path, tokenizer, "float32", CPU)
    per_token = plain.decoder.kv_bytes_per_token
    assert per_token == 2 * 2 * 1 * 16 * 4  # keys and values, 2 layers, 1 head of 16, float32
    longest = max(len(prompt.token_ids) for prompt in prompts)
    row = 16 + (longest if copied_prompt else 0)
    small = (3 * row + 2 * longest) * per_token / 2**30
    engine = NativeRollout(path, tokenizer, "float32", CPU, kv_memory_gb=small)
    rows, num_prompts, *_ = engine._room(prompts, params)
    assert (rows, num_prompts) == (3, 2)
    cache = Cache(engine.decoder, *engine._room(prompts, params))
    assert cache.rows.nbytes + cache.prompts.nbytes <= small * 2**30
    assert tokens(engine.generate(prompts, params, seed=0)) == tokens(plain.generate(prompts, params, seed=0))
    engine = NativeRollout(path, tokenizer, "float32", CPU, kv_memory_gb=(longest + row - 1) * per_token / 2**30)
    with pytest.raises(ValueError, match=r"sampling\.max_tokens=16 need \d+: raise rollout\.kv_memory_gb to"):
        engine.generate(prompts, params, seed=0)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.6])
def test_logprobs_are_the_trainers_at_the_sampling_temperature(temperature, rollout, prompts, path):
    params = SamplingParams(completions=3, max_tokens=12, temperature=temperature)
    model = load_model(path, "float32")
    for group in rollout.generate(prompts, params, seed=1):
        for done in group.completions:
            item = trajectory(group.prompt.token_ids, done.token_ids, done.logprobs, 1.0)
            (batch,) = build_micro_batches(
                [item], "token", tokens_per_micro_batch=1, max_completion_tokens=12, gather=lambda value: [value]
            )
            # Greedy tokens carry the model's own log-probabilities, those at temperature 1.
            trainers = token_logprobs(model, batch, temperature or 1.0).logprobs[batch.loss_mask]
            assert done.logprobs == pytest.approx(trainers.tolist(), abs=1e-4)


def test_a_completion_does_not_depend_on_its_neighbours(kind, path, tokenizer, prompts):
    params = SamplingParams(completions=4, max_tokens=16)
    together = tokens(kind(path, tokenizer, "float32", CPU).generate(prompts, params, seed=3))
    few_at_a_time = kind(path, tokenizer, "float32", CPU, max_rows=1)
    assert tokens(few_at_a_time.generate(prompts, params, seed=3)) == together
    backwards = tokens(few_at_a_time.generate(prompts[::-1], params, seed=3))
    assert backwards[::-1] == together
    assert len({tuple(ids) for ids in together[0]}) == 4  # but differs from them
    assert tokens(few_at_a_time.generate(prompts, params, seed=4)) != together


def test_uniforms_and_seeds_are_functions_of_three_numbers():
    assert (row_uniforms(1, 2, 3, 8) == row_uniforms(1, 2, 3, 8)).all()
    assert (row_uniforms(1, 2, 3, 8)[:4] == row_uniforms(1, 2, 3, 4)).all()
    keys = [(seed, prompt, place) for seed in range(3) for prompt in range(3) for place in range(3)]
    assert len({row_uniforms(*key, 1)[0] for key in keys}) == len({row_seed(*key) for key in keys}) == 27


def frequencies(logits: list[float], count: int = 40_000, **options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    uniforms = torch.rand(count, generator=generator, dtype=torch.float64)
    drawn, logprobs = draw(torch.tensor([logits]).expand(count, -1), uniforms, SamplingParams(**options))
    expected = torch.log_softmax(torch.tensor(logits) / options.get("temperature", 1.0), dim=-1)
    assert torch.allclose(logprobs, expected[drawn])  # before anything is cut off
    return torch.bincount(drawn, minlength=len(logits)) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability_says(temperature):
    logits = [2.0, 1.0, 0.0, -1.0, -30.0]
    expected = torch.softmax(torch.tensor(logits) / temperature, dim=-1)
    four_sigma = 4 * (expected * (1 - expected) / 40_000).sqrt() + 1e-6
    assert ((frequencies(logits, temperature=temperature) - expected).abs() <= four_sigma).all()


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.5}, [0]),  # probabilities 0.6, 0.25, 0.1, 0.05
        ({"top_p": 0.61}, [0, 1]),
        ({"top_p": 0.9}, [0, 1, 2]),
        ({"min_p": 0.3}, [0, 1]),
        ({"top_k": 3, "min_p": 0.3}, [0, 1]),
        ({"top_k": 2, "top_p": 0.7}, [0]),  # of the two that top_k leaves, the first holds 0.6 / 0.85 = 0.71
        ({"top_k": 9}, [0, 1, 2, 3]),
        ({}, [0, 1, 2, 3]),
    ],
)
def test_what_is_cut_off_is_never_drawn_and_the_rest_keeps_its_proportions(options, kept):
    probabilities = torch.tensor([0.6, 0.25, 0.1, 0.05])
    found = frequencies(probabilities.log().tolist(), **options)
    assert found.nonzero().flatten().tolist() == kept
    expected = probabilities[kept] / probabilities[kept].sum()
    assert torch.allclose(found[kept], expected, atol=0.012)


def test_the_largest_uniform_draws_no_impossible_token():
    logits = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]])
    for uniform in (0.0, 0.5, 1 - 2**-53, 1.0):
        token, _ = draw(logits, torch.tensor([uniform], dtype=torch.float64), SamplingParams())
        assert token.item() in (0, 1)
        token, _ = draw(logits.flip(-1), torch.tensor([uniform], dtype=torch.float64), SamplingParams())
        assert token.item() in (2, 3)


@pytest.mark.parametrize("options", [{}, {"top_k": 40}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_an_extreme_uniform_draws_what_was_kept_from_a_large_vocabulary(options):
    logits = 3 * torch.randn(300, 5_000, generator=torch.Generator().manual_seed(0))
    logits[:, :50] = logits[:, -50:] = -torch.inf
    params = SamplingParams(**options)
    kept = truncate(torch.softmax(logits, dim=-1), params)
    for uniform in (0.0, 1 - 2**-53):
        drawn, _ = draw(logits, torch.full((300,), uniform, dtype=torch.float64), params)
        assert (kept.gather(-1, drawn.unsqueeze(-1)) > 0).all()


def test_tokens_as_likely_as_the_last_of_the_top_k_stay_with_it():
    kept = truncate(torch.tensor([[0.2, 0.3, 0.2, 0.2, 0.1]]), SamplingParams(top_k=2))
    assert kept.gt(0).tolist() == [[True, True, True, True, False]]


def test_an_answer_ends_at_the_end_token_or_at_the_limit(rollout, prompts, tokenizer):
    groups = rollout.generate(prompts, SamplingParams(completions=64, max_tokens=24, temperature=2.0), seed=0)
    endings = {"stop": 0, "length": 0}
    for done in (done for group in groups for done in group.completions):
        endings[done.finish_reason] += 1
        if done.finish_reason == "stop":
            assert done.token_ids[-1] in rollout.end_ids
            assert done.text == tokenizer.decode(done.token_ids[:-1])
        else:
            assert len(done.token_ids) == 24
            assert not rollout.end_ids & set(done.token_ids)
            assert done.text == tokenizer.decode(done.token_ids)
    assert min(endings.values()) > 0


def test_an_end_token_in_the_last_place_is_an_end_and_not_a_cut(rollout, prompts):
    free = SamplingParams(completions=64, max_tokens=24, temperature=2.0)
    done = rollout.generate(prompts[:1], free, seed=0)[0].completions
    ended = next(one.token_ids for one in done if one.finish_reason == "stop" and len(one.token_ids) > 1)
    exact = rollout.generate(prompts[:1], replace(free, max_tokens=len(ended)), seed=0)[0].completions
    assert ended in [one.token_ids for one in exact if one.finish_reason == "stop"]
    short = rollout.generate(prompts[:1], replace(free, max_tokens=len(ended) - 1), seed=0)[0].completions
    assert ended[:-1] in [one.token_ids for one in short if one.finish_reason == "length"]


def test_an_answer_ends_at_the_end_tokens_of_the_models_generation_config_too(kind, path, tokenizer, prompts, tmp_path):
    model = load_model(path, "float32")
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "ab"]
    model.generation_config.eos_token_id = letters
    model.save_pretrained(tmp_path)
    engine = kind(str(tmp_path), tokenizer, "float32", CPU)
    assert engine.end_ids == {tokenizer.eos_token_id, *letters}
    (group,) = engine.generate(prompts[:1], SamplingParams(completions=64, max_tokens=24, temperature=2.0), seed=0)
    at_letters = [done for done in group.completions if done.token_ids[-1] in letters]
    assert at_letters
    for done in at_letters:
        assert done.finish_reason == "stop"
        assert not engine.end_ids & set(done.token_ids[:-1])
        assert done.text == tokenizer.decode(done.token_ids[:-1])


def test_one_token_is_an_answer(rollout, prompts):
    for group in rollout.generate(prompts, SamplingParams(completions=2, max_tokens=1), seed=0):
        assert [len(done.token_ids) for done in group.completions] == [1, 1]


def test_each_of_several_stop_texts_ends_the_answer_it_appears_in_and_no_other(rollout, prompts, tokenizer):
    params = SamplingParams(completions=64, max_tokens=24, temperature=2.0, stop=("e", "</think>", "What"))
    found = set()
    for done in (done for group in rollout.generate(prompts, params, seed=0) for done in group.completions):
        texts = {text for text in params.stop if text in done.text}
        assert bool(texts) == (done.finish_reason == "stop" and done.token_ids[-1] not in rollout.end_ids)
        assert not any(text in tokenizer.decode(done.token_ids[:-1]) for text in texts)
        found |= texts
    assert found == set(params.stop)


def test_a_stop_text_ends_an_answer_with_the_token_that_completes_it(rollout, prompts, tokenizer):
    plain = rollout.generate(prompts[:1], SamplingParams(completions=1, max_tokens=20), seed=0)[0].completions[0]
    pairs = (tokenizer.decode(plain.token_ids[place : place + 2]) for place in range(3, 19))
    stop = next(text for text in pairs if text.isascii() and len(text) > 1)  # of two tokens, neither enough alone
    params = SamplingParams(completions=1, max_tokens=20, stop=(stop,))
    stopped = rollout.generate(prompts[:1], params, seed=0)[0].completions[0]
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == plain.token_ids[: len(stopped.token_ids)]
    assert stop in stopped.text
    assert stop not in tokenizer.decode(stopped.token_ids[:-1])


def test_new_weights_are_sampled_from_and_counted(rollout, prompts, path):
    params = SamplingParams(completions=2, max_tokens=16)
    before = rollout.generate(prompts, params, seed=0)
    model = load_model(path, "float32")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    rollout.load_weights(model.named_parameters(), policy_step=7)
    after = rollout.generate(prompts, params, seed=0)
    assert tokens(before) != tokens(after)
    assert {done.policy_step for group in before for done in group.completions} == {0}
    assert {done.policy_step for group in after for done in group.completions} == {7}


def test_weights_that_are_not_the_models_are_refused(rollout, path):
    weights = list(load_model(path, "float32").named_parameters())
    with pytest.raises(ValueError, match=r"no new weights came for 1 parameters, model\.norm\.weight among them"):
        rollout.load_weights([pair for pair in weights if pair[0] != "model.norm.weight"], 1)
    with pytest.raises(ValueError, match=r"no parameter lm_head\.bias"):
        rollout.load_weights([*weights, ("lm_head.bias", torch.zeros(1))], 1)
    with pytest.raises(ValueError, match=r"model\.norm\.weight, or got it twice"):
        rollout.load_weights([*weights, ("model.norm.weight", weights[-1][1])], 1)
    with pytest.raises(ValueError, match=r"parameter model\.norm\.weight has shape \(32,\), got \(1,\)"):
        rollout.load_weights([("model.norm.weight", torch.zeros(1))], 1)
    assert rollout.policy_step == 0


def test_a_model_put_away_between_rollouts_samples_the_same(path, tokenizer, rollout, prompts):
    params = SamplingParams(completions=2, max_tokens=8)
    engine = HFRollout(path, tokenizer, "float32", CPU, offload=True)
    with engine.awake():
        first = tokens(engine.generate(prompts, params, seed=0))
    with engine.awake():
        assert tokens(engine.generate(prompts, params, seed=0)) == first
    assert tokens(rollout.generate(prompts, params, seed=0)) == first


def test_a_limit_of_no_rows_is_refused(kind, path, tokenizer):
    with pytest.raises(ValueError, match=r"rollout\.max_rows must be at least 1, got 0"):
        kind(path, tokenizer, "float32", CPU, max_rows=0)
