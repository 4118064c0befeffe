"""What holds for vLLM whether it samples in the training process or behind HTTP, beside transformers' own modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.problem import Problem, ask
from rl.batch import micro_batch, trajectory
from rl.experience import Prompt, SamplingParams
from rl.policy import load_model, token_logprobs
from rl.rollout.hf import HFRollout

# The last is longer than two blocks of vLLM's prefix cache, so that one computed with old weights would show.
QUESTIONS = ["What is 1+2?", "What is 9+8-7+6?", "Why?", "What is " + "+".join(map(str, range(100, 180))) + "?"]


def prompts_of(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str] = QUESTIONS) -> list[Prompt]:
    return [
        Prompt(Problem(q, ask(q), "", "x"), i, q, tuple(tokenizer(q)["input_ids"])) for i, q in enumerate(questions)
    ]


def changed(path: str) -> PreTrainedModel:
    """The model with other weights: some other seed's."""
    model = load_model(path, "float32")
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return model


def assert_same_greedy(
    engine: Any, path: str, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], model: PreTrainedModel
) -> None:
    """Tokens, text, ending and log-probabilities are those of HFRollout with the model's weights."""
    reference = HFRollout(path, tokenizer, "float32", torch.device("cpu"))
    reference.load_weights(model.named_parameters(), 0)
    params = SamplingParams(completions=1, max_tokens=24, temperature=0.0)
    ours, theirs = engine.generate(prompts, params, 0), reference.generate(prompts, params, 0)
    for one, other in zip(ours, theirs, strict=True):
        assert one.completions[0].token_ids == other.completions[0].token_ids
        assert one.completions[0].text == other.completions[0].text
        assert one.completions[0].finish_reason == other.completions[0].finish_reason
        assert one.completions[0].logprobs == pytest.approx(other.completions[0].logprobs, abs=1e-4)


def assert_logprobs_of(model: PreTrainedModel, engine: Any, prompts: Sequence[Prompt], temperature: float) -> None:
    """Sampled log-probabilities are the trainer's for this model."""
    params = SamplingParams(completions=4, max_tokens=16, temperature=temperature)
    for group in engine.generate(prompts, params, 0):
        for done in group.completions:
            batch = micro_batch([trajectory(group.prompt.token_ids, done.token_ids, done.logprobs, 1.0)], [1.0])
            ours = token_logprobs(model, batch, temperature).logprobs[batch.loss_mask]
            assert done.logprobs == pytest.approx(ours.tolist(), abs=1e-4)
            assert done.policy_step == engine.policy_step


def assert_independent_of_neighbours(engine: Any, prompts: Sequence[Prompt]) -> None:
    params = SamplingParams(completions=3, max_tokens=16)
    together = engine.generate(prompts, params, seed=5)
    alone = engine.generate(prompts[1:2], params, seed=5)
    assert [done.token_ids for done in alone[0].completions] == [done.token_ids for done in together[1].completions]
    assert len({tuple(done.token_ids) for done in together[1].completions}) == 3


def assert_endings(engine: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> None:
    """End-of-sequence token, stop texts and max_tokens, as transformers ends completions."""
    params = SamplingParams(completions=16, max_tokens=64, stop=("e", "90"))
    done = [done for group in engine.generate(prompts, params, seed=1) for done in group.completions]
    by_end = [item for item in done if item.token_ids[-1] == tokenizer.eos_token_id]
    by_text = [item for item in done if item.finish_reason == "stop" and item not in by_end]
    cut = [item for item in done if item.finish_reason == "length"]
    assert min(len(by_end), len(by_text), len(cut)) > 0
    assert all(item.finish_reason == "stop" and not item.text.endswith(str(tokenizer.eos_token)) for item in by_end)
    assert all("e" in item.text or "90" in item.text for item in by_text)
    assert all(len(item.token_ids) == 64 for item in cut)
    for item in done:
        body = item.token_ids[:-1] if item in by_end else item.token_ids
        assert item.text == tokenizer.decode(body)


def plain_probe(model: PreTrainedModel, token_ids: Sequence[int]) -> list[float]:
    """What transformers gives for all these tokens but the first, [T - 1] nats."""
    with torch.no_grad():
        logprobs = model(torch.tensor([token_ids])).logits[0].float().log_softmax(dim=-1)
    return logprobs[:-1].gather(-1, torch.tensor(token_ids[1:]).unsqueeze(-1)).squeeze(-1).tolist()
