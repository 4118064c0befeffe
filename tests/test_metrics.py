"""Claims about rl/metrics.py."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rl.experience import Failure, Group, ScoredGroup
from rl.metrics import METRICS, Tally, find_metric, rollout_tally, table_markdown

ROOT = Path(__file__).resolve().parents[1]


def reduce_over(*tallies: Tally) -> list[dict[str, float]]:
    """What each rank gets when all reduce at once: gather hands every rank the same list."""
    sent: list[object] = []
    for tally in tallies:
        tally.reduce(lambda sums: [sent.append(sums), sums][1:])
    return [tally.reduce(lambda _: list(sent)) for tally in tallies]


def alone(tally: Tally) -> dict[str, float]:
    return tally.reduce(lambda sums: [sums])


@pytest.fixture
def make_group(make_completion, make_prompt):
    def make(rewards, terms=None, failures=(), texts=None, finish_reasons=None):
        texts = texts or ["ab"] * len(rewards)
        reasons = finish_reasons or ["stop"] * len(rewards)
        completions = [make_completion(t, finish_reason=r) for t, r in zip(texts, reasons, strict=True)]
        return ScoredGroup(Group(make_prompt(), tuple(completions)), tuple(rewards), terms or {}, tuple(failures))

    return make


def test_the_page_of_metrics_is_the_table():
    assert (ROOT / "docs/metrics.md").read_text() == table_markdown()


def test_every_row_has_a_name_of_its_own_in_the_form_stage_what():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+/[a-z0-9_<>/@]+", name) for name in names)
    assert all(metric.unit and metric.meaning.endswith(".") and metric.bad.endswith(".") for metric in METRICS)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("reward/mean", "reward/mean"),
        ("reward/math_answer", "reward/<term>"),
        ("reward/failed_fraction", "reward/failed_fraction"),
        ("reward/math_answer/failed_fraction", "reward/<term>/failed_fraction"),
        ("eval/gsm8k/avg@16", "eval/<dataset>/avg@k"),
        ("eval/gsm8k/ci_low", "eval/<dataset>/ci_low"),
    ],
)
def test_a_name_finds_its_row(name, row):
    assert find_metric(name).name == row


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("policy/entorpy", "policy/entropy"),
        ("optim/gradnorm", "optim/grad_norm"),
        ("eval/a/b/avg@1", "eval/<dataset>/"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, nearest):
    with pytest.raises(ValueError, match=re.escape(f"unknown metric {name!r}, did you mean '{nearest}")):
        Tally().add(name, 1.0)


def test_a_mean_over_ranks_weighs_each_value_and_not_each_rank():
    few, many = Tally(), Tally()
    few.add("policy/entropy", 1.0, weight=10)
    many.add("policy/entropy", [4.0, 4.0], weight=10)
    assert reduce_over(few, many) == [{"policy/entropy": 3.0}] * 2  # (10 + 40 + 40) / 30; of ranks it would be 2.5


def test_each_reduction_does_what_its_name_says():
    first, second = Tally(), Tally()
    for tally, value in ((first, 2.0), (second, 3.0)):
        tally.add("policy/loss", [value, value], weight=0.5)  # sum: two updates of half the weight
        tally.add("time/step_s", [value, 1.0])  # max
        tally.add("optim/lr", [9.0, 0.25])  # last
        tally.add("rollout/completion_tokens", value)  # mean
    expected = {"rollout/completion_tokens": 2.5, "policy/loss": 5.0, "optim/lr": 0.25, "time/step_s": 3.0}
    rows = reduce_over(first, second)
    assert rows == [expected, expected]
    assert list(rows[0]) == list(expected), "in the table's order"


def test_a_name_that_only_one_rank_has_counts_there_alone():
    one, other = Tally(), Tally()
    one.add("reward/brevity", [0.2, 0.4])
    assert reduce_over(one, other)[1] == {"reward/brevity": pytest.approx(0.3)}


def test_a_mean_of_nothing_is_not_a_number_and_not_zero():
    tally = Tally()
    tally.add("reward/mean", [])
    assert math.isnan(alone(tally)["reward/mean"])


def test_not_a_number_is_never_hidden_by_a_maximum():
    tally = Tally()
    tally.add("time/step_s", [1.0, math.nan])
    tally.add("time/step_s", 2.0)
    assert math.isnan(alone(tally)["time/step_s"])


def test_sums_made_elsewhere_join_values_added_here():
    tally = Tally()
    tally.add("policy/entropy", 1.0, weight=2)
    tally.add_sums({"policy/entropy": (8.0, 2.0)})  # two tokens of 4 nats
    assert alone(tally) == {"policy/entropy": 2.5}


def test_a_failed_completion_is_counted_and_left_out_of_the_reward(make_group):
    failed = make_group(
        [1.1, 0.1, math.nan],
        {"math": (1.0, 0.0, math.nan), "format": (1.0, 1.0, 0.0)},
        [Failure("math", 2, "timeout", "5 s")],
        finish_reasons=["stop", "stop", "length"],
        texts=["a", "ab", "abc"],
    )
    row = alone(rollout_tally([failed]))
    of_terms = {name: row.pop(name) for name in list(row) if re.match("reward/(math|format)/", name)}
    assert row == {
        "reward/mean": pytest.approx(0.6),
        "reward/std": pytest.approx(0.5),
        "reward/math": 0.5,
        "reward/format": pytest.approx(2 / 3),
        "reward/failed_fraction": pytest.approx(1 / 3),
        "rollout/completion_tokens": 2.0,
        "rollout/truncated_fraction": pytest.approx(1 / 3),
        "group/informative_fraction": 1.0,
    }
    assert of_terms["reward/math/failed_fraction"] == pytest.approx(1 / 3)
    assert of_terms["reward/format/failed_fraction"] == 0.0


def test_every_term_says_what_became_of_it(make_group):
    first = make_group(
        [1, 0, math.nan, 0],
        {"math": (1.0, 0.0, math.nan, 0.0)},
        [Failure("math", 2, "bad_gold", ""), Failure("math", 3, "no_answer", "")],
    )
    second = make_group([3, 3], {"math": (3.0, 3.0)})
    second = replace(second, seconds={"math": (0.1, 0.2)})
    first = replace(first, seconds={"math": (0.3, 0.4, 0.5, 2.0)})
    row = alone(rollout_tally([first, second]))
    states = {"ok": 3, "wrong": 1, "no_answer": 1, "undecided": 0, "timeout": 0, "error": 0, "bad_gold": 1}
    assert {state: row[f"reward/math/{state}_fraction"] for state in states} == pytest.approx(
        {state: number / 6 for state, number in states.items()}
    )
    assert row["reward/math/std"] == pytest.approx((math.sqrt(2 / 9) + 0) / 2)
    assert row["reward/math/constant_fraction"] == 0.5
    assert (row["reward/math/seconds_p50"], row["reward/math/seconds_p99"]) == (0.4, 2.0)


def test_spread_is_that_inside_groups_and_not_between_them(make_group):
    row = alone(rollout_tally([make_group([1.0, 1.0]), make_group([0.0, 0.0])]))
    assert (row["reward/mean"], row["reward/std"], row["group/informative_fraction"]) == (0.5, 0.0, 0.0)


def test_groups_give_the_same_row_however_ranks_share_them(make_group):
    groups = [make_group([1.0, 0.0]), make_group([0.5] * 4), make_group([0.25] * 3)]
    together = alone(rollout_tally(groups))
    for row in reduce_over(rollout_tally(groups[:1]), rollout_tally(groups[1:]), rollout_tally([])):
        assert row == pytest.approx(together, rel=1e-15)


def test_a_reward_may_not_take_the_name_of_another_metric(make_group):
    with pytest.raises(ValueError, match=r"rename rewards\.mean"):
        rollout_tally([make_group([1.0], {"mean": (1.0,)})])
