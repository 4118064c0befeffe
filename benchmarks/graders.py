"""How far graders of mathematics agree with mathematics, and how fast they are: ours, math-verify and TRL's reward.

    python benchmarks/graders.py                           # every set of tests/math_cases, then speed
    python benchmarks/graders.py --quick                   # every tenth case, 300 items of speed
    python benchmarks/graders.py --gsm8k test.jsonl        # speed on these answers instead of drawn ones

Agreement: a grader is given each case as a completion. A pair (gold, answer) becomes the completion "\\boxed{answer}".
The golds of math-verify and of TRL stand between dollar signs, which they need in order to read LaTeX. Each grader runs
in a process of its own with its default time-outs; an item that takes longer than --deadline is counted as "hung" and
the process is replaced. "false accepts" are wrong answers that were rewarded, "false rejects" right ones that were not.

Speed: every item has another gold, so that no cache helps; half of the answers are right, in another notation where
there is one. Items per second of CPU time of the grader's process and its children, imports not counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT / "tests" / "math_cases"
SETS = ("equivalence", "heldout", "hacks", "injection", "hostile")
Item = dict[str, Any]  # gold, text, question, right
Grader = Callable[[Item], bool]


def own() -> Grader:
    from rewards.math_answer import grade

    return lambda item: grade(item["gold"], item["text"], question=item["question"], prefix=item["prefix"]) == 1.0


def math_verify() -> Grader:
    from math_verify import parse, verify

    return lambda item: bool(verify(parse(_marked(item["gold"])), parse(item["text"])))


def trl() -> Grader:
    from trl.rewards import accuracy_reward

    def right(item: Item) -> bool:
        completion = [{"role": "assistant", "content": item["text"]}]
        return accuracy_reward([completion], [_marked(item["gold"])])[0] == 1.0

    return right


GRADERS: dict[str, Callable[[], Grader]] = {"own": own, "math_verify": math_verify, "trl": trl}


def _marked(gold: str) -> str:
    return gold if "$" in gold or "####" in gold else f"${gold}$"


def items_of(name: str) -> list[Item]:
    """One set as completions."""
    if name == "hostile":
        from math_cases import hostile

        texts = [make() for make in hostile.CASES.values()]
        cases = [{"gold": "5", "text": rf"\boxed{{{text}}}", "right": False} for text in texts]
        cases += [{"gold": a, "text": rf"\boxed{{{b}}}", "right": False} for a, b in hostile.PAIRS.values()]
    else:
        cases = [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text().splitlines()]
    boxed = [{"text": rf"\boxed{{{case['answer']}}}", **case} if "answer" in case else case for case in cases]
    return [{"question": "", "prefix": "", **case} for case in boxed]


# ------------------------------------------------------------------------------------------ in the grader's process


def cpu_seconds() -> float:
    from benchmarks.machine import cpu_seconds as own_and_children

    times = os.times()
    return own_and_children() + times.children_user + times.children_system


def serve(grader: str) -> None:
    """Reads one item a line, answers with one line: whether it was rewarded, and the CPU seconds that it took."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a grader prints must not be taken for an answer
    logging.disable(logging.CRITICAL)
    grade = GRADERS[grader]()
    for text in (r"\boxed{5}", r"\boxed{x\sin x}"):  # imports are not counted
        grade({"gold": "5", "text": text, "question": "", "prefix": ""})
    for line in sys.stdin:
        answer: dict[str, Any]
        start = time.process_time()
        try:
            answer = {"right": grade(json.loads(line))}
        except Exception as error:
            answer = {"right": False, "raised": repr(error)}
        answers.write(json.dumps({**answer, "seconds": time.process_time() - start}) + "\n")
        answers.flush()


def speed(grader: str, items: list[Item]) -> float:
    """Items per CPU second, in this process."""
    logging.disable(logging.CRITICAL)
    grade = GRADERS[grader]()
    for item in items[:20]:
        grade({**item, "gold": item["gold"] + "1"})
    start = cpu_seconds()
    for item in items:
        grade(item)
    return len(items) / (cpu_seconds() - start)


# ----------------------------------------------------------------------------------------------- from the outside


