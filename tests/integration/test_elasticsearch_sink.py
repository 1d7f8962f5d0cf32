"""ElasticsearchSink against a real server, and against a proxy before it that fails on demand."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from pyspark.sql import DataFrame, SparkSession

from headwater.errors import SetupError, TransientError
from headwater.identity import document_key, event_id
from headwater.settings import Settings, load_settings
from schemas.tables import LEADS
from sinks.base import Written
from sinks.elasticsearch import ElasticsearchSink
from tests.integration.elasticsearch_proxy import Proxy, listening

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with listening() as made:
        yield made


@pytest.fixture
def alias() -> Iterator[str]:
    """A fresh alias; its index is deleted afterwards."""
    name = f"leads-test-{uuid.uuid4().hex[:8]}"
    yield name
    server().indices.delete(index=f"{name}-v1", ignore_unavailable=True)


@pytest.fixture(params=["bulk", "connector"])
def writer(request: pytest.FixtureRequest) -> str:
    """Both ways in turn."""
    return str(request.param)


@pytest.fixture
def sink(alias: str, writer: str) -> ElasticsearchSink:
    made = ElasticsearchSink(settings_with(writer=writer), alias=alias)
    made.setup()
    return made


def server() -> Elasticsearch:
    return Elasticsearch(load_settings("local").elasticsearch.url)


def settings_with(**changes: str) -> Settings:
    """Local settings with these of the section elasticsearch."""
    base = load_settings("local")
    return base.model_copy(update={"elasticsearch": base.elasticsearch.model_copy(update=changes)})


def behind(proxy: Proxy, alias: str, writer: str, patience_s: float = 20) -> ElasticsearchSink:
    proxy.fault = None
    settings = settings_with(url=proxy.url, writer=writer)
    made = ElasticsearchSink(settings, alias=alias, patience_s=patience_s)
    made.setup()
    return made


def lead(key: str, version: int = 1, **changes: object) -> dict[str, Any]:
    row = dict.fromkeys((entry.split()[0] for entry in LEADS.columns.split(",")), None)
    fixed = {
        "id": event_id("acme", key), "event_id": event_id("acme", key), "tenant_id": "acme",
        "idempotency_key": key, "source": "web", "email": "ada@example.com", "consent": True,
        "received_at": NOON, "event_time": NOON, "ip_address": "2001:db8::1", "message": 'a "b"\n\\😀',
        "row_version": version, "source_topic": "lead.ingest",
        "source_partition": 3, "source_offset": version,
    }  # fmt: skip
    return row | fixed | changes


def frame(spark: SparkSession, *leads: dict[str, Any], columns: str = LEADS.columns) -> DataFrame:
    return spark.createDataFrame([tuple(row.values()) for row in leads], columns)


def stored(alias: str) -> dict[str, dict[str, Any]]:
    server().indices.refresh(index=alias)
    hits = server().search(index=alias, size=1000, version=True)["hits"]["hits"]
    return {hit["_id"]: hit["_source"] | {"_version": hit["_version"]} for hit in hits}


def versions(alias: str) -> dict[str, int]:
    return {key: source["row_version"] for key, source in stored(alias).items()}


def test_a_document_has_the_mappings_columns_and_a_key_that_any_store_can_make(
    sink: ElasticsearchSink, alias: str, spark: SparkSession
) -> None:
    assert sink.write(frame(spark, lead("k", 7, first_name="Ada"))).rows == 1
    wanted = {
        "id": event_id("acme", "k"), "event_id": event_id("acme", "k"), "tenant_id": "acme", "source": "web",
        "email": "ada@example.com", "first_name": "Ada", "message": 'a "b"\n\\😀', "row_version": 7,
        "received_at": "2026-03-01T12:00:00.123456Z", "_version": 7,
    }  # fmt: skip
    assert stored(alias) == {document_key("acme", "k"): wanted}


def test_the_same_batch_twice_leaves_the_same_state(
    sink: ElasticsearchSink, alias: str, spark: SparkSession
) -> None:
    batch = frame(spark, *(lead(f"k{i}") for i in range(20)))
    sink.write(batch)
    once = stored(alias)
    assert sink.write(batch).rows == 20
    assert stored(alias) == once


@pytest.mark.parametrize("order", [(1, 3), (3, 1)])
def test_old_never_overwrites_new_whatever_the_order(
    sink: ElasticsearchSink, alias: str, spark: SparkSession, order: tuple[int, ...]
) -> None:
    for version in order:
        assert sink.write(frame(spark, lead("k", version), lead(f"other{version}"))).rejected == ()
    assert versions(alias)[document_key("acme", "k")] == 3


def test_an_older_document_counts_as_unchanged(
    sink: ElasticsearchSink, alias: str, spark: SparkSession
) -> None:
    sink.write(frame(spark, lead("k", 5)))
    written = sink.write(frame(spark, lead("k", 4), lead("new", 1)))
    assert (written.unchanged, written.rows) == (1, 2)


def test_new_and_replaced_documents_are_counted_apart(alias: str, spark: SparkSession) -> None:
    sink = ElasticsearchSink(settings_with(writer="bulk"), alias=alias)
    sink.setup()
    sink.write(frame(spark, lead("a", 1), lead("b", 5)))
    assert sink.write(frame(spark, lead("a", 2), lead("b", 4), lead("c", 1))) == Written(1, 1, 1)


def test_of_doubles_in_a_batch_the_newest_stays(
    sink: ElasticsearchSink, alias: str, spark: SparkSession
) -> None:
    assert sink.write(frame(spark, *(lead("k", version) for version in (2, 9, 4)))).rows == 3
    assert versions(alias) == {document_key("acme", "k"): 9}


def test_a_document_that_the_mapping_refuses_is_rejected_alone(
    sink: ElasticsearchSink, alias: str, spark: SparkSession, capfd: pytest.CaptureFixture[str]
) -> None:
    as_text = LEADS.columns.replace("received_at TIMESTAMP", "received_at STRING")
    leads = [lead(f"k{i}", i + 1, received_at="2026-03-01T12:00:00Z") for i in range(50)]
    leads[33] |= {"received_at": "canary-time", "email": "canary@example.com"}
    written = sink.write(frame(spark, *leads, columns=as_text))
    assert [(r.source_offset, r.code, r.rule) for r in written.rejected] == [
        (34, "400", "mapper_parsing_exception")
    ]
    assert (written.rows, len(stored(alias))) == (49, 49)
    seen = capfd.readouterr()
    assert "canary" not in seen.out + seen.err


def test_busy_items_are_sent_again_until_they_land(
    proxy: Proxy, alias: str, writer: str, spark: SparkSession
) -> None:
    sink = behind(proxy, alias, writer)
    proxy.fail("items", 429, times=6)
    assert sink.write(frame(spark, *(lead(f"k{i}") for i in range(10)))).rows == 10
    assert len(stored(alias)) == 10


@pytest.mark.parametrize(("what", "status"), [("items", 429), ("items", 503), ("request", 503)])
def test_a_server_that_stays_busy_is_an_outage(
    proxy: Proxy, alias: str, writer: str, spark: SparkSession, what: str, status: int
) -> None:
    sink = behind(proxy, alias, writer, patience_s=1)
    proxy.fail(what, status)
    with pytest.raises(TransientError):
        sink.write(frame(spark, lead("k")))
    proxy.fault = None
    assert sink.write(frame(spark, lead("k"))).rows == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_request_is_a_setup_fault_and_no_log_quotes_a_document(
    proxy: Proxy, alias: str, writer: str, spark: SparkSession, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = behind(proxy, alias, writer)
    proxy.fail("request", status)
    with pytest.raises(SetupError, match=f"refuses bulk with {status}"):
        sink.write(frame(spark, lead("k", email="canary@example.com")))
    seen = capfd.readouterr()
    assert "canary" not in seen.out + seen.err


def test_a_refused_connection_is_an_outage(alias: str, writer: str, spark: SparkSession) -> None:
    away = settings_with(url="http://127.0.0.1:9", writer=writer)
    sink = ElasticsearchSink(away, alias=alias, patience_s=1)
    with pytest.raises(TransientError):
        sink.setup()
    with pytest.raises(TransientError):
        sink.write(frame(spark, lead("k")))


def test_setup_twice_is_fine_and_gives_the_alias_back(sink: ElasticsearchSink, alias: str) -> None:
    server().indices.delete_alias(index=f"{alias}-v1", name=alias)
    sink.setup()
    sink.setup()
    assert server().indices.exists_alias(name=alias, index=f"{alias}-v1")


def test_another_mapping_is_a_setup_fault(alias: str) -> None:
    properties = {"email": {"type": "text"}}
    server().indices.create(index=f"{alias}-v1", aliases={alias: {}}, mappings={"properties": properties})
    with pytest.raises(SetupError, match="another mapping"):
        ElasticsearchSink(load_settings("local"), alias=alias).setup()


def test_a_missing_alias_stops_the_write_and_makes_no_index(
    sink: ElasticsearchSink, alias: str, spark: SparkSession
) -> None:
    server().indices.delete(index=f"{alias}-v1")
    with pytest.raises(SetupError):
        sink.write(frame(spark, lead("k")))
    assert not server().indices.exists(index=alias)


def test_reset_empties_the_index(sink: ElasticsearchSink, alias: str, spark: SparkSession) -> None:
    sink.write(frame(spark, lead("k", 9)))
    sink.reset()
    assert stored(alias) == {}
    assert sink.write(frame(spark, lead("k", 1))).rows == 1


def test_an_empty_batch_writes_nothing(sink: ElasticsearchSink, spark: SparkSession) -> None:
    assert sink.write(frame(spark, lead("k")).where("false")).rows == 0
