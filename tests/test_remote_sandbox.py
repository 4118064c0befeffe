"""code_tests on a sandbox server: a small real one here, which runs what it is sent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_code_tests import ADD, ADD_TESTS, CALL_TESTS, about, fenced

from rewards.code_tests import code_tests


class Server(ThreadingHTTPServer):
    """Answers as SandboxFusion at /run_code and as E2B's interpreter at /execute. `refusals` come first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.refusals: list[tuple[int, str]] = []
        self.bodies: list[str] = []
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.bodies.append(body)
        self.server.keys.append(self.headers.get("Authorization") or self.headers.get("X-Access-Token"))
        status, text = self.server.refusals.pop(0) if self.server.refusals else (200, "")
        if not text:
            text = {"/run_code": fusion, "/execute": e2b}[self.path](json.loads(body))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


def python(code: str, given: str | None, timeout_s: float) -> subprocess.CompletedProcess[str] | None:
    try:
        command = [sys.executable, "-I", "-c", code]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return None


def fusion(request: dict) -> str:
    ran = python(request["code"], request["stdin"], request["run_timeout"])
    if ran is None:
        return json.dumps({"status": "Failed", "message": "", "run_result": {"status": "TimeLimitExceeded"}})
    result = {"status": "Finished", "return_code": ran.returncode, "stdout": ran.stdout, "stderr": ran.stderr}
    return json.dumps({"status": "Failed" if ran.returncode else "Success", "message": "", "run_result": result})


def e2b(request: dict) -> str:
    ran = python(request["code"], None, 30.0)
    assert ran is not None
    events: list[dict] = [{"type": "number_of_executions", "execution_count": 1}]
    events += [{"type": "stdout", "text": line} for line in ran.stdout.splitlines(keepends=True)]
    if ran.returncode:
        events.append({"type": "error", "name": "Error", "value": ran.stderr[-100:], "traceback": ran.stderr})
    return "\n".join(json.dumps(event) for event in [*events, {"type": "end_of_execution"}])


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def judged(make_completion, server, monkeypatch):
    monkeypatch.setattr("rewards.sandbox.remote.FIRST_WAIT_S", 0.01)

    def judge(program, tests, **options):
        arguments = {"sandbox": "remote", "url": server.url, "timeout_s": 1.0} | options
        return code_tests(about(tests=tests), make_completion(fenced(program)), **arguments)

    return judge


@pytest.mark.parametrize("api", ["sandbox_fusion", "e2b"])
@pytest.mark.parametrize(
    ("program", "tests", "value"),
    [
        (ADD, ADD_TESTS, 1.0),
        ("print(3)", ADD_TESTS, 0.0),
        ("print(3", ADD_TESTS, 0.0),
        (ADD + "\nraise SystemExit(1)", ADD_TESTS, 0.0),
        (ADD + "\nimport sys; sys.exit(0)", ADD_TESTS, 1.0),
        ("print('\\u00e9' + input())", {"inputs": ["\u00fc"], "outputs": ["\u00e9\u00fc"]}, 1.0),
        ("while True: pass", ADD_TESTS, 0.0),
        ("def add(a, b): return a + b", CALL_TESTS, 1.0),
        ("def add(a: List[int], b): print('noise'); return a + b", CALL_TESTS, 1.0),
        ("def add(a, b): return 3", CALL_TESTS, 0.0),
        ("def add(a, b): exit()", CALL_TESTS, 0.0),
        ("def f(x): return {x: (x, 2.5)}", ["assert f('a') == {'a': ('a', 2.5)}"], 1.0),
        ("def f(x): return x", ["import math\nassert f(float('inf')) == float('inf')"], 1.0),
        ("def f(x): return x > 1e308", {"fn_name": "f", "inputs": [[float("inf")]], "outputs": [[True]]}, 1.0),
    ],
)
def test_a_program_on_a_server_gets(judged, api, program, tests, value):
    verdict = judged(program, tests, api=api)
    assert float(verdict) == value, verdict
    assert verdict.state == ("ok" if value else "wrong")


@pytest.mark.parametrize("refusals", [[(429, "busy")], [(500, "x"), (503, "y")]])
def test_a_busy_server_is_asked_again(judged, server, refusals):
    server.refusals = list(refusals)
    assert judged(ADD, ADD_TESTS) == 1.0
    assert len(server.bodies) == len(refusals) + 2


@pytest.mark.parametrize(
    ("refusals", "complaint", "calls"),
    [
        ([(500, "broken")] * 9, "it answered 500: broken", 4),
        ([(404, "no such thing")], "it answered 404", 1),
        ([(200, "<html>")], "JSON object", 1),
        ([(200, '{"status": "SandboxError", "message": "no image"}')], "SandboxError: no image", 1),
    ],
)
def test_a_failing_server_is_an_error_and_not_a_wrong_program(judged, server, refusals, complaint, calls):
    server.refusals = list(refusals)
    verdict = judged(ADD, ADD_TESTS)
    assert verdict.state == "error"
    assert complaint in verdict.reason
    assert len(server.bodies) == calls


def test_an_unreachable_server_is_an_error(judged, server):
    server.shutdown()
    server.server_close()
    verdict = judged(ADD, ADD_TESTS)
    assert verdict.state == "error"
    assert "cannot be reached" in verdict.reason


def test_no_expected_value_is_sent(judged, server):
    judged("def f(x): return 'secr' + x", ["assert f('et') == 'secret'"])
    judged("print('secr' + input())", {"inputs": ["et"], "outputs": ["secret"]})
    assert len(server.bodies) == 2
    assert not any("secret" in body for body in server.bodies)


def test_the_key_comes_from_the_environment(judged, server, monkeypatch):
    monkeypatch.setenv("SANDBOX_API_KEY", "k1")
    judged(ADD, ADD_TESTS)
    judged(ADD, ADD_TESTS, api="e2b")
    assert server.keys == ["Bearer k1"] * 2 + ["k1"] * 2


def test_what_is_missing_is_named(judged):
    with pytest.raises(ValueError, match="sandbox=remote needs url"):
        judged(ADD, ADD_TESTS, url=None)
    with pytest.raises(ValueError, match="api must be sandbox_fusion or e2b, got 'x'"):
        judged(ADD, ADD_TESTS, api="x")
