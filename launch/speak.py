"""Errors as one message, said once, by the ranks together."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rl import distributed
from rl.distributed import FailedTogether


@contextlib.contextmanager
def explaining_errors() -> Iterator[None]:
    """A ValueError is what a user can mend, the others what stopped a run: a message, no traceback. Exit code 2.

    So is an OSError such as that of a full disk.
    """
    try:
        yield
    except (ValueError, OSError, FailedTogether, FloatingPointError) as error:
        if os.environ.get("TRACEBACK"):
            raise
        message = f"error: {error}"
        if distributed.rank() == 0:
            print(f"\n{message}\n(TRACEBACK=1 shows where it was raised)", file=sys.stderr, flush=True)
        _tell_torchrun(message)
        sys.exit(2)


def _tell_torchrun(message: str) -> None:
    """torchrun closes with a report of its own; through this file it has the message instead of "see the docs"."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        extra = {"timestamp": str(int(time.time()))}
        Path(file).write_text(json.dumps({"message": {"message": message, "extraInfo": extra}}))
