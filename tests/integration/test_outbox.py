"""Leads → outbox → lead.captured, on real servers: what is announced, when, how often, in which order."""

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from headwater.errors import SetupError, TransientError
from headwater.identity import event_id, message_key
from headwater.settings import ROOT, Settings
from jobs import captured as module
from jobs.captured import Captured
from local.postgres import dsn
from schemas.topics import MAX_MESSAGE_BYTES
from sinks import outbox_reader
from sinks.base import Rejected
from sinks.outbox_reader import OutboxReader
from tests.integration.broker import eventually, topic_of_its_own
from tests.integration.outbox_harness import (
    Leads,
    as_owner,
    context,
    emptied_leads,
    lead,
    migrated_database,
    settings_of,
)

NAME = "deliver.leads.captured"
KILLED = -9
Relay = Callable[..., Captured]


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        yield settings_of(name)


@pytest.fixture
def leads(settings: Settings) -> Iterator[Leads]:
    with emptied_leads(settings) as made:
        yield made


@pytest.fixture
def topic(settings: Settings) -> Iterator[str]:
    limit = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    with topic_of_its_own(settings.kafka.bootstrap, "captured", limit) as name:
        yield name


def read(settings: Settings, topic: str) -> list[Message]:
    """All that is in the topic, each partition in its order."""
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": uuid.uuid4().hex})
    found: list[Message] = []
    try:
        for partition in range(3):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            consumer.assign([TopicPartition(topic, partition, low)])
            found += consumer.consume(high - low, timeout=20) if high > low else []
    finally:
        consumer.close()
    return found


@pytest.fixture
def relay(settings: Settings) -> Iterator[Relay]:
    """Makes loops, prepared, and closes them."""
    made: list[Captured] = []

    def make(topic: str, from_start: bool = False, prepare: bool = True, **sections: Any) -> Captured:
        there = settings.model_copy(update=sections)
        made.append(Captured(context(there, from_start), topic=topic))
        if prepare:
            made[-1].prepare()
        return made[-1]

    yield make
    for loop in made:
        loop.close()


def values(messages: list[Message]) -> list[dict[str, Any]]:
    return [json.loads(message.value() or b"") for message in messages]


# The outbox


def test_every_inserted_and_updated_lead_is_announced_with_its_place(leads: Leads) -> None:
    assert leads.write(lead("a"), lead("b")) == (2, 0)
    assert leads.write(lead("a", 2), lead("c")) == (1, 1)
    rows = leads.ask("SELECT tenant_id, lead_id::text, row_version, source_topic, source_partition,"
                     " source_offset, relayed_at FROM lead_outbox ORDER BY seq")  # fmt: skip
    ids = {key: event_id("acme", key) for key in "abc"}
    assert sorted(row[1:3] for row in rows) == sorted(
        [(ids["a"], 1), (ids["b"], 1), (ids["a"], 2), (ids["c"], 1)]
    )
    assert {(row[0], *row[3:5], row[5] == row[2], row[6]) for row in rows} == {
        ("acme", "lead.ingest", 3, True, None)
    }


def test_a_repeated_or_an_older_row_is_not_announced(leads: Leads) -> None:
    leads.write(lead("a", 2))
    assert (leads.write(lead("a", 2)), leads.write(lead("a", 1))) == ((0, 0), (0, 0))
    assert leads.ask("SELECT row_version FROM lead_outbox") == [(2,)]


def test_keys_that_only_look_alike_are_leads_of_their_own(leads: Leads) -> None:
    keys = ["\u00e9", "e\u0301", "E", "e", "\u00df", "ss"]
    assert leads.write(*(lead(key) for key in keys), lead("\u00e9", 2), lead("e", 3)) == (6, 0)
    found = leads.ask("SELECT idempotency_key, row_version FROM leads")
    assert dict(found) == dict.fromkeys(keys, 1) | {"\u00e9": 2, "e": 3}
    assert sorted(leads.ask("SELECT row_version FROM lead_outbox")) == [(1,)] * 4 + [(2,), (3,)]


def test_a_rebuild_announces_nothing_again_also_when_it_meets_older_versions_first(leads: Leads) -> None:
    leads.write(lead("a", 5), lead("b", 1))
    leads.sink.reset()
    assert leads.write(lead("a", 4), lead("b", 1)) == (2, 0)
    assert leads.write(lead("a", 5)) == (0, 1)
    assert leads.ask("SELECT count(*) FROM lead_outbox") == [(2,)]


