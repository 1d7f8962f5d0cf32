"""How much the API takes: requests a second, bytes of a body, dead letters of a tenant."""

import asyncio
import gzip
import io
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from api import body as body_module
from api.body import read_body
from api.dead_letters import BURST, DeadLetters
from api.events import Refused
from api.limits import RateLimit
from api.problems import Fault, Problem
from api.publisher import MAX_PENDING_BYTES, PROBES, Publisher, Record, UnavailableError
from headwater.settings import Settings

LIMIT = 1000
JSON = "application/json"
CLOSED_PORT = 1


def settings(**api: object) -> Settings:
    """Settings that need no stack; Kafka and Redis are at a closed port."""
    found = Settings(env="staging")  # type: ignore[call-arg]  # the rest comes from conf/
    return found.model_copy(
        update={
            "api": found.api.model_copy(update=api),
            "redis": found.redis.model_copy(update={"url": f"redis://127.0.0.1:{CLOSED_PORT}/0"}),
            "kafka": found.kafka.model_copy(
                update={
                    "bootstrap": f"127.0.0.1:{CLOSED_PORT}",
                    "security_protocol": "PLAINTEXT",
                    "sasl_mechanism": None,
                }
            ),
        }
    )


class Source:
    """A request whose body arrives in chunks; counts what was taken of it."""

    def __init__(self, chunks: list[bytes], headers: dict[str, str], stall: bool = False) -> None:
        self.chunks, self.taken, self.stall = list(chunks), 0, stall
        raw = [(k.encode(), v.encode()) for k, v in ({"content-type": JSON} | headers).items()]
        self.request = Request({"type": "http", "method": "POST", "headers": raw}, self.receive)

    async def receive(self) -> dict[str, Any]:
        if not self.chunks and self.stall:
            await asyncio.sleep(3600)
        chunk = self.chunks.pop(0) if self.chunks else b""
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks) or self.stall}


def take(source: Source) -> bytes | tuple[int, str]:
    try:
        return asyncio.run(read_body(source.request, JSON, LIMIT))
    except Problem as refusal:
        return refusal.status, refusal.code


def chunked(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


@given(st.binary(max_size=LIMIT), st.integers(1, 300))
def test_a_body_within_the_limit_arrives_whole_in_any_chunks(raw: bytes, size: int) -> None:
    assert take(Source(chunked(raw, size), {})) == raw


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.integers(1, 50))
def test_gzip_is_unpacked_over_any_chunks_and_members(parts: list[bytes], size: int) -> None:
    packed = b"".join(gzip.compress(part, 1) for part in parts)
    assert take(Source(chunked(packed, size), {"content-encoding": "gzip"})) == b"".join(parts)


def test_one_byte_too_many_is_413() -> None:
    assert take(Source([b"x" * LIMIT], {})) == b"x" * LIMIT
    assert take(Source([b"x" * LIMIT, b"x"], {})) == (413, "too_large")
    packed = gzip.compress(b"x" * (LIMIT + 1))
    assert take(Source([packed], {"content-encoding": "gzip"})) == (413, "too_large")


def test_a_declared_length_beyond_the_limit_is_413() -> None:
    assert take(Source([b"x"], {"content-length": str(LIMIT + 1)})) == (413, "too_large")


def test_a_client_that_waits_for_our_word_is_answered_before_it_sends() -> None:
    source = Source([b"x" * 10], {"content-length": "9999", "expect": "100-continue"})
    assert take(source) == (413, "too_large")
    assert source.taken == 0


def test_an_endless_body_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "DRAIN_BYTES", 5000)
    source = Source([b"x" * 1000] * 1000, {})
    assert take(source) == (413, "too_large")
    assert source.taken <= 8000


def test_a_gzip_bomb_is_never_unpacked_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    largest, real = 0, zlib.decompressobj

    class Spy:
        def __init__(self) -> None:
            self.inner = real(31)

        def decompress(self, chunk: bytes, most: int) -> bytes:
            nonlocal largest
            out = self.inner.decompress(chunk, most)
            largest = max(largest, len(out))
            return out

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    packed = gzip.compress(b"\0" * (LIMIT * 900))
    assert len(packed) < LIMIT
    monkeypatch.setattr(zlib, "decompressobj", lambda _window: Spy())
    assert take(Source([packed], {"content-encoding": "gzip"})) == (413, "too_large")
    assert 0 < largest <= LIMIT + 1


@pytest.mark.parametrize("raw", [b"not gzip", gzip.compress(b"x" * 100)[:-9], gzip.compress(b"x") + b"junk"])
def test_broken_gzip_is_400(raw: bytes) -> None:
    assert take(Source([raw], {"content-encoding": "gzip"})) == (400, "malformed_encoding")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "gzip,identity"])
def test_other_encodings_are_415(encoding: str) -> None:
    assert take(Source([b"{}"], {"content-encoding": encoding})) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/jsonp", "application/json; charset=latin-1", "application/x-ndjson"],
)
def test_other_content_types_are_415(kind: str) -> None:
    assert take(Source([b"{}"], {"content-type": kind})) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON;charset=UTF-8", 'application/json; charset="utf-8"']
)
def test_json_in_utf8_is_taken(kind: str) -> None:
    assert take(Source([b"{}"], {"content-type": kind})) == b"{}"


