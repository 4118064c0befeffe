"""A small HTTP server with the routes of vLLM's that rl/rollout/vllm_http.py uses, for what a real one does not do on
demand: fail, hang, forget. Its log-probabilities of a prompt are those of a real model; what it samples is made up.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from vllm_claims import plain_probe

from rl.policy import load_model

Answer = tuple[int, Any]
DROP: Answer = (0, None)  # the connection breaks without an answer


class StandIn:
    """Behaves until it is told otherwise: `act(path, body)` may give an Answer of its own, sleep, or give None."""

    def __init__(self, model_path: str, port: int = 0) -> None:
        self.model_path, self.model = model_path, load_model(model_path, "float32")
        self.act: Callable[[str, Any], Answer | None] = lambda path, body: None
        self.dev_mode, self.tempered, self.max_model_len, self.forgets = True, True, 512, False
        self.copies = 1
        self.version, self.seen = "default", []  # (path, body) of every request
        self.received: list[dict[str, torch.Tensor]] = []  # what each reload found, file by file
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.server = _Listener(("127.0.0.1", port), type("Handler", (_Handler,), {"owner": self}))
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def sampled(self) -> list[Any]:
        """The requests for completions of some length: no probe."""
        return [body for path, body in self.seen if path == "/v1/completions" and body["max_tokens"] > 1]

    def answer(self, path: str, body: Any) -> Answer:
        with self.lock:
            self.seen.append((path, body))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return self.act(path, body) or self.plainly(path, body)
        finally:
            with self.lock:
                self.in_flight -= 1

    def plainly(self, path: str, body: Any) -> Answer:
        if path == "/health":
            return 200, None
        if path == "/v1/models":
            return 200, {"data": [{"root": self.model_path, "max_model_len": self.max_model_len}]}
        if path == "/v1/completions":
            return self.complete(body)
        if not self.dev_mode:
            return 404, {"detail": "Not Found"}
        if path == "/weight_info":
            return 200, {"weight_version": self.version}
        if path.startswith("/get_world_size"):
            return 200, {"world_size": self.copies if path.endswith("true") else 1}
        if path == "/update_weight_version":
            self.version = body["new_version"]
        if path == "/collective_rpc":
            self.reload(Path(body["kwargs"]["weights_path"]))
        return 200, {"success": True}

    def reload(self, directory: Path) -> None:
        self.received = [load_file(file) for file in sorted(directory.glob("*.safetensors"))]
        weights = {name: tensor for shard in self.received for name, tensor in shard.items()}
        if not self.forgets:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(weights[name])

    def complete(self, body: Any) -> Answer:
        prompt, vocabulary = body["prompt"], self.model.config.vocab_size
        if max(prompt) >= vocabulary:
            return 400, {"error": {"message": f"Token id {max(prompt)} is out of vocabulary"}}
        draw = random.Random(body.get("seed"))
        ids = [draw.randrange(vocabulary) for _ in range(body["max_tokens"])]
        choice = {"token_ids": ids, "finish_reason": "length", "stop_reason": None, "prompt_token_ids": prompt}
        choice["logprobs"] = {"token_logprobs": [-1.0] * len(ids)}
        if body.get("logprobs"):
            choice["logprobs"]["top_logprobs"] = [self.likeliest(body)]
        if "prompt_logprobs" in body:
            rows = zip(prompt[1:], plain_probe(self.model, prompt), strict=True)
            choice["prompt_logprobs"] = [None, *({str(token): {"logprob": value}} for token, value in rows)]
        return 200, {"choices": [choice]}

    def likeliest(self, body: Any) -> dict[str, float]:
        with torch.no_grad():
            logits = self.model(torch.tensor([body["prompt"]])).logits[0, -1]
        if self.tempered and body["temperature"] > 0:
            logits = logits / body["temperature"]
        best = logits.log_softmax(dim=-1).topk(5)
        return {f"token_id:{token}": value for token, value in zip(*(t.tolist() for t in best[::-1]), strict=True)}


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128  # with the usual 5 a burst of connections overflows, and some are made a second later
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that gives up is no news."""


class _Handler(BaseHTTPRequestHandler):
    owner: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(None)

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def reply(self, body: Any) -> None:
        status, content = self.owner.answer(self.path, body)
        if (status, content) == DROP:
            self.close_connection = True
            return
        encoded = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def after(seconds: float, answer: Answer | None = None) -> Callable[[str, Any], Answer | None]:
    """An act that answers late."""

    def act(path: str, body: Any) -> Answer | None:
        time.sleep(seconds)
        return answer

    return act
