"""The API as its clients meet it: a real process, real Kafka, real Redis."""

import base64
import gzip
import hmac
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from headwater.settings import load_settings
from schemas.migrate import upgrade
from schemas.topics import create_topics
from tests.integration.api_server import (
    ISSUER,
    WAIT_S,
    ApiServer,
    Tail,
    forwarding,
    free_port,
    jwks_entry,
    mint,
    running_api,
)

CANARY = "Zk9canary@example.com"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    create_topics(load_settings())
    upgrade(load_settings())
    with running_api(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def tail() -> Iterator[Callable[[str], Tail]]:
    opened: list[Tail] = []

    def follow(topic: str) -> Tail:
        opened.append(Tail(topic))
        return opened[-1]

    yield follow
    for one in opened:
        one.close()


def event(**changes: object) -> dict[str, Any]:
    return {"source": "web", "payload": {"email": "Ann@Example.com", "consent": True}} | changes


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_an_accepted_event_is_in_kafka_and_a_retry_has_the_same_event_id(
    api: ApiServer, tail: Callable[[str], Tail]
) -> None:
    topic = tail("lead.ingest")
    with api.client() as client:
        first = client.post("/ingest", json=event(), headers={"Idempotency-Key": "k-1"})
        again = client.post("/ingest", json=event(idempotency_key="k-1"))
    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    assert first.json()["event_id"] == again.json()["event_id"]
    records = topic.read(api.tenant, 2)
    assert [r["event_id"] for r in records] == [first.json()["event_id"]] * 2
    assert {r["_key"] for r in records} == {f"{api.tenant}|k-1"}
    assert records[0]["payload"]["email"] == "ann@example.com"


def test_an_event_without_consent_leaves_nothing_behind(api: ApiServer, tail: Callable[[str], Tail]) -> None:
    leads, letters = tail("lead.ingest"), tail("lead.refused")
    body = {"source": 7, "payload": {"email": CANARY, "consent": False}, "q": CANARY}
    with api.client() as client:
        answer = client.post("/ingest", json=body)
        last = client.post(
            "/ingest", content=json.dumps(body)[:-1], headers={"Content-Type": "application/json"}
        )
    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (
        202,
        "discarded",
        "no_consent",
    )
    assert leads.read(api.tenant, 0) == []
    assert letters.read(api.tenant, 0) == []
    assert CANARY not in api.logged(last) + httpx.get(f"{api.url}/metrics").text


def test_a_refused_body_names_every_fault_and_becomes_a_dead_letter(
    api: ApiServer, tail: Callable[[str], Tail]
) -> None:
    letters = tail("lead.refused")
    body = {"source": "x" * 51, "payload": {"email": CANARY.replace("@", ""), "consent": "yes"}}
    with api.client() as client:
        answer = client.post("/ingest", json=body)
    found = problem(answer, 422, "invalid_event")
    assert {(e["field"], e["code"]) for e in found["errors"]} == {
        ("/source", "rule:max_length"),
        ("/payload/email", "rule:pattern"),
        ("/payload/consent", "type_mismatch"),
    }
    assert "canary" not in answer.text
    (letter,) = letters.read(api.tenant, 1)
    assert {name: letter[name] for name in body} == body
    reasons = [(e["code"], e["field"]) for e in found["errors"]]
    assert [tuple(reason) for reason in json.loads(letter["_headers"]["reasons"])] == reasons
    assert CANARY.replace("@", "") not in api.logged(answer)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {}, 400, "malformed_json"),
        (b"", {}, 400, "empty"),
        (b'{"a":"\xff"}', {}, 400, "invalid_utf8"),
        (b"[" * 60_000, {}, 400, "too_deep"),
        (b"x" * 65_537, {}, 413, "too_large"),
        (b"x" * 3_000_000, {}, 413, "too_large"),
        (gzip.compress(b"\0" * 50_000_000, mtime=0), {"Content-Encoding": "gzip"}, 413, "too_large"),
        (gzip.compress(b"\0" * 20_000_000, mtime=0), {"Content-Encoding": "gzip"}, 413, "too_large"),
        (b"{}", {"Content-Encoding": "br"}, 415, "unsupported_encoding"),
        (b"{}", {"Content-Encoding": "gzip"}, 400, "malformed_encoding"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"X-API-Key": "hw_nobody_0123456789abcdef"}, 401, "unauthorized"),
        (b"{}", {"X-API-Key": "' OR 1=1 --"}, 401, "unauthorized"),
        (b'{"tenant_id":"globex"}', {}, 422, "invalid_event"),
    ],
    ids=lambda value: value.decode("latin-1")[:12] if isinstance(value, bytes) else None,
)
def test_each_refusal_has_its_status_and_code(
    api: ApiServer, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    with api.client(**({"Content-Type": "application/json"} | headers)) as client:
        answer = client.post("/ingest", content=content)
    problem(answer, status, code)
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_key_without_the_scope_is_403_and_unknown_routes_are_problems(api: ApiServer) -> None:
    with api.client(**{"X-API-Key": api.reader_key}) as client:
        problem(client.post("/ingest", json=event()), 403, "forbidden")
        problem(client.get("/nothing"), 404, "not_found")
        assert problem(client.get("/ingest"), 405, "method_not_allowed")
        problem(httpx.post(f"{api.url}/ingest", json=event()), 401, "unauthorized")


def test_a_gzipped_event_is_accepted(api: ApiServer) -> None:
    packed = gzip.compress(json.dumps(event()).encode())
    with api.client(**{"Content-Type": "application/json", "Content-Encoding": "gzip"}) as client:
        assert client.post("/ingest", content=packed).status_code == 202


def test_only_harmless_request_ids_are_taken_over(api: ApiServer) -> None:
    with api.client() as client:
        assert (
            client.get("/health/live", headers={"X-Request-Id": "a.B-9_"}).headers["x-request-id"] == "a.B-9_"
        )
        for given in ("a b", "x" * 65, "<script>", "{jndi:x}"):
            answer = client.get("/health/live", headers={"X-Request-Id": given})
            assert given not in answer.headers["x-request-id"]
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == (
        "nosniff",
        "no-store",
    )


def test_a_batch_answers_for_each_line(api: ApiServer, tail: Callable[[str], Tail]) -> None:
    topic = tail("lead.ingest")
    lines = [
        event(idempotency_key="b-1"),
        None,
        {"payload": {"consent": False}},
        {"source": "web"},
        event(x="y" * 70_000),
    ]
    raw = "\r\n".join("" if line is None else json.dumps(line) for line in lines) + "\n{"
    with api.client(**NDJSON) as client:
        answer = client.post("/ingest/batch", content=raw)
        packed = gzip.compress(raw.encode())
        again = client.post("/ingest/batch", content=packed, headers={"Content-Encoding": "gzip"})
    body = answer.json()
    assert again.json() == body
    assert (answer.status_code, body["accepted"], body["discarded"], body["rejected"]) == (202, 1, 1, 3)
    assert [(r["line"], r["status"], r.get("code")) for r in body["results"]] == [
        (1, "accepted", None),
        (3, "discarded", None),
        (4, "rejected", "invalid_event"),
        (5, "rejected", "invalid_event"),
        (6, "rejected", "malformed_json"),
    ]
    assert body["results"][3]["errors"][0]["code"] == "too_large"
    assert [r["event_id"] for r in topic.read(api.tenant, 2)] == [body["results"][0]["event_id"]] * 2


def test_a_batch_has_its_own_limits(api: ApiServer, tail: Callable[[str], Tail]) -> None:
    topic = tail("lead.ingest")
    with api.client(**NDJSON) as client:
        thousand = "\n".join(json.dumps(event(idempotency_key=f"m-{n}")) for n in range(1000))
        assert client.post("/ingest/batch", content=thousand).json()["accepted"] == 1000
        problem(client.post("/ingest/batch", content=thousand + "\n{}"), 413, "too_many_lines")
        problem(client.post("/ingest/batch", content=b" " * (1 << 20) + b"x"), 413, "too_large")
        problem(client.post("/ingest/batch", content=b"\n\n"), 400, "empty")
        bomb = gzip.compress(b"\n" * 50_000_000)
        problem(
            client.post("/ingest/batch", content=bomb, headers={"Content-Encoding": "gzip"}), 413, "too_large"
        )
    keys = {record["idempotency_key"] for record in topic.read(api.tenant, 1000)}
    assert keys == {f"m-{n}" for n in range(1000)}


def test_tokens_are_judged_by_the_running_server(api: ApiServer) -> None:
    now = int(time.time())
    good = {
        "iss": ISSUER, "aud": "headwater-api", "sub": "u", "tenant_id": api.tenant,
        "scope": "jobs:read ingest:write", "iat": now, "exp": now + 300,
    }  # fmt: skip
    unsigned = ".".join(_b64(part) for part in ({"alg": "none", "kid": "test"}, good)) + "."
    confused = ".".join(_b64(part) for part in ({"alg": "HS256", "kid": "test"}, good))
    public = api.signing_key.as_pem(private=False)
    expected = {
        mint(api.signing_key, good): 202,
        mint(api.signing_key, good | {"scope": "jobs:read"}): 403,
        mint(api.signing_key, good | {"exp": now - 60, "iat": now - 600}): 401,
        mint(api.signing_key, good | {"exp": now + 7200}): 401,
        mint(api.signing_key, good | {"aud": "other"}): 401,
        unsigned: 401,
        f"{confused}.{_b64(hmac.digest(public, confused.encode(), 'sha256'))}": 401,
        mint(api.signing_key, good, jku="https://evil.invalid/jwks"): 401,
        mint(api.signing_key, good, jwk=jwks_entry(api.signing_key)): 401,
        mint(api.signing_key, good, kid="../../dev/null"): 401,
    }
    for token, status in expected.items():
        answer = httpx.post(f"{api.url}/ingest", json=event(), headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, answer.text


def _b64(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_slow_body_is_408_and_the_connection_is_closed(api: ApiServer) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=WAIT_S) as slow:
        lines = (
            "POST /ingest HTTP/1.1",
            "Host: x",
            f"X-API-Key: {api.key}",
            "Content-Type: application/json",
        )
        slow.sendall(("\r\n".join(lines) + "\r\nContent-Length: 100\r\n\r\n{").encode())
        answer = b""
        while chunk := slow.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer


def test_a_request_head_may_be_neither_endless_nor_slow(api: ApiServer) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=WAIT_S) as endless:
        with pytest.raises(OSError, match=r"reset|pipe"):
            for _ in range(1000):
                endless.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 65_536)
    with socket.create_connection(("127.0.0.1", api.port), timeout=WAIT_S) as slow:
        slow.sendall(b"GET /health/live HTTP/1.1\r\nHost:")
        assert slow.recv(1) == b""  # closed by the server
    with socket.create_connection(("127.0.0.1", api.port), timeout=WAIT_S) as idle:
        assert idle.recv(1) == b""


