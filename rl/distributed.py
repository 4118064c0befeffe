"""Ranks and the collectives we use. Every function here but rank() and world_size() must be called by all ranks."""

from __future__ import annotations

import os
import socket
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def rank() -> int:
    """This process's place among all, 0 where torchrun did not start us."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together, 1 where torchrun did not start us."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def describe_single_process() -> None:
    """Fills in what torchrun would have set, for a process started without it: a world of one."""
    if "RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    os.environ.update(alone | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})


def barrier() -> None:
    """Collective: waits until every rank is here."""
    if world_size() > 1:
        dist.barrier()


def gather(value: T) -> list[T]:
    """Collective: every rank's value (anything that pickles, small), in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def raise_together(error: BaseException | None) -> None:
    """Collective: raises on every rank if any rank brings an error, so that none waits for the failed one."""
    messages = gather(None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for other, message in enumerate(messages):
        if message is not None:
            raise RuntimeError(f"rank {other} failed: {message}")
