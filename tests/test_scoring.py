"""Scoring in worker processes: what a reward can do, nothing of it stops the others."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.problem import Problem, ask
from rl import scoring
from rl.experience import Group
from rl.scoring import RewardBroken, Scorer, reward_terms

ROOT = Path(__file__).parents[1]
ACCURACY = {"_target_": "rewards.math_answer.math_answer", "no_answer": "zero"}

# Rewards of a user. The completion's text says what to do.
USER_FILE = """
import ctypes, os, sys, time
import numpy

def length(problem, completion):
    return len(completion.token_ids)

def scaled(problem, completion, *, factor, offset=0.0):
    return factor * len(completion.text) + offset

def prefix_length(completion, prompt, problem):
    return len(prompt.prefix)

def told(problem, completion):
    text = completion.text
    if text == "raise":
        return {}["missing"]
    if text == "json":
        import json
        json.loads("{")
    if text == "loop":
        while True:
            pass
    if text == "power":
        return 3 ** 10 ** 9
    if text == "nap":
        time.sleep(0.25)
    if text == "sleep":
        time.sleep(60)
    if text == "exit":
        os._exit(3)
    if text == "sys.exit":
        sys.exit("bye")
    if text == "segfault":
        ctypes.string_at(0)
    if text == "print":
        print("hello from the reward", flush=True)
        os.write(1, b"raw bytes")
    if text == "input":
        return input()
    return {
        "nan": float("nan"), "inf": float("inf"), "none": None, "text": "1.0", "list": [1.0], "huge": 10 ** 400,
        "true": True, "int": 2, "float32": numpy.float32(0.5), "bool_": numpy.bool_(True), "array0": numpy.array(3.0),
    }.get(text, 1.0)

def lazy(problem, completion):
    import slow_module
    return slow_module.VALUE

def where(problem, completion):
    raise RuntimeError(f"{os.getpid()} {'torch' in sys.modules} {'math_verify' in sys.modules}")

def no_torch(problem, completion):
    return 'torch' not in sys.modules and '__main__' in sys.modules

def columns(prompts, completions, **columns):
    import json
    raise ValueError(json.dumps([prompts, completions, columns], sort_keys=True))

def trl_told(completions, answer):
    assert answer == ["4"] * len(completions)
    while "loop" in completions:
        pass
    if "raise" in completions:
        raise KeyError("all of them")
    if "short" in completions:
        return [1.0]
    return [{"none": None, "nan": float("nan"), "text": "1"}.get(text, len(text) / 10) for text in completions]

def slow_group(completions, **kwargs):
    time.sleep(0.15 * len(completions))
    return [1.0] * len(completions)

def wants_tests(completions, unit_tests):
    return [1.0] * len(completions)

async def later(problem, completion):
    return 1.0

def neither(text, answer):
    return 1.0

def half_trl(prompts, completion):
    return 1.0

