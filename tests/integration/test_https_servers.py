"""Elasticsearch and the schema registry by https: known by a private authority, or refused."""

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headwater.errors import SetupError
from headwater.settings import load_settings
from sinks.elasticsearch_bulk import client_of
from sinks.elasticsearch_judge import explained
from sources.registry import subject_number
from tests.integration.certificate import Authority

TOPIC = "crm.leads"


class Answers(BaseHTTPRequestHandler):
    """As much of both servers as the clients ask for."""

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'{"subject":"crm.leads-value","id":7,"version":1,"schema":"\\"string\\""}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: handshakes that fail are the test."""


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Nothing, as above."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    """Of a server whose certificate is for localhost and no other name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.vouch_for("localhost").both)
    with Server(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def ask_elasticsearch(url: str, ca_file: Path | None) -> None:
    base = load_settings("staging").elasticsearch
    with explained("a question"):
        client_of(base.model_copy(update={"url": url, "ca_file": ca_file})).info()


def ask_registry(url: str, ca_file: Path | None) -> None:
    base = load_settings("staging").registry
    assert subject_number(base.model_copy(update={"url": url, "ca_file": ca_file}), TOPIC) == 7


@pytest.mark.parametrize("ask", [ask_elasticsearch, ask_registry])
def test_a_private_authority_that_is_given_is_believed(
    port: int, authority: Authority, ask: Callable[[str, Path | None], None]
) -> None:
    ask(f"https://localhost:{port}", authority.file)


@pytest.mark.parametrize("ask", [ask_elasticsearch, ask_registry])
@pytest.mark.parametrize("why", ["another host", "a stranger", "no authority given"])
def test_another_hosts_certificate_and_a_strangers_are_refused(
    port: int, authority: Authority, tmp_path: Path, ask: Callable[[str, Path | None], None], why: str
) -> None:
    host = "127.0.0.1" if why == "another host" else "localhost"
    files = {"another host": authority.file, "a stranger": Authority(tmp_path, "stranger").file}
    with pytest.raises(SetupError, match=r"certificate of .*ca_file"):
        ask(f"https://{host}:{port}", files.get(why))
