"""Claims about launch/check_reward.py: what is wrong with a reward is found out, by runs of it on real files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rewards.sandbox.check import trouble

ROOT = Path(__file__).resolve().parents[1]

# `strict` reads one answer block after the thinking and compares exact fractions. The others have one fault each.
REWARDS = r"""
import os, re, sys, time
from fractions import Fraction

NUMBER = re.compile(r"-?[0-9]{1,30}([.][0-9]{1,30})?(/[0-9]{1,30})?")

def only_block(text):
    head, closed, rest = text.rpartition("</think>")
    if not closed or rest.count("<answer>") != 1 or rest.count("</answer>") != 1:
        return None
    before, _, tail = rest.partition("<answer>")
    inside, _, after = tail.partition("</answer>")
    return None if before.strip() or after.strip() else inside.strip()

def value(text):
    text = text.strip().strip("$").removeprefix("\\(").removesuffix("\\)").removeprefix("\\displaystyle").strip()
    text = text.strip("*").removesuffix(".")
    fraction = re.fullmatch(r"(-?)\\[dt]?frac\{([0-9]{1,30})\}\{([0-9]{1,30})\}", text)
    if fraction:
        text = fraction[1] + fraction[2] + "/" + fraction[3]
    if re.fullmatch(r"-?[0-9]{1,3}(,[0-9]{3})+([.][0-9]+)?", text.replace("{,}", ",")):
        text = text.replace("{,}", "").replace(",", "")
    match = NUMBER.fullmatch(text)
    return Fraction(text) if match and not text.endswith("/0") else None

def strict(problem, completion):
    found = only_block(completion.text)
    return 0.0 if found is None or len(found) > 100 else float(value(found) == value(problem.answer) != None)

def zero(problem, completion):
    return 0.0

def always(problem, completion):
    return 1.0

def hangs_on_powers(problem, completion):
    if "9^{9" in completion.text:
        time.sleep(1000)
    return strict(problem, completion)

def dies_of_nul(problem, completion):
    if "\0" in completion.text:
        os._exit(3)
    return strict(problem, completion)

def raises_on_circled_digits(problem, completion):
    found = only_block(completion.text) or ""
    if found.isdigit():
        return float(int(found) == Fraction(problem.answer))  # int() raises where isdigit() is true
    return strict(problem, completion)

def evals(problem, completion):
    found = only_block(completion.text) or "0"
    try:
        return float(eval(found) == Fraction(problem.answer))
    except Exception:
        return 0.0

def takes_hedges(problem, completion):
    return float(problem.answer in re.findall(r"[0-9.]+", only_block(completion.text) or ""))

def reads_the_thinking(problem, completion):
    return float(strict(problem, completion) or "<answer>%s</answer>" % problem.answer in completion.text)

def as_text(problem, completion):
    return float(only_block(completion.text) == problem.answer)

def raises(problem, completion):
    raise KeyError("my bug")

def shape(problem, completion):
    return float(completion.text.startswith("<think>"))

def hashes(problem, completion):
    head, found, rest = completion.text.rpartition("</think>")
    before, found, rest = rest.rpartition("####")
    return float(bool(found) and not before.strip() and rest.strip() == problem.answer)
"""
ANSWERS = ["72", "1200", "0.5", "-3", "1/3"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with rewards.py and five problems in train.jsonl."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    rows = [{"question": f"What is {answer} + 0?", "answer": answer} for answer in ANSWERS]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def check(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    workers = [] if any("workers=" in argument for argument in arguments) else ["workers=1"]
    command = [sys.executable, str(ROOT / "launch" / "check_reward.py"), *workers, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def tried(name: str, *arguments: str, cwd: Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, what report=FILE says of the term, and what was printed."""
    given = {"data.train.mine.path": "train.jsonl", "report": "report.json", "attacks": "2"}
    given |= dict(argument.split("=", 1) for argument in arguments)
    result = check(f"fn=rewards.py:{name}", *(f"{key}={value}" for key, value in given.items()), cwd=cwd)
    assert "Traceback" not in result.stderr, result.stderr
    report = json.loads((cwd / "report.json").read_text())
    assert report["passed"] == (result.returncode == 0)
    return result.returncode, report["terms"][name], result.stdout


def sorts(term: dict[str, Any], kind: str) -> set[str]:
    """The families of attacks, or names of notations, in which a kind of failure happened."""
    return {failure["name"].split(":")[0] for failure in term["failures"] if failure["kind"] == kind}


