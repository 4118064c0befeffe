"""Rollouts by vLLM servers over HTTP, one or several, which somebody else has started.

One request a completion, with a seed of its own; whichever server answers, the completion is the same. After each
update rank 0 writes the weights where the servers can read them, and every server must show that it computes with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
import uuid
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rl import distributed
from rl.experience import Completion, Group, Prompt, SamplingParams
from rl.policy import local_or_hub
from rl.rollout import Finished
from rl.rollout.sampling import row_seed
from rl.rollout.vllm_common import WeightCheck, check_fits, model_skeleton, sampling_options, shapes_of, to_completion
from rl.rollout.vllm_http import Deadline, Gone, NoAnswer, Refused, VLLMServer, connected

SHARED_MEMORY = Path("/dev/shm")  # where the servers run on this machine
SHARD_BYTES = 1 << 31  # of weights that rank 0 copies before it writes them
WEIGHTS_DIR = "rollout.weights_dir must be a directory that rank 0 can write and every server can read"  # in errors

T = TypeVar("T")


class ServerRollout:
    """vLLM servers behind our protocol. The log-probabilities are VLLMRollout's."""

    def __init__(
        self,
        model_path: str,
        tokenizer: PreTrainedTokenizerBase,
        dtype: str,
        *,
        urls: list[str],
        weights_dir: str | None = None,
        max_concurrent: int = 256,
        request_timeout_s: float = 600.0,
        sync_timeout_s: float = 300.0,
        start_timeout_s: float = 300.0,
    ) -> None:
        """Collective. Waits for the servers, and refuses one that was not started as docs/rollouts.md says.

        urls: like http://127.0.0.1:8000. weights_dir: a directory that rank 0 and all servers see under this name;
        null: /dev/shm, if the servers run on this machine. max_concurrent: requests that a rank has under way, all
        servers together. request_timeout_s bounds one completion, waiting at the server included; sync_timeout_s each
        step of handing over weights; start_timeout_s the wait for a server that is still starting.
        """
        if not urls:
            raise ValueError("rollout.urls names no server; for example rollout.urls=[http://127.0.0.1:8000]")
        if max_concurrent < 1:
            raise ValueError(f"rollout.max_concurrent must be at least 1, got {max_concurrent}")
        self.tokenizer, self.policy_step = tokenizer, 0
        self.model_path, self.max_concurrent = local_or_hub(model_path), max_concurrent
        self.servers = [VLLMServer(url) for url in urls]
        self._request = Deadline("rollout.request_timeout_s", request_timeout_s)
        self._sync = Deadline("rollout.sync_timeout_s", sync_timeout_s)
        self._start = Deadline("rollout.start_timeout_s", start_timeout_s)
        self.check = WeightCheck(model_path, dtype)
        self.probe_ids = self.check.probe_ids
        self._probed: dict[VLLMServer, list[float]] = {}  # on rank 0: what the probe gave with the last weights
        self._version = ""  # the name of the last weights, which no other run gives
        self._run = uuid.uuid4().hex[:12]
        with distributed.together():
            if distributed.rank() == 0:
                self._directory = _shared_directory(weights_dir, self.servers, self._run)
                weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
            self.max_model_len = asyncio.run(self._meet())

    def awake(self) -> AbstractContextManager[None]:
        """The servers' memory is theirs."""
        return nullcontext()

    # ------------------------------------------------------------------ completions

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None = None
    ) -> list[Group]:
        """Each completion is handed to `finished` as it arrives. RuntimeError when no server is left."""
        assert self._version, "the servers have no weights of this run: load_weights comes first"
        check_fits(prompts, params, self.max_model_len, "start the servers with a larger --max-model-len")
        done = asyncio.run(self._generate(prompts, params, seed, finished))
        places = range(params.completions)
        return [Group(prompt, tuple(done[i, place] for place in places)) for i, prompt in enumerate(prompts)]

    async def _generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, seed: int, finished: Finished | None
    ) -> dict[tuple[int, int], Completion]:
        """(place of the prompt, place in its group) -> completion."""
        slots = asyncio.Semaphore(self.max_concurrent)
        done: dict[tuple[int, int], Completion] = {}

        async def sample(i: int, place: int) -> None:
            options = sampling_options(params, row_seed(seed, prompts[i].index, place))
            async with slots:
                done[i, place] = await self._complete(prompts[i].token_ids, options)
            if finished is not None:
                finished(i, place, done[i, place])

        async with connected(self.servers):
            await self._each(self._leave_out_if_replaced, spared=NoAnswer)
            await all_of([sample(i, place) for i in range(len(prompts)) for place in range(params.completions)])
            await self._each(self._refuse_if_replaced, spared=NoAnswer)
        return done

    async def _complete(self, token_ids: Sequence[int], options: dict[str, Any]) -> Completion:
        """From the server with the fewest requests in flight; where that one fails, from another."""
        while True:
            server = min(self._left(), key=lambda server: server.in_flight)
            server.in_flight += 1
            try:
                choice = await server.complete(token_ids, options, self._request)
            except NoAnswer as error:
                self._leave_out(server, str(error))
                continue
            finally:
                server.in_flight -= 1
            return to_completion(
                self.tokenizer, choice["token_ids"], choice["logprobs"]["token_logprobs"],
                choice["finish_reason"], choice["stop_reason"], self.policy_step,
            )  # fmt: skip

    async def _leave_out_if_replaced(self, server: VLLMServer) -> None:
        """A server that was started again has the weights that it started with, until it is given others."""
        found = await server.version(self._request)
        if found != self._version:
            self._leave_out(server, self._replaced(found))

    async def _refuse_if_replaced(self, server: VLLMServer) -> None:
        """RuntimeError where some completions may have been sampled from weights that came in between."""
        found = await server.version(self._request)
        if found != self._version:
            raise RuntimeError(f"{server} {self._replaced(found)}")

    def _replaced(self, found: str) -> str:
        return (
            f"has weights {found!r} instead of {self._version!r}: it was started again, or another run uses it too, "
            "and must not: rollout.urls"
        )

    # ------------------------------------------------------------------ weights

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> None:
        """Collective: rank 0 writes the weights and has every server read them. A server that is gone is left out.

        FailedTogether for an incomplete or foreign set of weights, for a server that does not take them, and for one
        whose log-probabilities they did not move.
        """
        version = f"{self._run} step {policy_step}"
        for server in self.servers:
            server.problem = None
        with distributed.together():
            with exhausted(weights) as gathered:
                if distributed.rank() == 0:
                    directory = self._write(gathered, policy_step)
            if distributed.rank() == 0:
                try:
                    asyncio.run(self._push(directory, version, policy_step))
                finally:
                    shutil.rmtree(directory)
        self._version, problems = distributed.gather((version, [server.problem for server in self.servers]))[0]
        for server, problem in zip(self.servers, problems, strict=True):
            server.problem = problem
        self.policy_step = policy_step

    def _write(self, weights: Iterable[tuple[str, Tensor]], policy_step: int) -> Path:
        """A directory of safetensors files, whole or not at all."""
        directory = self._directory / f"step_{policy_step}"
        partial = directory.with_suffix(".partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of an attempt that failed
            partial.mkdir()
            for i, shard in enumerate(_shards(self.check.checked(weights))):
                save_file(shard, partial / f"model-{i:05d}.safetensors")
            self.check.complete()
            return partial.rename(directory)
        except (OSError, SafetensorError) as error:
            raise RuntimeError(f"the weights cannot be written to {partial}: {error}; {WEIGHTS_DIR}") from error

    async def _push(self, directory: Path, version: str, policy_step: int) -> None:
        """Each step on all servers at once, and then the next."""
        async with connected(self.servers):
            await self._each(lambda server: server.name_version(f"{version}, on its way", self._sync))
            before = await self._each(lambda server: server.probe(self.probe_ids, self._sync))
            await self._each(lambda server: self._reload(server, directory))
            await self._each(lambda server: server.reset_prefix_cache(self._sync))
            after = await self._each(lambda server: server.probe(self.probe_ids, self._sync))
            await self._each(lambda server: server.name_version(version, self._sync))
        for server in self._left():
            self.check.refuse_unmoved(str(server), before[server], after[server], policy_step)
        self._probed = {server: after[server] for server in self._left()}

    async def _reload(self, server: VLLMServer, directory: Path) -> None:
        try:
            await server.reload(str(directory), self._sync)
        except Gone:
            raise
        except NoAnswer as error:
            raise RuntimeError(
                f"{server} did not take the weights: it {error}. It must serve {self.model_path} and see {directory}: "
                f"{WEIGHTS_DIR}. Start it again, for it may hold half of the weights"
            ) from error

    def check_weights(self, expected: Sequence[float], dtype: str) -> None:
        """On rank 0, which has probed the servers as it gave them the weights; nothing on the others."""
        for server, probed in self._probed.items():
            self.check.refuse_other(str(server), probed, expected, dtype, self.policy_step)

    # ------------------------------------------------------------------ servers

    def _left(self) -> list[VLLMServer]:
        """The servers without a problem. RuntimeError where there is none."""
        left = [server for server in self.servers if server.problem is None]
        if not left:
            seen = "; ".join(f"{server.url} {server.problem}" for server in self.servers)
            raise RuntimeError(f"no vLLM server of rollout.urls is left: {seen}")
        return left

    def _leave_out(self, server: VLLMServer, problem: str) -> None:
        """Nothing is asked of it until the next weights."""
        if server.problem is None:
            server.problem = problem
            print(f"{server} {problem}; it is left out until the next weights", flush=True)

    async def _each(
        self, act: Callable[[VLLMServer], Awaitable[T]], spared: type[NoAnswer] = Gone
    ) -> dict[VLLMServer, T]:
        """What each server gives, all asked at once. One that fails as `spared` says is left out.

        RuntimeError where one fails otherwise, or none is left.
        """

        async def attempt(server: VLLMServer) -> tuple[VLLMServer, T] | None:
            try:
                return server, await act(server)
            except spared as error:
                self._leave_out(server, str(error))
                return None
            except NoAnswer as error:
                raise RuntimeError(f"{server} {error}") from error

        given = await all_of([attempt(server) for server in self._left()])
        self._left()
        return dict(pair for pair in given if pair is not None)

    async def _meet(self) -> int:
        """Waits for every server, and inspects it. -> the smallest max_model_len."""
        async with connected(self.servers):
            return min(await all_of([self._inspect(server) for server in self.servers]))

    async def _inspect(self, server: VLLMServer) -> int:
        """-> its max_model_len. ValueError for a server that was started otherwise than needed, with the command."""
        command = start_command(server, self.model_path, self.check.dtype)
        try:
            await server.wait_until_up(self._start, lambda line: _say(f"{line}; to start it:\n  {command}"))
            await self._check_dev_mode(server)
            await self._check_copies(server)
            (card, *_) = (await server.call("/v1/models", deadline=self._request))["data"]
            await self._check_model(server, card["root"])
            await self._check_tempered(server)
        except NoAnswer as error:
            raise ValueError(f"{server} {error}. Start it, or change rollout.urls:\n  {command}") from error
        except (Refused, ValueError) as error:
            raise ValueError(f"{error}. To start it:\n  {command}") from error
        return int(card["max_model_len"])

    async def _check_dev_mode(self, server: VLLMServer) -> None:
        try:
            await server.version(self._request)
        except Refused as error:
            raise ValueError(f"{error}. It needs VLLM_SERVER_DEV_MODE=1 in its environment") from error

    async def _check_copies(self, server: VLLMServer) -> None:
        copies = await server.copies(self._request)
        if copies > 1:
            raise ValueError(
                f"{server} has {copies} data-parallel copies, and one cannot see what each computes with: start a "
                "server for each, without --data-parallel-size"
            )

    async def _check_model(self, server: VLLMServer, root: str) -> None:
        """ValueError for a smaller vocabulary, and for other parameters if its model can be seen from here."""
        size = self.check.vocabulary
        try:
            await server.probe([0, size - 1], self._request)
        except Refused as error:
            raise ValueError(f"{error}. {self.model_path} has a vocabulary of {size} tokens") from error
        if Path(root).is_dir() and shapes_of(model_skeleton(root)) != self.check.shapes:
            raise ValueError(f"{server} serves {root}, whose parameters are not those of {self.model_path}")

    async def _check_tempered(self, server: VLLMServer) -> None:
        """ValueError unless it tells the log-probabilities of what it samples from: at half the temperature they lie
        twice as far apart."""
        whole, half = [await server.likeliest(self.probe_ids, t, self._request) for t in (1.0, 0.5)]
        both = whole.keys() & half.keys()
        spread, doubled = (max(one[t] for t in both) - min(one[t] for t in both) for one in (whole, half))
        if doubled < 1.5 * spread:
            raise ValueError(
                f"{server} reports log-probabilities that know nothing of the temperature: it needs "
                "--logprobs-mode processed_logprobs"
            )


@contextlib.contextmanager
def exhausted(weights: Iterable[tuple[str, Tensor]]) -> Iterator[Iterator[tuple[str, Tensor]]]:
    """Takes what is left of the weights at the end, after an error too: the other ranks gather them with this one."""
    remaining = iter(weights)
    try:
        yield remaining
    finally:
        for _ in remaining:
            pass


async def all_of(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each of them returns. Where one raises the others are cancelled, and the first error comes through alone."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]


def _shards(weights: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Copies on the CPU, SHARD_BYTES or a little more at a time."""
    shard: dict[str, Tensor] = {}
    for name, tensor in weights:
        shard[name] = tensor.to("cpu", copy=True).contiguous()
        if sum(copy.nbytes for copy in shard.values()) >= SHARD_BYTES:
            yield shard
            shard = {}
    if shard:
        yield shard


def _shared_directory(weights_dir: str | None, servers: Sequence[VLLMServer], run: str) -> Path:
    """A new directory of this run that the servers can read. ValueError where there can be none."""
    if weights_dir is None and not all(_is_loopback(server.host) for server in servers):
        raise ValueError(f"rollout.urls names servers on other machines, so {WEIGHTS_DIR}; got null")
    parent = SHARED_MEMORY if weights_dir is None else Path(weights_dir).expanduser().resolve()
    directory = parent / f"reasoning-rl-weights-{run}"
    try:
        directory.mkdir(mode=0o700 if weights_dir is None else 0o777)
    except OSError as error:
        raise ValueError(f"{directory} cannot be made: {error.strerror}; {WEIGHTS_DIR}, got {weights_dir}") from error
    return directory


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def start_command(server: VLLMServer, model_path: str, dtype: str) -> str:
    """What to type for a server that fits the recipe."""
    return (
        f"VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model {model_path} "
        f"--host {server.host} --port {server.port} --dtype {dtype} --logprobs-mode processed_logprobs"
    )


def _say(text: str) -> None:
    if distributed.rank() == 0:
        print(text, flush=True)
