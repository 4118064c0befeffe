"""The published data sets of the presets: rows as their authors wrote them, and what is said of rows that are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from data.aime import aime
from data.countdown import countdown
from data.dapo_math import dapo_math
from data.deepcoder import deepcoder
from data.deepscaler import deepscaler
from data.hendrycks_math import hendrycks_math
from data.simplerl_zoo import simplerl_zoo
from rewards.code_tests import code_tests

SUM = "What is 2 + 2?"
MATH = {"problem": SUM, "solution": r"It is $\boxed{4}$.", "answer": "4", "subject": "Prealgebra", "level": 2}
DAPO = {
    "data_source": "math_dapo",
    "prompt": [
        {
            "role": "user",
            "content": "Solve the following math problem step by step. The last line of your response should be of the "
            f"form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{SUM}\n\nIn words: "
            'two and two.\n\nRemember to put your answer on its own line after "Answer:".',
        }
    ],
    "ability": "MATH",
    "reward_model": {"ground_truth": "4", "style": "rule-lighteval/MATH_v2"},
    "extra_info": {"index": "9a9b6eb4"},
}
SIMPLERL = {
    "prompt": [{"role": "user", "content": f"Question:\n{SUM}\nAnswer:\nLet's think step by step."}],
    "ability": "math",
    "reward_model": {"ground_truth": "4", "style": "rule"},
    "extra_info": {"index": 0, "question": SUM, "split": "train"},
}
TACO = {
    "problem": "Print twice the number.",
    "tests": json.dumps({"inputs": ["2\n", "5\n"], "outputs": ["4\n", "10\n"]}),
}
LEETCODE = {
    "problem": "Return twice the number.",
    "starter_code": "class Solution:\n    def twice(self, n: int) -> int:\n        ",
    "tests": json.dumps([{"input": "2", "output": "4", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "twice"}),
}


@pytest.fixture
def write(tmp_path):
    def write(*rows: object, name: str = "rows.jsonl") -> str:
        """A file of these rows, in the form that its name says."""
        path: Path = tmp_path / name
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
        else:
            text = "\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows)
            path.write_text(text)
        return str(path)

    return write


def test_a_math_row_keeps_its_level_subject_and_solution(write):
    (problem,) = hendrycks_math("train", write(MATH))
    assert (problem.id, problem.source, problem.question, problem.answer) == ("math/train/00000", "math", SUM, "4")
    assert problem.metadata == {"level": 2, "subject": "Prealgebra", "solution": MATH["solution"]}
    (bare,) = hendrycks_math("test", write({"problem": SUM, "answer": 4}))
    assert (bare.id, bare.answer, bare.metadata) == ("math/test/00000", "4", {})


def test_levels_choose_and_limit_counts_what_they_chose(write):
    rows = [{**MATH, "level": level} for level in (1, "Level 3", 5, 2, "4")]
    assert [problem.metadata["level"] for problem in hendrycks_math("train", write(*rows), levels=[3, 4, 5])] == [
        3,
        5,
        4,
    ]
    assert [problem.id for problem in hendrycks_math("train", write(*rows), [3, 4, 5], 2)] == [
        "math/train/00001",
        "math/train/00002",
    ]
    assert len(hendrycks_math("train", write(*rows))) == 5


@pytest.mark.parametrize(
    ("row", "levels", "complaint"),
    [
        ({"problem": SUM}, None, r"line 1: no column 'answer'; the row has 'problem'"),
        ({"problem": SUM, "answer": "4"}, [3], r"line 1: no column 'level'"),
        ({**MATH, "level": "Level ?"}, None, r"'level' must be 1 to 5, or .* found 'Level \?'"),
        (MATH, [0], r"data\.train\.math\.levels must be of 1 to 5, got \[0\]"),
        (MATH, [5], r"data\.train\.math: no problem is of data\.train\.math\.levels=\[5\]"),
    ],
)
def test_a_math_row_or_level_that_cannot_be_is_refused(write, row, levels, complaint):
    with pytest.raises(ValueError, match=complaint):
        hendrycks_math("train", write(row), levels)


def test_deepscaler_reads_the_published_array(write):
    row = {"problem": SUM, "answer": "4", "solution": "Count."}
    first, second = deepscaler("train", write(row, {**row, "problem": "3?", "solution": ""}, name="deepscaler.json"))
    assert (first.id, first.answer, first.metadata) == ("deepscaler/train/00000", "4", {"solution": "Count."})
    assert (second.question, second.metadata) == ("3?", {})
    with pytest.raises(ValueError, match=r"rows\.json row 1: no column 'answer'"):
        deepscaler("train", write(row, {"problem": "3?"}, name="rows.json"))


def test_dapos_instruction_is_taken_off_and_the_hundred_copies_are_one_problem(write):
    other = {**DAPO, "prompt": [{"role": "user", "content": "No frame?"}]}
    first, second = dapo_math("train", write(DAPO, DAPO, other, DAPO, name="dapo-math-17k.parquet"))
    assert first.question == f"{SUM}\n\nIn words: two and two."
    assert (first.id, first.answer, second.id) == ("dapo_math/train/00000", "4", "dapo_math/train/00001")
    assert second.question == "No frame?"
    assert len(dapo_math("train", write(DAPO, DAPO, other), limit=2)) == 2


def test_the_processed_dapo_rows_are_bare_problems(write):
    (problem,) = dapo_math("train", write({"prompt": SUM, "solution": "4", "reward_model": {"ground_truth": "4"}}))
    assert (problem.question, problem.answer) == (SUM, "4")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"prompt": SUM}, r"line 1: no column 'reward_model'; the row has 'prompt'"),
        ({"prompt": SUM, "reward_model": {}}, r"line 1: 'reward_model': no column 'ground_truth'"),
        ({"prompt": SUM, "reward_model": "4"}, r"line 1: 'reward_model' must be an object, found str: '4'"),
        ({"reward_model": {"ground_truth": "4"}}, r"line 1: no column 'prompt'"),
    ],
)
def test_a_dapo_row_without_what_it_needs_is_named(write, row, complaint):
    with pytest.raises(ValueError, match=complaint):
        dapo_math("train", write(row))


def test_simplerl_zoo_reads_the_bare_question_and_not_its_prompt(write):
    (problem,) = simplerl_zoo("hard", "train", write(SIMPLERL, name="train.parquet"))
    assert (problem.id, problem.question, problem.answer) == ("simplerl_zoo/hard/train/00000", SUM, "4")
    with pytest.raises(ValueError, match=r"difficulty must be one of easy, medium, hard, got 'harder'"):
        simplerl_zoo("harder")
    with pytest.raises(ValueError, match=r"rows\.jsonl line 1: 'extra_info': no column 'question'"):
        simplerl_zoo("easy", "train", write({**SIMPLERL, "extra_info": {}}))


def test_aimes_answers_are_whole_numbers_without_leading_zeros(write):
    rows = [{"problem": SUM, "answer": answer} for answer in ("073", "204", 7, "000")]
    assert [problem.answer for problem in aime(2024, path=write(*rows))] == ["73", "204", "7", "0"]
    with pytest.raises(ValueError, match=r"line 1: 'answer' must be a whole number from 0 to 999, found '1/2'"):
        aime(2024, path=write({"problem": SUM, "answer": "1/2"}))
    with pytest.raises(ValueError, match=r"eval\.data\.<name>\.year must be one of 2024, 2025"):
        aime(1999)


def test_a_coding_problem_says_how_to_write_the_program_and_keeps_its_tests(write):
    (problem,) = deepcoder("taco", "train", write(TACO))
    assert problem.question.startswith("Print twice the number.\n\nWrite a Python program that reads its input from")
    assert problem.question.endswith("into one ```python block at the end.")
    assert problem.metadata == {"tests": TACO["tests"]}
    (problem,) = deepcoder("lcbv5", "test", write(LEETCODE))
    assert "```python\nclass Solution:\n    def twice(self, n: int) -> int:\n```" in problem.question
    assert (problem.metadata["fn_name"], problem.source) == ("twice", "deepcoder/lcbv5")


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (TACO, "print(2 * int(input()))", "print(4)"),
        ({**TACO, "tests": json.loads(TACO["tests"])}, "print(2 * int(input()))", "print(4)"),
        (
            LEETCODE,
            "class Solution:\n    def twice(self, n): return 2 * n",
            "class Solution:\n    def twice(self, n): return n",
        ),
        (
            {
                "problem": "Twice?",
                "tests": [{"type": "stdin_stdout", "input": "3\n", "output": "6\n", "fn_name": None}],
            },
            "print(2 * int(input()))",
            "print(5)",
        ),
    ],
    ids=["taco", "struct", "livecodebench", "primeintellect"],
)
def test_the_tests_of_each_subset_tell_right_programs_from_wrong_ones(write, make_completion, row, right, wrong):
    (problem,) = deepcoder("taco", "train", write(row))
    values = [code_tests(problem, make_completion(f"```python\n{program}\n```")) for program in (right, wrong)]
    assert [(float(value), value.state) for value in values] == [(1.0, "ok"), (0.0, "wrong")]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"problem": "a"}, "no column 'tests'"),
        ({"problem": "a", "tests": ""}, "'tests' is empty"),
        ({"tests": TACO["tests"]}, "no column 'problem'"),
        ({**LEETCODE, "metadata": "{func"}, "'metadata' is not JSON"),
    ],
)
def test_a_coding_problem_without_what_it_needs_is_named(write, row, complaint):
    with pytest.raises(ValueError, match=r"rows\.jsonl line 1: " + complaint):
        deepcoder("taco", "train", write(row))


def test_countdown_reads_the_published_parquet_file(write):
    (problem,) = countdown("train", write({"target": 98, "nums": [44, 19, 35]}, name="countdown.parquet"))
    assert (problem.answer, problem.metadata["nums"]) == ("98", [44, 19, 35])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.parquet", b"no parquet", r"a\.parquet cannot be read as parquet"),
        ("a.json", b'{"problem": "a"}\n{"problem": "b"}', r"a\.json: not JSON .*is named \.jsonl"),
        ("a.json", b'{"problem": "a"}', r"a\.json must hold an array of objects, found dict"),
        ("a.json", b'["a"]', r"a\.json row 0: a row must be a JSON object, found str"),
        ("a.json", b"[]", r"data\.train\.deepscaler\.path=.*a\.json: the file has no rows"),
        ("a.json", b'["\xe9"]', r"a\.json: not UTF-8"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        deepscaler("train", str(tmp_path / name))


LOADERS: dict[str, tuple[Any, str]] = {
    "data.train.math": (lambda: hendrycks_math(), "nlile/hendrycks-MATH-benchmark"),
    "eval.data.math500": (lambda: hendrycks_math("test"), "HuggingFaceH4/MATH-500"),
    "eval.data.aime24": (lambda: aime(), "HuggingFaceH4/aime_2024"),
    "data.train.deepscaler": (lambda: deepscaler(), "agentica-org/DeepScaleR-Preview-Dataset"),
    "data.train.dapo_math": (lambda: dapo_math(), "open-r1/DAPO-Math-17k-Processed"),
    "data.train.simplerl_zoo": (lambda: simplerl_zoo(), "hkust-nlp/SimpleRL-Zoo-Data"),
    "data.train.taco": (lambda: deepcoder(), "agentica-org/DeepCoder-Preview-Dataset"),
    "eval.data.livecodebench": (lambda: deepcoder("lcbv5", "test"), "agentica-org/DeepCoder-Preview-Dataset"),
}


@pytest.mark.parametrize("key", LOADERS)
def test_without_network_the_page_to_download_from_and_the_key_to_set_are_named(key, monkeypatch, tmp_path):
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    load, name = LOADERS[key]
    page = f"https://huggingface.co/datasets/{name}/tree/main"
    with pytest.raises(ValueError, match=f"cannot load {name} .* from {page} and give {key}.path=FILE"):
        load()
