"""Data sets: what becomes a problem, and what a user reads when a row cannot."""

from __future__ import annotations

import doctest
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

import data.gsm8k
from data.countdown import countdown, random_expression, split_of
from data.examples import worked_examples
from data.gsm8k import gsm8k
from data.hub import hub
from data.jsonl import jsonl

GSM8K_ROW = {
    "question": "Natalia sold 48 clips in April and half as many in May. How many in all?",
    "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 in all.\n#### 72",
}


@pytest.fixture
def write(tmp_path):
    def write(*rows: object, name: str = "mine.jsonl") -> str:
        """A JSONL file of these rows; texts are written as they are."""
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return write


def test_a_gsm8k_row_becomes_question_number_and_clean_solution(write):
    (problem,) = gsm8k("train", write(GSM8K_ROW))
    assert problem.id == "gsm8k/train/00000"
    assert problem.question == GSM8K_ROW["question"]
    assert problem.answer == "72"
    assert problem.metadata["solution"] == "She sold 48/2 = 24 clips in May.\nShe sold 48+24 = 72 in all."


@pytest.mark.parametrize(
    ("ending", "number"),
    [("#### 72", "72"), ("#### 1,234,567", "1234567"), ("####-3", "-3"), ("#### 0.5  ", "0.5"), ("#### 7\n", "7")],
)
def test_a_gsm8k_answer_is_the_number_after_the_marks(write, ending, number):
    (problem,) = gsm8k("test", write({"question": "How many?", "answer": f"Count.\n{ending}"}))
    assert problem.answer == number


@pytest.mark.parametrize("ending", ["72", "#### seventy", "####", "#### 7 apples", "#### 1e5"])
def test_a_gsm8k_row_without_a_final_number_is_named_with_file_and_line(write, ending):
    path = write(GSM8K_ROW, GSM8K_ROW, {"question": "How many?", "answer": f"Count.\n{ending}"})
    with pytest.raises(ValueError, match=r"mine\.jsonl line 3: 'answer' must end with '#### ' and a number"):
        gsm8k("train", path)


def test_the_examples_of_the_gsm8k_module_hold():
    assert doctest.testmod(data.gsm8k).failed == 0


def test_limit_keeps_the_first_rows_and_reads_no_further(write):
    path = write(GSM8K_ROW, GSM8K_ROW, "not json")
    assert [problem.id for problem in gsm8k("train", path, limit=2)] == ["gsm8k/train/00000", "gsm8k/train/00001"]


def test_gsm8k_without_network_says_which_file_to_download_and_where_to_name_it(hub_out_of_reach):
    missing = r"openai/gsm8k \(config main, split test\)"
    remedy = r"download test\.jsonl from https.*eval\.data\.gsm8k\.path=test\.jsonl"
    with pytest.raises(ValueError, match=f"{missing}.*{remedy}"):
        gsm8k("test")


