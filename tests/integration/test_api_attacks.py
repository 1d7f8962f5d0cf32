"""The API's callers under suspicion: false tokens, guessed keys, hostile bodies; and that nothing leaks."""

import base64
import gzip
import hashlib
import hmac
import json
import re
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from headwater.settings import load_settings
from schemas.topics import create_topics
from tests.integration.api_server import ISSUER, ApiServer, jwks_entry, mint, running_api

CANARY = "Qz7canary"
JSON = {"Content-Type": "application/json"}
SQL = "x'; DROP TABLE leads; --"
LEAKS = re.compile(
    r"Traceback|File \"|\.py\b|/work|/usr|site-packages|uvicorn|starlette|fastapi|httptools|llhttp|pydantic"
    r"|orjson|joserfc|redis|librdkafka|python|Exception|\w+Error\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    create_topics(load_settings())
    with running_api(tmp_path_factory.mktemp("api")) as server:
        yield server


def event(**changes: object) -> dict[str, Any]:
    return {"source": "web", "payload": {"email": "ann@example.com", "consent": True}} | changes


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def b64(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(api: ApiServer, **changes: object) -> dict[str, Any]:
    now = int(time.time())
    base = {
        "iss": ISSUER,
        "aud": "headwater-api",
        "sub": "u",
        "tenant_id": api.tenant,
        "scope": "ingest:write",
    }
    return base | {"iat": now, "exp": now + 300} | changes


def bearer(api: ApiServer, token: str) -> httpx.Response:
    return httpx.post(f"{api.url}/ingest", json=event(), headers={"Authorization": f"Bearer {token}"})


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, which names nothing of ours and nothing of the caller's."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
    body: dict[str, Any] = answer.json()
    assert (body["code"], body["request_id"]) == (code, answer.headers["x-request-id"])
    shown = f"{answer.text}\n{dict(answer.headers)}"
    assert not LEAKS.search(shown), shown
    assert CANARY not in shown
    assert "server" not in answer.headers
    return body


def test_tokens_that_were_tampered_with_are_401_in_the_same_words(api: ApiServer) -> None:
    now, good = int(time.time()), claims(api)
    head, body, signature = mint(api.signing_key, good).split(".")
    stranger = RSAKey.generate_key(2048, parameters={"kid": "test"})
    public = api.signing_key.as_pem(private=False)
    keyed = f"{b64({'alg': 'HS512', 'kid': 'test'})}.{body}"
    doubled = b'{"alg":"RS256","kid":"no","kid":"test"}'
    deep = b'{"kid":' + b"[" * 900 + b"]" * 900 + b',"alg":"RS256","kid":"test"}'
    tokens = {
        "not yet valid": mint(api.signing_key, good | {"nbf": now + 120}),
        "issued in the future": mint(api.signing_key, good | {"iat": now + 120, "exp": now + 240}),
        "lives longer than an hour": mint(api.signing_key, good | {"exp": now + 3601}),
        "wrong issuer": mint(api.signing_key, good | {"iss": ISSUER.rstrip("/")}),
        "no audience": mint(api.signing_key, {k: v for k, v in good.items() if k != "aud"}),
        "tenant is a list": mint(api.signing_key, good | {"tenant_id": [api.tenant]}),
        "tenant with a separator": mint(api.signing_key, good | {"tenant_id": f"{api.tenant}|x"}),
        "x5u": mint(api.signing_key, good, x5u="https://evil.invalid/c"),
        "x5c": mint(api.signing_key, good, x5c=["MIIB"]),
        "own key": mint(stranger, good, jwk=jwks_entry(stranger)),
        "own key of our name": mint(stranger, good),
        "unknown crit": f"{b64({'alg': 'RS256', 'kid': 'test', 'crit': ['x'], 'x': 1})}.{body}.{signature}",
        "kid as SQL": f"{b64({'alg': 'RS256', 'kid': SQL})}.{body}.{signature}",
        "kid twice": f"{b64(doubled)}.{body}.{signature}",
        "none, in capitals": f"{b64({'alg': 'NoNe', 'kid': 'test'})}.{body}.",
        "HS512 with the public key": f"{keyed}.{b64(hmac.digest(public, keyed.encode(), 'sha512'))}",
        "empty signature": f"{head}.{body}.",
        "signature of nothing": f"{head}.{body}.{b64(bytes(256))}",
        "signature cut": f"{head}.{body}.{signature[:-4]}",
        "four parts": f"{head}.{body}.{signature}.{signature}",
        "as JSON": b64({"protected": head, "payload": body, "signature": signature}),
        "deep header": f"{b64(deep)}.{body}.{signature}",
        "deep payload": f"{head}.{b64(b'[' * 2000)}.{signature}",
        "header is a list": f"{b64([head])}.{body}.{signature}",
        "too long": mint(api.signing_key, good | {"pad": "x" * 8192}),
        "control characters": f"{head}.{body}\t.{signature}",
    }
    answers = {name: bearer(api, token) for name, token in tokens.items()}
    told = [refused(answer, 401, "unauthorized") | {"request_id": ""} for answer in answers.values()]
    assert all(one == told[0] for one in told)
    assert len({answer.headers["www-authenticate"] for answer in answers.values()}) == 1
    assert bearer(api, f"{head}.{body}.{signature}").status_code == 202


def test_a_token_of_another_tenant_writes_nothing_in_ours(api: ApiServer) -> None:
    other = mint(api.signing_key, claims(api, tenant_id="globex"))
    headers = {"Authorization": f"Bearer {other}"}
    body = event(tenant_id=api.tenant, idempotency_key="same")
    found = refused(httpx.post(f"{api.url}/ingest", json=body, headers=headers), 422, "invalid_event")
    assert [(e["field"], e["code"]) for e in found["errors"]] == [("/tenant_id", "rule:tenant_match")]
    del body["tenant_id"]
    ours = httpx.post(f"{api.url}/ingest", json=body, headers={"X-API-Key": api.key})
    theirs = httpx.post(f"{api.url}/ingest", json=body, headers=headers)
    assert ours.json()["event_id"] != theirs.json()["event_id"]


def test_a_guessed_key_learns_neither_from_the_answer_nor_from_its_time(api: ApiServer) -> None:
    secret = api.key.rpartition("_")[2]
    guesses = {
        "known id": api.key[:-1] + ("a" if api.key[-1] != "a" else "b"),
        "known id, short": f"hw_writer{api.tenant}_0123456789abcdef",
        "unknown id": f"hw_nobody_{secret}",
        "no form": SQL,
        "digest": "hw_writer" + api.tenant + "_" + hashlib.sha256(secret.encode()).hexdigest(),
        "lower case": api.key.lower().replace("hw_", "HW_"),
    }
    times: dict[str, list[float]] = {name: [] for name in guesses}
    shown = set()
    with httpx.Client(base_url=api.url, headers=JSON) as client:
        for _ in range(60):
            for name, key in guesses.items():
                began = time.perf_counter()
                answer = client.post("/ingest", content=b"{}", headers={"X-API-Key": key})
                times[name].append(time.perf_counter() - began)
                body = refused(answer, 401, "unauthorized")
                shown.add((body["title"], answer.headers["www-authenticate"], len(answer.content)))
    assert len(shown) == 1
    # Of the fast ones: other work on the machine only adds to a time.
    fast = [sorted(found)[6] for found in times.values()]
    assert max(fast) < 2 * min(fast)


def test_a_missing_scope_is_403_before_the_body_is_read(api: ApiServer) -> None:
    for path in ("/ingest", "/ingest/batch"):
        answer = httpx.post(f"{api.url}{path}", content=b"{", headers={"X-API-Key": api.reader_key})
        refused(answer, 403, "forbidden")
    token = mint(api.signing_key, claims(api, scope="ingest:writes INGEST:WRITE *"))
    refused(bearer(api, token), 403, "forbidden")


def bomb_in_bomb() -> bytes:
    return gzip.compress(gzip.compress(b"\0" * 10_000_000))


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (gzip.compress(dump(event())) + b"trailing", "gzip", 400, "malformed_encoding"),
        (gzip.compress(dump(event())) + b"\0" * 8, "gzip", 400, "malformed_encoding"),
        (gzip.compress(dump(event()))[:-4], "gzip", 400, "malformed_encoding"),
        (gzip.compress(dump(event()))[:-8] + b"\0" * 8, "gzip", 400, "malformed_encoding"),
        (gzip.compress(gzip.compress(dump(event()))), "gzip", 400, "invalid_utf8"),
        (gzip.compress(gzip.compress(dump(event()))), "gzip, gzip", 415, "unsupported_encoding"),
        (bomb_in_bomb(), "gzip", 400, "invalid_utf8"),
        (gzip.compress(b"") * 20_000, "gzip", 413, "too_large"),
        (zlib.compress(dump(event())), "deflate", 415, "unsupported_encoding"),
        (zlib.compress(dump(event())), "gzip", 400, "malformed_encoding"),
        (dump(event()), "x" * 100, 415, "unsupported_encoding"),
    ],
    ids=[
        "garbage",
        "zeros",
        "cut",
        "checksum",
        "twice",
        "twice told",
        "bomb",
        "members",
        "deflate",
        "zlib",
        "?",
    ],
)
def test_packed_bodies_that_do_not_unpack_cleanly_are_refused(
    api: ApiServer, body: bytes, encoding: str, status: int, code: str
) -> None:
    headers = JSON | {"X-API-Key": api.key, "Content-Encoding": encoding}
    refused(httpx.post(f"{api.url}/ingest", content=body, headers=headers), status, code)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"a":' * 10_000, 400, "too_deep"),
        (b"[" * 30_000 + b"]" * 30_000, 400, "too_deep"),
        (b'{"metadata":' + b"9" * 60_000 + b"}", 422, "invalid_event"),
        (b'{"metadata":{"n":1e999999}}', 422, "invalid_event"),
        (b'{"metadata":{"n":-' + b"9" * 400 + b"}}", 422, "invalid_event"),
        (dump(event()).replace(b'"web"', b'"\\ud800"'), 400, "invalid_utf8"),
        (dump(event()).replace(b'"web"', b'"a\\u0000b"'), 422, "invalid_event"),
        (dump(event()).replace(b'"web"', b'"\xed\xa0\x80"'), 400, "invalid_utf8"),
        (dump(event()).replace(b'"web"', b'"\xc0\xae"'), 400, "invalid_utf8"),
        (dump(event()).replace(b'"web"', b'"a\nb"'), 400, "malformed_json"),
        (b"\xef\xbb\xbf" + dump(event()), 400, "malformed_json"),
        (dump(event()) + dump(event()), 400, "malformed_json"),
        (dump(event())[:-1] + b",}", 400, "malformed_json"),
        (dump(event()).replace(b"true", b"1e0"), 422, "invalid_event"),
        (dump(event(**{CANARY: 1})).replace(CANARY.encode(), b"__proto__"), 422, "invalid_event"),
        (dump(event(source="w\u202eeb" * 20)), 422, "invalid_event"),
        (dump(event(payload={"email": "ann@example.com\n", "consent": "true"})), 422, "invalid_event"),
        (dump(event(payload={"email": "a\u2024b@exa\u3002mple", "consent": True})), 422, "invalid_event"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
def test_hostile_documents_are_refused(api: ApiServer, body: bytes, status: int, code: str) -> None:
    answer = httpx.post(f"{api.url}/ingest", content=body, headers=JSON | {"X-API-Key": api.key})
    refused(answer, status, code)


def test_a_body_of_combining_marks_or_blank_lines_does_not_hold_the_others_up(api: ApiServer) -> None:
    """Sorting 30,000 marks took a second, in which nobody else was served."""
    marks = dump(
        event(payload={"email": "a@example.com", "consent": True, "message": "\u0301\u0316" * 15_000})
    )
    batch = b"\n".join([marks] * 16)
    with api.client() as client:
        began = time.perf_counter()
        assert client.post("/ingest", content=marks, headers=JSON).status_code == 202
        answer = client.post("/ingest/batch", content=batch, headers={"Content-Type": "application/x-ndjson"})
        assert answer.json()["accepted"] == 16
        refused(
            client.post(
                "/ingest/batch", content=b"\n" * 3_000, headers={"Content-Type": "application/x-ndjson"}
            ),
            413,
            "too_many_lines",
        )
    assert time.perf_counter() - began < 5


def test_the_answer_to_a_batch_is_not_many_times_its_size(api: ApiServer) -> None:
    line = b"{" + b",".join(b'"%x":1' % number for number in range(145)) + b"}"
    packed = gzip.compress(b"\n".join([line] * 1000))
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    with api.client() as client:
        answer = client.post("/ingest/batch", content=packed, headers=headers)
    results = answer.json()["results"]
    assert len(answer.content) < 1 << 20
    assert [len(result["errors"]) for result in (results[0], results[999])] == [100, 1]


def test_no_value_of_a_request_is_in_an_answer_a_log_or_a_metric(api: ApiServer) -> None:
    """A canary in every place that a caller can fill, also behind characters that forge a log line."""
    forged = CANARY + '\n{"event":"forged"}\u2028\u001b[31m'
    address = f"{CANARY}@example.com"
    bodies = [
        event(source=CANARY * 9, metadata={"m": forged}),
        event(payload={"email": CANARY, "first_name": forged * 30, "consent": "yes"}),
        event(
            payload={"email": address, "consent": True}, source=address, context={"ip_address": SQL + CANARY}
        ),
        event(payload={"email": address, "consent": True}, source=CANARY, context=CANARY),
        event(idempotency_key=[CANARY], tenant_id=CANARY),
        event(payload={"email": address, "consent": False, "message": CANARY}),
    ]
    fields = {"User-Agent": CANARY, "Referer": CANARY, "X-Forwarded-For": CANARY, "Cookie": f"a={CANARY}"}
    with api.client(**fields, **JSON) as client:
        for body in bodies:
            raw = dump(body)
            for sent in (raw, raw[:-1], raw + b"x", b"\xff" + raw):
                assert CANARY not in client.post("/ingest", content=sent).text.replace(f"/{CANARY}", "")
        for path in (
            f"/{CANARY}",
            f"/ingest?email={CANARY}",
            f"/ingest/batch/{SQL}{CANARY}",
            f"/health?{CANARY}",
        ):
            assert CANARY not in client.get(path).text
        for name in ("X-Request-Id", "Content-Type", "Content-Encoding", "Origin", "Expect", "Authorization"):
            answer = client.post("/ingest", content=dump(event()), headers={name: f"{CANARY} {SQL}"})
            assert CANARY not in answer.text + str(answer.headers)
        for key in (CANARY, f"hw_{CANARY}_0123456789abcdef"):
            refused(last := client.post("/ingest", json={}, headers={"X-API-Key": key}), 401, "unauthorized")
    log = api.logged(last)
    assert CANARY not in log
    assert "forged" not in log
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())
    assert CANARY not in httpx.get(f"{api.url}/metrics").text


def test_sql_in_every_parameter_is_only_text(api: ApiServer) -> None:
    texts = {name: SQL for name in ("first_name", "last_name", "phone", "message", "submission_type")}
    body = event(
        source=SQL,
        payload={"email": "o'brien@example.com", "consent": True} | texts,
        context={"ip_address": SQL, "user_agent": SQL, "page_url": SQL, "utm": {"campaign": SQL}},
        metadata={SQL: SQL},
        idempotency_key=SQL,
    )
    with api.client() as client:
        answer = client.post("/ingest", json=body, params={SQL: SQL})
    assert (answer.status_code, answer.json()["idempotency_key"]) == (202, SQL)


def test_no_answer_opens_a_door_to_other_origins(api: ApiServer) -> None:
    for origin in ("https://evil.example", "null", "https://api.example.evil"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "X-API-Key": api.key}
        for answer in (
            httpx.options(f"{api.url}/ingest", headers=asked),
            httpx.post(f"{api.url}/ingest", json=event(), headers=asked),
            httpx.get(f"{api.url}/health", headers=asked),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]
