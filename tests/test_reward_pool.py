"""The processes behind a scorer: any thread, any fork, hangs that cost the others nothing, limits, event loops."""

from __future__ import annotations

import asyncio
import errno
import itertools
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from data.problem import Problem, ask
from rl.experience import Group
from rl.reward_pool import Pool
from rl.reward_tasks import PASS_BY_AFTER_S, Typical
from rl.scoring import RewardBroken, Scorer, reward_terms

USER_FILE = """
import asyncio, os, sys, time
from rl.experience import Verdict

def told(problem, completion):
    text = completion.text
    if text == "sleep":
        time.sleep(60)
    if text == "loop":
        while True:
            pass
    if text == "memory":
        return len(bytearray(1 << 30))
    if text == "memory of a child":
        import pathlib, subprocess
        child = subprocess.Popen(["sleep", "60"])
        pathlib.Path(__file__).with_name("child").write_text(str(child.pid))
        while True:
            pass
    if text in ("no_answer", "undecided", "bad_gold", "timeout", "error"):
        return Verdict(state=text, reason="as told")
    return float(len(text))

def works(problem, completion):
    end = time.thread_time() + 0.001 * len(completion.text)
    while time.thread_time() < end or completion.text == "for ever":
        pass
    return 1.0

def pid(problem, completion):
    return os.getpid()

def shares(problem, completions, *, terms):
    total = sum(terms["told"])
    return [value / total for value in terms["told"]]

def doubled(problem, completion, *, terms):
    return 2 * terms["told"] if set(terms) == {"told", "group_size"} else -1

def group_size(problem, completions):
    return [len(completions)] * len(completions)

RUNNING = PEAK = 0

def slow_or_deadly(problem, completion):
    if completion.text == "slow":
        time.sleep(0.05)
    if completion.text == "die":
        os._exit(3)
    return 1.0

def no_such_module(problem, completion):
    while True:
        try:
            import nowhere_to_be_found
        except ImportError:
            time.sleep(0.05)

def long_first_call(problem, completion, seconds=[6.0]):
    end = time.thread_time() + seconds.pop() if seconds else 0
    while time.thread_time() < end or completion.text == "for ever":
        pass
    return 1.0

class Mine(Verdict):
    pass

async def peculiar(problem, completion):
    if completion.text == "stubborn":
        while True:
            try:
                await asyncio.sleep(60)
            except BaseException:
                pass
    if completion.text == "die":
        os._exit(3)
    if completion.text == "mine":
        mine = Mine(1.0)
        mine.reason = lambda: "what cannot travel"
        return mine
    await asyncio.sleep(0.05)
    return 1.0

async def served(problem, completion, *, concurrency=4):
    global RUNNING, PEAK
    RUNNING += 1
    PEAK = max(PEAK, RUNNING)
    try:
        await asyncio.sleep(60 if completion.text == "sleep" else 0.2)
        if completion.text == "raise":
            raise KeyError("what was sought")
        return PEAK
    finally:
        RUNNING -= 1

def big(problem, completion):
    return len(bytearray(300 << 20)) >> 20

def alone(problem, completion):
    return big(problem, completion)
alone.own_process = True
"""


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "my_rewards.py"
    path.write_text(USER_FILE)
    return path


@pytest.fixture
def group_of(make_prompt, make_completion):
    return lambda *texts: Group(make_prompt(), tuple(make_completion(text) for text in texts))


def terms_of(path, *functions, **fields):
    return reward_terms({function: {"fn": f"{path}:{function}", **fields} for function in functions})


# The same verdict from everywhere


def verdicts(scorer, group):
    (scored,) = scorer.score([group])
    return scored.terms["told"], scored.states("told")


def _in_another_process(scorer, group, answer):
    try:
        answer.put(repr(verdicts(scorer, group)))
        scorer.close()
    except BaseException as error:
        answer.put(repr(error))
        raise


