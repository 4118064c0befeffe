"""VLLMRollout beside HFRollout on the same weights. Runs where vLLM is installed: make test-vllm."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

from data.problem import Problem, ask
from rl.batch import Trajectory, build_micro_batches
from rl.experience import Prompt, SamplingParams
from rl.policy import load_model, load_tokenizer, token_logprobs
from rl.rollout.hf import HFRollout
from rl.rollout.vllm import VLLMRollout
from rl.tiny import build_tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(build_tiny_model(tmp_path_factory.mktemp("vllm") / "model", hidden=192, heads=6, kv_heads=2, layers=2))


@pytest.fixture(scope="module")
def tokenizer(path):
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def engine(path, tokenizer):
    return VLLMRollout(path, tokenizer, "float32", CPU, max_model_len=512)


@pytest.fixture
def prompts(tokenizer):
    questions = ["What is 1+2?", "What is 9+8-7+6?", "Why?"]
    return [
        Prompt(Problem(q, ask(q), "", "x"), i, q, tuple(tokenizer(q)["input_ids"])) for i, q in enumerate(questions)
    ]


def changed(path):
    """The model with other weights: some other seed's."""
    model = load_model(path, "float32")
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return model


def assert_same_greedy(engine, path, tokenizer, prompts, model):
    reference = HFRollout(path, tokenizer, "float32", CPU)
    reference.load_weights(model.named_parameters(), 0)
    params = SamplingParams(completions=1, max_tokens=24, temperature=0.0)
    ours, theirs = engine.generate(prompts, params, 0), reference.generate(prompts, params, 0)
    for one, other in zip(ours, theirs, strict=True):
        assert one.completions[0].token_ids == other.completions[0].token_ids
        assert one.completions[0].text == other.completions[0].text
        assert one.completions[0].finish_reason == other.completions[0].finish_reason
        assert one.completions[0].logprobs == pytest.approx(other.completions[0].logprobs, abs=1e-4)


def test_greedy_tokens_are_those_of_transformers_before_and_after_new_weights(engine, path, tokenizer, prompts):
    for model in (load_model(path, "float32"), changed(path)):
        engine.load_weights(model.named_parameters(), 1)
        assert_same_greedy(engine, path, tokenizer, prompts, model)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_sampled_logprobs_are_the_trainers(temperature, engine, path, prompts):
    model = changed(path)
    engine.load_weights(model.named_parameters(), 3)
    params = SamplingParams(completions=4, max_tokens=16, temperature=temperature)
    for group in engine.generate(prompts, params, 0):
        for done in group.completions:
            item = Trajectory(group.prompt.token_ids, done.token_ids, done.logprobs, 1.0)
            (batch,) = build_micro_batches(
                [item], "token", tokens_per_micro_batch=1, max_completion_tokens=16, gather=lambda value: [value]
            )
            ours = token_logprobs(model, batch, temperature).logprobs[batch.loss_mask]
            assert done.logprobs == pytest.approx(ours.tolist(), abs=1e-4)
            assert done.policy_step == 3


def test_a_completion_does_not_depend_on_its_neighbours(engine, path, prompts):
    engine.load_weights(load_model(path, "float32").named_parameters(), 0)
    params = SamplingParams(completions=3, max_tokens=16)
    together = engine.generate(prompts, params, seed=5)
    alone = engine.generate(prompts[1:2], params, seed=5)
    assert [done.token_ids for done in alone[0].completions] == [done.token_ids for done in together[1].completions]
    assert len({tuple(done.token_ids) for done in together[1].completions}) == 3


def test_weights_that_lack_a_parameter_are_refused(engine, path):
    weights = dict(load_model(path, "float32").named_parameters())
    weights.pop("model.norm.weight")
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        engine.load_weights(weights.items(), 9)
