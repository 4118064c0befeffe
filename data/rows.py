"""Rows of files and hub data sets, and what is wrong with the rows that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from data.problem import Message, Problem, ask

ROLES = ("system", "user", "assistant")


def load_rows(path: str | Path, key: str, limit: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a file with where it stands, ("train.jsonl line 3", {...}).

    FILE.parquet and FILE.json (one array of objects) are read as such, every other name as JSON Lines, where blank
    lines are skipped. `key` is the recipe key that named the file; it is what an error about the file tells the user
    to change.
    """
    found = False
    for row in islice(_parse(existing_file(path, key)), checked_limit(limit, key)):
        found = True
        yield row
    if not found:
        raise ValueError(f"{key}={path}: the file has no rows")


def section(split: str) -> str:
    """The part of a recipe that a split is usually named in, for errors to point to."""
    return "data.train" if split == "train" else "eval.data"


def existing_file(path: str | Path, key: str) -> Path:
    """The path as a file that exists, "~" expanded."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise ValueError(f"{key}={path} is a directory; name the file in it")
    if file.exists() and not file.is_file():
        raise ValueError(f"{key}={path} is a device or a pipe; name an ordinary file, which can be read again")
    if not file.is_file():
        raise ValueError(f"{key}={path}: no such file (looked for {file.absolute()})")
    return file


def checked_limit(limit: int | None, key: str) -> int | None:
    """`limit` if it asks for at least one row or for all of them (None)."""
    if limit is not None and limit < 1:
        raise ValueError(f"{key.rsplit('.', 1)[0]}.limit must be at least 1, or null for all rows, got {limit}")
    return limit


def _parse(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    match file.suffix:
        case ".parquet":
            return _parse_parquet(file)
        case ".json":
            return _parse_array(file)
        case _:
            return _parse_lines(file)


def _parse_parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from pyarrow import ArrowException  # comes with the datasets library; half a second, and most runs read JSON Lines
    from pyarrow.parquet import ParquetFile

    try:
        index = 0
        for batch in ParquetFile(file).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                yield f"{file} row {index}", row
                index += 1
    except ArrowException as error:
        raise ValueError(f"{file} cannot be read as parquet: {error}") from error


def _parse_array(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not JSON ({error}); a file of one object a line is named .jsonl") from error
    if not isinstance(rows, list):
        raise ValueError(f"{file} must hold an array of objects, found {type(rows).__name__}")
    for index, row in enumerate(rows):
        yield f"{file} row {index}", checked_row(row, f"{file} row {index}")


def _parse_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{file} line {number}"
                yield where, parse_row(line, where)


def parse_row(line: bytes, where: str) -> dict[str, Any]:
    """One line as a JSON object."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg} at column {error.colno}): {shorten(line)}") from error
    return checked_row(row, where)


def checked_row(row: object, where: str) -> dict[str, Any]:
    """The row, if it is an object."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row must be a JSON object, found {type(row).__name__}: {shorten(row)}")
    return row


def text_field(row: Mapping[str, Any], name: str, where: str) -> str:
    """The non-empty text in column `name`."""
    value = field(row, name, where)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name!r} must be a text, found {type(value).__name__}: {shorten(value)}")
    if not value.strip():
        raise ValueError(f"{where}: {name!r} is empty")
    return value


def answer_field(row: Mapping[str, Any], name: str, where: str) -> str:
    """The answer in column `name` as text; numbers are written as JSON writes them, so 7 is "7" and 0.5 is "0.5"."""
    value = field(row, name, where)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        found = f"{type(value).__name__}: {shorten(value)}"
        raise ValueError(f"{where}: {name!r} must be a text or a number, found {found}")
    if not str(value).strip():
        raise ValueError(f"{where}: {name!r} is empty")
    return str(value)


def messages_field(row: Mapping[str, Any], name: str, where: str) -> tuple[Message, ...]:
    """The conversation in column `name`: [{"role": ..., "content": ...}, ...], the last one the user's."""
    value = field(row, name, where)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: {name!r} must be a list of messages, found {shorten(value)}")
    messages = tuple(_message(item, f"{where}: {name!r} message {turn}") for turn, item in enumerate(value, start=1))
    if messages[-1]["role"] != "user":
        raise ValueError(f"{where}: {name!r} must end with the user's message, ends with {messages[-1]['role']!r}")
    return messages


def _message(item: object, where: str) -> Message:
    if not isinstance(item, dict) or not isinstance(item.get("content"), str) or item.get("role") not in ROLES:
        raise ValueError(
            f'{where} must be {{"role": one of {", ".join(ROLES)}, "content": text}}, found {shorten(item)}'
        )
    if not item["content"].strip():
        raise ValueError(f"{where} has no content")
    return {"role": item["role"], "content": item["content"]}


def field(row: Mapping[str, Any], name: str, where: str) -> Any:
    """The value in column `name`, whatever it is."""
    if name not in row:
        raise ValueError(f"{where}: no column {name!r}; the row has {', '.join(map(repr, row)) or 'none'}")
    return row[name]


def mapping_field(row: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """The columns within column `name`."""
    value = field(row, name, where)
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {name!r} must be an object, found {type(value).__name__}: {shorten(value)}")
    return value


def without(row: Mapping[str, Any], used: Iterable[str]) -> dict[str, Any]:
    """The columns of a row that became neither question nor answer."""
    names = set(used)
    return {name: value for name, value in row.items() if name not in names}


def shorten(value: object, width: int = 80) -> str:
    """A value as it looks in an error, cut to `width` characters."""
    text = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def problem_from_row(
    row: Mapping[str, Any],
    where: str,
    *,
    id: str,
    source: str,
    question: str = "question",
    answer: str = "answer",
    messages: str | None = None,
) -> Problem:
    """A problem from the columns so named. With `messages` the conversation is read and `question` is not.

    Columns that became neither go to metadata.
    """
    asked = question if messages is None else messages
    return Problem(
        id=id,
        messages=ask(text_field(row, question, where)) if messages is None else messages_field(row, messages, where),
        answer=answer_field(row, answer, where),
        source=source,
        metadata=without(row, (asked, answer)),
    )