def test_the_verdict_is_the_same_from_threads_event_loops_forks_and_spawned_processes(user_file, group_of):
    group = group_of("a", "bb", "sleep", "", "undecided")
    with Scorer(terms_of(user_file, "told"), workers=2, deadline_s=0.5) as scorer:
        expected = repr(verdicts(scorer, group))
        assert expected == "((1.0, 2.0, nan, 0.0, nan), ('ok', 'ok', 'timeout', 'wrong', 'undecided'))"
        with ThreadPoolExecutor(4) as threads:
            assert {repr(found) for found in threads.map(lambda _: verdicts(scorer, group), range(8))} == {expected}

        async def in_an_event_loop():
            together = [asyncio.to_thread(verdicts, scorer, group) for _ in range(3)]
            return [verdicts(scorer, group), *await asyncio.gather(*together)]

        assert {repr(found) for found in asyncio.run(in_an_event_loop())} == {expected}
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            answer = context.Queue()
            process = context.Process(target=_in_another_process, args=(scorer, group, answer))
            process.start()
            assert answer.get(timeout=60) == expected
            process.join(20)
            assert process.exitcode == 0
        assert repr(verdicts(scorer, group)) == expected  # and here still


def test_a_scorer_travels_as_its_settings(user_file):
    settings = {"workers": 2, "deadline_s": 3, "memory_mb": 99}
    with Scorer(terms_of(user_file, "told"), **settings) as one, pickle.loads(pickle.dumps(one)) as other:
        assert other.terms == one.terms
        assert settings.items() <= vars(other).items()


def test_a_closed_scorer_says_so(user_file, group_of):
    scorer = Scorer(terms_of(user_file, "told"))
    scorer.close()
    with pytest.raises(ValueError, match="the scorer is closed"):
        scorer.score([group_of("a")])


# Hangs


def test_a_call_that_hangs_keeps_nobody_waiting(user_file, group_of):
    """One worker: behind eight hanging calls of 2 s, one by one, the others would wait for 16 s."""
    texts = ["a", "bb", *["sleep", "ccc"] * 4, *["loop", "dddd"] * 4]
    with Scorer(terms_of(user_file, "told"), deadline_s=2.0) as scorer:
        scorer.score([group_of("a")])
        start = time.monotonic()
        (scored,) = scorer.score([group_of(*texts)])
        took_s = time.monotonic() - start
    assert [failure.kind for failure in scored.failures] == ["timeout"] * 8
    assert [value for value in scored.terms["told"] if not math.isnan(value)] == [1, 2, *[3] * 4, *[4] * 4]
    assert took_s < 14.0  # about 2 s where nobody else wants the processors
    assert all(
        1.9 < seconds < 10.0 for failure in scored.failures for seconds in [scored.seconds["told"][failure.index]]
    )


def test_what_a_killed_call_has_started_is_killed_with_it(user_file, group_of):
    with Scorer(terms_of(user_file, "told"), deadline_s=0.5) as scorer:
        (scored,) = scorer.score([group_of("memory of a child")])
    assert scored.failures[0].kind == "timeout"
    pid = int((user_file.parent / "child").read_text())
    give_up_at = time.monotonic() + 10
    while _is_alive(pid):
        assert time.monotonic() < give_up_at, "a process that a reward has started outlives it"
        time.sleep(0.05)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_call_that_wants_too_much_memory_is_an_error_and_others_go_on(user_file, group_of):
    with Scorer(terms_of(user_file, "told"), memory_mb=200, deadline_s=20) as scorer:
        (scored,) = scorer.score([group_of("a", "memory", "bb")])
    assert [failure.kind for failure in scored.failures] == ["error"]
    assert "MemoryError" in scored.failures[0].message
    assert scored.rewards[::2] == (1.0, 2.0)


def test_a_reward_with_a_process_of_its_own_has_all_the_memory(user_file, group_of):
    with Scorer(terms_of(user_file, "big", "alone", "pid"), memory_mb=200) as scorer:
        (scored,) = scorer.score([group_of("a")])
        assert len(scorer._pools) == 2
    assert [failure.term for failure in scored.failures] == ["big"]
    assert scored.terms["alone"] == (300.0,)


# States


