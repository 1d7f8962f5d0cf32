"""A real S3 server process on loopback, and a proxy before it that can refuse chosen requests."""

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.integration.api_server import START_S, free_port

Broken = Callable[[str, str], bool]
_OF_THE_CONNECTION = ("content-length", "transfer-encoding", "connection", "date", "server")


@contextmanager
def s3_server(log: Path) -> Iterator[int]:
    """Its port."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _wait(port, process, log)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/moto-api/data.json")
            connection.getresponse().read()
            connection.close()
            return
        time.sleep(0.1)
    raise AssertionError(f"the S3 server did not start:\n{log.read_text()[-2000:]}")


class Faulty:
    """Forwards requests to the server but those that `breaks` picks by method and path: they get 500."""

    def __init__(self, target: int) -> None:
        self.breaks: Broken = lambda method, path: False
        faulty = self

        class Forward(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                if faulty.breaks(self.command, self.path):
                    self._answer(500, [], b"")
                    return
                out = http.client.HTTPConnection("127.0.0.1", target, timeout=30)
                out.request(self.command, self.path, body, dict(self.headers.items()))
                found = out.getresponse()
                self._answer(found.status, found.getheaders(), found.read())
                out.close()

            def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                length = str(len(body))
                for name, value in headers:
                    if name.lower() == "content-length" and self.command == "HEAD":
                        length = value
                    if name.lower() not in _OF_THE_CONNECTION:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward

            def log_message(self, format: str, *values: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
