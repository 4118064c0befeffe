"""Any data set of the Hugging Face hub, by the names of its columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from data.problem import Problem
from data.rows import checked_limit, load_rows, problem_from_row, section


def hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    question: str = "question",
    answer: str = "answer",
    messages: str | None = None,
    limit: int | None = None,
) -> list[Problem]:
    """The problems of one split: `hub("openai/gsm8k", config="main", split="test")`.

    `question`, `answer` and `messages` name columns, as in data/jsonl.py; every other column goes to metadata.
    Ids are "<name>/<split>/00017". `name` may also be a local directory that holds parquet, CSV or JSON files.
    """
    key = f"{section(split)}.<name>.name"
    instead = f"download it once on a machine with network, or give {key}=DIRECTORY"
    return [
        problem_from_row(
            row,
            f"{name} {split} row {index}",
            id=f"{name}/{split}/{index:05d}",
            source=name,
            question=question,
            answer=answer,
            messages=messages,
        )
        for index, row in enumerate(load_split(name, config, split, checked_limit(limit, key), instead))
    ]


def published(
    name: str,
    split: str,
    *,
    path: str | None,
    key: str,
    config: str | None = None,
    files: str | None = None,
    limit: int | None = None,
    instead: str | None = None,
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a known data set with where each stands: of the local file `path`, or of the hub's `name`.

    `key` names the data set in a recipe, "data.train.gsm8k". `files`: which file on the hub holds the split, where
    the data set does not say so itself. `instead`: as in load_split; None: download the file from the hub's page.
    """
    if path is not None:
        yield from load_rows(path, f"{key}.path", limit)
        return
    page = f"https://huggingface.co/datasets/{name}/tree/main"
    instead = instead or f"download {files or f'the file of its {split} split'} from {page} and give {key}.path=FILE"
    rows = load_split(name, config, split, checked_limit(limit, f"{key}.path"), instead, files)
    yield from ((f"{name} {split} row {index}", row) for index, row in enumerate(rows))


def load_split(
    name: str, config: str | None, split: str, limit: int | None, instead: str, files: str | None = None
) -> list[Mapping[str, Any]]:
    """The first `limit` rows of one split, from the local cache if it is there.

    `instead`: what to do where the hub is out of reach; the error ends with it.
    """
    from datasets import load_dataset  # takes a second to import, and most runs read local files
    from datasets.exceptions import DatasetsError

    what = f"{name} (config {config or 'default'}, split {split})"
    try:
        rows = load_dataset(name, config, split=split, data_files=None if files is None else {split: files})
    except OSError as error:
        raise ValueError(f"cannot load {what} from the hub or from the cache {cache()}: {error}; {instead}") from error
    except (ValueError, DatasetsError) as error:
        raise ValueError(f"cannot load {what}: {error}") from error
    return list(rows if limit is None else rows.select(range(min(limit, len(rows)))))


def cache() -> str:
    """Where the datasets library keeps what it downloaded."""
    from datasets.config import HF_DATASETS_CACHE

    return os.fspath(HF_DATASETS_CACHE)