NUMBER = 3
"""


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "my_rewards.py"
    path.write_text(USER_FILE)
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(0.3)\nimport slow_part\nVALUE = 7")
    (tmp_path / "slow_part.py").write_text("import time; time.sleep(0.3)")
    return path


@pytest.fixture
def group_of(make_prompt, make_completion):
    def make(*texts, **prompt):
        return Group(make_prompt(**prompt), tuple(make_completion(text) for text in texts))

    return make


def worker_pids(scorer):
    """The process ids of its workers, once they are up."""
    (pool,) = scorer._pools
    while not (len(pool.workers) >= pool.num_workers and all(worker.pid for worker in pool.workers)):
        time.sleep(0.01)
    return [worker.pid for worker in pool.workers]


def terms_of(path, *functions, **options):
    return reward_terms({function: {"fn": f"{path}:{function}", **options} for function in functions})


# Values


def test_the_reward_is_the_weighted_sum_of_the_terms(user_file, group_of):
    terms = reward_terms(
        {
            "right": ACCURACY,
            "long": {"fn": f"{user_file}:length", "weight": -0.1},
            "scaled": {"fn": f"{user_file}:scaled", "factor": 2, "weight": 0.5},
        }
    )
    groups = [group_of(r"\boxed{4}", r"\boxed{5}"), group_of("....")]
    with Scorer(terms) as scorer:
        first, second = scorer.score(groups)
    assert first.terms == {"right": (1.0, 0.0), "long": (9.0, 9.0), "scaled": (18.0, 18.0)}
    assert first.rewards == pytest.approx((1 - 0.9 + 9, 0 - 0.9 + 9))
    assert second.rewards == pytest.approx((0 - 0.4 + 4,))
    assert first.group is groups[0]
    assert first.failures == ()
    assert [(failure.term, failure.kind) for failure in second.failures] == [("right", "no_answer")]


def test_every_completion_keeps_its_place_however_many_workers_there_are(user_file, group_of):
    groups = [group_of(*("x" * (10 * row + column + 1) for column in range(row + 1))) for row in range(7)]
    with Scorer(terms_of(user_file, "length", "prefix_length"), workers=3) as scorer:
        scored = scorer.score(groups)
    for row, group in enumerate(scored):
        assert group.terms["length"] == tuple(min(10 * row + column + 1, 64) for column in range(row + 1))


def test_numbers_of_any_kind_are_values(user_file, group_of):
    with Scorer(terms_of(user_file, "told")) as scorer:
        (scored,) = scorer.score([group_of("true", "int", "float32", "bool_", "array0")])
    assert scored.terms["told"] == (1.0, 2.0, 0.5, 1.0, 3.0)
    assert all(type(value) is float for value in scored.rewards)


def test_a_reward_that_names_prompt_gets_it(user_file, group_of):
    with Scorer(terms_of(user_file, "prefix_length")) as scorer:
        (scored,) = scorer.score([group_of("a", prefix="<think>")])
    assert scored.rewards == (7.0,)


def test_no_groups_no_scores(user_file):
    with Scorer(terms_of(user_file, "length")) as scorer:
        assert scorer.score([]) == []


# Failures


def test_what_gives_no_number_is_nan_and_says_why(user_file, group_of):
    texts = ("raise", "fine", "nan", "inf", "none", "text", "list", "huge", "sys.exit", "input", "json")
    with Scorer(terms_of(user_file, "told")) as scorer:
        (scored,) = scorer.score([group_of(*texts)])
    assert scored.rewards[1] == 1.0
    assert [math.isnan(value) for value in scored.terms["told"]] == [text != "fine" for text in texts]
    assert [math.isnan(value) for value in scored.rewards] == [text != "fine" for text in texts]
    assert [failure.index for failure in scored.failures] == [0, *range(2, 11)]
    assert {failure.kind for failure in scored.failures} == {"error"}
    line = USER_FILE.splitlines().index('        return {}["missing"]') + 1
    assert scored.failures[7].message.startswith("SystemExit: bye")
    assert scored.failures[0].message == f"KeyError: 'missing' ({user_file}:{line})"
    line = USER_FILE.splitlines().index('        json.loads("{")') + 1
    assert scored.failures[9].message.endswith(f"({user_file}:{line})")  # not where in json
    for failure, found in zip(scored.failures[1:], ("nan", "inf", "NoneType", "str '1.0'", "list"), strict=False):
        assert found in failure.message
        assert "scoring.py" not in failure.message


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("loop", "timeout", "0.3 s"),
        ("power", "timeout", "0.3 s"),
        ("sleep", "timeout", "0.3 s"),
        ("exit", "error", "exit code 3"),
        ("segfault", "error", "SIGSEGV"),
    ],
)
def test_only_the_completion_that_takes_the_worker_down_is_lost(text, kind, found, user_file, group_of):
    with Scorer(terms_of(user_file, "told", "length"), deadline_s=0.3) as scorer:
        scored = scorer.score([group_of("a", text, "b", text), group_of("c")])
        assert [failure.kind for failure in scored[0].failures] == [kind, kind]
        assert found in scored[0].failures[0].message
        assert [(failure.term, failure.index) for failure in scored[0].failures] == [("told", 1), ("told", 3)]
        assert scored[0].terms["length"] == (1.0, len(text), 1.0, len(text))
        assert scored[0].scored == (True, False, True, False)
        assert scored[1].rewards == (2.0,)
        assert scorer.score([group_of("again")])[0].rewards == (6.0,)


def test_a_call_for_a_whole_group_has_the_deadline_of_all_its_completions(user_file, group_of):
    with Scorer(terms_of(user_file, "slow_group", "length"), deadline_s=0.5) as scorer:
        (scored,) = scorer.score([group_of(*"abcdef")])  # 0.9 s in one call for six completions
    assert scored.rewards == (2.0,) * 6


def test_each_completion_of_a_group_has_the_whole_deadline(user_file, group_of):
    with Scorer(terms_of(user_file, "told"), deadline_s=1.0) as scorer:
        assert scorer.score([group_of(*["nap"] * 5)])[0].rewards == (1.0,) * 5  # 1.25 s together


def test_a_first_import_inside_a_reward_does_not_count(user_file, group_of):
    with Scorer(terms_of(user_file, "lazy"), deadline_s=0.45) as scorer:  # the import takes 0.3 + 0.3 s
        (scored,) = scorer.score([group_of("a", "b")])
    assert scored.rewards == (7.0, 7.0)


def test_math_that_hangs_sympy_is_no_timeout(group_of):
    with Scorer(reward_terms({"right": ACCURACY}), deadline_s=1.0) as scorer:
        (scored,) = scorer.score([group_of(r"\boxed{3^{10^{9}}}", r"\boxed{4}", r"\boxed{\sqrt{16}}")])
    assert scored.rewards == (0.0, 1.0, 1.0)
    assert scored.failures == ()


def test_a_verifier_that_hangs_is_a_timeout(group_of):
    with Scorer(reward_terms({"right": {**ACCURACY, "verifier": "math_verify"}}), deadline_s=1.0) as scorer:
        (scored,) = scorer.score([group_of(r"\boxed{3^{10^{9}}}", r"\boxed{4}", r"\boxed{\sqrt{16}}")])
    assert scored.rewards[1:] == (1.0, 1.0)
    assert [(failure.index, failure.kind) for failure in scored.failures] == [(0, "timeout")]


def test_what_a_reward_prints_goes_to_stderr(user_file, group_of, capfd):
    with Scorer(terms_of(user_file, "told")) as scorer:
        assert scorer.score([group_of("print", "print")])[0].rewards == (1.0, 1.0)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("hello from the reward") == 2


def test_a_worker_that_died_in_between_is_replaced(user_file, group_of):
    with Scorer(terms_of(user_file, "length")) as scorer:
        scorer.score([group_of("a")])
        os.kill(worker_pids(scorer)[0], signal.SIGKILL)
        assert scorer.score([group_of("a")])[0].failures == ()


def test_a_run_that_was_interrupted_does_not_leave_its_answers_to_the_next(user_file, group_of):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Scorer(terms_of(user_file, "told", "length"), deadline_s=1.5) as scorer:
            scorer.score([group_of("a")])
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                scorer.score([group_of("sleep", "a")])
            assert scorer.score([group_of("int")])[0].rewards == (5.0,)
    finally:
        signal.signal(signal.SIGALRM, before)


# Completions that are scored while others are still sampled


def begin(scorer, *groups):
    for group in groups:
        for completion in reversed(group.completions):  # in the order in which they end, which is any
            scorer.begin(group.prompt, completion)


def test_what_was_begun_scores_as_what_was_not(user_file, group_of):
    groups = [group_of("a", "raise", "int", "four"), group_of("nan", "xx"), group_of("exit", "a", "sleep", "b")]
    terms = terms_of(user_file, "told", "length", "trl_told")  # the last wants whole groups
    with Scorer(terms, workers=2, deadline_s=0.5) as scorer:
        expected = scorer.score(groups)
        begin(scorer, *groups)
        found = scorer.score(groups)
        begin(scorer, groups[0])  # some of them begun
        partly = scorer.score(groups)
    for one, other, third in zip(expected, found, partly, strict=True):
        assert repr(one.terms) == repr(other.terms) == repr(third.terms)  # NaN is not equal to itself
        kinds = [{(f.term, f.index, f.kind) for f in scored.failures} for scored in (one, other, third)]
        assert kinds[0] == kinds[1] == kinds[2]


def test_beginning_does_not_wait(user_file, group_of):
    with Scorer(terms_of(user_file, "told"), deadline_s=100) as scorer:
        scorer.score([group_of("a")])  # the worker is up
        group = group_of("sleep")  # a minute
        begin(scorer, group)
        assert not tickets(scorer, group)[0].done


def test_what_was_begun_is_done_while_the_rest_is_sampled(user_file, group_of):
    group = group_of("int", "int", "a")
    with Scorer(terms_of(user_file, "told"), workers=2) as scorer:
        scorer.score([group_of("a")])
        begin(scorer, group)
        done = tickets(scorer, group)
        while not all(ticket.done for ticket in done):
            time.sleep(0.01)  # sampling goes on
        assert scorer.score([group])[0].rewards == (2.0, 2.0, 1.0)
        assert not scorer._begun


def tickets(scorer, group):
    return [piece.ticket for completion in group.completions for piece in scorer._begun[id(completion)].pieces]


def test_what_was_begun_and_never_asked_for_is_forgotten(user_file, group_of):
    lost, kept = group_of("int", "int"), group_of("a", "int")
    with Scorer(terms_of(user_file, "told")) as scorer:
        begin(scorer, lost)
        for _ in range(2):
            assert scorer.score([kept])[0].rewards == (1.0, 2.0)
        assert not scorer._begun
        assert scorer.score([lost])[0].rewards == (2.0, 2.0)


def test_an_interrupt_after_a_beginning_leaves_nothing_to_the_next(user_file, group_of):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Scorer(terms_of(user_file, "told"), deadline_s=1.5) as scorer:
            scorer.score([group_of("a")])
            group = group_of("sleep", "int")
            begin(scorer, group)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                scorer.score([group])
            scorer.begin(group.prompt, group.completions[1])
            assert scorer.score([group_of("int")])[0].rewards == (2.0,)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_breaker_stops_a_run_whose_reward_only_fails(user_file, group_of):
    with Scorer(terms_of(user_file, "told", "length")) as scorer:
        scorer.score([group_of(*["raise"] * 8)])
        with pytest.raises(RewardBroken, match=r"told failed on each of the last 16 .*KeyError: 'missing'"):
            scorer.score([group_of(*["raise"] * 8)])


def test_the_breaker_waits_for_two_calls_and_sixteen_completions_without_a_value(user_file, group_of):
    with Scorer(terms_of(user_file, "told")) as scorer:
        scorer.score([group_of(*["raise"] * 20)])
        scorer.score([group_of(*["raise"] * 20, "fine")])
        scorer.score([group_of(*["raise"] * 7)])
        scorer.score([group_of(*["raise"] * 8)])
        with pytest.raises(RewardBroken, match="last 16"):
            scorer.score([group_of("raise")])


def test_rounds_of_one_step_count_as_one_call(user_file, group_of):
    with Scorer(terms_of(user_file, "told")) as scorer:
        scorer.score([group_of(*["fine"] * 8)])
        for _ in range(3):  # the last rounds of a step, with one hard problem each
            scorer.score([group_of(*["raise"] * 8)], continued=True)
        scorer.score([group_of(*["raise"] * 8)])
        scorer.score([group_of(*["raise"] * 8)], continued=True)
        with pytest.raises(RewardBroken, match="last 24"):  # but two steps of nothing else are too many
            scorer.score([group_of(*["raise"] * 8)])


# Processes


def test_workers_have_no_torch(user_file, group_of):
    with Scorer(terms_of(user_file, "no_torch")) as scorer:
        assert scorer.score([group_of("a")])[0].rewards == (1.0,)


def test_close_leaves_no_process(user_file):
    scorer = Scorer(terms_of(user_file, "length"), workers=2)
    pids = worker_pids(scorer)
    assert len(pids) == 2
    scorer.close()
    scorer.close()
    assert all(_ends(pid) for pid in pids)


def test_a_run_with_time_outs_leaves_no_zombie(user_file, group_of):
    with Scorer(terms_of(user_file, "told"), deadline_s=0.2) as scorer:
        scorer.score([group_of("loop", "exit", "a")])
        me = f"PPid:\t{os.getpid()}"
        states = [path.read_text() for path in Path("/proc").glob("[0-9]*/status") if _readable(path)]
    assert not [status for status in states if me in status and "State:\tZ" in status]


def _readable(path):
    try:
        path.read_text()
    except OSError:
        return False
    return True


SCRIPT = """
import sys, time
print("the main script runs", flush=True)
sys.path.insert(0, {root!r})
from data.problem import Problem, ask
from rl.experience import Completion, Group, Prompt
from rl.scoring import Scorer, reward_terms
prompt = Prompt(Problem("a/1", ask("q"), "4", "a"), 0, "q", (1,))
completion = Completion({text!r}, [1], [-1.0], "stop", 0)
scorer = Scorer(reward_terms({{"told": {{"fn": {path!r} + ":told"}}}}), deadline_s=60)
while not (pids := [worker.pid for worker in scorer._pools[0].workers if worker.pid]):
    time.sleep(0.01)