def test_a_body_that_never_ends_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "READ_TIMEOUT_S", 0.05)
    assert take(Source([b"{"], {}, stall=True)) == (408, "body_timeout")


def admitted(limit: RateLimit, credential: str, tries: int) -> Awaitable[int]:
    async def count() -> int:
        return [await limit.admit(credential) for _ in range(tries)].count(None)

    return count()


@pytest.mark.parametrize(("rate", "burst"), [(2, 4), (40, 80), (600, 1200)])
def test_while_redis_is_away_a_burst_of_double_passes_and_no_more(rate: int, burst: int) -> None:
    async def run() -> tuple[int, int]:
        limit = RateLimit(settings(rate_per_second=rate, rate_burst=burst))
        both = await admitted(limit, "a", burst), await admitted(limit, "b", 1)
        await limit.close()
        return both

    assert asyncio.run(run()) == (burst, 1)


def test_a_crowd_that_comes_at_once_takes_one_lease_at_a_time() -> None:
    async def run() -> int:
        limit = RateLimit(settings(rate_per_second=1000, rate_burst=1000))
        answers = await asyncio.gather(*(limit.admit("a") for _ in range(800)))
        await limit.close()
        return answers.count(None)

    assert asyncio.run(run()) == 800


def test_beyond_the_burst_the_wait_is_named() -> None:
    async def run() -> list[int | None]:
        limit = RateLimit(settings(rate_per_second=1, rate_burst=60))
        answers = [await limit.admit("a") for _ in range(70)]
        await limit.close()
        return answers

    answers = asyncio.run(run())
    assert answers.count(None) == 60
    assert all(wait is None or wait >= 1 for wait in answers)


class Outbox:
    """Stands for the publisher."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def offer(self, record: Record) -> bool:
        self.records.append(record)
        return True


def letters(outbox: Outbox) -> Callable[[bytes, str], None]:
    box = DeadLetters(outbox)  # type: ignore[arg-type]  # has the one method that is used
    refused = Refused((Fault("", "malformed_json", "is not JSON"),), None)
    return lambda raw, tenant: box.offer(raw, tenant, refused)


def test_a_tenants_dead_letters_are_bounded_and_do_not_use_up_anothers() -> None:
    outbox = Outbox()
    offer = letters(outbox)
    for _ in range(2000):
        offer(b"x", "acme")
    assert BURST <= len(outbox.records) < 1000
    offer(b"x", "globex")
    assert outbox.records[-1].key.startswith(b"globex|")


def test_a_body_that_denies_consent_is_no_dead_letter() -> None:
    outbox = Outbox()
    letters(outbox)(b'{"payload":{"consent":false', "acme")
    assert outbox.records == []


def test_without_kafka_all_are_refused_and_the_queue_is_empty_again() -> None:
    async def run() -> tuple[list[object], int, bool]:
        publisher = Publisher(settings(kafka_timeout_s=1.0, kafka_queue_messages=500))
        publisher.start()
        record = Record("t", b"k", b"v")
        answers = await asyncio.gather(
            *(publisher.publish([record]) for _ in range(600)), return_exceptions=True
        )
        offered = publisher.offer(record)
        left = publisher.pending
        await publisher.stop()
        return list(answers), left, offered

    answers, left, offered = asyncio.run(run())
    assert all(isinstance(answer, UnavailableError) for answer in answers)
    assert sum("full" in str(answer) for answer in answers) == 100
    assert (left, offered) == (0, False)


def test_once_kafka_fails_only_a_few_requests_wait_for_it() -> None:
    async def run() -> list[object]:
        publisher = Publisher(settings(kafka_timeout_s=1.0))
        publisher.start()
        record = Record("t", b"k", b"v")
        with pytest.raises(UnavailableError):
            await publisher.publish([record])
        answers = await asyncio.gather(
            *(publisher.publish([record]) for _ in range(PROBES + 20)), return_exceptions=True
        )
        await publisher.stop()
        return list(answers)

    assert sum("acknowledge" in str(answer) for answer in asyncio.run(run())) == 20


def test_the_bytes_that_wait_are_bounded_before_anything_is_queued() -> None:
    async def run() -> int:
        publisher = Publisher(settings(kafka_timeout_s=1.0))
        publisher.start()
        with pytest.raises(UnavailableError, match="full"):
            await publisher.publish([Record("t", b"k", b"v" * (MAX_PENDING_BYTES // 4))] * 5)
        pending = publisher.pending
        await publisher.stop()
        return pending

    assert asyncio.run(run()) == 0


def test_gzip_of_nothing_is_nothing() -> None:
    buffer = io.BytesIO()
    gzip.GzipFile(fileobj=buffer, mode="wb").close()
    assert take(Source([buffer.getvalue()], {"content-encoding": "gzip"})) == b""
