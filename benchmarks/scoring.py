"""What hanging and raising rewards cost the others: calls scored a second, with a tenth of them hanging and without.

    python benchmarks/scoring.py             # 1,000 calls of 10 ms of computing on 2 workers, deadline 2 s
    python benchmarks/scoring.py --quick     # 200 calls

The runs alternate; ratios are of medians. A call's value is the time at which it ended, so that throughput can be told
for the calls that have a value apart from the time until the last hanging one is cut. It is told twice: of the calls
with a value, and of all calls (done with when the last value is there). A hanging call that computes looks like any
other until it has taken longer than those, so that where a tenth hang the first cannot be above 0.9 of that without.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from data.problem import Problem, ask  # noqa: E402
from rl.experience import Completion, Group, Prompt  # noqa: E402
from rl.scoring import Scorer, reward_terms  # noqa: E402

WORKERS, DEADLINE_S = 2, 2.0
GROUP = 10  # completions of one prompt
BAD = (None, "1", [1.0], {}, float("nan"), float("inf"), -float("inf"), 10**400, 1j, b"1", object(), (), {1.0}, print)


def work(problem: Problem, completion: Completion, *, work_s: float) -> float:
    """Computes for a while and says when it was done; or does what its text says."""
    if completion.text == "sleep":
        time.sleep(1000)
    if completion.text == "spin":
        while True:
            pass
    end = time.thread_time() + work_s
    while time.thread_time() < end:
        pass
    return time.monotonic()


def moody(problem: Problem, completion: Completion) -> object:
    """Raises, or returns something that is no number, as its text says."""
    if completion.text == "raise":
        raise KeyError("what was sought")
    return BAD[int(completion.text[3:])] if completion.text.startswith("bad") else 1.0


def groups_of(texts: list[str]) -> list[Group]:
    prompt = Prompt(Problem("bench/1", ask("q"), "4", "bench"), 0, "q", (1,))
    done = [Completion(text, [1], [-1.0], "stop", 0) for text in texts]
    return [Group(prompt, tuple(done[start : start + GROUP])) for start in range(0, len(done), GROUP)]


def scorer_of(function: str, **options: float) -> Scorer:
    terms = reward_terms({"bench": {"fn": f"{__file__}:{function}", **options}})
    return Scorer(terms, workers=WORKERS, deadline_s=DEADLINE_S, stop_when_broken=False)


def run(texts: list[str], work_s: float) -> dict[str, float]:
    """Calls with a value a second, seconds until everything was known, and how late the latest cut was."""
    with scorer_of("work", work_s=work_s) as scorer:
        groups = groups_of(texts)
        scorer.score(groups_of(["warm"] * GROUP * WORKERS))
        start = time.monotonic()
        scored = scorer.score(groups)
        wall_s = time.monotonic() - start
    values = [value for group in scored for value in group.terms["bench"]]
    good = [value for value in values if not math.isnan(value)]
    wrong = sum(math.isnan(value) == (text == "fine") for value, text in zip(values, texts, strict=True))
    if wrong:
        print(f"{wrong} of {len(texts)} calls did not end as they should")
    cut_s = [group.seconds["bench"][failure.index] for group in scored for failure in group.failures]
    others_s = max(good) - start
    return {
        "per_s": len(good) / others_s,
        "all_per_s": len(texts) / others_s,
        "wall_s": wall_s,
        "cut_s": max(cut_s, default=0.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work-ms", type=float, default=10.0, help="of computing in each call")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    calls = 200 if options.quick else options.calls
    texts = {"none": ["fine"] * calls}
    for kind in ("sleep", "spin"):
        texts[kind] = [kind if index % 10 == 3 else "fine" for index in range(calls)]
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in texts}
    for _ in range(1 if options.quick else options.repeats):
        for kind, row in texts.items():
            found[kind].append(run(row, options.work_ms / 1000))
    middle = {kind: {name: median(one[name] for one in runs) for name in runs[0]} for kind, runs in found.items()}
    machine = f"{WORKERS} workers, {os.cpu_count()} cores, deadline {DEADLINE_S:g} s"
    print(f"{calls} calls of {options.work_ms:g} ms, {machine}\n")
    print("| a tenth of them | calls with a value a second | of that without | all calls | all is known | latest cut |")
    print("|---|---|---|---|---|---|")
    for kind, row in middle.items():
        valued, every = (f"{row[name] / middle['none'][name]:.2f}" for name in ("per_s", "all_per_s"))
        print(f"| {kind} | {row['per_s']:.0f} | {valued} | {every} | {row['wall_s']:.1f} s | {row['cut_s']:.2f} s |")
    counts = raising(10 * calls)
    print(f"\n{10 * calls:,} calls of which {calls:,} raise and {len(BAD)} return no number: {counts}")
    ratios = {f"{kind} / none": middle[kind]["all_per_s"] / middle["none"]["all_per_s"] for kind in ("sleep", "spin")}
    print(json.dumps(ratios | {"latest_cut_s": max(row["cut_s"] for row in middle.values())} | counts))


def raising(calls: int) -> dict[str, int]:
    """How many calls got a value, and how many an error, when a tenth of them raise."""
    texts = ["raise" if index % 10 == 3 else "fine" for index in range(calls)]
    for number in range(len(BAD)):
        texts[10 * number] = f"bad{number}"
    with scorer_of("moody") as scorer:
        scored = scorer.score(groups_of(texts))
    states = [state for group in scored for state in group.states("bench")]
    counts = {state: states.count(state) for state in sorted(set(states))}
    assert counts == {"ok": texts.count("fine"), "error": len(texts) - texts.count("fine")}, counts
    return counts


if __name__ == "__main__":
    main()
