"""A real API process on a free port, with credentials of its own, for tests over HTTP."""

import hashlib
import json
import os
import secrets
import select
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Consumer, TopicPartition
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from headwater.kafka import confluent_config
from headwater.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
ISSUER = "https://issuer.headwater.invalid/"
ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
WRITER_SCOPES = (
    "ingest:write", "upload:write", "jobs:read", "crm:read", "crm:control", "dlq:read", "dlq:replay",
)  # fmt: skip
START_S = 90.0  # of a machine with other work
WAIT_S = 20.0
STOP_S = 20.0
# Between the stack's, a proof's own among them, and those that the system gives away: local/prove_world.py.
_PORTS = range(22_000, 32_768)
_SHARE = 500
SigningKey = RSAKey | ECKey | OKPKey


def key_entry(
    name: str, secret: str, tenant: str, scopes: tuple[str, ...] = ("ingest:write",)
) -> dict[str, Any]:
    """A line of the keys file."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return {"id": name, "sha256": digest, "tenant_id": tenant, "scopes": list(scopes)}


def jwks_entry(key: SigningKey) -> dict[str, Any]:
    """The public half, as a JWKS lists it."""
    return {**key.as_dict(private=False), "use": "sig", "alg": ALGORITHMS[key.key_type]}


def mint(key: SigningKey, claims: dict[str, Any], **more: object) -> str:
    """A properly signed token, with `more` in its header."""
    alg = ALGORITHMS[key.key_type]
    header = {"alg": alg, "kid": key.kid, "typ": "JWT", **more}
    return jws.serialize_compact(header, json.dumps(claims).encode(), key, algorithms=[alg])


def free_port() -> int:
    """One that nobody else is given, neither the system's outgoing connections nor other tests, so that it is
    still free when a server takes it."""
    _, ports = _share()
    stack = {number for name, number in os.environ.items() if name.startswith("HEADWATER_PORT_")}
    for port in islice(ports, _SHARE):
        if str(port) not in stack and (probe := _bound(port)):
            probe.close()
            return port
    raise AssertionError("all ports of this process are taken")


@cache
def _share() -> tuple[socket.socket, Iterator[int]]:
    """Ports of this process alone, in turn: it holds the first of them for as long as it lives."""
    for first in range(_PORTS.start, _PORTS.stop - _SHARE, _SHARE):
        if held := _bound(first):
            return held, cycle(range(first + 1, first + _SHARE))
    raise AssertionError(f"no {_SHARE} ports are left for the tests of this process")


def _bound(port: int) -> socket.socket | None:
    """Strictly, without SO_REUSEADDR: nobody has it, and nobody gets it."""
    held = socket.socket()
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return None
    return held


class ApiServer:
    """Credentials and a client of one running server."""

    def __init__(self, folder: Path, ca_file: Path | None = None) -> None:
        """`ca_file` of the authority that its certificate is of, when it has one."""
        self.folder = folder
        self.port = free_port()
        self.url = f"{'https' if ca_file else 'http'}://127.0.0.1:{self.port}"
        self._trusted = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self.signing_key = RSAKey.generate_key(2048, parameters={"kid": "test"})
        self.tenant = f"t{secrets.token_hex(6)}"  # each server its own: topics are shared between tests
        self.key = self._keys()
        (folder / "jwks.json").write_text(json.dumps({"keys": [jwks_entry(self.signing_key)]}))
        self.log = folder / "api.log"
        self.process: subprocess.Popen[bytes] | None = None

    def _keys(self) -> str:
        secret, reader = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.reader_key = f"hw_reader{self.tenant}_{reader}"
        entries = [
            key_entry(f"writer{self.tenant}", secret, self.tenant, WRITER_SCOPES),
            key_entry(f"reader{self.tenant}", reader, self.tenant, ("jobs:read",)),
        ]
        (self.folder / "keys.json").write_text(json.dumps(entries))
        return f"hw_writer{self.tenant}_{secret}"

    def start(self, **variables: str) -> None:
        environment = os.environ | {
            "HEADWATER_API__PORT": str(self.port),
            "HEADWATER_API__KEYS_PATH": str(self.folder / "keys.json"),
            "HEADWATER_API__JWT__JWKS_PATH": str(self.folder / "jwks.json"),
            **variables,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health/live", timeout=1, verify=self._trusted).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        if self.process:
            self.process.kill()
        raise AssertionError(f"the API did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def logged(self, answer: httpx.Response) -> str:
        """The log, once it has the line of that answer: lines are written many at a time."""
        end = time.monotonic() + WAIT_S
        while answer.headers["X-Request-Id"] not in (text := self.log.read_text()):
            assert time.monotonic() < end, "the request has no line in the log"
            time.sleep(0.01)
        return text

    def client(self, **headers: str) -> httpx.Client:
        """For a crowd of threads, too: with a limit of idle connections, the default, httpcore closes
        one that another thread is about to read from."""
        headers = {"X-API-Key": self.key} | headers
        limits = httpx.Limits(max_keepalive_connections=None)
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=30, limits=limits, verify=self._trusted
        )

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Tail:
    """What is appended to a topic from now on."""

    def __init__(self, topic: str) -> None:
        config = confluent_config(load_settings()) | {"group.id": "test", "enable.auto.commit": False}
        self._consumer = Consumer(config)
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        spots = [TopicPartition(topic, number) for number in partitions]
        for spot in spots:
            spot.offset = self._consumer.get_watermark_offsets(spot, timeout=10)[1]
        self._consumer.assign(spots)

    def read(self, tenant: str, count: int, quiet_s: float = 1.0) -> list[dict[str, Any]]:
        """The tenant's records: waits for `count`, then a moment longer for any that should not be there."""
        found: list[dict[str, Any]] = []
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            message = self._consumer.poll(0.2)
            if message is None:
                if len(found) >= count:
                    end = min(end, time.monotonic() + quiet_s)
                    quiet_s = 0.0
                continue
            key, headers = (message.key() or b"").decode(), dict(message.headers() or ())
            if key.startswith(f"{tenant}|"):
                found.append(_document(message.value()) | {"_key": key, "_headers": headers})
        return found

    def close(self) -> None:
        self._consumer.close()


def _document(value: bytes | None) -> dict[str, Any]:
    try:
        return dict(json.loads(value or b"{}"))
    except ValueError:
        return {}


@contextmanager
def forwarding(port: int, target: str) -> Iterator[None]:
    """Connections to the port go to `host:port` of the target: a server that comes up late."""
    host, _, number = target.partition(":")

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(number))) as out:
                while ready := select.select([self.request, out], [], [])[0]:
                    for end in ready:
                        data = end.recv(65_536)
                        if not data:
                            return
                        (out if end is self.request else self.request).sendall(data)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", port), Forward)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def running_api(folder: Path, **variables: str) -> Iterator[ApiServer]:
    """A server for the length of a with block."""
    server = ApiServer(folder)
    server.start(**variables)
    try:
        yield server
    finally:
        if server.process and server.process.poll() is None:
            server.stop()
