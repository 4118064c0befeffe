"""Rewards under test: golds, notations and attacks go through a Scorer, and what comes back to the reports.

Every completion is a group of its own, so that what one does to the grader is not blamed on another.
"""

from __future__ import annotations

import inspect
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TypeVar

from data.problem import Problem
from launch.attacks import Attack, Target, attacks, executed
from launch.gold_answers import FORMS, PROGRAM_KEYS, TEST_KEYS, Gold, gold_of, notations, thought_of, write
from launch.progress import Progress
from launch.reward_report import Case, Failure, Result, TermReport
from rl.experience import Completion, Group, Prompt, ScoredGroup
from rl.reward_terms import RewardTerm, load
from rl.scoring import Scorer

CHUNK = 32  # completions between two looks at how many hung
MAX_HANGS = 20  # among golds: then nothing more is tried
MAX_HANGS_OF_ONE_SORT = 1  # an attack that hung on so many problems is not tried on others
PROBES = 10  # golds on which the forms of an answer are tried
HUGE_PROBLEMS = 2  # that are attacked by a megabyte
CHARS_PER_TOKEN = 4
MAX_TOKENS = 32_768  # longer completions are not sampled

Item = TypeVar("Item")
Results = Mapping[str, Result]  # term -> what it made of one case


class Trial:
    """One trial of the scorer's terms. `notes` says what was left out and why."""

    def __init__(self, scorer: Scorer, reports: Sequence[TermReport], *, prefix: str, chat: bool, canary: Path) -> None:
        self.scorer, self.reports = scorer, list(reports)
        self.prefix, self.chat, self.canary = prefix, chat, canary
        self.judge = next((report for report in self.reports if report.outcome), None)
        self.tests = columns_of_tests([term for term in scorer.terms if not self.judge or term.name == self.judge.name])
        self.notes: list[str] = []
        self.num_problems = 0

    def warm_up(self, problem: Problem) -> str | None:
        """Every term once, so that what it loads at its first call is loaded; what is wrong if that fails."""
        try:
            self.scorer.check(self._prompt(problem))
        except ValueError as error:
            return str(error)
        return None

    def run(self, problems: Sequence[Problem], num_attacked: int, form: str | None) -> None:
        """The whole trial. `form`: in which of FORMS answers are written; None: as golds are right."""
        self.num_problems = len(problems)
        tests = self.tests or self._tests_if_programs_are_right(problems)
        golds = [(problem, gold_of(problem, tests)) for problem in problems]
        written = [(problem, gold) for problem, gold in golds if gold.kind != "none"]
        self._note_unwritten([gold for _, gold in golds if gold.kind == "none"])
        form = self._form(spread(written, PROBES), form)
        right = self._golds(written, form)
        if sum(report.count("hang") for report in self.reports) >= MAX_HANGS:
            return
        self._notations(spread(right, num_attacked), form)
        self._attacks(spread(right or golds, num_attacked), form, known=bool(right) or self.judge is None)

    def _note_unwritten(self, golds: Sequence[Gold]) -> None:
        for reason, count in Counter(gold.reason for gold in golds).most_common():
            self.notes.append(f"no answer that could be tried as a gold, in {count:,} of the problems: {reason}")
            if self.judge is not None:
                self.judge.no_golds = self.judge.no_golds or reason

    def _tests_if_programs_are_right(self, problems: Sequence[Problem]) -> Set[str]:
        """PROGRAM_KEYS where a reward of one's own takes the data set's programs for right, and not its answers."""
        both = [(problem, gold_of(problem), gold_of(problem, PROGRAM_KEYS)) for problem in problems]
        both = [(problem, text, code) for problem, text, code in both if code.kind == "code" != text.kind]
        probed = spread(both, PROBES)
        if self.judge is None or not probed:
            return frozenset()
        asked = [problem for problem, _, _ in probed]
        right = {"code": 0, "text": 0}
        for form in FORMS:
            golds = [code if form == "code" else text for _, text, code in probed]
            cases = [_gold_case(problem, gold, form, self.prefix) for problem, gold in zip(asked, golds, strict=True)]
            results = [result[self.judge.name] for result in self._score(cases, asked)]
            kind = "code" if form == "code" else "text"
            right[kind] = max(right[kind], sum(result.value >= self.judge.right for result in results))
            if all(result.state == "timeout" for result in results):
                break
        return PROGRAM_KEYS if right["code"] > right["text"] else frozenset()

    def _form(self, pairs: Sequence[tuple[Problem, Gold]], wanted: str | None) -> str:
        """The form to write answers in, and a note about which are read."""
        pairs = [(problem, gold) for problem, gold in pairs if gold.kind != "code"]
        if self.judge is None or not pairs:
            return wanted or "answer"
        right: dict[str, int] = {}
        for form in pairs[0][1].forms:
            cases = [_gold_case(problem, gold, form, self.prefix) for problem, gold in pairs]
            results = [result[self.judge.name] for result in self._score(cases, [problem for problem, _ in pairs])]
            right[form] = sum(result.value >= self.judge.right for result in results)
            if all(result.state == "timeout" for result in results):
                return wanted or "answer"
        written = wanted or max(right, key=lambda form: right[form])
        read = ", ".join(form for form in right if right[form]) or "none of the forms"
        unread = ", ".join(form for form in right if not right[form])
        self.notes.append(
            f"answers are written as {FORMS[written].format('X')!r} (form={written}); right are golds written as {read}"
            + (f", not as {unread}" if unread else "")
        )
        return written

    def _golds(self, pairs: Sequence[tuple[Problem, Gold]], form: str) -> list[tuple[Problem, Gold]]:
        """Tries every gold; those that were right."""
        right = []
        with Progress("golds", len(pairs)) as progress:
            for start in range(0, len(pairs), CHUNK):
                chunk = pairs[start : start + CHUNK]
                cases = [_gold_case(problem, gold, form, self.prefix) for problem, gold in chunk]
                for pair, case, results in zip(
                    chunk, cases, self._score(cases, [problem for problem, _ in chunk]), strict=True
                ):
                    self._add(case, results)
                    if self.judge is None or results[self.judge.name].value >= self.judge.right:
                        right.append(pair)
                progress.at(start + len(chunk))
                hung = sum(report.count("hang") for report in self.reports)
                if hung >= MAX_HANGS:
                    self.notes.append(f"stopped after {start + len(chunk):,} golds, {hung} of which hung")
                    break
        return right

    def _notations(self, pairs: Sequence[tuple[Problem, Gold]], form: str) -> None:
        """The same answers written otherwise."""
        hung: Counter[str] = Counter()
        with Progress("notations of golds", len(pairs)) as progress:
            for done, (problem, gold) in enumerate(pairs):
                cases = [
                    Case(
                        "notation", name, problem.id, gold.text, write(answer, _form(gold, form), self.prefix), "right"
                    )
                    for name, answer in notations(gold, problem, form)
                    if hung[name] < MAX_HANGS_OF_ONE_SORT
                ]
                self._count_hung(hung, cases, self._tried(cases, problem))
                progress.at(done + 1)

    def _attacks(self, pairs: Sequence[tuple[Problem, Gold]], form: str, *, known: bool) -> None:
        """Everything hostile. Without a `known` right answer no attack is a false accept."""
        hung: Counter[str] = Counter()
        with Progress("problems attacked", len(pairs)) as progress:
            for done, (problem, gold) in enumerate(pairs):
                gold = gold if gold.kind != "none" else Gold("text", problem.answer or "an answer")
                target = Target(problem, gold, _form(gold, form), self.prefix)
                canary = self.canary / str(done)
                canary.mkdir()
                found = attacks(target, canary, huge=done < HUGE_PROBLEMS)
                cases = [_attack_case(target, attack, known) for attack in found]
                cases = [case for case in cases if hung[case.name] < MAX_HANGS_OF_ONE_SORT]
                self._count_hung(hung, cases, self._tried(cases, problem))
                self._note_executed(target, executed(found, canary))
                progress.at(done + 1)
        left_out = [name for name, count in hung.items() if MAX_HANGS_OF_ONE_SORT <= count < len(pairs)]
        if left_out:
            more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
            self.notes.append(f"not tried on all problems, for they hang: {'; '.join(left_out[:5])}{more}")

    def _note_executed(self, target: Target, found: Sequence[Attack]) -> None:
        """The grader ran what the completion says. With several terms it is not known which of them."""
        report = self.judge or self.reports[0]
        message = "" if len(self.reports) == 1 else "one of the terms has executed it; term=NAME tries one alone"
        for attack in found:
            report.failures.append(
                Failure("executed", _attack_case(target, attack, True), Result("error", math.nan, math.nan, message))
            )

    # How it is tried

    def _tried(self, cases: Sequence[Case], problem: Problem) -> list[Results]:
        results = self._score(cases, [problem] * len(cases))
        for case, result in zip(cases, results, strict=True):
            self._add(case, result)
        return results

    def _add(self, case: Case, results: Results) -> None:
        for report in self.reports:
            report.add(case, results[report.name])

    @staticmethod
    def _count_hung(hung: Counter[str], cases: Sequence[Case], results: Sequence[Results]) -> None:
        for case, result in zip(cases, results, strict=True):
            hung[case.name] += any(one.state == "timeout" for one in result.values())

    def _score(self, cases: Sequence[Case], problems: Sequence[Problem]) -> list[Results]:
        """What every term makes of each case. A hang is believed if it is one again when tried alone: beside calls
        that really hang, on a busy machine, a quick one may be late."""
        prompts = {problem.id: self._prompt(problem) for problem in problems}
        results: list[Results] = []
        for start in range(0, len(cases), CHUNK):
            pairs = zip(cases[start : start + CHUNK], problems[start : start + CHUNK], strict=True)
            groups = [Group(prompts[problem.id], (completion(case.text),)) for case, problem in pairs]
            for scored in self.scorer.score(groups):
                late = any(failure.kind == "timeout" for failure in scored.failures)
                again = self.scorer.score([scored.group])[0] if late else scored
                results.append(self._results(again))
        return results

    def _results(self, scored: ScoredGroup) -> Results:
        failures = {failure.term: failure for failure in scored.failures}
        found = {}
        for report in self.reports:
            value, failure = scored.terms[report.name][0], failures.get(report.name)
            took = scored.seconds[report.name][0]
            if failure is not None:
                found[report.name] = Result(failure.kind, math.nan, took, failure.message)
            else:
                found[report.name] = Result("ok" if value >= report.right else "wrong", value, took)
        return found

    def _prompt(self, problem: Problem) -> Prompt:
        """A prompt without a tokenizer: one made-up token for a few characters."""
        text = f"{problem.question}\n{self.prefix}"
        return Prompt(problem, 0, text, tuple(token_ids(text)), self.prefix, self.chat)


