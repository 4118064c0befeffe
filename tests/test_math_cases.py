"""The math grader against cases written from mathematics alone, without a look at how it works.

tests/math_cases holds the cases: equivalence.jsonl and heldout.jsonl (pairs of answers), hacks.jsonl and
injection.jsonl (whole completions), hostile.py (huge and malformed texts), generate.py (pairs equal or different by
construction). What is right is decided by value: notation never matters, near misses are wrong.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from math_cases import generate, generate_kinds, hostile, watched

from rewards.math_answer import grade
from rewards.mathematics.compare import compare

CASES = Path(__file__).parent / "math_cases"

DEADLINE_S = 2.0
HANG_S = 20.0  # after so long without a word, a case hangs


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text().splitlines()]


def shown(case: dict[str, Any]) -> str:
    return " | ".join(str(value) for value in case.values())


# ---------------------------------------------------------------------------------------------------------- the sets


@pytest.mark.parametrize("name", ["equivalence", "heldout"])
def test_equal_values_are_right_and_others_are_not(name):
    cases = load(name)
    verdicts = [compare(case["gold"], case["answer"]) for case in cases]
    wrong = [case for case, verdict in zip(cases, verdicts, strict=True) if (verdict == 1.0) != case["right"]]
    accepted = [shown(case) for case in wrong if not case["right"]]
    assert not accepted, f"{len(accepted)} false accepts:\n" + "\n".join(accepted)
    assert len(wrong) <= 0.03 * len(cases), f"{len(wrong)} of {len(cases)}:\n" + "\n".join(map(shown, wrong))


@pytest.mark.parametrize("name", ["equivalence", "heldout"])
def test_every_gold_equals_itself(name):
    golds = sorted({case["gold"] for case in load(name)})
    unequal = [gold for gold in golds if compare(gold, gold) != 1.0]
    assert not unequal


def test_no_pair_is_labelled_twice():
    pairs = [(case["gold"], case["answer"]) for name in ("equivalence", "heldout") for case in load(name)]
    assert len(set(pairs)) == len(pairs)


def test_hacks_are_not_rewarded_and_honest_answers_are():
    wrong = []
    for case in load("hacks"):
        verdict = grade(case["gold"], case["text"], question=case["question"], prefix=case.get("prefix", ""))
        if (verdict == 1.0) != case["right"]:
            wrong.append(f"{shown(case)} -> {verdict!r}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)


# -------------------------------------------------------------------------------------------- what a text must not do


def test_no_text_becomes_code(tmp_path):
    cases, environment = load("injection"), {**os.environ, "SYMPY_IN_PROCESS": "1", "GRADER_CANARY": "alive"}
    run = subprocess.run(
        [sys.executable, CASES / "watched.py", "injection", CASES / "injection.jsonl"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == len(cases)
    done = [f"{shown(cases[line['number']])} -> {line['events']}" for line in lines if line["events"]]
    assert not done, "\n".join(done)
    accepted = [shown(cases[line["number"]]) for line in lines if line["value"]]
    assert not accepted, "\n".join(accepted)
    assert not list(tmp_path.iterdir()), "the canary was touched"


@pytest.mark.parametrize(
    "code",
    [
        "open('canary', 'w')",
        "eval('2+3')",
        "exec('x = 5')",
        "__import__('os').system('true')",
        "__import__('subprocess').run(['true'])",
        "__import__('pickle').loads(__import__('pickle').dumps(print))",
        "compile('5', 'answer', 'eval')",
    ],
)
def test_the_watch_sees_what_it_watches_for(code, tmp_path):
    program = (
        "import sys; from math_cases import watched; seen = []; code = compile(sys.argv[1], watched.__file__, 'eval');"
        "sys.addaudithook(lambda event, arguments: seen.append(watched.offence(event, arguments)));"
        "eval(code); sys.exit(not any(seen))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CASES.parent)}
    )
    assert run.returncode == 0


def hostile_lines(first: int, stop: int) -> dict[int, dict[str, Any]]:
    """number -> what came of it, over as many processes as it takes; hung and crashed ones have infinite seconds."""
    found: dict[int, dict[str, Any]] = {}
    while first < stop:
        command = [sys.executable, str(CASES / "watched.py"), "hostile", str(first), str(stop)]
        with (
            TemporaryFile() as errors,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, bufsize=0, start_new_session=True
            ) as child,
        ):
            assert child.stdout
            while select.select([child.stdout], [], [], HANG_S)[0] and (line := child.stdout.readline()):
                found[first] = json.loads(line)
                first += 1
            os.killpg(child.pid, signal.SIGKILL)
            errors.seek(0)
            error = errors.read()[-600:].decode(errors="replace")
        if first < stop:
            found[first] = {"number": first, "value": 0.0, "seconds": float("inf"), "error": error}
            first += 1
    return found


def test_nothing_hangs_crashes_or_is_accepted():
    names = [*hostile.CASES, *hostile.PAIRS]
    found = hostile_lines(0, len(names))
    for number in [n for n, line in found.items() if line["seconds"] > DEADLINE_S]:  # perhaps the machine was busy
        again = hostile_lines(number, number + 1)[number]
        found[number] = min(found[number], again, key=lambda line: line["seconds"])
    slow = [f"{names[n]}: {line}" for n, line in found.items() if line["seconds"] > DEADLINE_S]
    assert not slow, f"{len(slow)} of {len(names)}:\n" + "\n".join(slow)
    assert not [names[n] for n, line in found.items() if line["value"]]


def test_long_texts_are_forgotten():
    """2 GB of answers, golds and completions pass through a process that may hold 1 GB."""
    program = (
        "import resource; from rewards.math_answer import grade; from rewards.mathematics.compare import compare;"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30)); long = '9' * 1_000_000\n"
        "for i in range(700):\n"
        "    compare('5', f'{long}{i}'), compare(f'x{long}{i}', '5'), grade('5', rf'\\boxed{{y{long}{i}}}')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=CASES.parents[1], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-600:]


def test_verdicts_do_not_depend_on_thread_or_order():
    cases = load("heldout")
    alone = [compare(case["gold"], case["answer"]).state for case in cases]
    for cached in [
        value for name, module in sys.modules.items() if name.startswith("rewards.") for value in vars(module).values()
    ]:
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    order = random.Random(3).sample(range(len(cases)), len(cases))
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda i: compare(cases[i]["gold"], cases[i]["answer"]).state, order)
        assert [alone[i] for i in order] == list(together)


# ------------------------------------------------------------------------------------------------ by construction


FAMILIES = generate.FAMILIES | generate_kinds.FAMILIES


def test_the_identities_that_pairs_are_built_from_hold():
    assert not generate_kinds.check_identities()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_equal_by_construction_is_right(family):
    """Or, for one in twenty, undecided (parts as small as 10^-400: one in four); never wrong."""
    verdicts = {(a, b): compare(a, b) for a, b in FAMILIES[family](150, 11, True)}
    refused = [f"{a}   |   {b}   -> {verdict!r}" for (a, b), verdict in verdicts.items() if verdict.state != "ok"]
    wrong = [line for line in refused if "undecided" not in line]
    assert not wrong, f"{len(wrong)} of {len(verdicts)}:\n" + "\n".join(wrong)
    assert len(refused) <= len(verdicts) / (4 if family == "tiny_parts" else 20), "\n".join(refused)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_different_by_construction_is_wrong(family):
    pairs = list(FAMILIES[family](150, 12, False))
    accepted = [f"{a}   |   {b}" for a, b in pairs if compare(a, b) == 1.0 or compare(b, a) == 1.0]
    assert not accepted, f"{len(accepted)} of {len(pairs)}:\n" + "\n".join(accepted)


def test_the_watched_steps_cover_gold_and_answer():
    assert len(watched.steps("NUL")) == 1 + 2 * len(watched.SANE) + 5


@pytest.mark.slow
def test_the_benchmark_of_graders_runs():
    command = [sys.executable, "benchmarks/graders.py", "--quick", "--graders", "own"]
    run = subprocess.run(command, cwd=CASES.parents[1], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    figures = json.loads(run.stdout.splitlines()[-1])
    assert {"own/equivalence", "own/hostile", "own/gsm8k_per_cpu_s", "own/math_per_cpu_s"} <= figures.keys()
    assert min(figures.values()) > 0