def test_states_without_a_value_are_masked_counted_and_listed(user_file, group_of):
    texts = ("no_answer", "undecided", "bad_gold", "timeout", "error", "a", "")
    with Scorer(terms_of(user_file, "told")) as scorer:
        (scored,) = scorer.score([group_of(*texts)])
    assert scored.states("told") == ("no_answer", "undecided", "bad_gold", "timeout", "error", "ok", "wrong")
    assert scored.scored == (False,) * 5 + (True, True)
    assert [(failure.index, failure.kind, failure.message) for failure in scored.failures] == [
        (index, state, "as told") for index, state in enumerate(texts[:5])
    ]


def test_a_recipe_may_count_them_as_zero(user_file, group_of):
    group = group_of("no_answer", "undecided", "a")
    with Scorer(terms_of(user_file, "told", no_answer="zero")) as scorer:
        (scored,) = scorer.score([group])
    assert (scored.rewards[0], scored.scored) == (0.0, (True, False, True))
    with Scorer(terms_of(user_file, "told", on_error="zero")) as scorer:
        (scored,) = scorer.score([group])
    assert (scored.rewards[1], scored.scored) == (0.0, (False, True, True))
    assert scored.states("told") == ("no_answer", "undecided", "ok")  # told apart all the same


def test_a_recipe_may_stop_at_the_first_error_and_loses_nothing(user_file, group_of):
    with Scorer(terms_of(user_file, "told", on_error="stop")) as scorer:
        scorer.score([group_of("no_answer", "a")])
        with pytest.raises(
            RewardBroken, match=r"told has no value for completion 1 .*undecided: as told.*on_error"
        ) as e:
            scorer.score([group_of("a", "undecided")])
    assert e.value.scored[0].terms["told"][0] == 1.0


def test_the_breaker_does_not_mind_missing_answers_that_count_as_zero(user_file, group_of):
    group = group_of(*["no_answer"] * 16)
    with Scorer(terms_of(user_file, "told", no_answer="zero")) as scorer:
        assert [scorer.score([group])[0].rewards[0] for _ in range(3)] == [0.0] * 3
    with Scorer(terms_of(user_file, "told")) as scorer:
        scorer.score([group])
        with pytest.raises(RewardBroken, match=r"no_answer: as told.*rewards\.told\.no_answer=zero"):
            scorer.score([group])
    with Scorer(terms_of(user_file, "told", on_error="zero")) as scorer:
        assert [scorer.score([group_of(*["undecided"] * 16)])[0].rewards[0] for _ in range(3)] == [0.0] * 3
        with pytest.raises(RewardBroken, match="error: as told"):
            [scorer.score([group_of(*["error"] * 16)]) for _ in range(2)]
    with Scorer([*terms_of(user_file, "pid"), *terms_of(user_file, "told", weight=0)]) as scorer:
        assert all(scorer.score([group])[0].scored[0] for _ in range(3))  # a term of weight 0 is measured only
    with Scorer(terms_of(user_file, "told"), stop_when_broken=False) as scorer:
        assert [scorer.score([group])[0].scored[0] for _ in range(3)] == [False] * 3


# Terms that want other terms


def test_a_reward_may_want_what_the_other_terms_gave(user_file, group_of):
    terms = terms_of(user_file, "shares", "told", "group_size", "doubled")
    group = group_of("a", "bb", "c")
    with Scorer(terms, workers=2) as scorer:
        for completion in group.completions:
            scorer.begin(group.prompt, completion)
        (scored,) = scorer.score([group])
        assert scored.failures == ()
        assert list(scored.terms) == ["shares", "told", "group_size", "doubled"]
        assert scored.terms["shares"] == (0.25, 0.5, 0.25)
        assert scored.terms["doubled"] == (2.0, 4.0, 2.0)
        assert scored.terms["group_size"] == (3.0, 3.0, 3.0)


# Async


def test_async_calls_run_together_as_far_as_their_concurrency_goes(user_file, group_of):
    with Scorer(terms_of(user_file, "served", concurrency=3)) as scorer:
        (scored,) = scorer.score([group_of(*"abcdef")])
    assert scored.failures == ()
    assert max(scored.terms["served"]) == 3


