"""Programs run by a sandbox server: SandboxFusion's POST /run_code, or an interpreter's POST /execute in E2B's style.

Each test is one request; expected outputs are compared here, as with the local sandbox. A function's value comes back
as the last line of the output that begins with a mark drawn at random for each run.

SandboxFusion: {"code", "language", "stdin", "run_timeout", "memory_limit_MB"} -> {"status": "Success" | "Failed" |
"SandboxError", "run_result": {"status": "Finished" | "Error" | "TimeLimitExceeded", "return_code", "stdout", "stderr",
"execution_time"}}. Failed: the program failed. SandboxError: the server did.

E2B's interpreter keeps its state between requests, so what is sent to it starts the program as a process of its own:
{"code", "language"} -> lines of JSON, {"type": "stdout", "text"} as it is printed, {"type": "error", "name", "value"}.
"""

from __future__ import annotations

import inspect
import json
import marshal
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from rewards.sandbox import driver
from rewards.sandbox.limits import MIB, Limits, Ran, SandboxError

RETRIES = 3  # after the first try, on a refused connection, a busy server (429) and its errors (5xx)
FIRST_WAIT_S = 0.25  # doubled each time
ANSWER_S = 10.0  # for the server, beyond the program's own time

# Runs where the driver does not: the answer is marked, for what the program prints comes before it.
CALL = """
import json, sys
MAX_DEPTH = {max_depth}
COMMON = {common!r}
MODULES = {modules!r}
{functions}
_name, _what, _setup = {what}
_value = encode(evaluate({source!r}, _name, _what, _setup))
print("\\n" + {mark!r} + json.dumps(_value), flush=True)
"""

# For an interpreter: runs the program in a process of its own, and prints a mark and how that went.
PROCESS = """
import json, os, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as _directory:
    _file = os.path.join(_directory, "solution.py")
    with open(_file, "wb") as _opened:
        _opened.write({source!r})
    try:
        _ran = subprocess.run([sys.executable, _file], input={data!r}, capture_output=True, timeout={timeout_s})
        _told = [_ran.returncode, _ran.stdout[: {most} + 1].decode("latin-1"), _ran.stderr[-4096:].decode("latin-1")]
    except subprocess.TimeoutExpired:
        _told = None
print("\\n" + {mark!r} + json.dumps(_told), flush=True)
"""


