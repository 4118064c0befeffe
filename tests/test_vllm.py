"""VLLMRollout beside HFRollout on the same weights. Runs where vLLM is installed: make test-vllm."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config
from vllm_claims import (
    assert_endings,
    assert_independent_of_neighbours,
    assert_logprobs_of,
    assert_same_greedy,
    changed,
    plain_probe,
)

from rl.experience import SamplingParams
from rl.policy import load_model
from rl.rollout.auto import auto_rollout
from rl.rollout.hf import HFRollout
from rl.rollout.native import NativeRollout
from rl.rollout.vllm import VLLMRollout

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def engine(path, tokenizer):
    pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")
    random.seed(3)
    torch.manual_seed(3)
    state = random.getstate(), torch.random.get_rng_state()
    engine = VLLMRollout(path, tokenizer, "float32", CPU, max_model_len=512)
    assert random.getstate() == state[0], "vLLM's start has seeded Python's generator"
    assert torch.equal(torch.random.get_rng_state(), state[1]), "vLLM's start has seeded torch's generator"
    return engine


def test_greedy_tokens_are_those_of_transformers_before_and_after_new_weights(engine, path, tokenizer, prompts):
    for model in (load_model(path, "float32"), changed(path)):
        engine.load_weights(model.named_parameters(), 1)
        engine.check_weights(plain_probe(model, engine.probe_ids), "float32")
        assert_same_greedy(engine, path, tokenizer, prompts, model)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_sampled_logprobs_are_the_trainers(temperature, engine, path, prompts):
    model = changed(path)
    engine.load_weights(model.named_parameters(), 3)
    assert_logprobs_of(model, engine, prompts, temperature)


def test_a_completion_does_not_depend_on_its_neighbours(engine, path, prompts):
    engine.load_weights(load_model(path, "float32").named_parameters(), 0)
    assert_independent_of_neighbours(engine, prompts)


def test_completions_end_as_those_of_transformers_end(engine, path, tokenizer, prompts):
    engine.load_weights(load_model(path, "float32").named_parameters(), 0)
    assert_endings(engine, tokenizer, prompts)


def test_no_stop_text_is_passed_over(engine, path, tokenizer, prompts):
    engine.load_weights(load_model(path, "float32").named_parameters(), 0)
    free = engine.generate(prompts, SamplingParams(completions=8, max_tokens=64), seed=1)
    bound = engine.generate(prompts, SamplingParams(completions=8, max_tokens=64, stop=("e",)), seed=1)
    for before, after in zip(free, bound, strict=True):
        for one, other in zip(before.completions, after.completions, strict=True):
            assert one.token_ids[: len(other.token_ids)] == other.token_ids
            assert "e" not in tokenizer.decode(other.token_ids[:-1])


@pytest.mark.parametrize(
    ("params", "key"),
    [
        (SamplingParams(completions=1, max_tokens=510), "rollout.max_model_len"),
        (SamplingParams(completions=1, temperature=0.005, max_tokens=4), "sampling.temperature"),
    ],
)
def test_what_vllm_would_change_silently_is_refused(params, key, engine, prompts):
    with pytest.raises(ValueError, match=key):
        engine.generate(prompts, params, 0)


TWO_RANKS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from data.problem import Problem, ask
from rl import distributed
from rl.experience import Prompt, SamplingParams
from rl.policy import load_model, load_tokenizer
from rl.rollout.vllm import VLLMRollout

distributed.start()
path, questions = sys.argv[2], json.loads(sys.argv[3])
tokenizer = load_tokenizer(path)
engine = VLLMRollout(path, tokenizer, "float32", torch.device("cpu"), max_model_len=512)
engine.load_weights(load_model(path, "float32").named_parameters(), 0)
mine = [(i, q) for i, q in enumerate(questions) if i % 2 == distributed.rank()]
prompts = [Prompt(Problem(q, ask(q), "", "x"), i, q, tuple(tokenizer(q)["input_ids"])) for i, q in mine]
groups = engine.generate(prompts, SamplingParams(completions=3, max_tokens=16), seed=5)
sampled = {group.prompt.problem.id: [done.token_ids for done in group.completions] for group in groups}
shares = distributed.gather(sampled)
if distributed.rank() == 0:
    print("SAMPLED", json.dumps(shares[0] | shares[1]))
distributed.stop()
"""