def test_a_row_that_is_refused_leaves_no_announcement(leads: Leads) -> None:
    rows = leads.stage(lead("good"), lead("bad", source="x" * 51), lead("fine"))
    refused: list[Any] = []
    with leads.connection.transaction():
        leads.enter(rows, refused)
    assert (len(refused), leads.ask("SELECT count(*) FROM lead_outbox")) == (1, [(2,)])


def test_a_transaction_that_is_rolled_back_announces_nothing(leads: Leads) -> None:
    rows = leads.stage(lead("a"))
    with leads.connection.transaction(force_rollback=True):
        leads.enter(rows, [])
    assert leads.ask("SELECT count(*) FROM lead_outbox") == [(0,)]


def test_two_writers_at_once_get_their_numbers_in_the_order_of_commits(
    leads: Leads, settings: Settings
) -> None:
    other = Leads(settings)
    first, second = leads.stage(lead("first")), other.stage(lead("second"))
    seen: list[int] = []

    def write_second() -> None:
        with other.connection.transaction():
            other.wait_for_turn()
            seen.extend(n for (n,) in other.ask("SELECT seq FROM lead_outbox"))
            other.enter(second, [])

    with leads.connection.transaction():
        leads.wait_for_turn()
        leads.enter(first, [])
        thread = threading.Thread(target=write_second)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "the second writer did not wait"
    thread.join(10)
    other.close()
    assert seen == [1]