def test_health_metrics_and_the_document_need_no_credential(api: ApiServer) -> None:
    health = httpx.get(f"{api.url}/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert {d["status"] for d in health.json()["dependencies"].values()} == {"ok"}
    text = httpx.get(f"{api.url}/metrics").text
    assert 'ingest_api_events_total{source="web",status="valid"}' in text
    assert "ingest_api_latency_seconds_bucket" in text
    document = httpx.get(f"{api.url}/openapi.json").json()
    body = document["paths"]["/ingest"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["source", "payload"]
    assert "tenant_id" not in body["properties"]


def test_only_listed_origins_may_call_from_a_browser(api: ApiServer, tmp_path: Path) -> None:
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{api.url}/ingest", headers=asked).status_code == 405  # off by default
    with running_api(tmp_path, HEADWATER_API__CORS_ORIGINS='["https://a.example"]') as server:
        allowed = httpx.options(f"{server.url}/ingest", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        refused = httpx.options(f"{server.url}/ingest", headers=asked | {"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in refused.headers


def test_without_redis_events_are_still_taken_and_health_is_degraded(tmp_path: Path) -> None:
    with (
        running_api(tmp_path, HEADWATER_REDIS__URL="redis://127.0.0.1:1/0") as server,
        server.client() as client,
    ):
        assert client.post("/ingest", json=event()).status_code == 202
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")


def test_without_kafka_the_answer_is_503_memory_is_bounded_and_the_process_stops(tmp_path: Path) -> None:
    away = {"HEADWATER_KAFKA__BOOTSTRAP": "127.0.0.1:1", "HEADWATER_API__KAFKA_TIMEOUT_S": "2"}
    with running_api(tmp_path, **away) as server, server.client() as client:
        before = server.rss_bytes()
        big = event(metadata={"text": "x" * 60_000})
        with ThreadPoolExecutor(40) as crowd:
            answers = list(crowd.map(lambda _: client.post("/ingest", json=big), range(400)))
        assert {answer.status_code for answer in answers} == {503}
        assert problem(answers[0], 503, "kafka_unavailable")
        assert int(answers[0].headers["retry-after"]) >= 1
        lines = "\n".join(json.dumps(event(idempotency_key=str(n))) for n in range(100))
        problem(client.post("/ingest/batch", content=lines, headers=NDJSON), 503, "kafka_unavailable")
        assert client.post("/ingest", json={"payload": {"consent": False}}).status_code == 202
        assert (client.get("/health").status_code, client.get("/health").json()["status"]) == (503, "down")
        assert client.get("/health/live").status_code == 200
        assert server.rss_bytes() - before < 150 << 20
        assert server.stop() == 0


def test_when_kafka_comes_back_events_are_taken_again_and_refused_ones_do_not_appear(
    tmp_path: Path, tail: Callable[[str], Tail]
) -> None:
    topic = tail("lead.ingest")
    port = free_port()
    away = {"HEADWATER_KAFKA__BOOTSTRAP": f"127.0.0.1:{port}", "HEADWATER_API__KAFKA_TIMEOUT_S": "2"}
    with running_api(tmp_path, **away) as server, server.client() as client:
        assert client.post("/ingest", json=event(idempotency_key="refused")).status_code == 503
        with forwarding(port, load_settings().kafka.bootstrap):
            end = time.monotonic() + WAIT_S
            while (answer := client.post("/ingest", json=event(idempotency_key="taken"))).status_code == 503:
                assert time.monotonic() < end
            assert answer.status_code == 202
            assert {record["idempotency_key"] for record in topic.read(server.tenant, 1)} == {"taken"}


def test_what_was_accepted_before_the_stop_is_in_kafka(tmp_path: Path, tail: Callable[[str], Tail]) -> None:
    topic = tail("lead.ingest")
    with running_api(tmp_path) as server, server.client() as client:

        def post(number: int) -> str | None:
            try:
                answer = client.post("/ingest", json=event(idempotency_key=f"s-{number}"))
            except httpx.TransportError:
                return None
            return answer.json()["event_id"] if answer.status_code == 202 else None

        with ThreadPoolExecutor(8) as crowd:
            posted = [crowd.submit(post, number) for number in range(300)]
            posted[100].result()
            assert server.stop() == 0
            accepted = {one.result() for one in posted} - {None}
        assert accepted <= {record["event_id"] for record in topic.read(server.tenant, len(accepted))}
        assert len(accepted) >= 100


def test_a_wrong_set_up_ends_with_code_2(tmp_path: Path) -> None:
    server = ApiServer(tmp_path)
    (tmp_path / "keys.json").unlink()
    with pytest.raises(AssertionError, match="make up"):
        server.start()
    assert server.process is not None
    assert server.process.wait(10) == 2