class Served:
    """A grader in a process that can be killed."""

    def __init__(self, grader: str, deadline: float) -> None:
        self.grader, self.deadline = grader, deadline
        self.start()

    def start(self) -> None:
        command = [sys.executable, __file__, "--serve", self.grader]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        self.fresh = True  # its first answer waits for its imports

    def ask(self, item: Item) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        data = (json.dumps({key: item[key] for key in ("gold", "text", "question", "prefix")}) + "\n").encode()
        try:
            while data:
                data = data[self.process.stdin.write(data) :]
            ready, _, _ = select.select([self.process.stdout], [], [], self.deadline + 60 * self.fresh)
            line = self.process.stdout.readline() if ready else b""
        except BrokenPipeError:
            ready, line = [True], b""
        self.fresh = False
        if line:
            return json.loads(line)
        self.stop()
        self.start()
        return {"right": False, "crashed" if ready else "hung": True}

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def agreement(grader: str, items: list[Item], deadline: float) -> dict[str, Any]:
    served = Served(grader, deadline)
    answers = [served.ask(item) for item in items]
    served.stop()
    failures = ("raised", "crashed", "hung")
    pairs = [(answer["right"], item["right"]) for answer, item in zip(answers, items, strict=True)]
    agreed = [
        a == b and not any(kind in answer for kind in failures) for answer, (a, b) in zip(answers, pairs, strict=True)
    ]
    return {
        "cases": str(len(items)),
        "agreement %": 100 * sum(agreed) / len(agreed),
        "false accepts": str(sum(a and not b for a, b in pairs)),
        "false rejects": str(sum(b and not a for a, b in pairs)),
        **{kind: str(sum(kind in answer for answer in answers)) for kind in failures},
    }


def drawn_gsm8k(count: int) -> list[str]:
    """Golds as GSM8K has them: whole numbers, mostly small, some with a thousands separator; all different."""
    draw = random.Random(0)
    return [f"{n:,}" if n % 7 == 0 else str(n) for n in draw.sample(range(10 * count), count)]


def speed_gsm8k(path: str | None, count: int) -> list[Item]:
    golds = drawn_gsm8k(count)
    if path:
        answers = [json.loads(line)["answer"] for line in Path(path).read_text().splitlines()[:count]]
        golds = [answer.rpartition("####")[2].strip() for answer in answers]
    items = []
    for i, gold in enumerate(golds):
        number = Fraction(gold.replace(",", ""))
        given = number if i % 2 else number + 1 + i % 90
        text = f"Adding {i} and the rest gives {given}.\nSo there are {given} in all.\n#### {given}"
        items.append(
            {"gold": gold, "text": text, "question": "How many are there?", "prefix": "", "right": bool(i % 2)}
        )
    return items


def speed_math(count: int) -> list[Item]:
    """Golds as MATH has them: numbers, roots, polynomials, tuples, sets, intervals, lines, fractions."""
    from math_cases import generate

    families = {name: generate.FAMILIES[name] for name in sorted(generate.FAMILIES)}
    each = count // len(families) // 2 + 1
    pairs: list[tuple[str, str, bool]] = []
    for seed, family in enumerate(families.values()):
        for same in (True, False):
            pairs += [(*pair, same) for pair in family(each, 100 + seed, same)]
    random.Random(0).shuffle(pairs)
    text = "We compute ${0}$ and simplify.\nTherefore the answer is $\\boxed{{{0}}}$."
    return [
        {"gold": a, "text": text.format(b), "question": "Find it.", "prefix": "", "right": same}
        for a, b, same in pairs[:count]
    ]


def in_a_process(grader: str, kind: str, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--speed", grader, kind, "--items", str(options.items)]
    command += ["--gsm8k", options.gsm8k] if options.gsm8k else []
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"{grader} on {kind} ended with {run.returncode}: {run.stderr[-2000:]}")
    return float(run.stdout.splitlines()[-1])


def speed_items(kind: str, options: argparse.Namespace) -> list[Item]:
    return speed_gsm8k(options.gsm8k, options.items) if kind == "gsm8k" else speed_math(options.items)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graders", nargs="+", default=list(GRADERS), choices=GRADERS)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--gsm8k", help="a JSONL in GSM8K's format, for speed")
    parser.add_argument("--items", type=int, default=2000, help="of each kind, for speed; 0: none")
    parser.add_argument("--every", type=int, default=1, help="of the cases only each n-th")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds until a process is killed")
    parser.add_argument("--quick", action="store_true", help="every tenth case, 300 items, a deadline of 3 s")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--speed", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.every, options.items, options.deadline = 10, min(300, options.items), 3.0
    return options


def main() -> None:
    options = arguments()
    if options.serve:
        serve(options.serve)
        return
    if options.speed:
        print(speed(options.speed[0], speed_items(options.speed[1], options)))
        return
    from benchmarks import machine

    result: dict[str, Any] = {}
    rows = []
    for name in options.sets:
        items = items_of(name)[:: options.every]
        for grader in options.graders:
            row = agreement(grader, items, options.deadline)
            rows.append({"set": name, "grader": grader, **row})
            result[f"{grader}/{name}"] = row["agreement %"]
    fast = []
    for kind in ("gsm8k", "math") if options.items else ():
        for grader in options.graders:
            result[f"{grader}/{kind}_per_cpu_s"] = in_a_process(grader, kind, options)
            fast.append({"answers": kind, "grader": grader, "items / CPU s": result[f"{grader}/{kind}_per_cpu_s"]})
    print(machine.describe() + "\n")
    machine.print_table(rows)
    if fast:
        print()
        machine.print_table(fast)
    machine.print_json(result)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    sys.path.append(str(CASES.parent))
    main()