def columns_of_tests(terms: Iterable[RewardTerm]) -> Set[str]:
    """The columns that these rewards read as tests of a program: those with a parameter `tests`, or named like it."""
    found: set[str] = set()
    for term in terms:
        try:
            parameters = set(inspect.signature(load(term.target)).parameters)
        except (TypeError, ValueError):  # it has no signature that could be read
            continue
        if named := TEST_KEYS & parameters:  # a column, as in TRL's form; or an option that names one
            found |= TEST_KEYS | {str(term.options[key]) for key in named if isinstance(term.options.get(key), str)}
    return found


def _form(gold: Gold, form: str) -> str:
    return "code" if gold.kind == "code" else form


def _gold_case(problem: Problem, gold: Gold, form: str, prefix: str) -> Case:
    text = write(gold.text, _form(gold, form), prefix, thought_of(problem))
    return Case("gold", "gold", problem.id, gold.text, text, "right")


def _attack_case(target: Target, attack: Attack, known: bool) -> Case:
    name = f"{attack.family}: {attack.name}"
    expected = attack.expected if known else "anything"
    return Case("attack", name, target.problem.id, target.gold.text, attack.text, expected)


def completion(text: str) -> Completion:
    """A completion of this text. Its tokens are made up, one for a few characters."""
    ids = token_ids(text)
    return Completion(text, ids, [-1.0] * len(ids), "stop", 0)


def token_ids(text: str) -> list[int]:
    """At least one, and equal where the characters are equal."""
    pieces = range(0, min(len(text), MAX_TOKENS * CHARS_PER_TOKEN), CHARS_PER_TOKEN)
    return [zlib.crc32(text[at : at + CHARS_PER_TOKEN].encode("utf-8", "surrogatepass")) % 50_000 for at in pieces] or [
        0
    ]


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """`limit` of the items at equal distances."""
    if limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]
