"""Memory and time of log-probabilities and their gradient: chunked (ours) against all logits at once.

    python benchmarks/logprobs.py               # 8,192 tokens, hidden 896, two vocabularies; needs 20 GB
    python benchmarks/logprobs.py --quick       # 1,024 tokens

Each measurement is a process of its own, in turn; what counts as extra memory is the peak over inputs and weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = 896  # Qwen2.5-0.5B's


def measure(side: str, tokens: int, sequence: int, vocabulary: int, dtype: str) -> dict[str, float]:
    """One pass, forward and backward, after a small one that loads what is loaded lazily."""
    import torch

    from benchmarks import machine
    from rl.head import FusedHead

    torch.manual_seed(0)
    head = torch.nn.Linear(HIDDEN, vocabulary, bias=False).to(getattr(torch, dtype))
    hidden = torch.randn(tokens, HIDDEN).to(head.weight.dtype).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,))
    weights = torch.randn(tokens) / tokens
    fused = FusedHead(head.weight)

    def whole(count: int) -> Any:
        logprobs = torch.log_softmax(head(hidden[:count]).float(), dim=-1)
        chosen = logprobs.gather(-1, targets[:count, None]).squeeze(-1)
        return (chosen * weights[:count]).sum()

    def chunked(count: int) -> Any:
        sequences = [min(sequence, count)] * (count // min(sequence, count))
        return fused(
            hidden[:count], targets[:count], 1.0, sequences, lambda logprobs, i, _: (logprobs * weights[i]).sum()
        )[0]

    loss = {"ours": chunked, "whole": whole}[side]
    loss(64).backward()
    head.weight.grad = hidden.grad = None
    machine.trim()
    machine.forget_peak()
    before, start = machine.resident_gb(), time.perf_counter()
    value = loss(tokens)
    value.backward()
    seconds = time.perf_counter() - start
    norm = float(head.weight.grad.float().norm())
    return {"seconds": seconds, "extra_gb": machine.peak_gb() - before, "loss": float(value), "norm": norm}


def in_a_process(side: str, vocabulary: int, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--dtype", options.dtype]
    command += ["--tokens", str(options.tokens), "--sequence", str(options.sequence)]
    command += ["--vocabularies", str(vocabulary)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    if answer.returncode:
        sys.exit(f"{side} at V={vocabulary} ended with {answer.returncode}: {answer.stderr[-2000:]}")
    return json.loads(answer.stdout.splitlines()[-1])


def compare(vocabulary: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Side -> medians."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "whole": []}
    for _ in range(options.repeats):
        for side, runs in found.items():
            runs.append(in_a_process(side, vocabulary, options))
    return {side: {key: median(one[key] for one in runs) for key in runs[0]} for side, runs in found.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--sequence", type=int, default=256, help="tokens of each completion")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[49152, 151936])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4,096 tokens, the small vocabulary, once")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.vocabularies, options.repeats = 4096, [49152], 1
    return options


def main() -> None:
    options = arguments()
    if options.side:
        vocabulary = options.vocabularies[0]
        print(json.dumps(measure(options.side, options.tokens, options.sequence, vocabulary, options.dtype)))
        return
    from benchmarks import machine

    rows, ratios = [], {}
    for vocabulary in options.vocabularies:
        middle = compare(vocabulary, options)
        rows += [{"V": vocabulary, "T": options.tokens, "side": side, **values} for side, values in middle.items()]
        for ratio, key in (("memory", "extra_gb"), ("time", "seconds")):
            ratios[f"{vocabulary}/{ratio}"] = middle["ours"][key] / middle["whole"][key]
    print(machine.describe())
    machine.print_table(rows)
    machine.print_json(ratios)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
