"""ServerRollout: against a small HTTP server that fails on demand, and against real vLLM servers (make test-vllm)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from standin import DROP, StandIn, after
from vllm_claims import (
    assert_endings,
    assert_independent_of_neighbours,
    assert_logprobs_of,
    assert_same_greedy,
    changed,
    plain_probe,
)

from rl.distributed import FailedTogether
from rl.experience import Group, SamplingParams
from rl.policy import load_model
from rl.rollout import server as server_module
from rl.rollout import vllm_http
from rl.rollout.server import SHARED_MEMORY, ServerRollout, start_command
from rl.rollout.vllm_http import VLLMServer
from rl.tiny import build_tiny_model
from rl.tracking import read_metrics
from rl.trainer import sync

PARAMS = SamplingParams(completions=4, max_tokens=8)


# ---------------------------------------------------------------------- with a server that fails on demand


@pytest.fixture
def servers(path):
    two = [StandIn(path), StandIn(path)]
    yield two
    for server in two:
        server.stop()


@pytest.fixture
def build(path, tokenizer):
    def build(*servers: StandIn | str, loaded: bool = True, **options: Any) -> ServerRollout:
        """An engine for these servers, with the model's own weights in them."""
        urls = [server if isinstance(server, str) else server.url for server in servers]
        engine = ServerRollout(path, tokenizer, "float32", urls=urls, **({"start_timeout_s": 0.5} | options))
        if loaded:
            engine.load_weights(load_model(path, "float32").named_parameters(), 1)
        return engine

    return build


def tokens(groups: list[Group]) -> list[list[int]]:
    return [done.token_ids for group in groups for done in group.completions]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def on(where: str, answer: Any, sampling: bool = False) -> Any:
    """An act for requests to one path; for completions of some length only, where the probes shall pass."""
    return lambda path, body: answer if path == where and (not sampling or body["max_tokens"] > 1) else None


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1:8000/v1", "ftp://host", ""])
def test_a_url_of_another_form_is_refused(url, build):
    with pytest.raises(ValueError, match=r"rollout\.urls must be like http://127\.0\.0\.1:8000"):
        build(url)


def test_no_url_no_concurrency_and_no_time_are_refused(build, servers):
    with pytest.raises(ValueError, match=r"rollout\.urls names no server"):
        build()
    with pytest.raises(ValueError, match=r"rollout\.max_concurrent must be at least 1"):
        build(servers[0], max_concurrent=0)
    with pytest.raises(ValueError, match=r"rollout\.sync_timeout_s must be above 0 seconds, got 0"):
        build(servers[0], sync_timeout_s=0)


def test_where_no_server_answers_the_error_has_the_url_the_key_and_the_command_to_start_one(build, path):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(FailedTogether) as error:
        build(url)
    for words in (url, "rollout.start_timeout_s=0.5", "rollout.urls", "VLLM_SERVER_DEV_MODE=1", f"--model {path}"):
        assert words in str(error.value)


def test_a_server_that_is_still_starting_is_waited_for_and_that_is_said_once(build, path, prompts, capsys, monkeypatch):
    monkeypatch.setattr(vllm_http, "POLL_AFTER_S", 0.05)
    port, later = free_port(), []
    timer = threading.Timer(1, lambda: later.append(StandIn(path, port)))
    timer.start()
    engine = build(f"http://127.0.0.1:{port}", start_timeout_s=30)
    assert len(engine.generate(prompts, PARAMS, 0)) == len(prompts)
    assert capsys.readouterr().out.count("waiting for the vLLM server at") == 1
    later[0].stop()


def test_servers_on_other_machines_need_a_weights_dir(build, tmp_path):
    with pytest.raises(FailedTogether, match=r"rollout\.weights_dir must be .* got null"):
        build("http://192.0.2.1:8000")
    with pytest.raises(FailedTogether, match=r"cannot be made: No such file.*rollout\.weights_dir"):
        build("http://192.0.2.1:8000", weights_dir=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ({"dev_mode": False}, "VLLM_SERVER_DEV_MODE=1 in its environment"),
        ({"tempered": False}, "--logprobs-mode processed_logprobs"),
        ({"copies": 2}, "2 data-parallel copies"),
    ],
)
def test_a_server_started_otherwise_than_needed_is_refused_with_what_to_add(setting, needed, build, servers):
    vars(servers[0]).update(setting)
    with pytest.raises(FailedTogether, match=needed):
        build(servers[0])


