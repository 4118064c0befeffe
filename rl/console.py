"""What a person sees of a run: a bar while it trains, a completion now and then, a table at the end. Rank 0 only.

Not a terminal (a log file, CI): one plain line a step instead of the bar.
"""

from __future__ import annotations

import functools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console as RichConsole
from rich.console import Group as Stack
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rl.evaluate import Evaluation
from rl.experience import ScoredGroup

MANY_FAILED = 0.05  # of a step; then every line says so
MAX_CHARS = 1600  # of a completion on the screen: its first and last half
MAX_QUESTION_CHARS = 600
PLAIN_WIDTH = 110  # columns of a panel in a log file
THINK = re.compile(r"(<think>|</think>)")
# C0 and C1 control characters, except tab and newline: a model that writes them must not steer the terminal.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Console:
    """A sink that draws. `log` moves the bar, `show_sample` prints a completion above it."""

    def __init__(
        self, total_steps: int, *, first_step: int = 0, sample_every: int = 10, console: RichConsole | None = None
    ) -> None:
        """`sample_every`: steps between two completions shown; 0 shows none."""
        self.rich = console or RichConsole()
        if not self.rich.is_terminal and console is None:
            self.rich = RichConsole(width=PLAIN_WIDTH)
        self._total, self._sample_every = total_steps, sample_every
        self._first, self._done = first_step, first_step
        self._started_s = time.monotonic()
        self._seen: dict[str, float] = {}  # the latest value of every metric
        self._eval_step = -1
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A row with reward/mean is a step of training; one with only eval/ is an evaluation before or between."""
        self._seen |= metrics
        if any(name.startswith("eval/") for name in metrics):
            self._eval_step = step
        if "reward/mean" in metrics:
            self._done = step + 1
        if self.rich.is_terminal:
            self._draw_bar()
        else:
            self._print_line(step, trained="reward/mean" in metrics)

    def _draw_bar(self) -> None:
        if self._progress is None:
            columns = (
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[now]}"),
            )
            self._progress = Progress(*columns, console=self.rich, refresh_per_second=4)
            self._task = self._progress.add_task("", total=self._total, now="")
            self._progress.start()
        self._progress.update(
            self._task, completed=self._done, now="  ".join(self._words(with_time=True)), refresh=True
        )

    def _print_line(self, step: int, trained: bool) -> None:
        width = len(str(self._total))
        head = f"step {self._done:>{width}}/{self._total}" if trained else f"eval at step {step}"
        print("  ".join([head, *self._words(with_time=trained)]), file=self.rich.file, flush=True)

    def _words(self, with_time: bool) -> Iterator[str]:
        """Those of: reward, accuracy, length, tokens a second, time left; that are known by now."""
        for name, word, form in (
            ("reward/mean", "reward", ".3f"),
            (self._accuracy_name(), "accuracy", ".1%"),
            ("rollout/completion_tokens", "length", ".0f"),
            ("throughput/tokens_per_s", "tokens/s", ",.0f"),
        ):
            value = self._seen.get(name)
            if value is not None:
                yield f"{word} {'?' if math.isnan(value) else format(value, form)}"
        failed = self._seen.get("reward/failed_fraction", 0.0)
        if failed > MANY_FAILED:
            yield f"without a reward {failed:.0%}"
        if with_time and self._done > self._first:
            yield f"left {duration(self._left_s())}"

    def _accuracy_name(self) -> str:
        """The first evaluation set's avg@k."""
        return next((name for name in self._seen if re.fullmatch(r"eval/[^/]+/avg@.*", name)), "")

    def _left_s(self) -> float:
        """Seconds to the end at the mean pace of this process, evaluations and all."""
        passed_s = time.monotonic() - self._started_s
        return passed_s / (self._done - self._first) * (self._total - self._done)

    def show_sample(self, step: int, groups: Sequence[ScoredGroup]) -> None:
        """Every `sample_every` steps prints one completion of this step, another place in the batch each time."""
        if not self._sample_every or step % self._sample_every or not groups:
            return
        turn = step // self._sample_every
        scored = groups[turn % len(groups)]
        self.rich.print(sample_panel(scored, turn % len(scored.rewards), title=f"step {step}"))

    def say(self, text: str) -> None:
        """One line above the bar; markup is not read."""
        self.rich.print(Text(clean(text)))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def duration(seconds: float) -> str:
    """90 -> "1:30", 3700 -> "1:01:40"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def sample_panel(scored: ScoredGroup, index: int, title: str = "") -> Panel:
    """One completion: question, text with its reasoning dim, rewards by term. Nothing in it is read as markup."""
    problem = scored.group.prompt.problem
    question = _plain(problem.question, MAX_QUESTION_CHARS)
    question.stylize("bold")
    text = completion_text(scored, index)
    parts: list[Text | Rule] = [question, Rule(style="dim"), text, Rule(style="dim"), rewards_text(scored, index)]
    label = Text.assemble(title, "  " if title else "", clean(problem.id))
    return Panel(Stack(*parts), title=label, title_align="left", border_style="blue", box=box.ROUNDED)


def completion_text(scored: ScoredGroup, index: int) -> Text:
    """The completion as it continues the prompt, what stands inside <think> dim, the middle left out if long."""
    shown = scored.group.prompt.prefix + scored.group.completions[index].text
    text = _plain(shown, MAX_CHARS)
    start = 0
    thinking = False
    for tag in THINK.finditer(text.plain):
        thinking_next = tag.group() == "<think>"
        if thinking and not thinking_next:
            text.stylize("dim italic", start, tag.start())
        start, thinking = tag.end(), thinking_next
    if thinking:
        text.stylize("dim italic", start)
    return text


def rewards_text(scored: ScoredGroup, index: int) -> Text:
    """One line: reward, its terms, the answer sought, the length. Failed terms in red, each with its reason below."""
    completion = scored.group.completions[index]
    text = Text.assemble(("reward ", "bold"), (_value(scored.rewards[index], ".3f"), "bold green"))
    for name, values in scored.terms.items():
        text.append(
            f"   {clean(name)} {_value(values[index], '.3g')}", style="red" if math.isnan(values[index]) else ""
        )
    cut = " (cut)" if completion.finish_reason == "length" else ""
    answer = clean(scored.group.prompt.problem.answer).replace("\n", " ")
    shown = answer if len(answer) <= 80 else answer[-80:]  # worked answers end with the result
    text.append(f"   answer {shown}   {len(completion.token_ids)} tokens{cut}", style="dim")
    for failure in scored.failures:
        if failure.index == index:
            text.append(f"\n{clean(failure.term)}: {failure.kind}: {clean(failure.message)[:300]}", style="red")
    return text


def _value(value: float, form: str) -> str:
    return "failed" if math.isnan(value) else format(value, form)


def clean(text: str) -> str:
    """Text of a model or a file without control characters."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _plain(text: str, limit: int) -> Text:
    """Text that is shown as it is, without its middle if it is longer than the limit."""
    text = clean(text).strip("\n")
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"
    return Text(text)


