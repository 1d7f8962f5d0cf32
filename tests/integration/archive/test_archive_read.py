"""The archive as its readers meet it: hours under two versions of a contract, by Spark, pandas and DuckDB, as
docs/archive.md shows it.
"""

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pytest
from pyspark.sql import SparkSession

from jobs import archive as archive_job
from schemas.contract import Contract, Field, contracts
from tests.integration.archive.harness import HOUR, TEN, TOPIC, Lake, lead

ROOT = Path(__file__).resolve().parents[3]
ADDED = Field(("payload", "score"), "number", False, None, None, None, False, "Added.", places=2)


def with_score(contract: Contract) -> Contract:
    """The next version: an object has one more field, in its midst."""
    payload = next(field for field in contract.fields if field.name == "payload")
    wider = replace(payload, children=(ADDED, *payload.children))
    fields = tuple(wider if field is payload else field for field in contract.fields)
    return replace(contract, version="2.0.0", fields=fields)


@pytest.fixture
def evolved(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Nine: two leads by version 1. Ten: by version 2 a lead with a score, one without, one that is no JSON,
    one without consent. Another topic beside them."""
    lake.arrive(TEN - HOUR, [lead(0), lead(1, score=9.99)])
    lake.arrive(TEN - HOUR, [b"{}"], topic="lead.refused")
    lake.archive()
    second = with_score(contracts()["lead.ingest"])
    monkeypatch.setattr(archive_job, "domain_contracts", lambda domain: {second.topic: second})
    lake.arrive(TEN, [lead(2, score=1.50), lead(3), b"{", lead(4, consent=False)])
    lake.archive()
    return lake


def test_each_hour_names_the_version_of_its_contract(evolved: Lake) -> None:
    versions = [evolved.manifest(hour)["contract_version"] for hour in (TEN - HOUR, TEN)]
    assert versions == ["1.0.0", "2.0.0"]


def test_duckdb_reads_hours_of_both_versions(evolved: Lake) -> None:
    files = f"{evolved.root}/topic={TOPIC}/*/*/*.parquet"
    found = duckdb.execute(
        'SELECT "offset", event__payload__score, octet_length(value), hour, date FROM read_parquet(?, '
        'union_by_name = true, hive_partitioning = true, hive_types_autocast = false) ORDER BY "offset"',
        [files],
    ).fetchall()
    scores = [None, None, Decimal("1.50"), None, None, None]
    sizes = [len(lead(0)), len(lead(1, score=9.99)), len(lead(2, score=1.50)), len(lead(3)), 1, None]
    assert [row[:3] for row in found] == list(zip(range(6), scores, sizes, strict=True))
    assert [row[3:] for row in found] == [("09", "2026-03-01")] * 2 + [("10", "2026-03-01")] * 4


def test_arrow_reads_hours_of_both_versions(evolved: Lake) -> None:
    folder = evolved.root / f"topic={TOPIC}"
    newest = ds.dataset(folder / "date=2026-03-01" / "hour=10").schema
    table = ds.dataset(folder, schema=newest).to_table().sort_by("offset")
    assert table["event__payload__score"].to_pylist() == [None, None, Decimal("1.50"), None, None, None]
    assert table["event__idempotency_key"].to_pylist() == ["k0", "k1", "k2", "k3", None, None]


def test_spark_reads_hours_of_both_versions(evolved: Lake, spark: SparkSession) -> None:
    rows = spark.read.option("mergeSchema", "true").parquet(f"{evolved.root}/topic={TOPIC}")
    found = rows.orderBy("offset").select("offset", "event__payload__score", "value", "hour").collect()
    scores = [None, None, Decimal("1.50"), None, None, None]
    values = [lead(0), lead(1, score=9.99), lead(2, score=1.50), lead(3), b"{", None]
    assert [row[:2] for row in found] == list(zip(range(6), scores, strict=True))
    assert [row[2] and bytes(row[2]) for row in found] == values
    assert [row[3] for row in found] == [9, 9, 10, 10, 10, 10]


def test_spark_reads_all_topics_at_once(evolved: Lake, spark: SparkSession) -> None:
    rows = spark.read.option("mergeSchema", "true").parquet(str(evolved.root))
    counts = {row["topic"]: row["count"] for row in rows.groupBy("topic").count().collect()}
    assert counts == {TOPIC: 6, "lead.refused": 1}
    times = {row[0] for row in rows.where("topic = 'lead.refused'").select("ingested_at").collect()}
    assert {time - timedelta(0) for time in times} == {(TEN - HOUR).replace(tzinfo=None)}


def examples() -> list[str]:
    """The blocks of Python in the document."""
    text = (ROOT / "docs" / "archive.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(found) >= 4
    return found


@pytest.mark.parametrize("number", range(len(examples())))
def test_the_documents_examples_run(evolved: Lake, spark: SparkSession, number: int) -> None:
    """Each ends with the rows that it has found, those of ten o'clock."""
    example = examples()[number].replace(".local/archive", str(evolved.root))
    names: dict[str, Any] = {"spark": spark}
    exec(example, names)  # noqa: S102 - our own document
    rows = names["rows"]
    assert (rows.count() if hasattr(rows, "toPandas") else len(rows)) == 4