def test_a_server_of_another_model_is_refused(build, servers, path, tmp_path):
    other = build_tiny_model(tmp_path / "other", hidden=192, heads=6, kv_heads=2, layers=3)
    servers[0].model_path = str(other)
    with pytest.raises(FailedTogether, match=f"serves {other}, whose parameters are not those of {path}"):
        build(servers[0])
    servers[0].model.config.vocab_size -= 1
    with pytest.raises(FailedTogether, match=r"is out of vocabulary.* has a vocabulary of"):
        build(servers[0])


def test_a_completion_is_the_same_whoever_answers_and_the_load_is_shared(build, servers, prompts):
    alone = tokens(build(servers[0]).generate(prompts, PARAMS, 3))
    assert len({tuple(ids) for ids in alone}) == 16
    engine = build(*servers)
    for server in servers:
        server.seen.clear()
        server.act = after(0.05)
    assert tokens(engine.generate(prompts, PARAMS, 3)) == alone
    assert [len(server.sampled()) for server in servers] == [8, 8]


def test_no_more_requests_are_under_way_than_max_concurrent(build, servers, prompts):
    engine = build(servers[0], max_concurrent=3)
    servers[0].act = after(0.05)
    engine.generate(prompts, PARAMS, 0)
    assert servers[0].most_in_flight == 3


def test_a_completion_is_handed_over_as_it_arrives(build, servers, prompts):
    engine = build(servers[0])
    first = list(prompts[0].token_ids)
    all_others = threading.Event()  # without which the first prompt gets no answer
    servers[0].act = lambda path, body: all_others.wait(20) and None if body and body.get("prompt") == first else None
    order: list[int] = []

    def finished(i, place, done):
        order.append(i)
        if len(order) == 12:
            all_others.set()

    engine.generate(prompts, PARAMS, 0, finished=finished)
    assert sorted(order[:12]) == [1] * 4 + [2] * 4 + [3] * 4
    assert order[12:] == [0] * 4


def test_a_connection_that_breaks_is_tried_again(build, servers, prompts):
    engine = build(servers[0])
    expected = tokens(engine.generate(prompts, PARAMS, 0))
    broken: set[str] = set()

    def break_once(path: str, body: Any) -> Any:
        known = str((path, body)) in broken
        broken.add(str((path, body)))
        return None if known else DROP

    servers[0].act = break_once
    assert tokens(engine.generate(prompts, PARAMS, 0)) == expected


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (on("/v1/completions", (500, {"error": {"message": "out of memory"}}), sampling=True), "500: out of memory"),
        (on("/v1/completions", DROP, sampling=True), "has no connection"),
        (after(30), r"did not answer .* within rollout\.request_timeout_s=2"),
    ],
)
def test_where_a_server_fails_its_requests_go_to_another_until_it_gets_weights_again(
    failure, said, build, servers, prompts, path, capsys
):
    engine = build(*servers, request_timeout_s=2)
    expected = tokens(engine.generate(prompts, PARAMS, 0))
    servers[1].act = failure
    assert tokens(engine.generate(prompts, PARAMS, 0)) == expected
    told = [line for line in capsys.readouterr().out.splitlines() if "left out until the next weights" in line]
    assert len(told) == 1
    assert re.search(rf"{servers[1].url} .*{said}", told[0])
    servers[1].act = lambda path, body: None
    servers[1].seen.clear()
    assert tokens(engine.generate(prompts, PARAMS, 0)) == expected
    assert not servers[1].seen
    engine.load_weights(load_model(path, "float32").named_parameters(), 2)
    assert tokens(engine.generate(prompts, PARAMS, 0)) == expected
    assert len(servers[1].sampled()) == 8


def test_where_no_server_is_left_the_error_says_what_was_seen_of_each(build, servers, prompts):
    engine = build(*servers, request_timeout_s=1)
    servers[0].act = on("/v1/completions", (503, {"error": {"message": "engine is dead"}}), sampling=True)
    servers[1].act = lambda path, body: time.sleep(30) if path == "/v1/completions" else None
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no vLLM server of rollout\.urls is left") as error:
        engine.generate(prompts, PARAMS, 0)
    assert time.monotonic() - start < 15
    for words in (servers[0].url, "engine is dead", servers[1].url, "rollout.request_timeout_s=1"):
        assert words in str(error.value)