def final_report(
    before: Mapping[str, Evaluation],
    after: Mapping[str, Evaluation],
    rows: Sequence[tuple[str, str, str]] = (),
    *,
    num_samples: int = 3,
    console: RichConsole | None = None,
) -> None:
    """Prints before and after side by side for each dataset, then sample completions of the trained policy.

    `rows` are further lines of the table: (what, before, after).
    """
    console = console or RichConsole()
    if not console.is_terminal and console.width < PLAIN_WIDTH:
        console.width = PLAIN_WIDTH
    table = Table(title="before and after training", box=box.SIMPLE_HEAVY, title_style="bold")
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right", style="bold")
    for dataset, evaluation in after.items():
        for row in report_rows(dataset, before.get(dataset), evaluation):
            table.add_row(*map(Text, row))
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(Padding(table, (1, 0, 0, 0)))
    samples = [group for evaluation in after.values() for group in evaluation.groups][:num_samples]
    for number, scored in enumerate(samples, start=1):
        console.print(sample_panel(scored, 0, title=f"after training, sample {number}"))


def report_rows(dataset: str, before: Evaluation | None, after: Evaluation) -> list[tuple[str, str, str]]:
    """One dataset's lines of the closing table, as text."""
    measures: dict[str, Callable[[Evaluation], str]] = {
        f"{dataset}: avg@{after.k} [95 % interval]": _accuracy,
        f"{dataset}: pass@{after.pass_k}": lambda e: f"{e.passed:.1%}",
        f"{dataset}: maj@{after.k}": lambda e: "" if e.majority is None else f"{e.majority:.1%}",
        f"{dataset}: tokens of a completion": lambda e: f"{e.completion_tokens:.0f}",
        f"{dataset}: cut at the limit": lambda e: f"{e.truncated_fraction:.1%}",
        f"{dataset}: problems": lambda e: str(e.num_problems),
        **{f"{dataset}: {term}": functools.partial(_term, term) for term in after.terms if len(after.terms) > 1},
        f"{dataset}: could not be graded": lambda e: f"{e.failed_fraction:.1%}" if e.failed_fraction else "",
    }
    lines = [(name, measure(before) if before else "", measure(after)) for name, measure in measures.items()]
    return [line for line in lines if line[1] or line[2]]


def _term(term: str, evaluation: Evaluation) -> str:
    return _value(evaluation.terms.get(term, math.nan), ".3f")


def _accuracy(evaluation: Evaluation) -> str:
    low, high = evaluation.interval
    return f"{evaluation.avg:.1%} [{low:.1%}, {high:.1%}]"
