"""Pass rates: what a group adds, what is forgotten, and that a file of them is read as it was written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rl.difficulty import Difficulty, Tried, read_pass_rates
from rl.outcome import Visit


def seen(right: int, attempts: int = 8, id: str = "1", source: str = "s") -> Visit:
    return Visit(source, id, "informative", attempts, right)


@pytest.fixture
def known(problem):
    """What these visits make known of the problem."""
    problem = replace(problem, id="1", source="s")
    return lambda *visits: Difficulty().after(visits).tried(problem)


def test_attempts_and_right_ones_add_up_while_the_rate_is_of_late(known):
    assert known(seen(0)) == Tried(8, 0, 8.0, 0.0)
    assert known(seen(0), seen(8)) == Tried(16, 8, 12.0, 8.0)  # the first visit counts half: 4 + 8
    assert known(seen(0), seen(8)).rate == pytest.approx(2 / 3)
    assert known(*[seen(0)] * 9, *[seen(8)] * 4).rate > 0.93  # hard for long, solved now; over all it is 0.31


def test_a_group_that_nobody_could_grade_says_nothing(problem):
    assert Difficulty().after([seen(0, attempts=0)]).rate(replace(problem, id="1", source="s")) is None


def test_the_same_id_in_another_source_is_another_problem(problem):
    found = Difficulty().after([seen(8, source="a"), seen(0, source="b")])
    assert [found.rate(replace(problem, id="1", source=source)) for source in "abc"] == [1.0, 0.0, None]


def test_adding_leaves_what_was_there_as_it_was():
    before = Difficulty().after([seen(4)])
    after = before.after([seen(8)])
    assert before == Difficulty().after([seen(4)])
    assert after != before


def test_a_file_comes_back_as_it_was_written(tmp_path):
    visits = [seen(right, id=id) for right in (0, 3, 8) for id in ("a", "\N{GREEK SMALL LETTER PI}", "c\nd")]
    found = Difficulty().after([*visits, seen(1, attempts=3, id="a")])
    found.write(tmp_path / "rates.jsonl")
    assert read_pass_rates(tmp_path / "rates.jsonl") == found


def test_a_file_that_was_measured_elsewhere_needs_four_keys(tmp_path, problem):
    path = tmp_path / "rates.jsonl"
    path.write_text('{"id": "sums/train/1", "source": "sums", "attempts": 16, "right": 4, "model": "m"}\n\n')
    assert read_pass_rates(path).rate(problem) == 0.25
    path.write_text('{"id": "sums/train/1", "source": "sums", "attempts": 0, "right": 0}\n')
    assert read_pass_rates(path).rate(problem) is None


ROW = {"id": "1", "source": "s", "attempts": 8, "right": 3}


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([ROW, {**ROW, "id": "2", "right": 9}], r"rates\.jsonl:2 must look like .*right <= attempts, got 9 of 8"),
        ([{**ROW, "right": -1}], r":1 must look like"),
        ([{**ROW, "right": 0.5}], r":1 must look like .*whole numbers, got \[8, 0\.5\]"),
        ([{"id": "1", "source": "s", "attempts": 8}], r":1 must look like .*KeyError: 'right'"),
        ([[1, 2]], r":1 must look like"),
        ([ROW, ROW], r":2 names problem 1 of s a second time"),
    ],
)
def test_a_bad_line_is_named_with_the_recipes_key(rows, complaint, tmp_path):
    path = tmp_path / "rates.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=rf"collect\.pass_rates: .*{complaint}"):
        read_pass_rates(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"collect\.pass_rates=.*none\.jsonl cannot be read: .*No such file"):
        read_pass_rates(tmp_path / "none.jsonl")
