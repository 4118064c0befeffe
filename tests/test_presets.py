"""The published set-ups: their figures, held against the resolved recipes, and each of them run in miniature."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from launch.run import run_recipe
from rl.binding import build
from rl.config import RECIPES, TrainConfig, compose_recipe, register, summaries, typed
from rl.record import read_rollouts
from rl.tiny import build_tiny_model
from rl.tracking import read_metrics

COMMON = {  # what no source changes, and no default may
    "algorithm.mismatch": "none",
    "algorithm.dual_clip": math.inf,
    "algorithm.entropy_target": 0.0,
    "batch.epochs": 1,
    "data.few_shot": 0,
    "data.prefill": "",
    "optimizer.betas": [0.9, 0.999],
    "optimizer.max_grad_norm": 1.0,
    "optimizer.schedule": "constant",
    "sampling.min_p": 0.0,
    "sampling.stop": (),
    "sampling.top_k": 0,
    "sampling.top_p": 1.0,
    "scoring.normalize_terms": False,
}
VERL = {"algorithm.clip_low": 0.2, "algorithm.clip_high": 0.2, "algorithm.normalization": "token"}

SIMPLERL_ZOO = {  # arXiv:2503.18892, appendix A eq. 1, B.2, B.5; learning rate and entropy: train_grpo_math_tune_ray.sh
    **VERL,
    "algorithm.beta": 1e-4,
    "algorithm.kl_estimator": "k3",
    "algorithm.entropy_coef": 0.001,
    "batch.prompts": 1024,
    "batch.mini_batches": 4,
    "sampling.completions": 8,
    "sampling.max_tokens": 8192,
    "sampling.temperature": 1.0,
    "optimizer.lr": 5e-7,
    "rewards": {"math_answer": 1.0},
    "eval.sampling.temperature": 1.0,
    "eval.sampling.top_p": 0.95,
}
DEEPSCALER = {  # scripts/train/run_deepscaler_1.5b_*.sh; clip and entropy: verl's defaults of the time
    **VERL,
    "algorithm.beta": 0.001,
    "algorithm.kl_estimator": "k3",
    "algorithm.entropy_coef": 0.001,
    "batch.prompts": 128,
    "batch.mini_batches": 2,
    "sampling.temperature": 0.6,
    "optimizer.lr": 1e-6,
    "optimizer.warmup_steps": 0,
    "data.max_prompt_tokens": 1024,
    "data.wording": r"{question} Let's think step by step and output the final answer within \boxed{}.",
    "rewards": {"math_answer": 1.0},
    "eval.sampling.completions": 16,
}
DAPO = {  # arXiv:2503.14476, section 4.1; verl's recipe/dapo/run_dapo_qwen2.5_32b.sh
    "model.path": "Qwen/Qwen2.5-32B",
    "algorithm.beta": 0.0,
    "algorithm.normalization": "token",
    "batch.prompts": 512,
    "batch.mini_batches": 16,
    "collect.dynamic": True,
    "collect.oversample": 3.0,
    "collect.max_rounds": 10,
    "sampling.completions": 16,
    "sampling.max_tokens": 20480,
    "sampling.temperature": 1.0,
    "optimizer.lr": 1e-6,
    "optimizer.warmup_steps": 20 * 16,
    "optimizer.weight_decay": 0.1,
    "data.max_prompt_tokens": 2048,
    "rewards": {"math_answer": 2.0, "soft_overlong": 1.0},  # 2 and 0 for the paper's 1 and -1
    "rewards.soft_overlong.max_tokens": 20480,
    "rewards.soft_overlong.cache_tokens": 4096,
    "eval.sampling.completions": 32,
    "eval.sampling.temperature": 1.0,
    "eval.sampling.top_p": 0.7,
}

# Recipe -> dotted key -> what the source says. Keys are those of a recipe; `rewards` alone is each term's weight.
PAPERS: dict[str, dict[str, Any]] = {
    "grpo_math": {  # GRPO with DAPO's clip-higher and token mean; model and data of SimpleRL-Zoo, arXiv:2503.18892
        "model.path": "Qwen/Qwen2.5-1.5B",
        "algorithm.beta": 0.0,
        "algorithm.clip_low": 0.2,
        "algorithm.clip_high": 0.28,
        "algorithm.normalization": "token",
        "batch.prompts": 32,
        "batch.updates": 1,
        "sampling.completions": 8,
        "sampling.temperature": 1.0,
        "optimizer.lr": 1e-6,
        "optimizer.schedule": "constant",
        "optimizer.warmup_steps": 10,
        "optimizer.max_grad_norm": 1.0,
        "data.template": "r1_zero",
        "rewards": {"math_answer": 1.0, "think_format": 0.2},
    },
    "r1_zero_math": {  # arXiv:2501.12948v2, section 2.1; the clip: section 3.2.1; rewards: 2.2
        "algorithm.beta": 0.001,
        "algorithm.kl_estimator": "k3",
        "algorithm.clip_low": 10.0,
        "algorithm.clip_high": 10.0,
        "algorithm.normalization": "sequence",
        "batch.prompts": 8192 // 16,
        "batch.mini_batches": 16,
        "batch.epochs": 1,
        "steps": 10400 // 16,
        "reference.every": 400 // 16,
        "reference.decay": 0.0,
        "sampling.completions": 16,
        "sampling.max_tokens": 32768,
        "sampling.temperature": 1.0,
        "optimizer.lr": 3e-6,
        "optimizer.warmup_steps": 0,
        "data.template": "r1_zero",
        "rewards": {"math_answer": 1.0, "think_format": 1.0},
    },
    "dr_grpo_math": {  # arXiv:2503.20783; examples/qwen2.5-math-1.5b.sh of sail-sg/understand-r1-zero
        "model.path": "Qwen/Qwen2.5-Math-1.5B",
        "algorithm.beta": 0.0,
        "algorithm.clip_low": 0.2,
        "algorithm.clip_high": 0.2,
        "algorithm.normalization": "constant",
        "batch.prompts": 128,
        "batch.mini_batches": 128 * 8 // 128,
        "batch.epochs": 1,
        "sampling.completions": 8,
        "sampling.max_tokens": 3000,
        "sampling.temperature": 1.0,
        "sampling.top_p": 1.0,
        "optimizer.lr": 1e-6,
        "optimizer.schedule": "constant",
        "optimizer.warmup_steps": 0,
        "steps": 20 * 12000 // 128,
        "data.max_prompt_tokens": 1024,
        "data.template": "chat",
        "data.system": r"Please reason step by step, and put your final answer within \boxed{}.",
        "rewards": {"math_answer": 1.0},
        "eval.sampling.temperature": 0.0,
        "eval.sampling.max_tokens": 3000,
    },
    "dapo_math": {**DAPO, "algorithm.clip_low": 0.2, "algorithm.clip_high": 0.28},
    # arXiv:2506.13585, section 3.1: all of DAPO but the clip; no bound below. 1 + 4: arXiv:2510.13786.
    "cispo_math": {
        **DAPO,
        "algorithm._target_": "rl.algorithms.cispo.CISPO",
        "algorithm.clip_low": 1.0,
        "algorithm.clip_high": 4.0,
    },
    "gspo_math": {  # arXiv:2507.18071, section 5.1; the rest: verl's recipe/gspo/test_gspo_3b_math.sh
        "model.path": "Qwen/Qwen2.5-3B-Instruct",
        "algorithm._target_": "rl.algorithms.gspo.GSPO",
        "algorithm.clip_low": 3e-4,
        "algorithm.clip_high": 4e-4,
        "algorithm.beta": 0.0,
        "algorithm.normalization": "sequence",
        "batch.prompts": 512,
        "batch.mini_batches": 4,
        "sampling.completions": 16,
        "sampling.max_tokens": 8192,
        "sampling.temperature": 1.0,
        "optimizer.lr": 1e-6,
        "optimizer.warmup_steps": 0.05 * 500 * 4,
        "optimizer.weight_decay": 0.1,
        "steps": 500,
        "data.max_prompt_tokens": 2048,
        "eval.sampling.top_p": 0.7,
    },
    "rloo_math": {  # arXiv:2402.14740, appendix C, as in TRL's docs/source/paper_index.md
        "algorithm._target_": "rl.algorithms.rloo.RLOO",
        "algorithm.beta": 0.03,
        "algorithm.kl_in": "reward",
        "algorithm.kl_estimator": "k1",
        "algorithm.normalization": "sequence",
        "batch.prompts": 512 // 4,
        "batch.updates": 1,
        "sampling.completions": 4,
        "optimizer.lr": 1e-6,
    },
    "simplerl_zoo_0.5b": {  # B.1 and B.3: medium problems, simple prompt
        **SIMPLERL_ZOO,
        "model.path": "Qwen/Qwen2.5-0.5B",
        "data.train.simplerl_zoo.difficulty": "medium",
        "data.template": "none",
        "data.wording": "Question:\n{question}\nAnswer:\nLet's think step by step.",
    },
    "simplerl_zoo_1.5b": {  # hard problems, simple prompt
        **SIMPLERL_ZOO,
        "model.path": "Qwen/Qwen2.5-1.5B",
        "data.train.simplerl_zoo.difficulty": "hard",
        "data.template": "none",
        "data.wording": "Question:\n{question}\nAnswer:\nLet's think step by step.",
    },
    "simplerl_zoo_7b": {  # hard problems, the prompt that asks for a box
        **SIMPLERL_ZOO,
        "model.path": "Qwen/Qwen2.5-7B",
        "data.train.simplerl_zoo.difficulty": "hard",
        "data.template": "chat",
        "data.wording": "{question}\nPlease reason step by step, and put your final answer within \\boxed{}.",
    },
    "deepscaler_1.5b_8k": {
        **DEEPSCALER,
        "model.path": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        "sampling.completions": 8,
        "sampling.max_tokens": 8192,
        "eval.sampling.max_tokens": 8192,
        "steps": 1040,
    },
    "deepscaler_1.5b_16k": {
        **DEEPSCALER,
        "model.path": "outputs/deepscaler_1.5b_8k/final",
        "sampling.completions": 16,
        "sampling.max_tokens": 16384,
        "eval.sampling.max_tokens": 16384,
        "steps": 1520 - 1040,
    },
    "deepscaler_1.5b_24k": {
        **DEEPSCALER,
        "model.path": "outputs/deepscaler_1.5b_16k/final",
        "sampling.completions": 16,
        "sampling.max_tokens": 24576,
        "eval.sampling.max_tokens": 24576,
        "steps": 1750 - 1520,
    },
    "grpo_countdown": {  # nano_r1_script.py of nano-aha-moment; the format's 0.1: TinyZero's reward
        "model.path": "Qwen/Qwen2.5-3B",
        "algorithm.beta": 0.001,
        "algorithm.kl_estimator": "k3",
        "algorithm.normalization": "token",
        "batch.prompts": 64 // 4,
        "batch.updates": 1,
        "sampling.completions": 4,
        "sampling.max_tokens": 1024,
        "sampling.temperature": 1.0,
        "optimizer.lr": 1e-6,
        "optimizer.weight_decay": 0.0,
        "optimizer.max_grad_norm": 1.0,
        "steps": 1000,
        "rewards": {"countdown": 1.0, "think_format": 0.1},
        "eval.sampling.temperature": 0.3,
    },
    "grpo_code": {  # together.ai/blog/deepcoder; scripts/train/deepcoder/deepcoder_14b_coding_16k.sh
        "model.path": "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
        "algorithm.clip_low": 0.2,
        "algorithm.clip_high": 0.28,
        "algorithm.beta": 0.0,
        "algorithm.entropy_coef": 0.0,
        "algorithm.normalization": "token",
        "batch.prompts": 128,
        "batch.mini_batches": 2,
        "collect.drop_truncated": True,
        "sampling.completions": 8,
        "sampling.max_tokens": 16384,
        "sampling.temperature": 0.6,
        "optimizer.lr": 1e-6,
        "optimizer.max_grad_norm": 1.0,
        "data.max_prompt_tokens": 2048,
        "rewards": {"code_tests": 1.0},
        "rewards.code_tests.max_tests": 15,
    },
    "grpo_logic": {  # arXiv:2505.24760; training/configs/inter_generalisation/logic_qwen_3b.yaml
        **VERL,
        "model.path": "Qwen/Qwen2.5-3B-Instruct",
        "algorithm.beta": 0.001,
        "algorithm.kl_estimator": "k3",
        "algorithm.entropy_coef": 0.001,
        "batch.prompts": 32,
        "batch.mini_batches": 2,
        "sampling.completions": 8,
        "sampling.max_tokens": 2048,
        "sampling.temperature": 1.0,
        "optimizer.lr": 1e-6,
        "optimizer.warmup_steps": 0,
        "steps": 500,
        "data.max_prompt_tokens": 4096,
        "rewards": {"reasoning_gym": 1.0, "think_format": 0.2},
    },
}


def resolved(config: TrainConfig, key: str) -> Any:
    """The value of a dotted key as the run will have it, defaults of signatures included."""
    whole = {
        "algorithm": build(config.algorithm, "algorithm"),
        "sampling": config.params,
        "eval.sampling": config.eval_params,
    }
    if key == "rewards":
        return {name: term["weight"] for name, term in config.rewards.items()}
    for prefix, owner in whole.items():
        if key.startswith(f"{prefix}.") and not key.endswith("._target_"):
            return getattr(owner, key.removeprefix(f"{prefix}."))
    value: Any = config
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_has_the_figures_of_its_source(name):
    config = typed(compose_recipe([f"recipe={name}"]))
    facts = COMMON | PAPERS[name]
    found = {key: resolved(config, key) for key in facts}
    assert found == {key: pytest.approx(value) if isinstance(value, float) else value for key, value in facts.items()}


def test_every_recipe_but_the_embedded_one_is_held_against_a_source():
    assert set(PAPERS) == set(summaries()) - {"grpo_tiny"}


def test_the_seven_kinds_of_logic_have_equal_shares():
    sections = typed(compose_recipe(["recipe=grpo_logic"])).data.train
    assert len(sections) == 7
    assert {section["weight"] for section in sections.values()} == {1}


# ---------------------------------------------------------------------- in miniature

SUMS = [(f"What is {n} + {n + 1}?", str(2 * n + 1)) for n in range(1, 9)]
ROWS: dict[str, list[dict[str, Any]]] = {  # of each data set, as it was published
    "gsm8k": [{"question": q, "answer": f"Add them.\n#### {a}"} for q, a in SUMS],
    "math": [{"problem": q, "answer": a, "level": 3, "subject": "Algebra", "solution": a} for q, a in SUMS],
    "aime24": [{"problem": q, "answer": f"{int(a):03}"} for q, a in SUMS],
    "deepscaler": [{"problem": q, "answer": a, "solution": a} for q, a in SUMS],
    "dapo_math": [{"prompt": [{"role": "user", "content": q}], "reward_model": {"ground_truth": a}} for q, a in SUMS],
    "simplerl_zoo": [{"extra_info": {"question": q}, "reward_model": {"ground_truth": a}} for q, a in SUMS],
    "coding": [{"problem": f"Print {a}.", "tests": {"inputs": [""], "outputs": [f"{a}\n"]}} for _, a in SUMS],
    "countdown": [{"nums": [n, n + 1], "target": 2 * n + 1} for n in range(1, 9)],
}
ROWS |= {"math500": ROWS["math"]} | dict.fromkeys(("primeintellect", "taco", "livecodebench"), ROWS["coding"])

# What the first prompt of a run must hold.
PROMPTS = {
    "grpo_math": "<think> reasoning process here </think>",
    "r1_zero_math": "<think> reasoning process here </think>",
    "dr_grpo_math": "system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>",
    "dapo_math": 'its own line after "Answer:".<|im_end|>',
    "cispo_math": "Solve the following math problem step by step.",
    "gspo_math": 'output the final answer after "####".<|im_end|>',
    "rloo_math": "<think> reasoning process here </think>",
    "simplerl_zoo_0.5b": "?\nAnswer:\nLet's think step by step.",
    "simplerl_zoo_1.5b": "?\nAnswer:\nLet's think step by step.",
    "simplerl_zoo_7b": "?\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>",
    "deepscaler_1.5b_8k": "? Let's think step by step and output the final answer within \\boxed{}.<|im_end|>",
    "deepscaler_1.5b_16k": "? Let's think step by step and output the final answer within \\boxed{}.<|im_end|>",
    "deepscaler_1.5b_24k": "? Let's think step by step and output the final answer within \\boxed{}.<|im_end|>",
    "grpo_countdown": "<think> reasoning process here </think>",
    "grpo_code": "into one ```python block at the end.<|im_end|>",
    "grpo_logic": "Do not explain your reasoning inside the answer tags",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("presets") / "model"
    return build_tiny_model(directory, hidden=32, layers=1, heads=2, kv_heads=1, intermediate=64, max_positions=8192)


def local_data(config: TrainConfig, directory: Path) -> list[str]:
    """Overrides that give every data set of a recipe a small file, or few problems where they are made on the spot."""
    overrides = []
    for key, sections in (("data.train", config.data.train), ("eval.data", config.eval.data)):
        for name, section in sections.items():
            if "path" in section:
                file = directory / f"{name}.jsonl"
                file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
                overrides.append(f"{key}.{name}.path={file}")
            else:
                overrides.append(f"{key}.{name}.size=3")
    return overrides


def miniature(name: str, model: Path, directory: Path) -> list[str]:
    """The recipe with a tiny model, few and short answers, and two steps; what it does in them is left as it is."""
    config = typed(compose_recipe([f"recipe={name}"]))
    prompts = min(4, config.batch.prompts)
    overrides = [
        *(f"recipe={name}", f"model.path={model}", "steps=2", "engine=ddp"),
        *(
            "model.dtype=float32",
            f"batch.prompts={prompts}",
            f"batch.mini_batches={min(prompts, config.batch.mini_batches)}",
        ),
        *("sampling.completions=4", "sampling.max_tokens=12", "data.max_prompt_tokens=6000", "collect.max_rounds=1"),
        *("eval.every=0", "eval.limit=2", "eval.sampling.completions=1"),
        *("eval.sampling.max_tokens=12", "tracking.tensorboard=false", "tracking.sample_every=0", "scoring.workers=1"),
    ]
    # A model of random weights is never right, and would teach itself nothing.
    (directory / "mine.py").write_text("def odd(problem, completion):\n    return sum(completion.token_ids) % 2\n")
    overrides += [f"+rewards.odd.fn={directory / 'mine.py'}:odd", "collect.outcome=odd"]
    if "soft_overlong" in config.rewards:
        overrides.append("rewards.soft_overlong.cache_tokens=4")
    return overrides + local_data(config, directory)


def run_here(overrides: list[str]) -> None:
    """launch/train.py in this process, without torchrun."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(RECIPES), version_base="1.3"):
        composed = compose("train", overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(composed)
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    run_recipe(composed)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_preset_goes_two_steps_on_rows_as_they_were_published(name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = typed(compose_recipe([f"recipe={name}"]))
    run_here(miniature(name, model, tmp_path))
    directory = tmp_path / "outputs" / name
    rows = read_metrics(directory / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2]
    norms = [row["optim/grad_norm"] for row in rows[:2]]
    assert all(map(math.isfinite, norms))
    assert max(norms) > 0 or config.collect.drop_truncated  # for every answer here is cut
    assert all(f"reward/{term}" in rows[1] for term in config.rewards)
    assert {f"eval/{held_out}/avg@1" for held_out in config.eval.data} <= set(rows[2])
    scored = read_rollouts(directory / "rollouts" / "000001.jsonl")
    assert PROMPTS[name] in scored[0].group.prompt.text
    assert not any(failure.kind in ("bad_gold", "error", "timeout") for group in scored for failure in group.failures)
    assert (directory / "final" / "config.json").exists()
