"""Checkpoints: one directory = one resumable state. Written beside its place, verified, renamed.

    checkpoints/step_20/    after 20 updates
        model/              a plain Hugging Face directory
        engine/             what PolicyEngine.load needs for the same bits
        collect/            where the stream of prompts is, see rl/collect_state.py
        state.json          step, number of ranks, the resolved recipe
        manifest.json       size and sha256 of every file above

A directory under its final name is complete: a kill at any moment leaves the previous checkpoint as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl import distributed
from rl.engine import PolicyEngine


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete directory and what it says of itself."""

    directory: Path
    step: int
    world_size: int
    config: Mapping[str, Any]


def save(
    parent: Path,
    step: int,
    policy: PolicyEngine,
    tokenizer: Any,
    config: Mapping[str, Any],
    *,
    keep: int,
    write_more: Callable[[Path], None] | None = None,
) -> Path:
    """Collective: writes parent/step_<step>, then deletes all but the newest `keep`.

    write_more: called on rank 0 with the directory, for what else belongs to the state.
    """
    final, partial = parent / f"step_{step}", parent / f".step_{step}.partial"
    if final.is_dir():
        return final
    is_writer = distributed.rank() == 0
    with distributed.together():
        if is_writer:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
    with distributed.together():
        policy.save_model(partial / "model", tokenizer)
    # Not inside together(): DeepSpeed's own collectives would meet ours if one rank failed; it ends all ranks instead.
    policy.save(partial / "engine")
    with distributed.together():
        if is_writer:
            state = {"step": step, "world_size": distributed.world_size(), "config": config}
            if write_more is not None:
                write_more(partial)
            (partial / "state.json").write_text(json.dumps(state, indent=1))
            (partial / "manifest.json").write_text(json.dumps(manifest(partial), indent=1))
            _flush(partial)
            partial.rename(final)
            for old in complete(parent)[:-keep]:
                shutil.rmtree(old)
    return final


def manifest(directory: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> size and sha256, of every file but the manifest itself."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {
        str(file.relative_to(directory)): {"size_bytes": file.stat().st_size, "sha256": sha256(file)} for file in files
    }


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(directory: Path) -> None:
    """Onto the disk, so that a power cut after the rename finds whole files."""
    for path in directory.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def complete(parent: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(parent.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))


def newest(parent: Path) -> Checkpoint | None:
    """The newest checkpoint, None if there is none. ValueError if a file of it is missing or was changed."""
    directories = complete(parent)
    if not directories:
        return None
    directory = directories[-1]
    listed = directory / "manifest.json"
    recorded = json.loads(listed.read_text()) if listed.is_file() else {"manifest.json": {}}
    found = manifest(directory)
    bad = sorted(name for name in recorded if found.get(name) != recorded[name])
    if bad:
        raise ValueError(
            f"{directory} is damaged: {', '.join(bad[:3])} missing or not as written. "
            f"Delete {directory} to go on from the checkpoint before it"
        )
    state = json.loads((directory / "state.json").read_text())
    return Checkpoint(directory, state["step"], state["world_size"], state["config"])


def check_resumable(checkpoint: Checkpoint, changed: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuses a resume that would not be the same run: other ranks, or other settings (key -> (old, new))."""
    world_size = distributed.world_size()
    if checkpoint.world_size != world_size:
        raise ValueError(
            f"{checkpoint.directory} was saved by {checkpoint.world_size} ranks and cannot be resumed by {world_size}; "
            f"start torchrun with --nproc_per_node={checkpoint.world_size}, or begin a new run from its weights: "
            f"model.path={checkpoint.directory / 'model'}"
        )
    if changed:
        lines = [f"  {key}: {old} then, {new} now" for key, (old, new) in changed.items()]
        raise ValueError(
            f"{checkpoint.directory} belongs to a run with other settings:\n" + "\n".join(lines) + "\nTake them back, "
            "or start anew with another run.dir"
        )