def test_an_async_call_that_hangs_or_raises_is_lost_alone(user_file, group_of):
    with Scorer(terms_of(user_file, "served", concurrency=8, deadline_s=1.0)) as scorer:
        scored = scorer.score([group_of("a", "sleep", "b"), group_of("raise", "c")])
    assert scored[0].states("served") == ("ok", "timeout", "ok")
    assert scored[1].states("served") == ("error", "ok")
    assert "KeyError" in scored[1].failures[0].message


@pytest.mark.parametrize("concurrency", [0, "many", True])
def test_a_concurrency_that_cannot_be_is_refused(concurrency, user_file):
    with pytest.raises(ValueError, match=r"rewards\.served\.concurrency must be"):
        Scorer(terms_of(user_file, "served", concurrency=concurrency))


def test_a_call_that_is_only_slow_is_not_starved_by_processes_that_take_all_processors(user_file, group_of):
    """Eight times the usual work, beside twice as many busy processes as there are processors."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        with Scorer(terms_of(user_file, "works"), workers=2, deadline_s=4.0) as scorer:
            scored = [scorer.score([group_of(*["aa"] * 12, "a" * 40)] * 3) for _ in range(3)]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [failure for groups in scored for group in groups for failure in group.failures] == []


def test_a_call_that_was_held_for_others_goes_on_when_they_are_done(user_file, group_of, monkeypatch):
    held = []
    monkeypatch.setattr(Pool, "_hold", lambda pool, worker, hold=Pool._hold: (held.append(worker), hold(pool, worker)))
    texts = ["aa"] * 20 + ["for ever"] * 4 + ["a" * 200] + ["aa"] * 200  # 0.2 s, which are there on a busy machine
    with Scorer(terms_of(user_file, "works"), workers=1, deadline_s=12.0) as scorer:
        scorer.score([group_of(*["aa"] * 20)])
        (scored,) = scorer.score([group_of(*texts)])
    assert len(held) >= 4  # those that never end, and mostly the long one
    assert scored.states("works") == tuple("timeout" if text == "for ever" else "ok" for text in texts)


def test_a_term_computes_also_where_some_of_its_calls_had_to_wait_for_a_processor():
    computing, sleeping = Typical(), Typical()
    for place in range(100):
        computing.add(0.03 if place % 10 == 0 else 0.0102, 0.01)
        sleeping.add(0.1, 0.001)
    assert computing.pass_by_after_s == PASS_BY_AFTER_S
    assert sleeping.pass_by_after_s == pytest.approx(0.15)


def test_calls_that_are_held_go_on_one_after_the_other(user_file, group_of, monkeypatch):
    released = []

    def release(pool, worker, release=Pool._release):
        if pool._all_are_busy():
            released.append(time.monotonic())
        release(pool, worker)

    monkeypatch.setattr(Pool, "_release", release)
    with Scorer(terms_of(user_file, "works"), workers=1, deadline_s=5.0) as scorer:
        scorer.score([group_of(*["aa"] * 20)])
        scorer.score([group_of(*["for ever"] * 6, *["aa"] * 1000)])
    assert len(released) >= 2
    assert all(later - earlier > 0.019 for earlier, later in itertools.pairwise(released))


def test_a_call_is_held_where_the_system_knows_no_idle_class(user_file, group_of, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EINVAL, "there is no such class")

    def hold(pool, worker, hold=Pool._hold):
        hold(pool, worker)
        time.sleep(0.01)
        states.add(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0])

    states = set()
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(Pool, "_hold", hold)
    with Scorer(terms_of(user_file, "works"), workers=1, deadline_s=2.0) as scorer:
        scorer.score([group_of(*["aa"] * 20)])
        scorer.score([group_of("for ever", "for ever", *["aa"] * 300)])
    assert states == {"T"}  # stopped


# What a maintainer tried


def test_slow_calls_between_deadly_ones_lose_nothing_but_the_deadly(user_file, group_of):
    texts = (["slow"] + ["a"] * 8 + ["die"]) * 2
    with Scorer(terms_of(user_file, "slow_or_deadly"), workers=4, stop_when_broken=False) as scorer:
        for _ in range(6):
            for scored in scorer.score([group_of(*texts) for _ in range(10)]):
                states = scored.states("slow_or_deadly")
                assert states == tuple("error" if text == "die" else "ok" for text in texts)


def test_an_async_reward_that_will_not_be_cancelled_is_a_timeout_all_the_same(user_file, group_of):
    with Scorer(terms_of(user_file, "peculiar", deadline_s=0.5)) as scorer:
        (scored,) = scorer.score([group_of("a", "stubborn", "mine", "b")])
    assert scored.states("peculiar") == ("ok", "timeout", "ok", "ok")


def test_an_async_call_that_takes_the_event_loop_down_is_lost_alone(user_file, group_of):
    texts = ["a"] * 12 + ["die"] + ["b"] * 12
    with Scorer(terms_of(user_file, "peculiar")) as scorer:
        (scored,) = scorer.score([group_of(*texts)])
        assert scored.states("peculiar") == tuple("error" if text == "die" else "ok" for text in texts)
        assert scorer.score([group_of("a")])[0].rewards == (1.0,)


def test_an_import_that_fails_again_and_again_is_no_progress(user_file, group_of):
    with Scorer(terms_of(user_file, "no_such_module"), deadline_s=0.5) as scorer:
        start = time.monotonic()
        assert scorer.score([group_of("a")])[0].states("no_such_module") == ("timeout",)
        assert time.monotonic() - start < 10


def test_check_gives_a_first_call_time_to_compute(user_file, make_prompt):
    with Scorer(terms_of(user_file, "long_first_call"), deadline_s=0.5) as scorer:
        scorer.check(make_prompt())


def test_a_problem_that_cannot_be_sent_is_an_error_of_its_own_completions(user_file, group_of, make_prompt):
    problem = Problem("s/1", ask("q"), "4", "s", metadata={"f": lambda: 1})
    strange = Group(make_prompt(problem=problem), group_of("a", "b").completions)
    with Scorer(terms_of(user_file, "told")) as scorer:
        first, second = scorer.score([strange, group_of("cc")])
    assert first.states("told") == ("error", "error")
    assert "cannot be sent to a worker" in first.failures[0].message
    assert second.rewards == (2.0,)


def test_options_that_cannot_be_sent_end_the_wait_with_words(user_file, group_of):
    term = replace(terms_of(user_file, "told")[0], options={})
    object.__setattr__(term, "options", {"f": lambda: 1})
    with pytest.raises((RuntimeError, ValueError)), Scorer([term]) as scorer:
        scorer.score([group_of("a")])


def test_closing_twice_leaves_other_files_alone(user_file, tmp_path):
    scorer = Scorer(terms_of(user_file, "told"))
    scorer.close()
    files = [(tmp_path / str(number)).open("wb") for number in range(20)]
    scorer.close()
    for file in files:
        file.close()  # raises if its descriptor was closed under it
        assert Path(file.name).read_bytes() == b""


def _threads_in_a_fork(scorer, group, answer):
    with ThreadPoolExecutor(4) as threads:
        answer.put({repr(found) for found in threads.map(lambda _: verdicts(scorer, group), range(8))})
    scorer.close()


def test_threads_of_a_forked_trainer_begin_its_life_together(user_file, group_of):
    group, context = group_of("a", "bb"), multiprocessing.get_context("fork")
    with Scorer(terms_of(user_file, "told")) as scorer:
        expected = repr(verdicts(scorer, group))
        for _ in range(3):
            answer = context.Queue()
            process = context.Process(target=_threads_in_a_fork, args=(scorer, group, answer))
            process.start()
            assert answer.get(timeout=60) == {expected}
            process.join(20)


def test_what_was_begun_for_others_stays_theirs(user_file, group_of):
    mine, theirs = group_of("a"), group_of("bb")
    with Scorer(terms_of(user_file, "told")) as scorer:
        for group in (mine, theirs):
            scorer.begin(group.prompt, group.completions[0])
        ticket = scorer._begun[id(theirs.completions[0])].pieces[0].ticket
        scorer.score([mine])
        assert scorer._begun[id(theirs.completions[0])].pieces[0].ticket is ticket
        assert scorer.score([theirs])[0].rewards == (2.0,)
        assert not scorer._begun