def test_a_refused_request_is_not_tried_elsewhere(build, servers, prompts):
    engine = build(*servers)
    for server in servers:
        server.seen.clear()
        server.act = on("/v1/completions", (400, {"error": {"message": "no such thing"}}))
    with pytest.raises(RuntimeError, match="refused /v1/completions with 400: no such thing"):
        engine.generate(prompts[:1], SamplingParams(completions=1, max_tokens=8), 0)
    assert sum(len(server.sampled()) for server in servers) == 1


def test_what_a_server_would_cut_or_change_silently_is_refused(build, servers, prompts):
    engine = build(servers[0])
    with pytest.raises(ValueError, match="start the servers with a larger --max-model-len"):
        engine.generate(prompts, SamplingParams(completions=1, max_tokens=510), 0)
    with pytest.raises(ValueError, match=r"sampling\.temperature"):
        engine.generate(prompts, SamplingParams(completions=1, max_tokens=8, temperature=0.005), 0)
    plainly = servers[0].complete
    servers[0].complete = lambda body: plainly(body | {"max_tokens": min(body["max_tokens"], 5)})
    with pytest.raises(RuntimeError, match=r"cut a completion at 5 tokens, 8 were asked for.*--generation-config vllm"):
        engine.generate(prompts, PARAMS, 0)


