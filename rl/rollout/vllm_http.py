"""One running vLLM server: what is asked of it over HTTP, and what its failures mean.

    T  tokens of a prompt

Everything is asked with token ids; text is never sent, nor read from an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

CONNECT_TIMEOUT_S = 5.0
RETRY_AFTER_S = (0.25, 0.5, 1.0)  # waits after a connection that failed or broke
POLL_AFTER_S = 0.5

# A server takes what a request leaves open from generation_config.json beside its model; so nothing is left open.
NEUTRAL = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class NoAnswer(Exception):  # noqa: N818
    """The server failed: it answered with a 5xx status or not in time. Another one may do better."""


class Gone(NoAnswer):
    """There is no connection to the server, or it broke."""


class Refused(RuntimeError):  # noqa: N818
    """A 4xx status: what was asked for is wrong, and no other server would answer it."""


@dataclass(frozen=True)
class Deadline:
    """How long a call may take, and the recipe key that says so."""

    key: str
    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"{self.key} must be above 0 seconds, got {self.seconds}")

    def __str__(self) -> str:
        return f"{self.key}={self.seconds:g}"


@contextlib.asynccontextmanager
async def connected(servers: Sequence[VLLMServer]) -> AsyncIterator[None]:
    """Inside, the servers can be called: directly, whatever proxy the environment names. Deadlines bound each call."""
    timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(trust_env=False, timeout=timeout, limits=limits) as client:
        for server in servers:
            server.client, server.in_flight = client, 0
        yield


class VLLMServer:
    """A server by its URL, with what is known of its state. Every method raises NoAnswer where the server fails."""

    def __init__(self, url: str) -> None:
        """ValueError for a URL that is not of the form http://HOST:PORT."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(
                f"rollout.urls must be like http://127.0.0.1:8000, without a path such as /v1, got {url!r}"
            )
        self.url = url.rstrip("/")
        self.host, self.port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self.client: httpx.AsyncClient  # of connected()
        self.in_flight = 0
        self.problem: str | None = None  # why nothing is asked of it until it gets weights again

    def __str__(self) -> str:
        return f"the vLLM server at {self.url}"

    async def call(self, path: str, body: Any = None, *, deadline: Deadline) -> Any:
        """The JSON that it answers to a POST of body, or to a GET where there is none."""
        try:
            async with asyncio.timeout(deadline.seconds):
                response = await self._send(path, body)
        except TimeoutError as error:
            raise NoAnswer(f"did not answer {path} within {deadline}; raise it if the server is only slow") from error
        if response.status_code >= 500:
            raise NoAnswer(f"answered {path} with {response.status_code}: {_words(response)}")
        if response.status_code >= 400:
            raise Refused(f"{self} refused {path} with {response.status_code}: {_words(response)}")
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise NoAnswer(f"answered {path} with what is no JSON: {_words(response)}") from error

    async def _send(self, path: str, body: Any) -> httpx.Response:
        # Sending twice is safe: a seeded completion is the same again, and so are weights.
        for wait_s in (*RETRY_AFTER_S, None):
            try:
                if body is None:
                    return await self.client.get(self.url + path)
                return await self.client.post(self.url + path, json=body)
            except httpx.TransportError as error:
                if wait_s is None:
                    raise Gone(f"has no connection: {_kind(error)}") from error
                await asyncio.sleep(wait_s)
        raise AssertionError

    async def wait_until_up(self, deadline: Deadline, say: Callable[[str], None]) -> None:
        """It may still be starting. NoAnswer after the deadline; says once that it waits."""
        end = time.monotonic() + deadline.seconds
        said = False
        while True:
            try:
                response = await self.client.get(self.url + "/health", timeout=CONNECT_TIMEOUT_S)
                if response.status_code == 200:
                    return
                seen = f"{response.status_code} {_words(response)}"
            except httpx.TransportError as error:
                seen = _kind(error)
            if time.monotonic() > end:
                raise NoAnswer(f"has not come up within {deadline}: {seen}")
            if not said:
                say(f"waiting for {self} ({deadline})")
            said = True
            await asyncio.sleep(POLL_AFTER_S)

    async def complete(self, token_ids: Sequence[int], options: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """One completion of a prompt [T], as vLLM tells it: token_ids, logprobs, finish_reason, stop_reason."""
        body = NEUTRAL | options | {"prompt": list(token_ids), "return_token_ids": True}
        answer = await self.call("/v1/completions", body, deadline=deadline)
        choice: dict[str, Any] = answer["choices"][0]
        if choice["prompt_token_ids"] != list(token_ids):
            raise RuntimeError(f"{self} has sampled from another prompt than it was sent")
        if choice["finish_reason"] not in ("stop", "length"):  # "abort": it is shutting down
            raise NoAnswer(f"ended a completion with {choice['finish_reason']!r}")
        if choice["finish_reason"] == "length" and len(choice["token_ids"]) != options["max_tokens"]:
            raise RuntimeError(
                f"{self} has cut a completion at {len(choice['token_ids'])} tokens, {options['max_tokens']} were asked "
                "for: start it with --generation-config vllm"
            )
        return choice

    async def probe(self, token_ids: Sequence[int], deadline: Deadline) -> list[float]:
        """Log-probabilities of all these tokens but the first, at temperature 1: [T - 1], nats."""
        options = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        rows = (await self.complete(token_ids, options, deadline))["prompt_logprobs"][1:]
        return [float(row[str(token)]["logprob"]) for row, token in zip(rows, token_ids[1:], strict=True)]

    async def likeliest(self, token_ids: Sequence[int], temperature: float, deadline: Deadline) -> dict[str, float]:
        """Some tokens that may follow the prompt, and the log-probabilities it reports for them, nats."""
        options = {"max_tokens": 1, "temperature": temperature, "seed": 0}
        options |= {"logprobs": 5, "return_tokens_as_token_ids": True}
        choice = await self.complete(token_ids, options, deadline)
        found: dict[str, float] = choice["logprobs"]["top_logprobs"][0]
        return found

    # ------------------------------------------------------------------ needs VLLM_SERVER_DEV_MODE=1

    async def version(self, deadline: Deadline) -> str:
        """The name its weights were given, "default" since its start."""
        return str((await self.call("/weight_info", deadline=deadline))["weight_version"])

    async def copies(self, deadline: Deadline) -> int:
        """Data-parallel copies of the model behind this URL."""
        path = "/get_world_size?include_dp="
        one, every = [(await self.call(path + flag, deadline=deadline))["world_size"] for flag in ("false", "true")]
        return int(every // one)

    async def name_version(self, version: str, deadline: Deadline) -> None:
        await self.call("/update_weight_version", {"new_version": version}, deadline=deadline)

    async def reload(self, directory: str, deadline: Deadline) -> None:
        """Takes the safetensors of a directory. A server that fails here may be unusable until it is started again."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": directory}}
        await self.call("/collective_rpc", body, deadline=deadline)

    async def reset_prefix_cache(self, deadline: Deadline) -> None:
        """Forgets what old weights computed. Waits for requests that were given up and still hold some of it."""
        end = time.monotonic() + deadline.seconds
        while not (await self.call("/reset_prefix_cache", {}, deadline=deadline))["success"]:
            if time.monotonic() > end:
                raise NoAnswer(f"did not reset its prefix cache within {deadline}: some request still runs there")
            await asyncio.sleep(POLL_AFTER_S)


def _kind(error: httpx.TransportError) -> str:
    """Some of these errors say nothing but what they are."""
    return f"{type(error).__name__} {error}".rstrip()


def _words(response: httpx.Response) -> str:
    """What an error answer says, shortened."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text
    return str(message)[:500]
