"""How an answer is written, a head is looked up, and a line is logged: as before, in fewer steps."""

import asyncio
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from uvicorn.protocols.http.flow_control import FlowControl

from api.access_log import AccessLog
from api.cycle import Cycle
from api.fields import Fields

NAMES = st.sampled_from([b"host", b"x-api-key", b"authorization", b"idempotency-key", b"content-length"])
DATE = (b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")


class Transport:
    """What a client would get, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def resume_reading(self) -> None:
        """Nothing is paused."""


def cycle_of(transport: Transport, method: str = "POST", keep_alive: bool = True) -> Cycle:
    return Cycle(
        scope={"type": "http", "method": method, "headers": []},  # type: ignore[arg-type]  # what is looked at
        transport=transport,  # type: ignore[arg-type]
        flow=FlowControl(transport),  # type: ignore[arg-type]
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[DATE],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )


def written(response: Response, method: str = "POST", keep_alive: bool = True) -> Transport:
    """The response as ASGI sends it, through a cycle."""
    transport = Transport()

    async def run() -> None:
        cycle = cycle_of(transport, method, keep_alive)
        await response({"type": "http", "method": method}, cycle.receive, cycle.send)  # type: ignore[arg-type]

    asyncio.run(run())
    return transport


def test_an_answer_is_one_write() -> None:
    transport = written(Response(b"{}", 202, media_type="application/json"))
    assert transport.writes == [
        b"HTTP/1.1 202 Accepted\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        b"content-length: 2\r\ncontent-type: application/json\r\n\r\n{}"
    ]
    assert not transport.closed


@pytest.mark.parametrize(
    ("headers", "keep_alive", "closed"),
    [({}, True, False), ({}, False, True), ({"Connection": "close"}, True, True)],
)
def test_a_connection_ends_when_either_side_says_so_and_the_answer_tells_it_once(
    headers: dict[str, str], keep_alive: bool, closed: bool
) -> None:
    transport = written(Response(b"x", 200, headers), keep_alive=keep_alive)
    assert transport.closed is closed
    assert transport.writes[0].count(b"connection: close\r\n") == int(closed)


def test_an_answer_without_a_length_is_sent_in_chunks() -> None:
    async def parts() -> Any:
        for part in (b"ab", b"c"):
            yield part

    sent = b"".join(written(StreamingResponse(parts())).writes)
    assert sent.endswith(b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204)])
def test_where_no_body_belongs_none_is_sent(method: str, status: int) -> None:
    response = Response(b"ab" if method == "HEAD" else b"", status)
    assert b"".join(written(response, method).writes).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\0b"])
def test_a_header_that_would_be_two_is_not_sent(value: bytes) -> None:
    response = Response(b"x")
    response.raw_headers.append((b"x-name", value))
    with pytest.raises(RuntimeError):
        written(response)


def test_an_answer_of_another_length_than_it_says_is_not_sent() -> None:
    with pytest.raises(RuntimeError):
        written(Response(b"x", headers={"Content-Length": "2"}))


def test_a_body_is_taken_whole_only_when_none_of_it_is_missing() -> None:
    async def run() -> list[bytes | None]:
        cycle = cycle_of(Transport())
        cycle.body += b"ab"
        early = cycle.take_whole()
        cycle.more_body = False
        found = cycle.take_whole()
        cycle.disconnected = True
        return [early, found, cycle.take_whole()]

    assert asyncio.run(run()) == [None, b"ab", None]


@given(st.lists(st.tuples(NAMES, st.binary(max_size=3))))
def test_fields_are_found_as_starlette_finds_them(raw: list[tuple[bytes, bytes]]) -> None:
    ours, theirs = Fields(raw), Headers(raw=raw)
    for name in ("Host", "x-api-key", "authorization", "idempotency-key", "content-length", "absent"):
        assert ours.getlist(name) == theirs.getlist(name)
        assert ours.get(name, "none") == theirs.get(name, "none")
        assert (name in ours) == (name in theirs)


def test_lines_are_written_soon_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> str:
        log = AccessLog()
        for number in range(3):
            log.add({"n": number})
        before = capsys.readouterr().err
        while not (found := capsys.readouterr().err):
            await asyncio.sleep(0.01)
        return before + found

    assert [json.loads(line)["n"] for line in asyncio.run(run()).splitlines()] == [0, 1, 2]


def test_what_is_gathered_at_a_stop_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        log = AccessLog()
        log.add({"n": 1})
        log.flush()

    asyncio.run(run())
    assert capsys.readouterr().err == '{"n":1}\n'
