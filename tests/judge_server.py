"""A small chat server that judges as it is told to, for what a real one does not do on demand: fail, hang, repeat."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DROP = object()  # the connection breaks without an answer


class Server:
    """Judges by `says` until it is told otherwise: `act(body)` may give (status, headers, text), or DROP."""

    def __init__(self):
        self.says = "Fine.\nSCORE MARK: 7"  # MARK becomes the one of the request
        self.finish_reason = "stop"
        self.act = lambda body: None
        self.bodies, self.headers, self.paths = [], [], []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        server = type("Listener", (ThreadingHTTPServer,), {"request_queue_size": 128, "daemon_threads": True})
        self.server = server(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def reply(self, body):
        return self.act(body) or (200, {}, self.judgement(self.says.replace("MARK", mark_of(body))))

    def judgement(self, text):
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": self.finish_reason}
        return json.dumps({"choices": [choice]})

    def fail(self, times, status, headers=None, text="busy"):
        """The first `times` requests get this answer."""

        def act(body):
            with self.lock:
                return (status, headers or {}, text) if len(self.bodies) <= times else None

        self.act = act


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        owner, body = self.owner, json.loads(self.rfile.read(int(self.headers["content-length"])))
        with owner.lock:
            owner.bodies.append(body)
            owner.headers.append(dict(self.headers))
            owner.paths.append(self.path)
            owner.in_flight += 1
            owner.most_in_flight = max(owner.most_in_flight, owner.in_flight)
        try:
            answer = owner.reply(body)
        finally:
            with owner.lock:
                owner.in_flight -= 1
        if answer is DROP:
            self.close_connection = True
            return
        status, headers, text = answer
        data = text.encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Says nothing."""


def mark_of(body):
    return re.search(r"<answer ([0-9a-f]{8})>", body["messages"][-1]["content"]).group(1)