@pytest.fixture
def hub_out_of_reach(monkeypatch, tmp_path):
    """The datasets library in its offline mode, with an empty cache."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_jsonl_row_becomes_a_problem_and_its_other_columns_metadata(write):
    (problem,) = jsonl(write({"question": "2 + 2?", "answer": 4, "level": 1, "tests": ["a"]}))
    assert (problem.id, problem.source, problem.question, problem.answer) == ("mine/00000", "mine", "2 + 2?", "4")
    assert problem.metadata == {"level": 1, "tests": ["a"]}


def test_columns_of_other_names_and_a_source_of_ones_own(write):
    (problem,) = jsonl(write({"q": "2 + 2?", "gold": "4"}), question="q", answer="gold", source="sums")
    assert (problem.id, problem.question, problem.answer, dict(problem.metadata)) == ("sums/00000", "2 + 2?", "4", {})


def test_a_column_of_messages_is_the_whole_conversation(write):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "And 3 + 3?"},
    ]
    (problem,) = jsonl(write({"chat": messages, "answer": "6", "question": "unused"}), messages="chat")
    assert list(problem.messages) == messages
    assert problem.metadata == {"question": "unused"}


def test_blank_lines_are_no_rows_but_count_as_lines(write):
    path = write({"question": "a", "answer": "1"}, "", {"question": "b", "answer": "2"}, "[]")
    assert [problem.id for problem in jsonl(path, limit=2)] == ["mine/00000", "mine/00001"]
    with pytest.raises(ValueError, match=r"mine\.jsonl line 4: a row must be a JSON object, found list"):
        jsonl(path)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('{"question": "a"', r"not JSON \(.* at column \d+\)"),
        ({"answer": "4"}, "no column 'question'; the row has 'answer'"),
        ({"question": "a"}, "no column 'answer'; the row has 'question'"),
        ({"question": 7, "answer": "4"}, "'question' must be a text, found int: 7"),
        ({"question": " ", "answer": "4"}, "'question' is empty"),
        ({"question": "a", "answer": ""}, "'answer' is empty"),
        ({"question": "a", "answer": None}, "'answer' must be a text or a number, found NoneType: None"),
        ({"question": "a", "answer": True}, "'answer' must be a text or a number, found bool: True"),
        ({"question": "a", "answer": ["4"]}, "'answer' must be a text or a number, found list"),
    ],
)
def test_a_malformed_row_is_named_with_file_line_and_fault(write, row, complaint):
    path = write({"question": "a", "answer": "1"}, row)
    with pytest.raises(ValueError, match=re.escape(path) + " line 2: " + complaint):
        jsonl(path)


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ("2 + 2?", "'messages' must be a list of messages"),
        ([], "'messages' must be a list of messages"),
        ([{"role": "robot", "content": "a"}], "'messages' message 1 must be"),
        ([{"role": "user", "content": "a"}, {"role": "assistant"}], "'messages' message 2 must be"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            "'messages' must end with the user's message",
        ),
        ([{"role": "user", "content": " "}], "'messages' message 1 has no content"),
    ],
)
def test_a_malformed_conversation_is_named_with_its_message(write, messages, complaint):
    with pytest.raises(ValueError, match=r"mine\.jsonl line 1: " + complaint):
        jsonl(write({"messages": messages, "answer": "4"}), messages="messages")


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"question": "a", "answer": "1"}\n{"question": "caf\xe9", "answer": "1"}\n')
    with pytest.raises(ValueError, match=r"latin\.jsonl line 2: not UTF-8"):
        jsonl(str(path))


@pytest.mark.parametrize(
    ("load", "key"),
    [
        (jsonl, r"data\.train\.<name>\.path"),
        (lambda path: gsm8k("train", path), r"data\.train\.gsm8k\.path"),
        (lambda path: gsm8k("test", path), r"eval\.data\.gsm8k\.path"),
        (lambda path: countdown("train", path), r"data\.train\.countdown\.path"),
    ],
)
def test_a_missing_file_names_the_recipe_key(load, key, tmp_path):
    with pytest.raises(ValueError, match=key + "=.*nowhere.jsonl: no such file"):
        load(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(ValueError, match=key + "=.* is a directory"):
        load(str(tmp_path))


@pytest.mark.parametrize("load", [jsonl, lambda path: gsm8k("train", path), lambda path: countdown("train", path)])
def test_a_file_without_rows_is_refused(load, write):
    with pytest.raises(ValueError, match=r"path=.*mine.jsonl: the file has no rows"):
        load(write(""))


@pytest.mark.parametrize("load", [jsonl, lambda path, limit: gsm8k("train", path, limit)])
def test_a_limit_of_nothing_is_refused(load, write):
    with pytest.raises(ValueError, match=r"limit must be at least 1, or null for all rows, got 0"):
        load(write(GSM8K_ROW), limit=0)


def test_any_data_set_of_the_hub_is_read_by_the_names_of_its_columns(write, tmp_path, monkeypatch):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"problem": f"{i} + 1?", "gold": i + 1, "level": "easy"} for i in range(3)]
    sums = tmp_path / "sums"
    sums.mkdir()
    write(*rows, name="sums/train.jsonl")
    problems = hub(str(sums), question="problem", answer="gold", limit=2)
    assert [(problem.question, problem.answer) for problem in problems] == [("0 + 1?", "1"), ("1 + 1?", "2")]
    assert problems[1].id == f"{sums}/train/00001"
    assert problems[1].metadata == {"level": "easy"}
    with pytest.raises(ValueError, match=r"train row 0: no column 'answer'; the row has 'problem', 'gold', 'level'"):
        hub(str(sums), question="problem")
    with pytest.raises(ValueError, match=r"split dev\): Unknown split \"dev\""):
        hub(str(sums), split="dev")


def test_a_countdown_row_keeps_numbers_and_target_for_the_reward(write):
    (problem,) = countdown("test", write({"nums": [34, 13, 44], "target": 65, "solution": "44 + (34 - 13)"}))
    assert problem.id == "countdown/test/00000"
    assert problem.metadata == {"nums": [34, 13, 44], "target": 65, "solution": "44 + (34 - 13)"}
    assert problem.answer == "65"
    assert "34, 13 and 44" in problem.question
    assert "65" in problem.question
    assert "44 + (34 - 13)" not in problem.question


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"target": 3}, "no column 'nums'"),
        ({"nums": [1, 2]}, "no column 'target'"),
        ({"nums": "1 2", "target": 3}, "'nums' must be a list of two or more integers"),
        ({"nums": [1, 2.5], "target": 3}, "'nums' must be a list of two or more integers"),
        ({"nums": [3], "target": 3}, "'nums' must be a list of two or more integers"),
        ({"nums": [1, 2], "target": "3"}, "'target' must be an integer, found '3'"),
    ],
)
def test_a_malformed_countdown_row_is_named_with_file_and_line(write, row, complaint):
    with pytest.raises(ValueError, match=r"mine\.jsonl line 1: " + complaint):
        countdown("train", write(row))


def value_of(solution: str) -> Fraction:
    """The exact value of an expression that countdown wrote."""
    return eval(re.sub(r"\d+", r"Fraction(\g<0>)", solution), {"Fraction": Fraction})


def test_generated_countdown_problems_are_solved_by_their_solutions():
    for problem in countdown("train", size=200):
        nums, target, solution = (problem.metadata[name] for name in ("nums", "target", "solution"))
        assert value_of(solution) == target
        assert sorted(map(int, re.findall(r"\d+", solution))) == sorted(nums)
        assert len(nums) in (3, 4)
        assert 10 <= target <= 99
        assert target not in nums


def test_the_same_seed_generates_the_same_countdown_and_another_seed_another():
    assert countdown("train", size=20, seed=3) == countdown("train", size=20, seed=3)
    assert countdown("train", size=20, seed=3) == countdown("train", size=40, seed=3)[:20]
    assert countdown("train", size=20, seed=3) != countdown("train", size=20, seed=4)


def test_no_set_of_numbers_is_in_both_splits_of_generated_countdown():
    train = {tuple(sorted(problem.metadata["nums"])) for problem in countdown("train", size=1000, seed=0)}
    test = {tuple(sorted(problem.metadata["nums"])) for problem in countdown("test", size=200, seed=1)}
    assert not train & test
    # The hash of the numbers decides, so it holds for all seeds and any order of the numbers.
    assert {split_of(nums) for nums in train} == {"train"}
    assert split_of((1, 2, 3)) == split_of((3, 1, 2))


def test_expressions_are_exact_where_floats_are_not():
    class Divide:
        """A source of chance that always takes the first part and divides."""

        def randrange(self, size: int) -> int:
            return 0

        def choice(self, options: str) -> str:
            return options[-1]

    assert random_expression([1, 49], Divide()) == (Fraction(1, 49), "1 / 49")


@pytest.mark.parametrize(("field", "value"), [("size", 0), ("split", "validation")])
def test_countdown_refuses_what_it_cannot_generate(field, value):
    with pytest.raises(ValueError, match=rf"countdown\.{field} must be"):
        countdown(**{field: value})


def test_worked_examples_end_with_their_answer(write):
    problems = gsm8k("train", write(GSM8K_ROW))
    (example,) = worked_examples(problems, 1)
    assert example.question == GSM8K_ROW["question"]
    assert example.solution.endswith("She sold 48+24 = 72 in all.\nThe answer is 72.")
    with pytest.raises(ValueError, match=r"data\.few_shot=2 .*found 1"):
        worked_examples(problems, 2)


def test_every_id_is_unique_within_its_source(write):
    ids = [problem.id for problem in countdown("train", size=50)]
    assert len(set(ids)) == 50


def test_a_path_may_start_at_home(write, monkeypatch):
    path = Path(write({"question": "a", "answer": "1"}))
    monkeypatch.setenv("HOME", str(path.parent))
    assert len(jsonl("~/mine.jsonl")) == 1