print(pids[0], flush=True)
print(scorer.score([Group(prompt, (completion,))])[0].rewards, flush=True)
"""


def test_the_main_script_is_not_run_again_and_need_not_close_the_scorer(user_file, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(root=str(ROOT), text="fine", path=str(user_file)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=True)
    first, pid, rewards = done.stdout.splitlines()
    assert (first, rewards) == ("the main script runs", "(1.0,)")
    assert _ends(int(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a busy child with its parent")
def test_workers_die_with_the_trainer_even_in_the_middle_of_a_loop(user_file, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(root=str(ROOT), text="loop", path=str(user_file)))
    trainer = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    trainer.stdout.readline()
    pid = int(trainer.stdout.readline())
    time.sleep(0.5)
    assert Path(f"/proc/{pid}").exists()
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    assert _ends(pid)


def _ends(pid):
    """Whether a process that is not our child is gone, or waits for its parent to notice, within ten seconds."""
    status, give_up_at = Path(f"/proc/{pid}/status"), time.monotonic() + 10
    while time.monotonic() < give_up_at:
        if not _readable(status) or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.02)
    return False


# TRL's form


def test_trl_rewards_get_lists_of_text_or_messages_and_every_column(user_file, make_prompt, make_completion):
    problem = Problem("s/1", ask("q"), "4", "s", metadata={"level": 3, "source": "not this"})
    completions = (make_completion("a"), make_completion("b"))
    plain = make_prompt(problem=problem, prefix="<think>")
    chat = make_prompt(problem=problem, prefix="<think>", conversational=True)
    with Scorer(terms_of(user_file, "columns")) as scorer:
        scored = scorer.score([Group(plain, completions), Group(chat, completions)])
    (first, _), (second, _) = (
        [json.JSONDecoder().raw_decode(failure.message.removeprefix("ValueError: "))[0] for failure in group.failures]
        for group in scored
    )
    assert first[0] == [plain.text] * 2
    assert first[1] == ["a", "b"]
    assert first[2] == {
        "answer": ["4", "4"],
        "completion_ids": [[97], [98]],
        "id": ["s/1", "s/1"],
        "level": [3, 3],
        "solution": ["4", "4"],
        "source": ["s", "s"],
    }
    assert second[0] == [[{"role": "user", "content": "q"}]] * 2
    assert second[1] == [[{"role": "assistant", "content": "<think>a"}], [{"role": "assistant", "content": "<think>b"}]]


def test_trl_rewards_fail_as_a_whole_or_one_by_one(user_file, group_of):
    with Scorer(terms_of(user_file, "trl_told", "length"), deadline_s=0.2) as scorer:
        mixed, raised, short, hung, fine = scorer.score(
            [group_of(*texts.split()) for texts in ("none nan text a", "raise a", "short a", "loop a", "abc")]
        )
    assert [failure.index for failure in mixed.failures] == [1, 2]
    assert mixed.terms["trl_told"][0] == 0.0  # None: the reward does not apply
    assert mixed.terms["trl_told"][3] == 0.1
    assert [failure.kind for failure in raised.failures] == ["error", "error"]
    assert "a list of 2 numbers" in short.failures[1].message
    assert [failure.kind for failure in hung.failures] == ["timeout", "timeout"]
    assert hung.terms["length"] == (4.0, 1.0)
    assert fine.terms["trl_told"] == (0.3,)


def test_trls_own_rewards_run_unmodified(make_prompt, make_completion):
    from trl.rewards import accuracy_reward, think_format_reward

    prompt = make_prompt(prefix="<think>", conversational=True)
    texts = (r"2+2</think>\boxed{4}", r"\boxed{4}", r"2+2</think>\boxed{5}", r"<think></think>$\sqrt{16}$")
    messages = [[{"role": "assistant", "content": "<think>" + text}] for text in texts]
    own = {
        "think_format_reward": tuple(think_format_reward(messages)),
        "accuracy_reward": tuple(accuracy_reward(messages, ["4"] * 4)),
    }
    assert len(set(own["accuracy_reward"])) == len(set(own["think_format_reward"])) == 2
    with Scorer(reward_terms({name: {"_target_": f"trl.rewards.{name}"} for name in own}), deadline_s=20) as scorer:
        scorer.check(prompt)
        (scored,) = scorer.score([Group(prompt, tuple(make_completion(text) for text in texts))])
    assert scored.failures == ()
    assert scored.terms == own


# Checks at the start


def test_check_accepts_rewards_that_give_numbers(user_file, make_prompt):
    with Scorer(terms_of(user_file, "length", "slow_group"), workers=2) as scorer:
        scorer.check(make_prompt(prefix="<think>"))


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("where", r"(?s)rewards\.where fails .*RuntimeError: .*False False.*Traceback.*my_rewards\.py"),
        (
            "wants_tests",
            r"rewards\.wants_tests fails .*wants the column unit_tests, this data has answer, completion_ids",
        ),
    ],
)
def test_check_shows_the_traceback_of_a_reward_that_fails(function, found, user_file, make_prompt):
    with Scorer(terms_of(user_file, function)) as scorer, pytest.raises(ValueError, match=found):
        scorer.check(make_prompt())


def test_check_ends_a_reward_that_hangs(tmp_path, make_prompt, monkeypatch):
    (tmp_path / "hangs.py").write_text("def hangs(problem, completion):\n    while True: pass")
    monkeypatch.setattr(scoring, "START_DEADLINE_S", 1.0)
    terms = terms_of(tmp_path / "hangs.py", "hangs")
    with Scorer(terms) as scorer, pytest.raises(ValueError, match=r"rewards\.hangs fails .*no value within 1 s"):
        scorer.check(make_prompt())


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ({}, r"rewards\.mine needs _target_.*or fn"),
        ({"function": "a.b"}, r"rewards\.mine needs _target_"),
        ({"target": "a.b"}, r"did you mean _target_"),
        ({**ACCURACY, "fn": "FILE:length"}, r"rewards\.mine has both"),
        ({"_target_": "math_answer"}, r"rewards\.mine\._target_ must look like"),
        ({"_target_": "rewards.math_anwser.math_answer"}, r"rewards\.mine: .*did you mean rewards\.math_answer\?"),
        ({"_target_": "reward.math_answer.math_answer"}, r"rewards\.mine: there is no module reward"),
        ({"_target_": "rewards.math_answer.math_anwser"}, r"rewards\.mine: .*did you mean math_answer\?"),
        ({"fn": "length"}, r"rewards\.mine\.fn must look like"),
        ({"fn": "rewards.math_answer:math_anwser"}, r"rewards\.mine: .*did you mean math_answer\?"),
        ({"fn": "FILE:lenght"}, r"rewards\.mine\.fn: lenght is not there .*did you mean length\?"),
        ({"fn": "FILE:NUMBER"}, r"rewards\.mine\.fn: NUMBER is 3, not a function"),
        ({"fn": "DIR/my_reward.py:length"}, r"rewards\.mine\.fn: there is no file .*did you mean my_rewards\.py\?"),
        ({"fn": "DIR/broken.py:length"}, r"(?s)rewards\.mine\.fn: importing .*broken\.py failed.*line 2.*nowhere"),
        ({"fn": "FILE:scaled", "factr": 2}, r"rewards\.mine\.factr is not an option .*did you mean factor\?"),
        ({"fn": "FILE:scaled"}, r"rewards\.mine\.factor is missing"),
        ({"fn": "FILE:scaled", "factor": 1, "problem": 2}, r"rewards\.mine\.problem is no option"),
        ({"fn": "FILE:columns", "completions": 2}, r"rewards\.mine\.completions is no option"),
        ({"fn": "FILE:length", "wieght": 2}, r"rewards\.mine\.wieght .*did you mean weight\?"),
        ({"fn": "FILE:length", "weight": "much"}, r"rewards\.mine\.weight must be a finite number, got 'much'"),
        ({"fn": "FILE:length", "weight": float("nan")}, r"rewards\.mine\.weight"),
        ({"fn": "FILE:length", "weight": True}, r"rewards\.mine\.weight"),
        ({"fn": "FILE:neither"}, r"(?s)rewards\.mine.*takes \(text, answer\); accepted are.*problem, completion.*TRL"),
        ({"fn": "FILE:half_trl"}, r"rewards\.mine.*accepted are"),
    ],
)
def test_a_mistake_in_the_recipe_is_told_by_its_key(section, found, user_file):
    (user_file.parent / "broken.py").write_text("import os\nimport nowhere\n")
    section = {
        key: value.replace("FILE", str(user_file)).replace("DIR", str(user_file.parent)) if key == "fn" else value
        for key, value in section.items()
    }
    with pytest.raises(ValueError, match=found):
        reward_terms({"mine": section})


@pytest.mark.parametrize(
    ("rewards", "found"),
    [
        (
            {"right": ACCURACY, "rihgt": {"weight": 2}},
            r"rewards\.rihgt has no _target_ and no fn.*did you mean right\?",
        ),
        ({"right": {**ACCURACY, "no_anser": "zero"}}, r"rewards\.right\.no_anser .*did you mean no_answer\?"),
    ],
)
def test_a_misspelt_term_or_key_is_told_what_is_near(rewards, found):
    with pytest.raises(ValueError, match=found):
        reward_terms(rewards)


def test_a_recipe_without_rewards_is_refused():
    with pytest.raises(ValueError, match="rewards is empty"):
        reward_terms({})


def test_a_relative_file_is_found_from_where_the_run_was_started(user_file, monkeypatch, group_of):
    monkeypatch.chdir(user_file.parent)
    terms = reward_terms({"mine": {"fn": "my_rewards.py:length", "weight": 2}})
    assert terms[0].target == f"{user_file}:length"
    monkeypatch.chdir("/")
    with Scorer(terms) as scorer:
        assert scorer.score([group_of("abc")])[0].rewards == (6.0,)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"deadline_s": 0}, {"deadline_s": math.inf}])
def test_settings_that_cannot_work_are_refused(settings, user_file):
    with pytest.raises(ValueError, match=f"scoring.{min(settings)}"):
        Scorer(terms_of(user_file, "length"), **settings)


def test_an_option_of_another_type_is_refused():
    section = {"_target_": "rewards.math_answer.math_answer", "allow_last_number": "flase"}  # a true text
    with pytest.raises(ValueError, match=r"rewards\.math\.allow_last_number must be true or false, got 'flase'"):
        reward_terms({"math": section})