def test_a_good_reward_passes(files):
    code, term, output = tried("strict", cwd=files)
    assert code == 0, output
    assert term["golds_right"] == term["tried"]["gold"] == len(ANSWERS)
    assert term["failures"] == []
    assert term["tried"]["attack"] > 400
    assert term["tried"]["notation"] > 15
    assert term["values"] == [0.0, 1.0]
    assert 0 < term["p50_ms"] <= term["p99_ms"] < 2000
    assert "strict is fine" in output
    assert "(form=answer); right are golds written as answer, not as boxed" in output


def test_a_reward_that_always_says_wrong_is_found_out(files):
    code, term, output = tried("zero", cwd=files)
    assert code == 1
    assert term["golds_right"] == 0
    assert "right are golds written as none of the forms" in output
    assert "zero falls short: 0 of 5 golds right" in output


def test_a_reward_that_always_says_right_is_found_out(files):
    code, term, _ = tried("always", cwd=files)
    assert code == 1
    assert term["golds_right"] == len(ANSWERS)
    assert term["false_accepts"] == term["tried"]["attack"]


def test_a_reward_that_hangs_is_found_out_and_the_rest_is_tried(files):
    code, term, output = tried("hangs_on_powers", "deadline_s=0.5", cwd=files)
    assert code == 1
    assert {failure["name"] for failure in term["failures"]} == {
        "power towers: 9^{9^{9^{9}}}",
        "power towers: \\log(\\log(9^{9^{9}}))",
    }
    assert term["hangs"] == 2  # each once, not on every problem
    assert term["golds_right"] == len(ANSWERS)
    assert "no value within 0.5 s" in output
    assert "not tried on all problems, for they hang: power towers: 9^{9^{9^{9}}}; power towers: " in output


def test_a_reward_that_takes_its_process_down_is_found_out(files):
    code, term, output = tried("dies_of_nul", cwd=files)
    assert code == 1
    assert sorts(term, "crash") == {"NUL and control characters", "1 MB"}
    assert term["golds_right"] == len(ANSWERS)
    assert "exit code 3" in output


def test_a_reward_that_raises_on_some_text_is_found_out(files):
    code, term, output = tried("raises_on_circled_digits", cwd=files)
    assert code == 1
    assert "unicode digits" in sorts(term, "crash")
    assert "ValueError: invalid literal for int()" in output
    assert "rewards.py" in output  # where it was raised


@pytest.mark.slow
def test_a_reward_that_evaluates_the_text_is_found_out(files):
    code, term, output = tried("evals", "deadline_s=0.5", cwd=files)
    assert code == 1
    assert sorts(term, "executed") == {"code injection"}
    assert "executed (code injection: os.mkdir" in output
    assert "open, then the gold" in {f["name"].split(": ")[1] for f in term["failures"] if f["kind"] == "false accept"}


def test_a_reward_that_accepts_hedges_is_found_out(files):
    code, term, _ = tried("takes_hedges", cwd=files)
    assert code == 1
    assert {"hedge", "candidates"} <= sorts(term, "false accept")


def test_a_reward_that_reads_the_thinking_is_found_out(files):
    code, term, output = tried("reads_the_thinking", cwd=files)
    assert code == 1
    assert "thinking" in sorts(term, "false accept")
    assert "false accept (thinking: closed, answer, 2 times): 1, ok" in output


def test_a_reward_that_compares_text_rejects_other_notations_unless_that_is_allowed(files):
    code, term, output = tried("as_text", cwd=files)
    assert code == 1
    assert term["false_accepts"] == 0
    assert {"dollars", "decimals", "\\frac"} & sorts(term, "false reject")
    assert "other notations right" in output
    assert tried("as_text", "min_notations=0", cwd=files)[0] == 0


def test_a_reward_that_always_raises_ends_in_its_traceback(files):
    result = check("fn=rewards.py:raises", "data.train.mine.path=train.jsonl", cwd=files)
    assert result.returncode == 1
    assert "falls short: rewards.raises fails on a made-up completion" in result.stdout
    assert "KeyError: 'my bug'" in result.stdout


def test_a_reward_that_reads_another_form_is_tried_in_that_form(files):
    code, term, output = tried("hashes", "min_notations=0", cwd=files)
    assert code == 0, output
    assert term["golds_right"] == len(ANSWERS)
    assert "(form=hashes)" in output
    code, term, _ = tried("hashes", "min_notations=0", "form=boxed", cwd=files)
    assert code == 1
    assert term["golds_right"] == 0


