"""How many programs a second the sandbox judges.

    python benchmarks/sandbox.py [--quick] [--workers 2] [--seconds 5]

Each row is one kind of program, judged by code_tests over and over in `workers` processes, as reward workers would. The
last line is JSON: runs a second by row.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.problem import Problem, ask  # noqa: E402
from rewards.code_tests import code_tests  # noqa: E402
from rewards.sandbox.check import trouble  # noqa: E402
from rl.experience import Completion  # noqa: E402

# name: (program, tests, the right value)
ROWS = {
    "one test": ("print(int(input()) ** 2)", {"inputs": ["7"], "outputs": ["49"]}, 1.0),
    "five tests": (
        "print(int(input()) ** 2)",
        {"inputs": [str(n) for n in range(5)], "outputs": [str(n * n) for n in range(5)]},
        1.0,
    ),
    "a function": ("def f(n): return n ** 2", {"fn_name": "f", "inputs": [[7]], "outputs": [[49]]}, 1.0),
    "a wrong answer": ("print(48)", {"inputs": ["7"], "outputs": ["49"]}, 0.0),
    "no Python": ("print(48", {"inputs": ["7"], "outputs": ["49"]}, 0.0),
}


def judge_for(seconds: float, name: str) -> int:
    """How many times the row's program was judged in that time."""
    program, tests, value = ROWS[name]
    problem = Problem(id="squares/1", messages=ask("Square."), answer="", source="squares", metadata={"tests": tests})
    text = f"```python\n{program}\n```"
    completion = Completion(text=text, token_ids=[1], logprobs=[0.0], finish_reason="stop", policy_step=0)
    code_tests(problem, completion)  # the first call checks the sandbox
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        verdict = code_tests(problem, completion)
        assert verdict == value, verdict
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--quick", action="store_true", help="half a second a row: says that it works, not how fast")
    options = parser.parse_args()
    problem = trouble()
    if problem:
        sys.exit(problem)
    seconds = 0.5 if options.quick else options.seconds
    found = {}
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for name in ROWS:
            counts = pool.starmap(judge_for, [(seconds, name)] * options.workers, chunksize=1)
            found[name] = sum(counts) / seconds
            print(f"{name:16} {found[name]:8.1f} a second by {options.workers} workers", flush=True)
    print(json.dumps({name: round(rate, 1) for name, rate in found.items()}))


if __name__ == "__main__":
    main()
