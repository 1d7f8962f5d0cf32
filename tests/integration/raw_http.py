"""Requests as bytes over a socket, for what no proper client would send."""

import json
import socket
import time
from typing import Any, NamedTuple

WAIT_S = 20.0
GOOD_BODY = json.dumps({"source": "web", "payload": {"email": "ann@example.com", "consent": True}}).encode()


class Answer(NamedTuple):
    """One response. `fields` have lower-case names."""

    status: int
    fields: dict[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        """The problem+json, whose parts agree with the head."""
        assert self.fields["content-type"] == "application/problem+json", self
        found: dict[str, Any] = json.loads(self.body)
        assert found.keys() == {"type", "title", "status", "code", "errors", "request_id"}
        assert (found["status"], found["request_id"]) == (self.status, self.fields["x-request-id"])
        return found


def post(*fields: str, body: bytes = GOOD_BODY, version: str = "1.1", path: str = "/ingest") -> bytes:
    """The bytes of a POST with the given header lines, and a length unless the lines say how it is framed."""
    framed = any(field.lower().startswith(("content-length", "transfer-encoding")) for field in fields)
    length = [] if framed else [f"Content-Length: {len(body)}"]
    lines = [f"POST {path} HTTP/{version}", "Host: x", "Content-Type: application/json", *fields, *length]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    """The bytes of a GET."""
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: x", *fields, "", ""]).encode("latin-1")


def chunked(body: bytes = GOOD_BODY, trailer: bytes = b"") -> bytes:
    """The body in one chunk, and a trailer section."""
    return b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailer)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)


def answers(port: int, sent: bytes) -> list[Answer]:
    """Every response until the server closes the connection, in order."""
    with connect(port) as line:
        line.sendall(sent)
        return parse(read_all(line))


def read_all(line: socket.socket) -> bytes:
    """What comes until the server ends it; a reset ends it as well."""
    received = b""
    try:
        while part := line.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def parse(received: bytes) -> list[Answer]:
    """The responses in the bytes; each has a Content-Length."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(fields["content-length"])
        found.append(Answer(int(status.split()[1]), fields, rest[:size]))
        received = rest[size:]
    return found


def closed_after_s(line: socket.socket) -> float:
    """The seconds until the server ends the connection."""
    began = time.monotonic()
    read_all(line)
    return time.monotonic() - began
