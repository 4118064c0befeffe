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


def ours(engine: Any, work: Any, ids: list[list[int]]) -> Sample:
    from data.problem import Problem, ask
    from rl.experience import Prompt, SamplingParams

    prompts = [Prompt(Problem(str(i), ask("x"), "", "x"), i, "", tuple(own)) for i, own in enumerate(ids)]
    params = SamplingParams(completions=work.completions, max_tokens=work.max_tokens)

    def sample(seed: int) -> int:
        groups = engine.generate(prompts, params, seed)
        return sum(len(done.token_ids) for group in groups for done in group.completions)

    return sample


def native(work: Any, model: str, ids: list[list[int]], dtype: str) -> Sample:
    import torch

    from rl.policy import load_tokenizer
    from rl.rollout.native import NativeRollout

    return ours(NativeRollout(model, load_tokenizer(model), dtype, torch.device("cpu")), work, ids)


def vllm(work: Any, model: str, ids: list[list[int]], dtype: str) -> Sample:
    import torch

    from rl.policy import load_tokenizer
    from rl.rollout.vllm import VLLMRollout

    return ours(VLLMRollout(model, load_tokenizer(model), dtype, torch.device("cpu")), work, ids)


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


ENGINES = {"native": native, "generate": generate, "continuous": continuous, "vllm": vllm}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="1m", choices=("1m", "10m", "135m"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--model", help="a Hugging Face directory in place of random weights")
    parser.add_argument("--prompts", help="a JSONL with `question` in each line")
    parser.add_argument("--quick", action="store_true", help="the smallest work, without vLLM")
    options = parser.parse_args()
    if options.quick:
        options.work, options.engines = "1m", ["native", "generate"]
    if find_spec("vllm") is None and "vllm" in options.engines:
        options.engines.remove("vllm")
    return options


def samplers(options: argparse.Namespace, work: Any, scratch: Path) -> dict[tuple[str, str], Sample]:
    """(engine, dtype) -> how to sample with it."""
    from transformers import AutoTokenizer

    from benchmarks.works import build, prompts_of

    model = options.model or build(work, scratch / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [tokenizer(text)["input_ids"] for text in prompts_of(work, model, options.prompts, work.prompts)]
    dtypes = {name: ("bfloat16",) if name == "vllm" else ("float32", "bfloat16") for name in options.engines}
    return {(name, dtype): ENGINES[name](work, model, ids, dtype) for name in options.engines for dtype in dtypes[name]}


def rates(samples: dict[tuple[str, str], Sample], repeats: int, threads: int) -> dict[tuple[str, str], list[float]]:
    """Tokens a second of wall time and of CPU time: medians of repeats in turn, after one to warm up."""
    import torch

    from benchmarks import machine

    found: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in samples}
    for repeat in range(repeats + 1):
        for key, sample in samples.items():
            torch.set_num_threads(threads)  # vLLM sets its own
            wall, cpu = time.perf_counter(), machine.cpu_seconds()
            tokens = sample(repeat)
            found[key].append((tokens / (time.perf_counter() - wall), tokens / (machine.cpu_seconds() - cpu)))
    return {key: [median(column) for column in zip(*runs[1:], strict=True)] for key, runs in found.items()}


def main() -> None:
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    from benchmarks import machine
    from benchmarks.works import WORKS
    from rl.engine import keep_freed_memory

    keep_freed_memory()  # as in training, and for every engine
    work = WORKS[options.work]
    with tempfile.TemporaryDirectory() as scratch:
        found = rates(samplers(options, work, Path(scratch)), options.repeats, options.threads)
    print(f"{options.work}: {work}\n{machine.describe()}")
    machine.print_table(
        [{"engine": e, "dtype": d, "tokens / s": wall, "tokens / CPU s": cpu} for (e, d), (wall, cpu) in found.items()]
    )
    best = {engine: max(wall for (e, _), (wall, _) in found.items() if e == engine) for engine in options.engines}
    ratios = {f"native / {engine}": best["native"] / rate for engine, rate in best.items() if engine != "native"}
    machine.print_json({"work": options.work, "threads": options.threads, **ratios})


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
