"""Where metrics go: a file of JSON lines (always), wandb, TensorBoard. All of it on rank 0 only.

A sink has `log(step, metrics)` and `close()`. The console (rl/console.py) is one too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import netrc
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlparse

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes the metrics of a step, once or several times for the same step, steps never falling."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Tracker:
    """Hands every row to every sink. A `with` block closes them."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = tuple(sinks)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for sink in self.sinks:
            sink.log(step, metrics)

    def close(self) -> None:
        """Closes every sink, also after one that fails."""
        with ExitStack() as stack:
            for sink in reversed(self.sinks):
                stack.callback(sink.close)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonLines:
    """metrics.jsonl: one object a step, "step" first; on disk after every call, so that others can read along."""

    def __init__(self, path: str | Path, next_step: int = 0) -> None:
        """Keeps the rows before `next_step`: 0 starts anew, a resumed run gives the first step that it will do."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_metrics(path) if row["step"] < next_step] if next_step else []
        kept = path.with_name(f".{path.name}.tmp")
        kept.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
        kept.replace(path)
        self._row: dict[str, Any] = rows[-1] if rows else {}  # the last row, to which a second call may add
        self._file = path.open("r+", encoding="ascii")
        last_bytes = len(json.dumps(self._row)) + 1 if rows else 0
        self._start = self._file.seek(path.stat().st_size - last_bytes)  # where the last row begins
        self._file.seek(0, os.SEEK_END)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds a row, or adds to the last row if it has the same step. NaN and infinity are written as null."""
        last = self._row.get("step", -1)
        if step < last:
            raise ValueError(f"metrics of step {step} come after those of step {last}")
        if step > last:
            self._start = self._file.seek(0, os.SEEK_END)
            self._row = {"step": step}
        self._row |= {name: _json_number(value) for name, value in metrics.items()}
        self._write()

    def _write(self) -> None:
        self._file.seek(self._start)
        self._file.write(json.dumps(self._row, allow_nan=False) + "\n")
        self._file.truncate()
        self._file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk, of which the last row has told
            self._file.close()


def _json_number(value: float) -> float | int | None:
    if isinstance(value, int):
        return int(value)
    return float(value) if math.isfinite(value) else None


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, none if there is no file. A last line that was cut short is left out."""
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append({"step": int(json.loads(line)["step"])} | json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            if number < len(lines):
                raise ValueError(f'{path}:{number}: needs an object with "step", got {line[:80]!r}') from error
    return rows


class TensorBoard:
    """Event files for `tensorboard --logdir`."""

    def __init__(self, directory: str | Path, next_step: int = 0) -> None:
        """A resumed run gives its next step: what the interrupted run wrote from there on is hidden."""
        from torch.utils.tensorboard import SummaryWriter  # a second of imports that other sinks do not need

        self._writer: Any = SummaryWriter(str(directory), purge_step=next_step or None)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Weights & Biases, in a thread of its own: training never waits for the network, nor fails with it.

    Online only where someone has logged in (WANDB_API_KEY or netrc) and WANDB_MODE does not say otherwise; else
    offline, for `wandb sync` later. Never asks. What goes wrong is one warning, and the rows are in metrics.jsonl.
    """

    def __init__(
        self,
        directory: str | Path,
        project: str = "reasoning-rl",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        close_timeout_s: float = 30.0,
    ) -> None:
        """`directory` is the run's; wandb makes its own inside at the first row. `config` is shown with the run."""
        self._directory, self._project, self._name = Path(directory), project, name
        self._config = dict(config or {})
        self._close_timeout_s = close_timeout_s
        self._rows: queue.SimpleQueue[tuple[int, dict[str, float]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._thread.start()
        self._rows.put((step, dict(metrics)))

    def close(self) -> None:
        """Waits at most `close_timeout_s` for the rest to be written or sent."""
        if self._thread is None:
            return
        self._rows.put(None)
        self._thread.join(self._close_timeout_s)
        if self._thread.is_alive():
            logger.warning("wandb was not done after %g s; its files are in %s", self._close_timeout_s, self._directory)

    def _work(self) -> None:
        try:
            run = self._start()
            while (row := self._rows.get()) is not None:
                step, metrics = row
                run.log(metrics, step=step)
            run.finish()
        except Exception as error:  # a service beside the run: the run goes on, and says so
            logger.warning("wandb stopped, the run goes on: %s: %s", type(error).__name__, error)

    def _start(self) -> Any:
        mode = wandb_mode(os.environ)
        try:
            return self._init(mode)
        except Exception as error:
            if mode != "online":
                raise
            logger.warning("wandb cannot go online, keeps the run offline: %s", error)
            return self._init("offline")

    def _init(self, mode: str) -> Any:
        import wandb  # half a second, and only for those who use it

        self._directory.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            console="off",  # the live bar and wandb's capture of stdout do not go together
            init_timeout=self._close_timeout_s / 2,  # half: time to go offline instead before `close` gives up
            disable_git=True,
        )
        return wandb.init(
            dir=str(self._directory),
            project=self._project,
            name=self._name,
            config=self._config,
            mode=mode,  # type: ignore[arg-type]
            settings=settings,
        )


def wandb_mode(environ: Mapping[str, str]) -> str:
    """WANDB_MODE if it is set, else online for who has logged in, else offline. Never online without a key."""
    wanted = environ.get("WANDB_MODE", "").lower()
    if wanted and wanted not in ("online", "run"):
        return {"dryrun": "offline"}.get(wanted, wanted)
    if _has_key(environ):
        return "online"
    if wanted:
        logger.warning("WANDB_MODE=%s, but nobody is logged in: offline. `wandb login` or set WANDB_API_KEY", wanted)
    return "offline"


def _has_key(environ: Mapping[str, str]) -> bool:
    if environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        file = environ.get("NETRC", os.path.expanduser("~/.netrc"))
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
