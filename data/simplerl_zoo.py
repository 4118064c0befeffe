"""SimpleRL-Zoo's training data: about eight thousand problems of GSM8K and MATH in each of three difficulties.

arXiv:2503.18892, appendix B.1. easy: GSM8K and MATH level 1; medium: MATH 1 to 4; hard: MATH 3 to 5. MATH-500 and 500
problems for validation are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.hub import published
from data.problem import Problem, ask
from data.rows import answer_field, mapping_field, section, text_field

FOLDERS = {"easy": "simplelr_abel_gsm8k_level1", "medium": "simplelr_abel_level1to4", "hard": "simplelr_abel_level3to5"}


def simplerl_zoo(
    difficulty: str = "hard", split: str = "train", path: str | None = None, limit: int | None = None
) -> list[Problem]:
    """The problems of one difficulty (8,388, 8,139 or 8,523), from a local file or from hkust-nlp/SimpleRL-Zoo-Data.

    `path`: the published train.parquet, {"extra_info": {"question": ...}, "reward_model": {"ground_truth": ...}, ...};
    the prompts that it also has are not read, for the recipe's template writes them. `limit` keeps the first rows.
    """
    key = f"{section(split)}.simplerl_zoo"
    if difficulty not in FOLDERS:
        raise ValueError(f"{key}.difficulty must be one of {', '.join(FOLDERS)}, got {difficulty!r}")
    files = f"{FOLDERS[difficulty]}/{split}.parquet"
    rows = published("hkust-nlp/SimpleRL-Zoo-Data", split, path=path, key=key, files=files, limit=limit)
    return [
        _problem(row, where, f"simplerl_zoo/{difficulty}/{split}/{index:05d}")
        for index, (where, row) in enumerate(rows)
    ]


def _problem(row: Mapping[str, Any], where: str, id: str) -> Problem:
    asked, judged = mapping_field(row, "extra_info", where), mapping_field(row, "reward_model", where)
    return Problem(
        id=id,
        messages=ask(text_field(asked, "question", f"{where}: 'extra_info'")),
        answer=answer_field(judged, "ground_truth", f"{where}: 'reward_model'"),
        source="simplerl_zoo",
    )
