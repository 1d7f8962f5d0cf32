"""The API's connections under attack: framing that can be read in two ways, and clients that never finish."""

import asyncio
import gzip
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from api.__main__ import allow_many_connections
from api.protocol import MAX_CONNECTIONS
from headwater.settings import load_settings
from schemas.topics import create_topics
from tests.integration import raw_http
from tests.integration.api_server import ApiServer, running_api
from tests.integration.broker import eventually
from tests.integration.raw_http import Answer, answers, chunked, closed_after_s, connect, get, post

CHUNKED = "Transfer-Encoding: chunked"
LIMIT_S = 12.0  # the client's 10 s, and some


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    create_topics(load_settings())
    with running_api(tmp_path_factory.mktemp("api")) as server:
        yield server


def only(api: ApiServer, sent: bytes) -> Answer:
    (answer,) = answers(api.port, sent)
    return answer


def signed(api: ApiServer) -> str:
    return f"X-API-Key: {api.key}"


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (["Content-Length: 5", "Content-Length: 6"], raw_http.GOOD_BODY),
        (["Content-Length: 82", "Content-Length: 82"], raw_http.GOOD_BODY),
        (["Content-Length: 82, 82"], raw_http.GOOD_BODY),
        (["Content-Length: +82"], raw_http.GOOD_BODY),
        (["Content-Length: -1"], raw_http.GOOD_BODY),
        (["Content-Length: 0x52"], raw_http.GOOD_BODY),
        (["Content-Length: 99999999999999999999999"], raw_http.GOOD_BODY),
        (["Content-Length: 5", CHUNKED], chunked()),
        ([CHUNKED, "Content-Length: 5"], chunked()),
        ([CHUNKED, CHUNKED], chunked()),
        (["Transfer-Encoding : chunked"], chunked()),
        (["Transfer-Encoding:\x0bchunked"], chunked()),
        (["Transfer-Encoding: chunked, identity"], chunked()),
        ([CHUNKED], b"zz\r\n" + raw_http.GOOD_BODY),
        ([CHUNKED], b"-1\r\n" + raw_http.GOOD_BODY),
        ([CHUNKED], b"0x5\r\nabcde\r\n0\r\n\r\n"),
        ([CHUNKED], b"fffffffffffffffff\r\n" + raw_http.GOOD_BODY),
        ([CHUNKED], b"5\r\nabcdefgh\r\n0\r\n\r\n"),
        ([CHUNKED], chunked().replace(b"\r\n", b"\n")),
        (["X: a\rContent-Length: 3"], raw_http.GOOD_BODY),
        (["X: a\r\n folded"], raw_http.GOOD_BODY),
        (["X: a\0b"], raw_http.GOOD_BODY),
        (["X Y: a"], raw_http.GOOD_BODY),
        (["Host: y"], raw_http.GOOD_BODY),
    ],
    ids=str,
)
def test_framing_that_two_servers_could_read_in_two_ways_is_400(
    api: ApiServer, fields: list[str], body: bytes
) -> None:
    answer = only(api, post(signed(api), *fields, body=body) + get("/health/live"))
    assert answer.problem()["code"] == "malformed_request"
    assert answer.fields["connection"] == "close"


def test_http_1_0_has_no_chunks_and_http_1_1_has_a_host(api: ApiServer) -> None:
    old = post(signed(api), CHUNKED, body=chunked(), version="1.0")
    nameless = post(signed(api)).replace(b"Host: x\r\n", b"")
    for sent in (
        old,
        nameless,
        b"get / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\0",
    ):
        assert only(api, sent).problem()["code"] == "malformed_request"
    assert only(api, post(signed(api), version="1.0")).status == 202


@pytest.mark.parametrize("coding", ["gzip, chunked", "xchunked", "identity"])
def test_a_transfer_coding_that_we_do_not_undo_is_501(api: ApiServer, coding: str) -> None:
    refused = only(api, post(signed(api), f"Transfer-Encoding: {coding}", body=chunked()))
    assert (refused.status, refused.problem()["code"]) == (501, "unsupported_transfer_coding")


def test_a_field_behind_the_body_brings_neither_credential_nor_key(api: ApiServer) -> None:
    trailer = f"{signed(api)}\r\nIdempotency-Key: from-the-trailer\r\n".encode()
    unsigned = post(CHUNKED, "Connection: close", body=chunked(trailer=trailer))
    assert only(api, unsigned).problem()["code"] == "unauthorized"
    accepted = only(api, post(signed(api), CHUNKED, "Connection: close", body=chunked(trailer=trailer)))
    assert json.loads(accepted.body)["idempotency_key"] != "from-the-trailer"


