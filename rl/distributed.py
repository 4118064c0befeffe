"""Ranks and the collectives we use. Every function here but rank() and world_size() must be called by all ranks."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def rank() -> int:
    """This process's place among all, 0 where torchrun did not start us."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together, 1 where torchrun did not start us."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none."""
    import torch  # here and below: a mistyped recipe is answered before seconds of imports

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


def start() -> None:
    """Collective: joins the ranks. Objects and CPU tensors travel by gloo, GPU tensors by NCCL (RCCL on AMD)."""
    describe_single_process()
    if world_size() == 1:
        return
    import torch.distributed as dist

    device = local_device()
    if device.type == "cuda":
        import torch

        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leaves the group that start() joined; without it a rank that ends early may abort the others' last words."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Collective: waits until every rank is here."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.barrier()


def gather(value: T) -> list[T]:
    """Collective: every rank's value (anything that pickles, small), in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


class FailedTogether(RuntimeError):  # noqa: N818
    """An error of one rank, raised on every rank: none waits for another, and all can still save together."""


def raise_together(error: BaseException | None) -> None:
    """Collective: raises FailedTogether on every rank if any rank brings an error."""
    messages = gather(None if error is None else _in_words(error))
    failed = {message: i for i, message in reversed(list(enumerate(messages))) if message is not None}
    if len(failed) == 1 and (world_size() == 1 or None not in messages):
        raise FailedTogether(next(iter(failed))) from error
    if failed:
        raise FailedTogether("\n".join(f"rank {i}: {message}" for message, i in failed.items())) from error


def _in_words(error: BaseException) -> str:
    """A ValueError speaks for itself; of others the type is half of what they say."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Collective at its end: an exception inside, on any rank, becomes FailedTogether on all of them."""
    error: Exception | None = None
    try:
        yield
    except FailedTogether:  # from a collective inside: every rank has it already
        raise
    except Exception as caught:
        error = caught
    raise_together(error)
