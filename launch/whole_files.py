"""Results on disk, whole or not at all, and an error that names the option to change where that cannot be done."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def naming(option: str, path: Path) -> Iterator[None]:
    """What the operating system refuses (a full disk, missing rights) becomes a ValueError with option and file."""
    try:
        yield
    except OSError as error:
        file = f"{error.filename} " if error.filename not in (None, str(path)) else ""
        raise ValueError(f"{option}={path} cannot be written: {file}{error.strerror or error}") from error


def check_writable(option: str, path: Path) -> None:
    """ValueError where `path` could not be written: better before the work than after it."""
    if path.is_dir():
        raise ValueError(f"{option}={path}: it is a directory")
    if not path.parent.is_dir():
        raise ValueError(f"{option}={path}: there is no {path.parent}")
    with naming(option, path):
        if path.exists():
            path.open("ab").close()
        if _is_ordinary(path):
            try_directory(path.resolve().parent)


def try_directory(directory: Path) -> None:
    """OSError where no file can be made there. The one that is tried does not stay."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".tried_") as file:
        file.write(b"x")
        file.flush()


def write_whole(path: Path, text: str) -> None:
    """To a file beside it, which is then renamed: what was there stays until the new one is complete.

    Raises OSError. A device or pipe (/dev/stdout) is written to as it is.
    """
    if not _is_ordinary(path):
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _is_ordinary(path: Path) -> bool:
    return path.is_file() or not path.exists()
