"""Elasticsearch that is too busy for a while, then refuses some documents and defers others."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from schemas.tables import DEAD_LETTERS
from tests.integration.broker import eventually
from tests.integration.elasticsearch_proxy import Proxy, listening
from tests.integration.jobs_harness import Sent, World, good
from tests.integration.lake import committed
from tests.integration.outgoing import check_topics

# Longer than the sink insists on a bulk request (30 s), so that its query falls and is started again.
BUSY_S = 45.0
STAGE = "sink:elasticsearch"
TOO_MANY = (429, "es_rejected_execution_exception")
# The source of a lead that is refused for ever, and with what type of error.
REFUSED = {
    "unmapped": "mapper_parsing_exception",
    "parsed": "document_parsing_exception",
    "argued": "illegal_argument_exception",
}
_ARRIVES_WITHIN_S = 180.0


class Mixed:
    """400 for leads of a source in REFUSED; every other document meets 429 five times before it is taken.

    That is more often than the connector tries by itself.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.sent: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, document: dict[str, Any]) -> tuple[int, str] | None:
        with self._lock:
            number = self.sent.setdefault(document["id"], len(self.sent))
            self.seen[document["id"]] += 1
            if kind := REFUSED.get(document["source"]):
                return 400, kind
            return TOO_MANY if number % 2 and self.seen[document["id"]] <= 5 else None


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    with listening() as made:
        world.env["HEADWATER_ELASTICSEARCH__URL"] = made.url
        yield made


def leads(number: int) -> list[Sent]:
    return [good("acme", f"s{number}.{n}") for n in range(40)]


def test_too_many_requests_delay_and_bad_documents_become_dead_letters_alone(
    world: World, proxy: Proxy, prove: Callable[[World], dict[str, int]]
) -> None:
    job = world.start("run", "--domain", "leads")
    world.send(leads(0))
    eventually(lambda: arrived(world, 40), "Elasticsearch has slice 0", _ARRIVES_WITHIN_S)

    proxy.fail("request", 429)
    world.send(leads(1))
    busy_until = time.monotonic() + BUSY_S
    eventually(lambda: len(world.postgres()) == 80, "PostgreSQL goes on alone", _ARRIVES_WITHIN_S)
    eventually(lambda: time.monotonic() > busy_until, "Elasticsearch stays busy")
    assert len(world.documents()) == 40
    assert letters(world) == []
    proxy.fault = None
    eventually(lambda: arrived(world, 80), "Elasticsearch catches up", _ARRIVES_WITHIN_S)

    proxy.refuse = mixed = Mixed()
    refused = [good("globex", f"r{n}.{kind}", source=kind) for kind in REFUSED for n in range(3)]
    places = world.send([*leads(2), *refused])[40:]
    eventually(lambda: arrived(world, 120), "what is good in the mixture arrives", _ARRIVES_WITHIN_S)
    eventually(lambda: len(letters(world)) == len(refused), "the others are dead letters", _ARRIVES_WITHIN_S)
    job.terminate()
    ended = job.wait()
    assert ended.code == 0, ended.why
    assert max(mixed.seen.values()) > 5

    late = [good("globex", f"late{n}.{kind}", source=kind) for kind in REFUSED for n in range(3)]
    places, refused = [*places, *world.send(late)], [*refused, *late]
    world.done("run", "--once")
    told = {
        (row["source_topic"], row["source_partition"], row["source_offset"]): row for row in letters(world)
    }
    assert told.keys() == set(places)
    for place, sent in zip(places, refused, strict=True):
        check_letter(told[place], sent)
    check_stores(world, {(sent.tenant, sent.key) for sent in refused})
    check_topics(world)
    prove(world)
    world.done("reconcile", "--domain", "leads")


def arrived(world: World, count: int) -> bool:
    """Whether the index is there and holds so many."""
    with world.elasticsearch() as client:
        there = client.indices.exists_alias(name=f"{world.prefix}leads")
    return bool(there) and len(world.documents()) == count


def letters(world: World) -> list[dict[str, Any]]:
    if not committed(world.lake / DEAD_LETTERS.full_name.replace(".", "/")):
        return []
    return [row for row in world.table(DEAD_LETTERS.full_name) if row["stage"] == STAGE]


def check_letter(row: dict[str, Any], sent: Sent) -> None:
    """The server's reason, the record's own bytes, and whose it is."""
    kind = REFUSED[sent.key.partition(".")[2]]
    message = "the destination refused the row with code 400"
    reason = {"code": "sink_rejected", "rule": kind, "field": "", "message": message}
    assert row["reasons"] == [reason]
    assert (row["payload"], row["tenant_id"]) == (sent.value, sent.tenant)
    assert (row["status"], row["failed_sinks"]) == ("new", ["elasticsearch"])


def check_stores(world: World, refused: set[tuple[str | None, str]]) -> None:
    """Silver and PostgreSQL have every lead; the index all but the refused ones, with silver's values."""
    silver = world.silver()
    assert silver.keys() == {(sent.tenant, sent.key) for sent in world.sent.values()}
    assert world.postgres() == silver
    wanted = {row["id"]: row for key, row in silver.items() if key not in refused}
    documents = world.documents()
    assert documents.keys() == wanted.keys()
    for key, document in documents.items():
        assert document == {name: wanted[key][name] for name in document}
