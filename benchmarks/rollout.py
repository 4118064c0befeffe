"""Sampling: our native engine beside transformers' generate, its continuous batching, and vLLM where it is installed.

    python benchmarks/rollout.py --work 135m --threads 1          # also 1m, 10m
    python benchmarks/rollout.py --quick
    .venv-vllm/bin/python benchmarks/rollout.py --work 135m       # vLLM's CPU build has an environment of its own

Every engine gets the same prompts, in float32 and in bfloat16, in turn; its better precision counts. Tokens are those
before the first end token, as a trainer counts them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Sample = Callable[[int], int]  # seed -> tokens


def native(work: Any, model: str, ids: list[list[int]], dtype: str) -> Sample:
    import torch

    from data.problem import Problem, ask
    from rl.experience import Prompt, SamplingParams
    from rl.policy import load_tokenizer
    from rl.rollout.native import NativeRollout

    engine = NativeRollout(model, load_tokenizer(model), dtype, torch.device("cpu"))
    prompts = [Prompt(Problem(str(i), ask("x"), "", "x"), i, "", tuple(own)) for i, own in enumerate(ids)]
    params = SamplingParams(completions=work.completions, max_tokens=work.max_tokens)

    def sample(seed: int) -> int:
        groups = engine.generate(prompts, params, seed)
        return sum(len(done.token_ids) for group in groups for done in group.completions)

    return sample


def vllm(work: Any, model: str, ids: list[list[int]], dtype: str) -> Sample:
    import torch

    from data.problem import Problem, ask
    from rl.experience import Prompt, SamplingParams
    from rl.policy import load_tokenizer
    from rl.rollout.vllm import VLLMRollout

    engine = VLLMRollout(model, load_tokenizer(model), dtype, torch.device("cpu"))
    prompts = [Prompt(Problem(str(i), ask("x"), "", "x"), i, "", tuple(own)) for i, own in enumerate(ids)]
    params = SamplingParams(completions=work.completions, max_tokens=work.max_tokens)

    def sample(seed: int) -> int:
        groups = engine.generate(prompts, params, seed)
        return sum(len(done.token_ids) for group in groups for done in group.completions)

    return sample


def generate(work: Any, model: str, ids: list[list[int]], dtype: str) -> Sample:
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    rows = [own for own in ids for _ in range(work.completions)]
    longest = max(map(len, rows))
    padded = torch.tensor([[1] * (longest - len(own)) + own for own in rows])
    mask = torch.tensor([[0] * (longest - len(own)) + [1] * len(own) for own in rows])
    end = loaded.generation_config.eos_token_id

    @torch.no_grad()
    def sample(seed: int) -> int:
        torch.manual_seed(seed)
        output = loaded.generate(
            padded, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            max_new_tokens=work.max_tokens, pad_token_id=1,
        )  # fmt: skip
        return _tokens(output[:, longest:].tolist(), end)

    return sample


def continuous(work: Any, model: str, ids: list[list[int]], dtype: str) -> Sample:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    end = loaded.generation_config.eos_token_id
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=work.max_tokens, eos_token_id=end,
        pad_token_id=1,
    )  # fmt: skip
    rows = [own for own in ids for _ in range(work.completions)]

    @torch.no_grad()
    def sample(seed: int) -> int:
        torch.manual_seed(seed)
        outputs = loaded.generate_batch(rows, generation_config=settings, progress_bar=False)
        return _tokens([output.generated_tokens for output in outputs.values()], end)

    return sample


def _tokens(rows: list[list[int]], end: Any) -> int:
    """Up to the first end token, it included."""
    ends = set(end if isinstance(end, list) else [end])
    return sum(next((i + 1 for i, token in enumerate(row) if token in ends), len(row)) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="1m", choices=("1m", "10m", "135m"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["native", "generate", "continuous", "vllm"])
    parser.add_argument("--model", help="a Hugging Face directory in place of random weights")
    parser.add_argument("--prompts", help="a JSONL with `question` in each line")
    parser.add_argument("--quick", action="store_true", help="the smallest work, without vLLM")
    options = parser.parse_args()
    if options.quick:
        options.work, options.engines = "1m", ["native", "generate"]
    if find_spec("vllm") is None and "vllm" in options.engines:
        options.engines.remove("vllm")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

    import torch
    from transformers import AutoTokenizer

    from benchmarks import machine
    from benchmarks.works import WORKS, build, prompts_of

    torch.set_num_threads(options.threads)
    work = WORKS[options.work]
    kinds = {"native": native, "generate": generate, "continuous": continuous, "vllm": vllm}
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or build(work, Path(scratch) / "model")
        tokenizer = AutoTokenizer.from_pretrained(model)
        ids = [tokenizer(text)["input_ids"] for text in prompts_of(work, model, options.prompts, work.prompts)]
        samples: dict[tuple[str, str], Sample] = {}
        for engine in options.engines:
            for dtype in ("bfloat16",) if engine == "vllm" else ("float32", "bfloat16"):
                samples[engine, dtype] = kinds[engine](work, model, ids, dtype)
        found: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in samples}
        for repeat in range(options.repeats + 1):
            for key, sample in samples.items():
                torch.set_num_threads(options.threads)
                wall, cpu = time.perf_counter(), machine.cpu_seconds()
                tokens = sample(repeat)
                times = tokens / (time.perf_counter() - wall), tokens / (machine.cpu_seconds() - cpu)
                if repeat:  # the first warms up
                    found[key].append(times)
    print(f"{options.work}: {work}\n{machine.describe()}")
    rates = {key: (median(wall for wall, _ in one), median(cpu for _, cpu in one)) for key, one in found.items()}
    machine.print_table(
        [{"engine": e, "dtype": d, "tokens / s": w, "tokens / CPU s": c} for (e, d), (w, c) in rates.items()]
    )
    best = {engine: max(wall for (e, _), (wall, _) in rates.items() if e == engine) for engine in options.engines}
    ratios = {f"native / {engine}": best["native"] / rate for engine, rate in best.items() if engine != "native"}
    machine.print_json({"work": options.work, "threads": options.threads, **ratios})


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