class Remote:
    """One program on a sandbox server. Raises SandboxError where the server cannot be reached or fails."""

    def __init__(
        self, source: bytes, limits: Limits, *, url: str | None, api: Literal["sandbox_fusion", "e2b"], key: str = ""
    ) -> None:
        if not url:
            raise ValueError("sandbox=remote needs url=http://host:port, the sandbox server's")
        if api not in ("sandbox_fusion", "e2b"):
            raise ValueError(f"api must be sandbox_fusion or e2b, got {api!r}")
        self.source, self.limits, self.api = source, limits, api
        headers = {"X-Access-Token" if api == "e2b" else "Authorization": key if api == "e2b" else f"Bearer {key}"}
        timeout = httpx.Timeout(limits.timeout_s + ANSWER_S, connect=ANSWER_S)
        self._client = httpx.Client(base_url=url.rstrip("/"), headers=headers if key else {}, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def run(self, kind: str, data: bytes, *, timeout_s: float | None = None) -> Ran:
        """One test, see Sandbox.run."""
        timeout_s = min(self.limits.timeout_s, timeout_s or self.limits.timeout_s)
        if kind == "stdin":
            return self._run(self.source, data, timeout_s)
        mark = secrets.token_hex(16)
        ran = self._run(call_script(self.source, data, mark).encode("utf-8", "surrogatepass"), b"", timeout_s)
        _, found, value = ran.output.rpartition(b"\n" + mark.encode())
        return Ran(ran.how, ran.status if found else ran.status or 1, value, ran.errors, wall_s=ran.wall_s)

    def _run(self, source: bytes, given: bytes, timeout_s: float) -> Ran:
        send: Callable[[bytes, bytes, float], Ran] = self._fusion if self.api == "sandbox_fusion" else self._e2b
        ran = send(source, given, timeout_s)
        return Ran("output") if len(ran.output) > self.limits.output_mb * MIB else ran

    def _fusion(self, source: bytes, given: bytes, timeout_s: float) -> Ran:
        body = {
            "code": source.decode("utf-8", "replace"),
            "language": "python",
            "stdin": given.decode("utf-8", "replace"),
            "run_timeout": timeout_s,
            "memory_limit_MB": self.limits.memory_mb,
        }
        reply = _object(self._post("/run_code", body).text)
        result = reply.get("run_result")
        if reply.get("status") not in ("Success", "Failed") or not isinstance(result, dict):
            raise SandboxError(f"the sandbox server failed: {reply.get('status')}: {reply.get('message')}")
        status = result.get("return_code")
        return Ran(
            "time" if result.get("status") == "TimeLimitExceeded" else "exit",
            status if isinstance(status, int) else 1,
            str(result.get("stdout") or "").encode("utf-8", "surrogatepass"),
            str(result.get("stderr") or "").encode("utf-8", "surrogatepass"),
            wall_s=float(result.get("execution_time") or 0.0),
        )

    def _e2b(self, source: bytes, given: bytes, timeout_s: float) -> Ran:
        mark, most = secrets.token_hex(16), int(self.limits.output_mb * MIB)
        code = PROCESS.format(source=source, data=given, timeout_s=timeout_s, most=most, mark=mark)
        text, trouble = "", ""
        for line in filter(None, self._post("/execute", {"code": code, "language": "python"}).text.split("\n")):
            event = _object(line)
            text += str(event.get("text", "")) if event.get("type") == "stdout" else ""
            trouble = f"{event.get('name')}: {event.get('value')}" if event.get("type") == "error" else trouble
        told = text.rpartition("\n" + mark)[2].strip()
        if trouble or not told:
            raise SandboxError(f"the sandbox server did not run the program: {trouble or text[:200]}")
        if told == "null":
            return Ran("time")
        status, output, errors = json.loads(told)
        return Ran("exit", int(status), output.encode("latin-1"), errors.encode("latin-1"))

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """The server's answer, after retries."""
        wait_s, trouble = FIRST_WAIT_S, ""
        for attempt in range(RETRIES + 1):
            if attempt:
                time.sleep(wait_s)
                wait_s *= 2
            try:
                response = self._client.post(path, json=body)
            except httpx.HTTPError as error:
                trouble = f"it cannot be reached: {type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                return response
            trouble = f"it answered {response.status_code}: {response.text[:200]}"
            if response.status_code != 429 and response.status_code < 500:
                break
        raise SandboxError(f"sandbox server {self._client.base_url}: {trouble}")


def call_script(source: bytes, data: bytes, mark: str) -> str:
    """A program that prints the mark and then, as JSON, the value that the driver's "call" would return."""
    functions = "\n".join(inspect.getsource(part) for part in (driver.encode, driver.provide, driver.evaluate))
    return "from __future__ import annotations\nfrom typing import Any\n" + CALL.format(
        max_depth=driver.MAX_DEPTH,
        common=driver.COMMON,
        modules=driver.MODULES,
        functions=functions,
        what=_literal(marshal.loads(data)),
        source=source,
        mark=mark,
    )


def _literal(value: Any) -> str:
    """Python text of plain data, the floats that have no literal too."""
    return repr(value) if "inf" not in repr(value) and "nan" not in repr(value) else _with_names(value)


def _with_names(value: Any) -> str:
    if isinstance(value, float):
        return f"float({str(value)!r})"
    if isinstance(value, list):
        return f"[{', '.join(map(_with_names, value))}]"
    if isinstance(value, tuple):
        return f"({''.join(_with_names(item) + ', ' for item in value)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_with_names(key)}: {_with_names(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SandboxError(f"the sandbox server did not answer with a JSON object: {text[:200]!r}")
    return value