def test_two_ranks_sample_with_an_engine_each_what_one_samples(engine, path, prompts, tmp_path):
    program = tmp_path / "two_ranks.py"
    program.write_text(TWO_RANKS)
    questions = json.dumps([prompt.text for prompt in prompts])
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(program), root, path, questions], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SAMPLED ")]
    engine.load_weights(load_model(path, "float32").named_parameters(), 0)
    alone = engine.generate(prompts, SamplingParams(completions=3, max_tokens=16), seed=5)
    ours = {group.prompt.problem.id: [item.token_ids for item in group.completions] for group in alone}
    assert json.loads(line.removeprefix("SAMPLED ")) == ours


def test_an_engine_that_keeps_its_old_weights_is_found_out(engine, path, monkeypatch):
    engine.load_weights(load_model(path, "float32").named_parameters(), 0)

    def forget(method, kwargs):
        for _ in kwargs["weights_iterator"]:
            pass

    monkeypatch.setattr(engine.engine, "collective_rpc", forget)
    with pytest.raises(RuntimeError, match="old weights"):
        engine.load_weights(changed(path).named_parameters(), 1)


def test_an_engine_that_keeps_its_old_tied_head_is_found_out(engine, path, monkeypatch):
    engine.load_weights(load_model(path, "float32").named_parameters(), 0)
    model = changed(path)
    monkeypatch.setattr(engine.check, "_tied", None)  # the head goes with the embedding, or so one would think
    engine.load_weights(model.named_parameters(), 1)
    with pytest.raises(RuntimeError, match=r"weights of policy step 1: .* nats, 0\.001 is the most"):
        engine.check_weights(plain_probe(model, engine.probe_ids), "float32")


def test_the_first_weights_must_be_complete_too(engine, path):
    weights = dict(load_model(path, "float32").named_parameters())
    weights.pop("model.norm.weight")
    engine.check._digest = None  # as before the first weights
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        engine.load_weights(weights.items(), 9)


def test_a_foreign_a_doubled_and_a_misshapen_parameter_are_refused(engine, path):
    weights = dict(load_model(path, "float32").named_parameters())
    norm = weights["model.norm.weight"]
    for extra in ({"model.model.norm.weight": norm}, {"model.norm.weight": norm[:-1]}):
        name = next(iter(extra))
        with pytest.raises(ValueError, match=name):
            list(engine.check.checked((weights | extra).items()))
    with pytest.raises(ValueError, match="twice"):
        list(engine.check.checked([*weights.items(), ("model.norm.weight", norm)]))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_error_says_what_to_install_and_what_to_take_instead(path, tokenizer):
    with pytest.raises(ValueError, match=r"pip install -e \.\[vllm\].*rollout=hf"):
        VLLMRollout(path, tokenizer, "float32", CPU)


def test_auto_takes_the_native_engine_where_there_is_no_gpu_and_says_so(path, tokenizer, capsys):
    chosen = auto_rollout(path, tokenizer, "float32", CPU, max_rows=7, kv_memory_gb=0.5)
    assert isinstance(chosen, NativeRollout)
    assert (chosen.max_rows, chosen.kv_memory_gb) == (7, 0.5)
    assert "rollouts by the native engine" in capsys.readouterr().out


def test_auto_takes_transformers_for_a_family_the_native_engine_does_not_know(tokenizer, tmp_path, capsys):
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=300, bos_token_id=None)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    chosen = auto_rollout(str(tmp_path), tokenizer, "float32", CPU, max_rows=7)
    assert isinstance(chosen, HFRollout)
    assert chosen.max_rows == 7
    assert "does not know gpt2" in capsys.readouterr().out
