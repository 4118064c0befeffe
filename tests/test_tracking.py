"""Claims about rl/tracking.py, rl/console.py and rl/curves.py, on real files and real event logs."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from matplotlib import image
from rich.console import Console as RichConsole

from data.problem import Problem, ask
from rl.console import Console, clean, completion_text, duration, final_report, sample_panel
from rl.curves import draw_curves
from rl.evaluate import Evaluation
from rl.experience import Failure, Group, ScoredGroup
from rl.tracking import JsonLines, TensorBoard, Tracker, Wandb, read_metrics, wandb_mode

ROOT = Path(__file__).resolve().parents[1]


# JSON lines


def test_each_step_is_one_object_with_step_first_and_readable_at_once(tmp_path):
    sink = JsonLines(tmp_path / "run" / "metrics.jsonl")
    sink.log(0, {"reward/mean": 0.5, "update/micro_batches": 3})
    sink.log(1, {"reward/mean": 1 / 3})
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == '{"step": 0, "reward/mean": 0.5, "update/micro_batches": 3}'
    assert json.loads(lines[1]) == {"step": 1, "reward/mean": 1 / 3}
    sink.close()


def test_an_evaluation_joins_the_row_of_its_step(tmp_path):
    sink = JsonLines(tmp_path / "metrics.jsonl")
    sink.log(0, {"reward/mean": 0.5})
    sink.log(1, {"reward/mean": 0.75})
    sink.log(1, {"eval/sums/avg@1": 0.25})
    sink.log(2, {"reward/mean": 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 0, "reward/mean": 0.5},
        {"step": 1, "reward/mean": 0.75, "eval/sums/avg@1": 0.25},
        {"step": 2, "reward/mean": 1.0},
    ]


def test_what_is_not_a_number_is_null_because_json_has_no_nan(tmp_path):
    JsonLines(tmp_path / "m.jsonl").log(0, {"reward/mean": math.nan, "optim/grad_norm": math.inf})
    text = (tmp_path / "m.jsonl").read_text()
    assert text == '{"step": 0, "reward/mean": null, "optim/grad_norm": null}\n'


def test_a_resumed_run_writes_the_same_file_as_one_that_never_stopped(tmp_path):
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"

    def train(sink: JsonLines, steps: range) -> None:
        for step in steps:
            sink.log(step, {"reward/mean": step / 7})
            sink.log(step, {"eval/sums/avg@1": step / 3})

    train(JsonLines(whole), range(8))
    train(JsonLines(stopped), range(6))
    with stopped.open("a") as file:
        file.write('{"step": 6, "reward/me')  # killed while it wrote; the last checkpoint was after step 3
    train(JsonLines(stopped, next_step=4), range(4, 8))
    assert stopped.read_text() == whole.read_text()


def test_a_resume_drops_the_rows_that_will_be_written_again_and_can_add_to_the_last_one_kept(tmp_path):
    path = tmp_path / "m.jsonl"
    sink = JsonLines(path)
    for step in range(6):
        sink.log(step, {"reward/mean": 0.5})
    sink = JsonLines(path, next_step=2)
    assert [row["step"] for row in read_metrics(path)] == [0, 1]
    sink.log(1, {"eval/sums/avg@1": 1.0})
    assert read_metrics(path) == [
        {"step": 0, "reward/mean": 0.5},
        {"step": 1, "reward/mean": 0.5, "eval/sums/avg@1": 1.0},
    ]


def test_a_row_that_gets_shorter_leaves_nothing_of_the_longer_one(tmp_path):
    sink = JsonLines(tmp_path / "m.jsonl")
    sink.log(0, {"reward/mean": 1 / 3})
    sink.log(0, {"reward/mean": 0.5})
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 0, "reward/mean": 0.5}\n'


def test_a_row_from_the_past_is_refused(tmp_path):
    sink = JsonLines(tmp_path / "m.jsonl")
    sink.log(2, {})
    with pytest.raises(ValueError, match="metrics of step 1 come after those of step 2"):
        sink.log(1, {})


def test_a_spoilt_row_in_the_middle_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 0}\n{"reward": 1}\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r'm\.jsonl:2: needs an object with "step"'):
        read_metrics(path)


def test_a_sink_that_cannot_close_does_not_keep_the_others_open(tmp_path):
    class Stuck:
        def log(self, step, metrics):
            pass

        def close(self):
            raise OSError("no space left on device")

    sink = JsonLines(tmp_path / "m.jsonl")
    with pytest.raises(OSError, match="no space"):
        Tracker([Stuck(), sink]).close()
    with pytest.raises(ValueError, match="closed file"):
        sink.log(0, {})


# TensorBoard and wandb


def test_tensorboard_reads_back_what_was_logged(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Tracker([TensorBoard(tmp_path / "tb"), JsonLines(tmp_path / "m.jsonl")]) as tracker:
        for step in range(3):
            tracker.log(step, {"reward/mean": step / 4, "optim/lr": 1e-6})
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [(0, 0.0), (1, 0.25), (2, 0.5)]
    assert set(events.Tags()["scalars"]) == {"reward/mean", "optim/lr"}
    assert len(read_metrics(tmp_path / "m.jsonl")) == 3


def test_tensorboard_hides_what_an_interrupted_run_wrote_after_its_checkpoint(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for sink, steps in ((TensorBoard(tmp_path), range(5)), (TensorBoard(tmp_path, next_step=3), range(3, 6))):
        for step in steps:
            sink.log(step, {"reward/mean": float(step)})
        sink.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("reward/mean")] == [0, 1, 2, 3, 4, 5]


WANDB_RUN = """
import logging, sys, time
from rl.tracking import Wandb
logging.basicConfig()
start = time.monotonic()
sink = Wandb(sys.argv[1], config={"lr": 1e-6}, close_timeout_s=float(sys.argv[2]))
for step in range(3):
    sink.log(step, {"reward/mean": step / 4})
    sink.log(step, {"eval/sums/avg@1": 0.5})