def test_a_body_in_chunks_has_the_same_limits_of_size_and_time(api: ApiServer) -> None:
    large = only(api, post(signed(api), CHUNKED, body=chunked(b"x" * 70_000)))
    assert (large.status, large.problem()["code"]) == (413, "too_large")
    with connect(api.port) as slow:
        slow.sendall(post(signed(api), CHUNKED, body=b"4\r\n{"))
        (answer,) = raw_http.parse(raw_http.read_all(slow))
    assert (answer.status, answer.problem()["code"]) == (408, "body_timeout")


def test_chunk_extensions_are_skipped(api: ApiServer) -> None:
    body = chunked().replace(b"\r\n", b';name="value"\r\n', 1)
    assert only(api, post(signed(api), CHUNKED, "Connection: close", body=body)).status == 202


def test_an_upgrade_is_ignored_and_ends_the_connection_but_not_with_a_body(api: ApiServer) -> None:
    wanted = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    )
    answer = only(api, get("/health/live", *wanted) + get("/nothing"))
    assert (answer.status, answer.fields["connection"]) == (200, "close")
    assert only(api, post(signed(api), *wanted)).problem()["code"] == "unsupported_upgrade"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (get("/" + "a" * 9_000), 414),
        (get("/ingest?" + "a" * 100_000), 414),
        (get("/health/live", "X: " + "a" * 33_000), 431),
        (get("/health/live", "X: " + "a" * 300_000), 431),
        (get("/health/live", *["X-Flood: x"] * 3_000), 431),
        (get("/health/live", "N" * 40_000 + ": x"), 431),
    ],
    ids=["path", "query", "value", "long value", "many", "name"],
)
def test_a_head_has_a_size(api: ApiServer, sent: bytes, status: int) -> None:
    answer = only(api, sent)
    assert (answer.status, answer.problem()["errors"]) == (status, [])


def test_pipelined_requests_are_answered_in_order_also_before_nonsense(api: ApiServer) -> None:
    keyed = [post(signed(api), f"Idempotency-Key: p-{n}") for n in range(10)]
    found = answers(api.port, b"".join(keyed) + get("/nothing") + b"nonsense\r\n\r\n")
    assert [json.loads(answer.body).get("idempotency_key") for answer in found[:10]] == [
        f"p-{n}" for n in range(10)
    ]
    assert [answer.status for answer in found[10:]] == [404]


def test_an_answer_that_closes_leaves_what_was_pipelined_behind_it(api: ApiServer) -> None:
    broken = post(signed(api), "Content-Encoding: gzip")
    found = answers(api.port, broken + get("/health/live") * 3)
    assert [(answer.status, answer.fields["connection"]) for answer in found] == [(400, "close")]
    crowd = answers(api.port, post(signed(api)) * 100)
    assert {answer.status for answer in crowd} == {202}
    assert 1 <= len(crowd) <= 20


def test_a_crowd_of_pipelined_requests_is_not_kept(api: ApiServer) -> None:
    """One connection that sent 20 MB of them once held 800 MB."""
    assert 1 <= len(answers(api.port, get("/health/live") * 5_000)) <= 20
    before = api.rss_bytes()
    with connect(api.port) as line, pytest.raises(OSError, match=r"reset|pipe"):
        for _ in range(300):
            line.sendall(get("/openapi.json") * 2_000)
    assert api.rss_bytes() - before < 30 << 20


def test_methods_and_paths_that_are_not_there_are_problems(api: ApiServer) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        answer = only(api, get("/ingest", "Connection: close").replace(b"GET", method.encode(), 1))
        assert (answer.problem()["code"], answer.fields["allow"]) == ("method_not_allowed", "POST")
        assert not any(name.startswith("access-control") for name in answer.fields)
    for path in (
        "/../../etc/passwd",
        "/%2e%2e/health%2flive",
        "//health/live",
        "/ingest/",
        "/%00%0d%0aX:%20y",
    ):
        assert only(api, get(path, "Connection: close")).problem()["code"] == "not_found"


def test_whoever_has_an_answer_gets_ten_seconds_for_the_next_request_whatever_it_sends(
    api: ApiServer,
) -> None:
    """A blank line, or the rest of a refused body, used to stop every clock for good."""
    refused = post(body=b"").replace(b"Length: 0", b"Length: 100000")
    cases = {
        "a blank line": (get("/health/live"), b"\r\n"),
        "half a head": (get("/health/live"), b"GET / HT"),
        "a refused body": (post(), b""),
        "half a refused body": (refused, b"x"),
        "a refused body later": (refused.replace(b"100000", b"10"), b"0123456789"),
    }
    lines = {}
    for name, (first, _) in cases.items():
        lines[name] = connect(api.port)
        lines[name].sendall(first)
    time.sleep(0.5)
    for name, (_, then) in cases.items():
        assert lines[name].recv(65_536), name
        lines[name].sendall(then)
    began = time.monotonic()
    for name, line in lines.items():
        assert (closed_after_s(line), name) < (LIMIT_S, name)
        line.close()
    assert time.monotonic() - began < LIMIT_S