def test_an_entry_out_of_turn_is_an_outage_that_rejects_no_row(leads: Leads, settings: Settings) -> None:
    entry = "INSERT INTO lead_outbox (tenant_id, lead_id, event_id, row_version) VALUES ('acme', %s, %s, 1)"
    asleep = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    name, rows, watch = event_id("acme", "a"), leads.stage(lead("a"), lead("b")), Leads(settings)
    sink, refused = leads.connection.info.backend_pid, list[Rejected]()
    with Leads(settings).connection as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute(entry, (name, name))
        writing = pool.submit(leads.enter, rows, refused)
        eventually(lambda: watch.ask(asleep, sink), "the sink waits for the entry")
        other.execute("COMMIT")
        with pytest.raises(TransientError, match="out of turn"):
            writing.result(30)
    watch.close()
    assert (refused, leads.write(lead("a"), lead("b"))) == ([], (2, 0))
    assert leads.ask("SELECT count(*) FROM lead_outbox") == [(2,)]


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("writer", "DELETE FROM lead_outbox"),
        ("reader", "SELECT 1 FROM lead_outbox"),
        ("api", "SELECT 1 FROM lead_outbox"),
    ],
)
def test_a_role_is_refused_what_is_not_its_own(
    leads: Leads, settings: Settings, role: str, statement: str
) -> None:
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    with (
        psycopg.connect(dsn(f"headwater_{role}", f"postgres-{role}", database)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


# lead.captured


def test_a_captured_lead_is_its_row_as_json_under_its_key(
    leads: Leads, settings: Settings, topic: str, relay: Relay
) -> None:
    leads.write(lead("a", 7))
    loop = relay(topic)
    assert (loop.step(), loop.step()) == (1, 0)
    (message,) = read(settings, topic)
    (value,) = values([message])
    assert message.key() == message_key("acme", "a")
    columns = [name for (name,) in leads.ask("SELECT column_name FROM information_schema.columns"
               " WHERE table_name = 'leads' AND table_schema = 'public'")]  # fmt: skip
    assert sorted(value) == sorted(columns)
    assert (value["received_at"], value["metadata"], value["row_version"], value["phone"]) == (
        "2026-03-01T12:00:00.123456+00:00", {"a": [1, "b"]}, 7, None,
    )  # fmt: skip


def test_a_lead_longer_than_the_clients_own_limit_is_relayed(
    leads: Leads, settings: Settings, topic: str, relay: Relay
) -> None:
    leads.write(lead("a", message="\u0001" * 1_000_000))
    assert relay(topic).step() == 1
    assert len(values(read(settings, topic))[0]["message"]) == 1_000_000


def test_versions_of_a_lead_come_in_their_order(
    leads: Leads, settings: Settings, topic: str, relay: Relay
) -> None:
    loop = relay(topic)
    for version in range(1, 6):
        leads.write(*(lead(f"k{number}", version) for number in range(20)))
        loop.step()
    seen: dict[str, list[int]] = {}
    for value in values(read(settings, topic)):
        seen.setdefault(value["id"], []).append(value["row_version"])
    assert len(seen) == 20 and all(versions == [1, 2, 3, 4, 5] for versions in seen.values())


def test_a_kill_between_acknowledgement_and_mark_repeats(
    leads: Leads, settings: Settings, topic: str, relay: Relay
) -> None:
    leads.write(lead("a"))
    script = (
        "import sys; from headwater.failpoints import arm; from jobs.captured import Captured;"
        "from tests.integration.outbox_harness import context, settings_of; arm('local');"
        "loop = Captured(context(settings_of(sys.argv[1])), topic=sys.argv[2]); loop.prepare(); loop.step()"
    )
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    done = subprocess.run(
        [sys.executable, "-c", script, database, topic],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HEADWATER_FAILPOINT": f"{NAME}:after_write"},
        timeout=60,
    )
    assert done.returncode == KILLED
    assert relay(topic).step() == 1
    assert [value["row_version"] for value in values(read(settings, topic))] == [1, 1]


def test_a_lead_that_a_rebuild_has_not_brought_back_yet_waits(
    leads: Leads, settings: Settings, topic: str, relay: Relay
) -> None:
    leads.write(lead("a", 5))
    leads.sink.reset()
    loop = relay(topic)
    assert loop.step() == 0
    leads.write(lead("a", 4))
    assert loop.step() == 0
    leads.write(lead("a", 5))
    assert (loop.step(), [value["row_version"] for value in values(read(settings, topic))]) == (1, [5])


def test_a_lead_that_is_gone_for_good_is_skipped_and_counted(leads: Leads, settings: Settings) -> None:
    leads.write(lead("erased"), lead("kept"))
    with as_owner(settings) as owner:
        owner.execute("DELETE FROM leads WHERE idempotency_key = 'erased'")
    reader = OutboxReader(settings, NAME, patience=timedelta(0))
    assert (reader.drop_gone(), len(reader.due(10)), reader.pending()) == (1, 1, 1)
    reader.close()


def test_from_start_relays_the_whole_history_once_more(
    leads: Leads, settings: Settings, topic: str, relay: Relay
) -> None:
    leads.write(lead("a"), lead("b"))
    relay(topic).step()
    again = relay(topic, from_start=True)
    assert (again.step(), again.step()) == (2, 0)


def test_a_long_outbox_is_forgotten_in_pieces_that_are_short_transactions(
    leads: Leads, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_reader, "ROWS_AT_ONCE", 2)
    leads.write(*(lead(key) for key in "abcde"))
    leads.connection.execute("UPDATE lead_outbox SET relayed_at = now() WHERE seq <> 4")
    reader = OutboxReader(settings, NAME)
    reader.forget_relayed()
    assert leads.ask("SELECT array_agg(relayed_at), count(DISTINCT xmin::text) FROM lead_outbox"
                     " WHERE seq <> 4") == [([None] * 4, 3)]  # fmt: skip
    assert [row.seq for row in reader.due(10)] == [1, 2, 3, 4, 5]
    reader.close()


def test_forgetting_that_was_cut_off_is_done_again_from_the_first(
    leads: Leads, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_reader, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(outbox_reader, "SESSION", f"{outbox_reader.SESSION} -c lock_timeout=100ms")
    leads.write(*(lead(key) for key in "abcde"))
    leads.connection.execute("UPDATE lead_outbox SET relayed_at = now()")
    reader = OutboxReader(settings, NAME)
    with Leads(settings).connection as other, other.transaction(force_rollback=True):
        other.execute("SELECT FROM lead_outbox WHERE seq = 3 FOR UPDATE")
        with pytest.raises(TransientError):
            reader.forget_relayed()
    assert [row.seq for row in reader.due(10)] == [1, 2]
    reader.mark([1])
    reader.forget_relayed()
    assert [row.seq for row in reader.due(10)] == [1, 2, 3, 4, 5]
    reader.close()


def test_what_kafka_does_not_acknowledge_stays_unrelayed(
    leads: Leads, settings: Settings, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACKNOWLEDGED_WITHIN_S", 1.0)
    leads.write(lead("a"))
    away = settings.kafka.model_copy(update={"bootstrap": "127.0.0.1:9"})
    with pytest.raises(TransientError, match="did not acknowledge 1"):
        relay("nowhere", prepare=False, kafka=away).step()
    assert leads.ask("SELECT relayed_at FROM lead_outbox") == [(None,)]


def test_a_missing_topic_says_run_migrate(relay: Relay) -> None:
    with pytest.raises(SetupError, match="create it with `python -m jobs migrate`"):
        relay(f"test.nowhere.{uuid.uuid4().hex}")