print(time.monotonic() - start)
sink.close()
"""


def run_wandb(directory: Path, close_timeout_s: float, **environ: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, as training is, with nobody logged in unless `environ` says so."""
    clean_environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    clean_environ |= {"NETRC": str(directory / "no-netrc"), "PYTHONPATH": str(ROOT)} | environ
    command = [sys.executable, "-c", WANDB_RUN, str(directory), str(close_timeout_s)]
    return subprocess.run(
        command, env=clean_environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def wandb_rows(directory: Path) -> list[dict[str, float]]:
    """The history in the one offline run there: records of protobuf in the log format of LevelDB, below 32 KiB."""
    from wandb.proto import wandb_internal_pb2 as protobuf

    (file,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    data, place, rows = file.read_bytes(), 7, []  # 7 bytes of file header; then checksum 4, length 2, type 1, record
    assert len(data) < 2**15
    while place < len(data):
        length = int.from_bytes(data[place + 4 : place + 6], "little")
        record = protobuf.Record()
        record.ParseFromString(data[place + 7 : place + 7 + length])
        place += 7 + length
        if record.HasField("history"):
            items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            rows.append({name: json.loads(value) for name, value in items.items()})
    return rows


def test_wandb_offline_keeps_every_row_and_neither_asks_nor_waits(tmp_path):
    ended = run_wandb(tmp_path, close_timeout_s=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert float(ended.stdout) < 0.5, "logging must not wait for wandb to start"
    rows = [{name: row[name] for name in ("_step", "reward/mean", "eval/sums/avg@1")} for row in wandb_rows(tmp_path)]
    assert rows == [{"_step": step, "reward/mean": step / 4, "eval/sums/avg@1": 0.5} for step in range(3)]
    assert [path.name for path in tmp_path.iterdir()] == ["wandb"]


def test_wandb_with_a_key_that_is_no_key_goes_on_offline(tmp_path):
    ended = run_wandb(tmp_path, close_timeout_s=30, WANDB_API_KEY="short")
    assert ended.returncode == 0
    assert "wandb cannot go online, keeps the run offline" in ended.stderr
    assert len(wandb_rows(tmp_path)) == 3


@pytest.mark.slow
def test_wandb_without_its_server_keeps_the_run_offline_and_lets_it_end(tmp_path):
    server = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}  # nobody listens there
    start = time.monotonic()
    ended = run_wandb(tmp_path, close_timeout_s=16, **server)
    assert (ended.returncode, len(wandb_rows(tmp_path))) == (0, 3)
    assert float(ended.stdout) < 0.5
    assert time.monotonic() - start < 30


def test_wandb_that_breaks_does_not_break_the_run(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    sink = Wandb(tmp_path / "file")
    sink.log(0, {"reward/mean": 1.0})
    sink.close()
    assert "wandb stopped, the run goes on" in caplog.text


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "x"}, "online"),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_MODE": "online"}, "offline"),  # it would ask for a key
        ({"NETRC": "logged-in"}, "online"),
        ({"NETRC": "logged-in", "WANDB_BASE_URL": "https://wandb.example.org"}, "offline"),
    ],
)
def test_wandb_is_online_only_for_who_has_logged_in(environ, mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logged-in").write_text("machine api.wandb.ai login user password x\n")
    assert wandb_mode({"NETRC": "nobody"} | environ) == mode


# Console


@pytest.fixture
def scored(make_completion, make_prompt) -> ScoredGroup:
    problem = Problem("sums/[red]1", ask("What is [bold]2 + 2[/nope]?"), "4", "sums")
    texts = ["2 + 2 = [b]4[/b]\x1b[2J\x07</think><answer>4</answer>", "hm " * 2000]
    completions = tuple(make_completion(text) for text in texts)
    rewards = (1.1, math.nan)
    terms = {"math_answer": (1.0, math.nan), "think_format": (1.0, 0.0)}
    failures = (Failure("math_answer", 1, "timeout", "no [answer] in 5 s"),)
    return ScoredGroup(Group(make_prompt("<think>", problem=problem), completions), rewards, terms, failures)


def screen(terminal: bool = False, width: int = 100) -> RichConsole:
    return RichConsole(file=io.StringIO(), force_terminal=terminal, width=width, legacy_windows=False)


def shown(console: RichConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def train(console: Console, steps: int, scored: ScoredGroup) -> None:
    console.log(0, {"eval/sums/avg@4": 0.25})
    for step in range(steps):
        row = {"reward/mean": 0.5, "rollout/completion_tokens": 87.4, "throughput/tokens_per_s": 1234.0}
        console.log(step, row)
        console.show_sample(step, [scored])
    console.close()


def test_in_a_log_file_each_step_is_one_plain_line(scored):
    rich = screen()
    train(Console(20, sample_every=0, console=rich), 3, scored)
    lines = shown(rich).splitlines()
    assert lines[0] == "eval at step 0  accuracy 25.0%"
    assert lines[3].startswith("step  3/20  reward 0.500  accuracy 25.0%  length 87  tokens/s 1,234  left 0:")
    assert len(lines) == 4
    assert shown(rich).isascii()


def test_a_terminal_shows_a_bar_with_the_same_words(scored):
    rich = screen(terminal=True)
    train(Console(20, sample_every=2, console=rich), 3, scored)
    assert "3/20" in shown(rich)
    assert "reward 0.500  accuracy 25.0%  length 87  tokens/s 1,234  left 0:" in shown(rich)


def test_a_sample_comes_every_few_steps_and_moves_through_the_group(scored):
    rich = screen()
    train(Console(20, sample_every=2, console=rich), 4, scored)
    text = shown(rich)
    assert text.count("What is [bold]2 + 2[/nope]?") == 2
    assert text.index("reward 1.100") < text.index("reward failed")


def test_time_left_is_at_the_pace_of_this_process_and_not_of_the_run_before(scored, monkeypatch):
    clock = iter([100.0, 130.0])
    monkeypatch.setattr("rl.console.time.monotonic", lambda: next(clock))
    rich = screen()
    console = Console(20, first_step=10, console=rich)
    console.log(11, {"reward/mean": 0.0})  # two steps of ten done in 30 s, eight to go
    assert shown(rich).strip().endswith("left 2:00")


@pytest.mark.parametrize("terminal", [False, True])
def test_what_the_run_says_is_one_line_as_it_is(terminal):
    rich = screen(terminal)
    Console(20, console=rich).say("stopping [soon]\x1b[2J")
    assert shown(rich) == "stopping [soon]\ufffd[2J\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (90, "1:30"), (3700, "1:01:40")])
def test_a_duration_is_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_model_writes_neither_styles_nor_steers_the_terminal(scored, terminal):
    rich = screen(terminal)
    rich.print(sample_panel(scored, 0, title="step [i]3"))
    text = shown(rich)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    plain = "".join(text.split("\x1b[0m"))
    for verbatim in ("[bold]2 + 2[/nope]", "[b]4[/b]", "step [i]3  sums/[red]1"):
        assert verbatim in plain


def test_clean_text_keeps_lines_and_tabs_only():
    assert clean("a\tb\r\nc\x1b[0m\x9b1m\x7f\x00") == "a\tb\nc\ufffd[0m\ufffd1m\ufffd\ufffd"


def test_reasoning_is_dim_also_where_the_prompt_opened_it(scored):
    text = completion_text(scored, 0)
    ((start, end, style),) = text.spans
    assert (text.plain[start:end], style) == ("2 + 2 = [b]4[/b]\ufffd[2J\ufffd", "dim italic")
    cut_short = completion_text(scored, 1)
    assert cut_short.spans[0].end == len(cut_short.plain)


def test_a_long_completion_is_shown_without_its_middle(scored):
    text = completion_text(scored, 1).plain
    assert "[... 4,407 characters left out ...]" in text
    assert len(text) < 1700


def test_a_failed_reward_shows_its_reason_and_not_a_zero(scored):
    rich = screen()
    rich.print(sample_panel(scored, 1))
    assert "reward failed   math_answer failed   think_format 0   answer 4" in shown(rich)
    assert "math_answer: timeout: no [answer] in 5 s" in shown(rich)


def test_the_closing_table_sets_before_beside_after_with_three_samples(scored):
    def evaluation(avg: float, groups=()) -> Evaluation:
        return Evaluation(avg, avg, None, (avg - 0.05, avg + 0.05), 60.0, 0.0, 0.0, 200, 4, 4, groups=groups)

    rich = screen(width=80)
    rows = [("kept [reasoning]", "95 %", "99 %")]
    final_report({"sums": evaluation(0.3)}, {"sums": evaluation(0.9, (scored,) * 5)}, rows, console=rich)
    text = shown(rich)
    (line,) = [line for line in text.splitlines() if "sums: avg@4 [95 % interval]" in line]
    assert line.split("interval]")[1].split() == ["30.0%", "[25.0%,", "35.0%]", "90.0%", "[85.0%,", "95.0%]"]
    assert "kept [reasoning]" in text
    assert "maj@4" not in text
    assert text.count("after training, sample") == 3


# Curves


def rows(steps: int) -> list[dict[str, float]]:
    found = []
    for step in range(steps):
        row = {"reward/mean": step / steps, "reward/math": step / steps, "policy/entropy": 1 / (1 + step)}
        row |= {"rollout/completion_tokens": 60.0 + step, "group/informative_fraction": 0.5, "optim/grad_norm": 1.0}
        if step % 10 == 0:
            row |= {"eval/sums/avg@4": step / steps, "eval/sums/ci_low": 0.0, "eval/sums/ci_high": 1.0}
        found.append(row)
    return found


def write_rows(path: Path, found: list[dict[str, float]]) -> None:
    sink = JsonLines(path)
    for step, row in enumerate(found):
        sink.log(step, row)
    sink.close()


def draw(directory: Path, found: list[dict[str, float]]):
    write_rows(directory / "metrics.jsonl", found)
    draw_curves(directory / "metrics.jsonl", directory / "curves.png")
    return image.imread(directory / "curves.png")


def test_the_picture_grows_with_what_there_is_to_show(tmp_path, caplog):
    everything = draw(tmp_path, rows(60))
    reward_only = draw(tmp_path, [{"reward/mean": 0.5, "reward/std": 0.1}])
    assert everything.shape[0] > 1.5 * reward_only.shape[0]
    assert everything.shape[1] > 2.5 * reward_only.shape[1]
    assert everything[..., :3].std() > 0.05, "an empty picture"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]
    assert not caplog.records


def test_the_picture_can_be_drawn_while_the_run_writes(tmp_path, caplog):
    write_rows(tmp_path / "metrics.jsonl", [*rows(3), {"reward/mean": math.nan}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert not caplog.records


@pytest.mark.parametrize("text", ["", "nonsense\nnonsense\n", '{"step": 0, "reward/mean": "x"}\n'])
def test_no_picture_is_worth_a_run(tmp_path, text, caplog):
    (tmp_path / "metrics.jsonl").write_text(text)
    with caplog.at_level(logging.WARNING):
        draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
    assert ("no learning curves" in caplog.text) == bool(text)