def test_a_refused_body_that_trickles_or_never_ends_is_cut_off(api: ApiServer) -> None:
    head = post("Content-Length: 999999999", body=b"")
    with connect(api.port) as trickling, pytest.raises(OSError, match=r"reset|pipe"):
        trickling.sendall(head)
        for _ in range(round(LIMIT_S * 10)):
            trickling.sendall(b"x")
            time.sleep(0.1)
    with connect(api.port) as flooding, pytest.raises(OSError, match=r"reset|pipe"):
        flooding.sendall(head)
        for _ in range(1000):
            flooding.sendall(b"x" * 65_536)


@pytest.mark.parametrize("endless", [b"0\r\nX: ", b"1;", b"0\r\n"], ids=["trailer", "extension", "trailers"])
def test_what_is_endless_outside_the_body_is_cut_off_and_not_kept(api: ApiServer, endless: bytes) -> None:
    before = api.rss_bytes()
    part = b"X: y\r\n" * 10_000 if endless.endswith(b"\n") else b"x" * 65_536
    with connect(api.port) as line, pytest.raises(OSError, match=r"reset|pipe"):
        line.sendall(post(signed(api), CHUNKED, body=endless))
        for _ in range(3000):
            line.sendall(part)
    assert api.rss_bytes() - before < 30 << 20


def test_who_does_not_take_the_answers_is_cut_off(api: ApiServer) -> None:
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(raw_http.WAIT_S)
        line.connect(("127.0.0.1", api.port))
        line.setblocking(False)
        wanted = left = get("/openapi.json") * 10
        end = time.monotonic() + LIMIT_S + 8
        with pytest.raises(OSError, match=r"reset|pipe"):
            while time.monotonic() < end:
                try:
                    left = left[line.send(left) :] or wanted
                except BlockingIOError:
                    pass
                time.sleep(0.05)


def test_idle_and_slow_connections_are_gone_after_ten_seconds(api: ApiServer) -> None:
    slow = [b"", b"G", b"GET /health/live HTTP/1.1\r\n", get("/health/live")[:-2], b"\r\n\r\n"] * 60
    lines = [connect(api.port) for _ in slow]
    began = time.monotonic()
    for line, sent in zip(lines, slow, strict=True):
        line.sendall(sent)
    with api.client() as client:  # the others are served meanwhile
        assert client.post("/ingest", content=raw_http.GOOD_BODY, headers=_json()).status_code == 202
    for line in lines:
        assert raw_http.read_all(line) == b""
        line.close()
    assert time.monotonic() - began < LIMIT_S


def test_connections_beyond_the_most_are_closed_at_once_and_taken_later(api: ApiServer) -> None:
    allow_many_connections()
    lines = [connect(api.port) for _ in range(MAX_CONNECTIONS + 50)]
    assert all(closed_after_s(line) < 5 for line in lines[-20:])
    for line in lines:
        line.close()
    assert eventually(lambda: only(api, get("/health", "Connection: close")).status == 200, "room again")


def _json() -> dict[str, str]:
    return {"Content-Type": "application/json"}


def test_many_bodies_that_almost_arrive_hold_little_memory(api: ApiServer) -> None:
    """Each is a few kilobytes packed and a megabyte unpacked, and waits for its last bytes."""
    lines = b"\n".join([raw_http.GOOD_BODY[:-1] + b',"metadata":{"m":"' + b"m" * 900 + b'"}}'] * 1000)
    packed = gzip.compress(lines)
    fields = (
        "Content-Encoding: gzip",
        "Content-Type: application/x-ndjson",
        f"Content-Length: {len(packed) + 9}",
    )
    sent = post(signed(api), *fields, body=packed, path="/ingest/batch")
    sent = sent.replace(b"Content-Type: application/json\r\n", b"")
    before = api.rss_bytes()
    statuses = asyncio.run(_hold(api, sent, count=200, seconds=5.0))
    assert api.rss_bytes() - before < 100 << 20
    assert statuses == {503}
    assert httpx.get(f"{api.url}/health/live").status_code == 200


async def _hold(api: ApiServer, sent: bytes, count: int, seconds: float) -> set[int]:
    """Send on many connections at once, hold them, and give what was answered meanwhile."""
    pairs = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(count)]
    for _, writer in pairs:
        writer.write(sent)
        await writer.drain()
    await asyncio.sleep(seconds)
    found = set()
    for reader, writer in pairs:
        try:
            found.add(int((await asyncio.wait_for(reader.read(4096), 0.01)).split()[1]))
        except TimeoutError:
            pass
        writer.close()
    return found
