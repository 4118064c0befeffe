"""Try a reward before a run: on golds, on the same answers in other notations, and on attacks. No model is needed.

    python launch/check_reward.py recipe=grpo_math
    python launch/check_reward.py rewards=math data.train.mine.path=train.jsonl
    python launch/check_reward.py fn=my_rewards.py:f data.train.mine.path=train.jsonl rewards.f.max_tokens=256

What is tried, in the same worker processes that score a run:

    golds       each answer of the data set, written as a completion, must be right. For a reward with an option or
                column `tests` they are the data set's programs, and for one of yours that takes these for right and
                not the answers
    notations   the same value written otherwise ($1,000$, 1000.0, \\frac{2000}{2}) must be right
    attacks     completions that are not right (hedges, echoes, near misses, injected code, a megabyte of brackets,
                power towers, ...) must not be taken for right, hang or crash the grader, or be executed

Every completion is a group of one, so a reward that compares the completions of a group has little to say here. A hang
counts when the same completion hangs again alone. Digits of other scripts are judged only where they write a wrong
number.

Options, key=value:

    limit=1000          golds to try; 0: all of the data set
    attacks=100         problems whose answers are attacked, some 300 times each; 0: none. Few where a call costs money
    outcome=NAME        the term that says right or wrong (default: the recipe's eval.correct, else the first term);
                        of the other terms only hangs, crashes and speed are judged. outcome=none: judge so all of them
    right=1.0           the least value of that term that says "right"
    form=auto           where answers are written: answer, boxed, boxed_answer, hashes, phrase (auto: as the recipe's
                        data.template teaches it, else the first of these in which golds are right)
    term=NAME           this term alone
    min_golds=1.0       the share of golds that must be right; 0 also allows that none could be tried
    min_notations=1.0   the share of answers in other notations that must be right
    workers=N deadline_s=S      as scoring.workers and scoring.deadline_s
    report=FILE         everything as JSON, every failure with its text

Exit code: 0 fine, 1 falls short, 2 a mistake in what was asked.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from launch.problems import load_problems  # noqa: E402
from launch.reward_recipe import RewardRecipe, explaining_errors, read_options, reward_recipe  # noqa: E402
from launch.reward_report import TermReport, examples, printable, report_json, shown, table  # noqa: E402
from launch.reward_trial import Trial, spread  # noqa: E402
from launch.whole_files import check_writable, naming, write_whole  # noqa: E402
from rl.binding import check_choice, nearest  # noqa: E402
from rl.scoring import Scorer, reward_terms  # noqa: E402

FORMS_OF_TEMPLATES = {"r1_zero": "answer", "few_shot": "phrase"}  # the others leave the form to the policy
FORM_NAMES = ("auto", "answer", "boxed", "boxed_answer", "hashes", "phrase")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What this tool takes beside the rewards and the data."""

    limit: int = 1000
    attacks: int = 100
    outcome: str | None = None
    right: float = 1.0
    form: str = "auto"
    term: str | None = None
    min_golds: float = 1.0
    min_notations: float = 1.0
    workers: int | None = None
    deadline_s: float | None = None
    report: str | None = None

    def __post_init__(self) -> None:
        for name, ok, needed in (
            ("limit", self.limit >= 0, "0 (all) or more"),
            ("attacks", self.attacks >= 0, "0 (none) or more"),
            ("min_golds", 0 <= self.min_golds <= 1, "in [0, 1]"),
            ("min_notations", 0 <= self.min_notations <= 1, "in [0, 1]"),
        ):
            if not ok:
                raise ValueError(f"{name} must be {needed}, got {getattr(self, name)}")
        check_choice("form", self.form, FORM_NAMES)


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    options, overrides = read_options(Options, arguments)
    recipe = reward_recipe(overrides)
    report = Path(options.report).expanduser() if options.report else None
    if report is not None:
        check_writable("report", report)
    scoring = recipe.scoring(options.workers, options.deadline_s)
    outcome = recipe.outcome(options.outcome)
    terms = reward_terms(recipe.rewards)
    if options.term is not None:
        if options.term not in recipe.rewards:
            known = ", ".join(recipe.rewards)
            near = nearest(options.term, recipe.rewards)
            raise ValueError(f"term={options.term} names no reward, there are {known}.{near}")
        terms = [replace(term, gate="") for term in terms if term.name == options.term]
    terms = [replace(term, on_error="mask") for term in terms]  # one failure does not end a trial
    problems = load_problems(recipe.train_data, "data.train")
    reports = [TermReport(term.name, term.name == outcome, options.right) for term in terms]
    data = recipe.config.data
    taught = FORMS_OF_TEMPLATES.get(data.template) if recipe.has_recipe else None
    with (
        Scorer(terms, **scoring, stop_when_broken=False) as scorer,
        tempfile.TemporaryDirectory(prefix="check_reward_") as canary,
    ):
        trial = Trial(scorer, reports, prefix=data.prefill, chat=data.template == "chat", canary=Path(canary))
        if (broken := trial.warm_up(problems[0])) is not None:
            print(f"falls short: {broken}")
            return 1
        limited = spread(problems, options.limit or len(problems))
        trial.run(limited, options.attacks, taught if options.form == "auto" else options.form)
    return conclude(options, recipe, trial, f"{scoring['workers']} workers, {deadlines(scorer)}", report)


def deadlines(scorer: Scorer) -> str:
    """In words: "deadline 2 s", and of the terms that have another, theirs: "deadline 2 s (code_tests: 20 s)"."""
    found = scorer.deadlines_s
    if len(set(found.values())) == 1:
        return f"deadline {next(iter(found.values())):g} s"
    others = ", ".join(f"{name}: {seconds:g} s" for name, seconds in found.items() if seconds != scorer.deadline_s)
    return f"deadline {scorer.deadline_s:g} s ({others})"


def conclude(options: Options, recipe: RewardRecipe, trial: Trial, conditions: str, file: Path | None) -> int:
    """Prints everything and writes the report; the exit code."""
    reports = trial.reports
    short = {report.name: report.short_of(options.min_golds, options.min_notations) for report in reports}
    print(f"{recipe.words}: {trial.num_problems:,} problems, {conditions}")
    for line in [*trial.notes, "", *table(reports), ""]:
        print(line)
    if any(report.outcome for report in reports):
        print("* says right or wrong. p50, p99, items/s (of one worker): golds and notations; worst: attacks")
    for report in reports:
        print_bad_golds(report)
        if report.partial > 0:
            print(f"{report.name} gave {report.partial:g} to an attack, below right={report.right:g}")
        for line in examples(report):
            print(line)
    for name, reasons in short.items():
        print(f"{name} falls short: {'; '.join(reasons)}" if reasons else f"{name} is fine")
    if file is not None:
        content = report_json(recipe.words, reports, short, trial.notes)
        with naming("report", file):
            write_whole(file, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return int(any(short.values()))


def print_bad_golds(report: TermReport, at_most: int = 20) -> None:
    """Answers of the data set that the reward cannot read: nothing can be right there."""
    for problem_id, gold, why in report.bad_golds[:at_most]:
        print(f"  bad gold: {problem_id}: {shown(gold, 60)!r}{f': {printable(shown(why))}' if why else ''}")
    if len(report.bad_golds) > at_most:
        print(f"  and {len(report.bad_golds) - at_most:,} more bad golds; report=FILE lists them")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with explaining_errors():
        if {"-h", "--help"} & set(sys.argv[1:]):
            print((__doc__ or "").strip(), flush=True)
            sys.exit()
        sys.exit(main(sys.argv[1:]))