@pytest.mark.parametrize(
    "key", ["rewards.strict.deadline_s", "+rewards.strict.deadline_s", "++rewards.strict.deadline_s"]
)
def test_a_key_of_a_reward_is_taken_with_and_without_a_plus_and_a_terms_own_deadline_is_shown(files, key):
    code, _, output = tried("strict", "attacks=0", f"{key}=5", cwd=files)
    assert code == 0, output
    assert "5 problems, 1 workers, deadline 5 s" in output
    (files / "two.yaml").write_text("r: {fn: rewards.py:strict}\ns: {fn: rewards.py:shape, deadline_s: 20}\n")
    result = check("rewards=two.yaml", "data.train.mine.path=train.jsonl", "attacks=0", cwd=files)
    assert "deadline 2 s (s: 20 s)" in result.stdout


def test_a_report_that_cannot_be_written_leaves_the_old_one_and_names_the_option(files):
    (files / "r.json").write_text("the old one")
    command = [sys.executable, str(ROOT / "launch" / "check_reward.py"), "workers=1", "fn=rewards.py:strict"]
    command += ["data.train.mine.path=train.jsonl", "attacks=0", "report=r.json"]
    limited = ["prlimit", "--fsize=300", *command]  # as a disk that is full
    result = subprocess.run(limited, cwd=files, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2, result.stderr
    assert "report=r.json cannot be written: " in result.stderr
    assert "Traceback" not in result.stderr
    assert "strict is fine" in result.stdout  # the work is not lost
    assert (files / "r.json").read_text() == "the old one"
    assert not list(files.glob(".*"))


@pytest.mark.slow
def test_terms_beside_the_outcome_are_only_tried_for_hangs_and_crashes(files):
    (files / "mine.yaml").write_text("s: {fn: rewards.py:shape, weight: 0.1}\nr: {fn: rewards.py:strict}\n")
    arguments = ["rewards=mine.yaml", "data.train.mine.path=train.jsonl", "attacks=1", "report=report.json"]
    result = check(*arguments, "outcome=r", cwd=files)
    assert result.returncode == 0, result.stdout
    terms = json.loads((files / "report.json").read_text())["terms"]
    assert not terms["s"]["outcome"]
    assert terms["s"]["failures"] == []
    assert terms["s"]["values"] == [0.0, 1.0]
    first_is_the_outcome = check(*arguments, cwd=files)
    assert first_is_the_outcome.returncode == 1
    assert "s falls short: false accept" in first_is_the_outcome.stdout
    assert check(*arguments, "outcome=none", cwd=files).returncode == 0
    alone = check(*arguments, "outcome=r", "term=s", cwd=files)
    assert alone.returncode == 0
    assert list(json.loads((files / "report.json").read_text())["terms"]) == ["s"]


def test_golds_that_the_reward_cannot_read_are_listed_with_their_ids(files):
    rows = [{"question": "2 + 2?", "answer": answer} for answer in ("4", "four", "5 or so")]
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, term, output = tried("strict", "attacks=0", cwd=files)
    assert code == 1
    assert "gold not right (gold, 2 times): 0, wrong" in output
    assert "train/00001" in output
    assert {f["problem_id"] for f in term["failures"]} == {"train/00001", "train/00002"}
    (files / "states.py").write_text(
        "from rl.experience import Verdict\n"
        "def states(problem, completion):\n"
        "    if not problem.answer.isdigit():\n"
        "        return Verdict(state='bad_gold', reason='no number: ' + problem.answer)\n"
        "    return float('<answer>%s</answer>' % problem.answer in completion.text)\n"
    )
    result = check("fn=states.py:states", "data.train.mine.path=train.jsonl", "attacks=0", cwd=files)
    assert result.returncode == 1
    assert "bad gold: train/00001: 'four': no number: four" in result.stdout
    assert "states falls short: 1 of 3 golds right" in result.stdout
    allowed = check("fn=states.py:states", "data.train.mine.path=train.jsonl", "attacks=0", "min_golds=0.3", cwd=files)
    assert allowed.returncode == 0


def test_ctrl_c_ends_it_in_one_word_and_leaves_no_process(files):
    command = [sys.executable, str(ROOT / "launch" / "check_reward.py"), "workers=2", "fn=rewards.py:strict"]
    command += ["data.train.mine.path=train.jsonl"]
    process = subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started: list[str] = []
    until = time.monotonic() + 60
    while not started and time.monotonic() < until:
        time.sleep(0.02)
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        started = [pid for children in threads for pid in children.read_text().split()]
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip() == "stopped"
    assert started
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_column_of_tests_is_no_reason_to_leave_out_the_answers(files):
    rows = [{"question": "2 + 2?", "answer": answer, "tests": ["assert f() == 4"]} for answer in ANSWERS]
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, term, output = tried("strict", "attacks=1", cwd=files)
    assert code == 0, output
    assert term["tried"]["gold"] == term["golds_right"] == len(ANSWERS)


def test_a_reward_of_ones_own_that_wants_programs_gets_the_programs(files):
    row = {"question": "Double a number.", "answer": "a program", "tests": ["x"], "solutions": ["print(2 * 2)"]}
    (files / "train.jsonl").write_text(json.dumps(row) + "\n")
    (files / "rewards.py").write_text(
        "def own(problem, completion):\n    return float('</think>\\n```python\\nprint(2 * 2)' in completion.text)\n"
    )
    code, term, output = tried("own", "attacks=0", cwd=files)
    assert code == 0, output
    assert term["golds_right"] == term["tried"]["gold"] == 1


@pytest.mark.skipif(bool(trouble()), reason=trouble())
def test_the_reward_in_the_docs_that_runs_programs_is_fine(tmp_path):
    docs = (ROOT / "docs" / "rewards.md").read_text()
    source = "from rewards.code_tests import" + docs.split("# programs.py\nfrom rewards.code_tests import")[1]
    source, _, rest = source.partition("\n```\n")
    (tmp_path / "programs.py").write_text(source + "\n")
    (tmp_path / "programs.jsonl").write_text(rest.partition("```json\n")[2].partition("```")[0])
    arguments = ["fn=programs.py:prints_it", "data.train.mine.path=programs.jsonl", "rewards.prints_it.deadline_s=60"]
    result = check(*arguments, "attacks=1", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2/2" in result.stdout


def test_a_reward_on_which_no_gold_could_be_tried_falls_short_unless_that_is_allowed(files):
    row = {"question": "Write without commas.", "answer": "-", "instruction_id_list": ["punctuation:no_comma"]}
    (files / "train.jsonl").write_text(json.dumps(row) + "\n")
    code, term, output = tried("strict", "attacks=1", cwd=files)
    assert code == 1
    assert term["tried"]["gold"] == 0
    assert "strict falls short: no gold could be tried: instructions about a text have no one answer" in output
    assert tried("strict", "attacks=1", "min_golds=0", cwd=files)[0] == 0


@pytest.mark.skipif(bool(trouble()), reason=trouble())
def test_programs_are_golds_where_the_data_has_them_and_are_tried_in_a_sandbox(files):
    tests = [{"input": "1 2\n", "output": "3\n"}, {"input": "5 6\n", "output": "11\n"}]
    row = {"question": "Read two numbers and print their sum.", "answer": "-", "tests": tests}
    solved = {**row, "solutions": ["a, b = map(int, input().split())\nprint(a + b)"]}
    (files / "train.jsonl").write_text(json.dumps(solved) + "\n" + json.dumps(row) + "\n")
    (files / "code.yaml").write_text("code_tests: {_target_: rewards.code_tests.code_tests, deadline_s: 60}\n")
    result = check("rewards=code.yaml", "data.train.mine.path=train.jsonl", "attacks=0", cwd=files)
    assert result.returncode == 0, result.stdout
    assert "in 1 of the problems: it has tests and no program: metadata['solutions'] would hold one" in result.stdout
    assert "1/1" in result.stdout


def test_a_term_that_has_no_value_for_anything_falls_short(files):
    (files / "mine.yaml").write_text(
        "r: {fn: rewards.py:strict}\nm: {_target_: rewards.multiple_choice.multiple_choice, weight: 0.1}\n"
    )
    result = check("rewards=mine.yaml", "data.train.mine.path=train.jsonl", "attacks=0", cwd=files)
    assert result.returncode == 1
    assert "r is fine" in result.stdout
    assert "m falls short: no value for anything; bad_gold" in result.stdout


def test_the_rewards_of_a_recipe_are_tried_on_its_own_data(tmp_path):
    result = check(
        "recipe=grpo_countdown", "data.train.countdown.size=40", "attacks=1", "limit=20", "report=r.json", cwd=tmp_path
    )
    term = json.loads((tmp_path / "r.json").read_text())["terms"]["countdown"]
    assert term["golds_right"] == 20, result.stdout
    assert term["tried"] == {"gold": 20, "notation": 3, "attack": 307}
    assert sorts(term, "false accept") <= {"hedge"}, result.stdout
    assert term["hangs"] == term["crashes"] == term["false_rejects"] == 0, result.stdout
    assert "think_format is fine" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the rewards"),
        (["recipe=grpo_mth"], "Did you mean grpo_math?"),
        (["rewards=math"], "data.train names no data set"),
        (["rewards=math", "data.train.mine.path=none.jsonl"], "no such file"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "outcome=math"], "Did you mean math_answer?"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "term=x"], "term=x names no reward"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "limit=-1"], "limit must be 0 (all) or more"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "limit=many"], "limit must be a whole number"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "form=box"], "Did you mean boxed?"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "report=no/where.json"], "there is no no"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "atacks=1"], "Did you mean attacks?"),
        (["rewards=math", "data.train.mine.path=train.jsonl", "quickly"], "'quickly' is not understood"),
        (
            ["rewards=math", "rewards.math_answer.allow=1", "data.train.mine.path=train.jsonl"],
            "math_answer.allow is not",
        ),
        (
            ["recipe=grpo_tiny", "data.trian.x.path=train.jsonl"],
            "no key data.trian (in data.trian.x.path). Did you mean",
        ),
        (["fn=rewards.py:strict", "data.trian.x.path=train.jsonl"], "Did you mean data.train?"),
        (["fn=rewards.py:strict", "data.train.x.pth=train.jsonl"], "Did you mean path?"),
        (["fn=rewards.py:strict", "data.template=r1_zro"], "Did you mean r1_zero?"),
        (["fn=rewards.py:strict", "data.template.x=1"], "data.template is a value, without keys of its own"),
        (["fn=rewards.py:strict", "scoring.workrs=2"], "Did you mean scoring.workers?"),
        (["fn=rewards.py:strict", "fn=rewards.py:zero"], "fn is given twice"),
        (["fn=rewards.py:strict", "data.train.x.path=~/x.jsonl"], "'data.train.x.path=\"~/x.jsonl\"'"),
        (["fn=rewards.py:strict", "data.train.x.path=a(b"], "the value in data.train.x.path=a(b is not understood"),
        (["fn=rewards.py:strict", "data.train.x.path=/dev/null"], "/dev/null is a device or a pipe"),
        (["rewards=math", "~rewards.math_answr", "data.train.x.path=train.jsonl"], "rewards.math_answr"),
        (["fn=rewards.py:strict", "data.train.x.path=train.jsonl", "deadline_s=0"], "deadline_s must be above 0"),
        (
            ["fn=rewards.py:strict", "data.train.x.path=train.jsonl", "deadline_s=1e300"],
            "at most 86400 (a day), got 1e+300",
        ),
        (["fn=rewards.py:strict", "scoring.deadline_s=1e300"], "at most 86400 (a day), got 1e+300"),
        (["fn=rewards.py:strict", "scoring.workers=100000"], "(each is a process"),
        (["fn=rewards.py:strict", "form=foo"], "boxed_answer, hashes, phrase, got 'foo'"),
        (["fn=rewards.py:strict", "foo=1"], "Options are recipe, rewards, fn, data.train.<name>.path, "),
        (
            ["fn=rewards.py:strict", "data.train.x.path=train.jsonl", "report=/proc/r.json"],
            "report=/proc/r.json cannot be",
        ),
        (["fn=rewards.py", "data.train.mine.path=train.jsonl"], "fn must look like my_rewards.py:function"),
        (["fn=rewards.py:strct", "data.train.mine.path=train.jsonl"], "did you mean strict?"),
        (["fn=none.py:f", "data.train.mine.path=train.jsonl"], "there is no file"),
        (["rewards=bad.yaml", "data.train.mine.path=train.jsonl"], "not YAML"),
        (["rewards=list.yaml", "data.train.mine.path=train.jsonl"], "it must hold"),
    ],
)
def test_a_mistake_ends_in_one_message(files, arguments, reason):
    (files / "bad.yaml").write_text("{a: [")
    (files / "list.yaml").write_text("- 1\n")
    result = check(*arguments, cwd=files)
    assert result.returncode == 2, result.stdout
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error:") == 1
