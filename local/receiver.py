"""A connector's other side, for demo and tests: checks signatures, remembers what came, fails on demand.

POST to any path is a delivery. `PUT /_plan` with a JSON list says what becomes of the next ones, in order:
{"status", "headers", "times", "delay_s", "drip_s", "drop", "bytes"}; then they are taken with 200 again.
`GET /_seen` lists the deliveries since the start, or since `DELETE /_seen`.
"""

import hashlib
import hmac
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_AGE_S = 300
_MAX_BODY = 1 << 20


class Receiver(ThreadingHTTPServer):
    """Listens once made; `serve_forever` answers. `secret` is what deliveries must be signed with."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, secret: str, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Handler)
        self._secret = secret.encode()
        self._lock = threading.Lock()
        self._plan: list[dict[str, Any]] = []
        self._seen: list[dict[str, Any]] = []
        self._at_work: dict[str, int] = {}
        self._attempts: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def plan(self, steps: list[dict[str, Any]]) -> None:
        """What becomes of the next deliveries; {"times": n} counts for n of them."""
        with self._lock:
            self._plan = [step for step in steps for _ in range(step.get("times", 1))]

    def seen(self) -> list[dict[str, Any]]:
        """Key, number of this attempt, whether signed rightly, how many of the key were under way, body, …"""
        with self._lock:
            return [dict(entry) for entry in self._seen]

    def forget(self) -> None:
        """Begin anew, with a plan and without deliveries."""
        with self._lock:
            self._seen, self._plan = [], []
            self._attempts.clear()

    def arrive(self, key: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Enter a delivery; the step of the plan that it meets."""
        with self._lock:
            step = self._plan.pop(0) if self._plan else {}
            self._at_work[key] = self._at_work.get(key, 0) + 1
            self._attempts[key] += 1
            answer = None if step.get("drop") else step.get("status", 200) if entry["signed"] else 401
            told = {"attempt": self._attempts[key], "at_once": self._at_work[key], "at": time.time()}
            self._seen.append(entry | {"key": key, "answer": answer, **told})
            return step

    def leave(self, key: str) -> None:
        """The delivery was answered."""
        with self._lock:
            self._at_work[key] -= 1

    def signed(self, timestamp: str, signature: str, body: bytes) -> bool:
        """Whether the body was signed with the secret, not too long ago."""
        digest = hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        fresh = timestamp.isdigit() and abs(time.time() - int(timestamp)) <= MAX_AGE_S
        return fresh and hmac.compare_digest(f"v1={digest}", signature)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self._body()
        key = self.headers.get("Idempotency-Key", "")
        stamp, signature = (self.headers.get(f"X-Headwater-{n}", "") for n in ("Timestamp", "Signature"))
        signed = self.server.signed(stamp, signature, body)
        step = self.server.arrive(key, {"signed": signed, "path": self.path, "body": _json(body)})
        try:
            time.sleep(step.get("delay_s", 0))
            if step.get("drop"):
                self.close_connection = True
            elif signed:
                self._answer(step.get("status", 200), step)
            else:
                self._answer(401, {})
        finally:
            self.server.leave(key)

    def do_PUT(self) -> None:
        self.server.plan(json.loads(self._body()))
        self._answer(204, {})

    def do_DELETE(self) -> None:
        self.server.forget()
        self._answer(204, {})

    def do_GET(self) -> None:
        self._answer(200, {}, json.dumps(self.server.seen()).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: deliveries are personal data."""

    def _body(self) -> bytes:
        return self.rfile.read(min(int(self.headers.get("Content-Length", 0)), _MAX_BODY))

    def _answer(self, status: int, step: dict[str, Any], body: bytes = b"") -> None:
        body = body or b"x" * step.get("bytes", 0)
        self.send_response(status)
        for name, value in step.get("headers", {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) + bool(step.get("drip_s"))))
        self.end_headers()
        self.wfile.write(body)
        if step.get("drip_s"):
            time.sleep(step["drip_s"])
            self.wfile.write(b".")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