def test_the_servers_own_sampling_defaults_never_apply(build, servers, prompts):
    build(servers[0]).generate(prompts[:1], SamplingParams(completions=1, max_tokens=8, temperature=0.7), 0)
    (body,) = servers[0].sampled()
    neutral = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    neutral |= {"presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert body.items() >= (neutral | {"temperature": 0.7, "n": 1, "prompt": list(prompts[0].token_ids)}).items()


# ---------------------------------------------------------------------- its weights


def test_every_parameter_arrives_in_pieces_the_tied_head_too_and_nothing_stays_on_disk(
    build, servers, path, monkeypatch
):
    engine = build(servers[0], loaded=False)
    monkeypatch.setattr(server_module, "SHARD_BYTES", 1)
    model = changed(path)
    engine.load_weights(model.named_parameters(), 1)
    sent = {name: tensor for shard in servers[0].received for name, tensor in shard.items()}
    expected = dict(model.named_parameters()) | {"lm_head.weight": model.lm_head.weight}
    assert len(servers[0].received) == len(sent) == len(expected)
    assert all(torch.equal(sent[name], tensor) for name, tensor in expected.items())
    (directory,) = SHARED_MEMORY.glob(f"reasoning-rl-weights-{engine._run}")
    assert not list(directory.iterdir())
    del engine
    assert not directory.exists()


def test_incomplete_foreign_and_misshapen_weights_are_refused_after_all_were_taken(build, servers, path):
    engine = build(servers[0], loaded=False)
    whole = dict(load_model(path, "float32").named_parameters())
    norm = whole["model.norm.weight"]
    incomplete = [(name, tensor) for name, tensor in whole.items() if tensor is not norm]
    wrong = {
        r"no new weights came for 1 parameters, model\.norm\.weight": incomplete,
        "no parameter foreign": [("foreign", norm), *whole.items()],
        "got it twice": [("model.norm.weight", norm), *whole.items()],
        r"must have shape \(192,\), got \(191,\)": [("model.norm.weight", norm[:-1]), *whole.items()],
    }
    for words, weights in wrong.items():
        remaining = iter(weights)
        with pytest.raises(FailedTogether, match=words):
            engine.load_weights(remaining, 1)
        assert not list(remaining), "under ZeRO-3 the other ranks would wait for this one"
    assert not any(path == "/collective_rpc" for path, _ in servers[0].seen)


def test_a_full_disk_is_named_with_the_key(build, servers, tmp_path, path):
    engine = build(servers[0], loaded=False, weights_dir=str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(FailedTogether, match=r"cannot be written to .*rollout\.weights_dir must be"):
            engine.load_weights(load_model(path, "float32").named_parameters(), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def parts_of(engine: ServerRollout, model: Any) -> Any:
    """As the trainer has them, with a model as it is for the policy."""
    policy = SimpleNamespace(weights=model.named_parameters, probe=lambda ids: plain_probe(model, ids), dtype="float32")
    return SimpleNamespace(rollout=engine, policy=policy)


def test_a_server_that_keeps_its_weights_is_found_out(build, servers, path):
    engine = build(*servers)
    servers[1].forgets = True
    with pytest.raises(FailedTogether, match=f"{servers[1].url} still computes with old weights.*update 2"):
        engine.load_weights(changed(path).named_parameters(), 2)


def test_a_server_that_takes_a_part_of_the_weights_is_found_out(build, servers, path):
    engine = build(*servers)
    model = changed(path)
    sync(parts_of(engine, model), 2)

    def forget_a_norm(path: str, body: Any) -> None:
        if path == "/collective_rpc":
            servers[1].reload(Path(body["kwargs"]["weights_path"]))
            torch.nn.init.ones_(servers[1].model.model.norm.weight)
            servers[1].forgets = True

    servers[1].act = forget_a_norm
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(0.01)
    with pytest.raises(FailedTogether, match=rf"{servers[1].url} .*policy step 3: .* by 0\.\d+ nats, 0\.001 is"):
        sync(parts_of(engine, model), 3)


def test_the_same_weights_again_are_no_reason_to_suspect_anybody(build, servers, path):
    engine = build(*servers)
    sync(parts_of(engine, load_model(path, "float32")), 2)
    sync(parts_of(engine, load_model(path, "float32")), 3)


def test_two_urls_of_one_server_do_no_harm(build, servers, path, prompts):
    expected = tokens(build(servers[0]).generate(prompts, PARAMS, 0))
    engine = build(servers[0], servers[0].url.replace("127.0.0.1", "localhost"))
    sync(parts_of(engine, changed(path)), 2)
    sync(parts_of(engine, load_model(path, "float32")), 3)
    assert tokens(engine.generate(prompts, PARAMS, 0)) == expected


def test_a_server_that_was_started_again_gets_no_requests_before_it_gets_weights(build, servers, prompts, capsys):
    engine = build(*servers)
    servers[0].version = "default"
    assert len(engine.generate(prompts, PARAMS, 0)) == 4
    assert "has weights 'default' instead of" in capsys.readouterr().out
    assert not servers[0].sampled()
    servers[1].version = "default"
    with pytest.raises(RuntimeError, match="started again, or another run uses it"):
        engine.generate(prompts, PARAMS, 0)


def test_weights_that_another_run_pushes_in_the_middle_are_found_out(build, servers, prompts, path):
    ours, theirs = build(servers[0]), build(servers[0], loaded=False)
    ours.load_weights(load_model(path, "float32").named_parameters(), 1)

    def push(i: int, place: int, done: Any) -> None:
        if (i, place) == (0, 0):
            servers[0].version = f"{theirs._run} step 1, on its way"

    with pytest.raises(RuntimeError, match="another run uses it"):
        ours.generate(prompts, PARAMS, 0, finished=push)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (on("/collective_rpc", (500, {"error": {"message": "no such directory"}})), "no such directory.*weights_dir"),
        (lambda path, body: time.sleep(30) if path == "/collective_rpc" else None, r"rollout\.sync_timeout_s=1"),
        (on("/reset_prefix_cache", (200, {"success": False})), r"prefix cache within rollout\.sync_timeout_s=1"),
    ],
)
def test_a_server_that_does_not_take_the_weights_stops_the_run(failure, said, build, servers, path):
    engine = build(*servers, sync_timeout_s=1)
    servers[1].act = failure
    start = time.monotonic()
    with pytest.raises(FailedTogether, match=said) as error:
        engine.load_weights(changed(path).named_parameters(), 2)
    assert servers[1].url in str(error.value)
    assert time.monotonic() - start < 15


def test_a_server_that_is_gone_when_weights_come_is_left_out_and_the_last_one_may_not_be(
    build, servers, prompts, path, capsys
):
    engine = build(*servers)
    servers[1].act = lambda path, body: DROP
    engine.load_weights(changed(path).named_parameters(), 2)
    assert f"{servers[1].url} has no connection" in capsys.readouterr().out
    assert len(engine.generate(prompts, PARAMS, 0)) == 4
    servers[0].act = lambda path, body: DROP
    with pytest.raises(FailedTogether, match=f"is left: {servers[0].url} has no.*{servers[1].url} has no"):
        engine.load_weights(changed(path).named_parameters(), 3)


# ---------------------------------------------------------------------- signals


def later(seconds: float, number: signal.Signals) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def test_a_signal_that_only_sets_a_flag_breaks_no_request(build, servers, prompts):
    engine = build(servers[0])
    expected = tokens(engine.generate(prompts, PARAMS, 0))
    servers[0].act = after(0.3)
    asked: list[int] = []
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        later(0.15, signal.SIGTERM)
        assert tokens(engine.generate(prompts, PARAMS, 0)) == expected
    finally:
        signal.signal(signal.SIGTERM, earlier)
    assert asked == [signal.SIGTERM]


def stop_at_once(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("handler", [signal.default_int_handler, stop_at_once])
def test_ctrl_c_does_not_wait_for_requests(handler, build, servers, prompts):
    engine = build(servers[0])
    servers[0].act = lambda path, body: time.sleep(20) if path == "/v1/completions" else None
    earlier = signal.signal(signal.SIGINT, handler)
    start = time.monotonic()
    try:
        later(0.5, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(prompts, PARAMS, 0)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert time.monotonic() - start < 15


# ---------------------------------------------------------------------- with real servers: make test-vllm

VLLM_PYTHON = os.environ.get("VLLM_PYTHON") or (sys.executable if find_spec("vllm") else None)
needs_vllm = pytest.mark.skipif(VLLM_PYTHON is None, reason="VLLM_PYTHON names no Python with vLLM: make test-vllm")
ROOT = Path(__file__).resolve().parents[1]
DEV_MODE = "VLLM_SERVER_DEV_MODE=1 "
ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
ON_CPU |= {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


@dataclass
class RealServer:
    """vLLM, started with the command that the engine tells to start it with."""

    url: str
    process: subprocess.Popen[bytes]

    def signal(self, number: signal.Signals) -> None:
        """To the process that answers; its workers see it go, and give their shared memory back."""
        os.kill(self.process.pid, number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            for _ in range(100):
                self.process.poll()
                os.killpg(self.process.pid, 0)
                time.sleep(0.2)
            os.killpg(self.process.pid, signal.SIGKILL)


def start_real(path: str, log: Path, command: Callable[[str], str] = lambda command: command) -> RealServer:
    server = VLLMServer(f"http://127.0.0.1:{free_port()}")
    told = command(start_command(server, path, "float32")).replace("python -m", f"{VLLM_PYTHON} -m")
    with log.open("wb") as output:
        process = subprocess.Popen(
            f"exec env {told} --max-model-len 512 --enforce-eager", shell=True, env=os.environ | ON_CPU,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    return RealServer(server.url, process)


@contextlib.contextmanager
def real_servers(*started: RealServer) -> Iterator[tuple[RealServer, ...]]:
    try:
        yield started
    finally:
        for server in started:
            server.end()


@pytest.fixture(scope="module")
def real(path, tmp_path_factory):
    """Two of them, which start beside each other."""
    logs = tmp_path_factory.mktemp("logs")
    with real_servers(*(start_real(path, logs / f"{i}.log") for i in range(2))) as servers:
        yield servers


@pytest.fixture
def build_real(path, tokenizer):
    def build(*servers: RealServer, model: Any = None, **options: Any) -> ServerRollout:
        urls = [server.url for server in servers]
        engine = ServerRollout(path, tokenizer, "float32", urls=urls, **({"start_timeout_s": 240} | options))
        if model is not None:
            engine.load_weights(model.named_parameters(), 1)
        return engine

    return build


@needs_vllm
def test_greedy_tokens_are_those_of_transformers_before_and_after_new_weights(
    real, build_real, path, tokenizer, prompts
):
    engine = build_real(real[0])
    for step, model in enumerate((load_model(path, "float32"), changed(path))):
        sync(parts_of(engine, model), step)
        assert_same_greedy(engine, path, tokenizer, prompts, model)


@needs_vllm
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_sampled_logprobs_are_the_trainers(temperature, real, build_real, path, prompts):
    model = changed(path)
    assert_logprobs_of(model, build_real(*real, model=model), prompts, temperature)


@needs_vllm
def test_a_completion_depends_neither_on_its_neighbours_nor_on_the_number_of_servers(real, build_real, path, prompts):
    model = load_model(path, "float32")
    engine = build_real(real[0], model=model)
    assert_independent_of_neighbours(engine, prompts)
    params = SamplingParams(completions=8, max_tokens=32)
    alone = tokens(engine.generate(prompts, params, 5))
    assert tokens(build_real(*real, model=model).generate(prompts, params, 5)) == alone
    assert tokens(build_real(real[1], model=model, max_concurrent=2).generate(prompts, params, 5)) == alone


@needs_vllm
def test_completions_end_as_those_of_transformers_end(real, build_real, path, tokenizer, prompts):
    assert_endings(build_real(*real, model=load_model(path, "float32")), tokenizer, prompts)


@needs_vllm
def test_two_engines_of_one_server_find_each_other_out(real, build_real, path, prompts):
    first = build_real(real[0], model=load_model(path, "float32"))
    build_real(real[0], model=changed(path))
    with pytest.raises(RuntimeError, match="another run uses it"):
        first.generate(prompts, PARAMS, 0)


@needs_vllm
def test_a_real_server_that_keeps_its_weights_is_found_out(real, build_real, path, monkeypatch):
    engine = build_real(*real, model=load_model(path, "float32"))
    plainly = VLLMServer.reload

    async def forget(server: VLLMServer, *args: Any) -> None:
        if server.url != real[1].url:
            await plainly(server, *args)

    monkeypatch.setattr(VLLMServer, "reload", forget)
    with pytest.raises(FailedTogether, match=f"{real[1].url} still computes with old weights"):
        engine.load_weights(changed(path).named_parameters(), 2)


@needs_vllm
def test_a_real_server_that_keeps_its_tied_head_is_found_out(real, build_real, path, monkeypatch):
    engine = build_real(real[0], model=load_model(path, "float32"))
    monkeypatch.setattr(engine.check, "_tied", None)  # the head goes with the embedding, or so one would think
    with pytest.raises(FailedTogether, match=rf"{real[0].url} .*policy step 2: .* nats, 0\.001 is the most"):
        sync(parts_of(engine, changed(path)), 2)


TWO_RANKS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from data.problem import Problem, ask
from rl import distributed
from rl.experience import Prompt, SamplingParams
from rl.policy import load_model, load_tokenizer
from rl.rollout.server import ServerRollout

distributed.start()
path, urls, questions = sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
tokenizer = load_tokenizer(path)
engine = ServerRollout(path, tokenizer, "float32", urls=urls)
engine.load_weights(load_model(path, "float32").named_parameters(), 0)
mine = [(i, q) for i, q in enumerate(questions) if i % 2 == distributed.rank()]
prompts = [Prompt(Problem(q, ask(q), "", "x"), i, q, tuple(tokenizer(q)["input_ids"])) for i, q in mine]
groups = engine.generate(prompts, SamplingParams(completions=3, max_tokens=16), seed=5)
sampled = {group.prompt.problem.id: [done.token_ids for done in group.completions] for group in groups}
shares = distributed.gather(sampled)
failed = "nothing"
try:
    engine.load_weights([] if distributed.rank() == 0 else load_model(path, "float32").named_parameters(), 1)
except distributed.FailedTogether as error:
    failed = str(error)
said = distributed.gather(failed)
if distributed.rank() == 0:
    print("SAMPLED", json.dumps([shares[0] | shares[1], said]))
distributed.stop()
"""


@needs_vllm
def test_two_ranks_sample_what_one_samples_and_fail_together(real, build_real, path, prompts, tmp_path):
    program = tmp_path / "two_ranks.py"
    program.write_text(TWO_RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(program)]
    questions = [prompt.text for prompt in prompts]
    done = subprocess.run(
        [*command, str(ROOT), path, json.dumps([server.url for server in real]), json.dumps(questions)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SAMPLED ")]
    sampled, said = json.loads(line.removeprefix("SAMPLED "))
    engine = build_real(real[0], model=load_model(path, "float32"))
    alone = engine.generate(prompts, SamplingParams(completions=3, max_tokens=16), seed=5)
    assert sampled == {group.prompt.problem.id: [item.token_ids for item in group.completions] for group in alone}
    assert all("rank 0: no new weights came for" in words for words in said)


@needs_vllm
@pytest.mark.parametrize("ranks", [1, 2])
def test_training_samples_from_the_policys_weights_after_each_update(ranks, real, path, tmp_path):
    """With zero3 on two ranks, whose weights are gathered as they are handed over."""
    (tmp_path / "mine.py").write_text("def brevity(problem, completion):\n    return -len(completion.text)\n")
    urls = ",".join(server.url for server in real)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    overrides = [
        "recipe=grpo_tiny", "rollout=server", f"rollout.urls=[{urls}]", f"model.path={path}", "cold_start.steps=0",
        "steps=3", "batch.prompts=4", "sampling.completions=4", "sampling.max_tokens=32", "optimizer.lr=1e-3",
        "eval.data.arithmetic.size=4", "eval.sampling.max_tokens=16", f"run.dir={tmp_path / 'run'}",
        "tracking.tensorboard=false", "rewards.math_answer.weight=0", *(["engine=zero3"] if ranks == 2 else []),
        f"+rewards.brevity.fn={tmp_path / 'mine.py'}:brevity", "+rewards.brevity.weight=1",
    ]  # fmt: skip
    done = subprocess.run(
        [*command, str(ROOT / "launch" / "train.py"), *overrides], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"REASONING_RL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "mismatch/kl_rollout" in row]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert max(row["mismatch/kl_rollout"] for row in rows) < 1e-4
    assert min(row["optim/grad_norm"] for row in rows) > 0
    assert "HTTP Request" not in done.stdout + done.stderr


@needs_vllm
@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (lambda told: told.replace(DEV_MODE, ""), "VLLM_SERVER_DEV_MODE=1 in its environment"),
        (lambda told: told.replace("processed", "raw").replace("float32", "bfloat16"), "--logprobs-mode processed"),
    ],
)
def test_a_real_server_started_otherwise_than_needed_is_refused(
    command, needed, build_real, path, tmp_path, monkeypatch
):
    with real_servers(start_real(path, tmp_path / "log", command)) as (server,):
        with pytest.raises(FailedTogether, match=needed):
            build_real(server)
        if "processed" in needed:  # and where it got past that, its precision is another than the recipe's

            async def pass_by(*_: Any) -> None: ...

            monkeypatch.setattr(ServerRollout, "_check_tempered", pass_by)
            with pytest.raises(FailedTogether, match=r"in another dtype than float32"):
                sync(parts_of(build_real(server), load_model(path, "float32")), 1)


@needs_vllm
def test_a_real_server_that_hangs_or_dies_in_the_middle_gives_its_requests_to_the_other(
    real, build_real, path, prompts
):
    """The last test with these servers: one is killed, and then the other."""
    model = load_model(path, "float32")
    params = SamplingParams(completions=4, max_tokens=96)
    engine = build_real(real[0], model=model)
    expected = tokens(engine.generate(prompts, params, 7))

    def when_the_first_arrives(act: Callable[[], None]) -> Callable[..., None]:
        pending = [act]
        return lambda *_: pending.pop()() if pending else None

    engine = build_real(*real, model=model, request_timeout_s=15)
    hang = when_the_first_arrives(lambda: real[1].signal(signal.SIGSTOP))
    assert tokens(engine.generate(prompts, params, 7, finished=hang)) == expected
    assert "rollout.request_timeout_s=15" in str(engine.servers[1].problem)
    real[1].signal(signal.SIGCONT)

    engine.load_weights(model.named_parameters(), 2)
    die = when_the_first_arrives(lambda: real[1].signal(signal.SIGKILL))
    assert tokens(engine.generate(prompts, params, 7, finished=die)) == expected
    assert "no connection" in str(engine.servers[1].problem)

    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no vLLM server of rollout\.urls is left") as error:
        engine.generate(prompts, params, 7, finished=when_the_first_arrives(lambda: real[0].signal(signal.SIGKILL)))
    assert time.monotonic() - start < 15
    assert real[0].url in str(error.value)
