"""A proxy before the real Elasticsearch that refuses bulk requests, or some of their documents, on demand."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from headwater.settings import load_settings

# A document → the status and type of error that it is refused with; None: it is passed on.
Refuse = Callable[[dict[str, Any]], tuple[int, str] | None]
Answer = tuple[int, bytes, dict[str, str]]
_JSON = {"X-elastic-product": "Elasticsearch", "Content-Type": "application/json"}


class Proxy(ThreadingHTTPServer):
    """Passes requests on; `fault` answers the next `times` bulk requests itself, or just their items.

    `refuse` answers for single documents; the others of the request go on to the server.
    """

    daemon_threads = True
    fault: tuple[str, int] | None = None
    times = 0
    refuse: Refuse | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fail(self, what: str, status: int, times: int = 10**6) -> None:
        self.fault, self.times = (what, status), times


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "_bulk" in self.path and self.server.fault and self.server.times > 0:
            self.server.times -= 1
            self._answer(*_refused(*self.server.fault, body))
        elif "_bulk" in self.path and self.server.refuse and b'{"delete"' not in body:
            self._answer(*self._partly(self.server.refuse, body))
        else:
            self._answer(*self._forward(body))

    def _forward(self, body: bytes) -> Answer:
        address = urlsplit(load_settings("local").elasticsearch.url).netloc
        connection = http.client.HTTPConnection(address, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read(), dict(answer.getheaders())
        connection.close()
        return found

    def _partly(self, refuse: Refuse, body: bytes) -> Answer:
        """Refuse some documents and forward the rest; the answer has the items of both in their order."""
        lines = [line for line in body.split(b"\n") if line.strip()]
        pairs = list(zip(lines[::2], lines[1::2], strict=True))
        verdicts = [refuse(json.loads(document)) for _, document in pairs]
        kept = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict is None]
        passed: Iterator[Any] = iter(())
        if kept:
            status, raw, headers = self._forward(b"".join(b"%b\n%b\n" % pair for pair in kept))
            if status != 200:
                return status, raw, headers
            passed = iter(json.loads(raw)["items"])
        items = [next(passed) if verdict is None else _item(*verdict) for verdict in verdicts]
        return 200, json.dumps({"took": 1, "errors": True, "items": items}).encode(), _JSON

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding"):
                self.send_header(name, value)
        length = headers.get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def log_message(self, format: str, *args: Any) -> None:
        return


def _refused(what: str, status: int, body: bytes) -> Answer:
    document: dict[str, Any] = {"error": _error("fault_of_the_test"), "status": status}
    if what == "items":
        count = max(1, len(body.splitlines()) // 2)
        items = [_item(status, "fault_of_the_test", str(number)) for number in range(count)]
        document, status = {"took": 1, "errors": True, "items": items}, 200
    return status, json.dumps(document).encode(), _JSON


def _item(status: int, kind: str, name: str = "x") -> dict[str, Any]:
    return {"index": {"_id": name, "status": status, "error": _error(kind)}}


def _error(kind: str) -> dict[str, str]:
    return {"type": kind, "reason": "as asked"}


@contextmanager
def listening() -> Iterator[Proxy]:
    """A proxy on a port of its own."""
    with Proxy(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
