"""Staged rows of a file, by Spark and on the driver: the same tables either way."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow as pa
from pyspark.sql import SparkSession

from headwater.identity import fingerprint
from jobs.import_staged import StagedHere
from jobs.import_tasks import SCHEMA
from schemas.tables import DEAD_LETTERS, STAGED_COLUMNS, UPLOADED_ROWS
from sinks.postgres_lines import row_lines
from transformations.upload_tables import invalid_rows, letters_table, silver_table
from transformations.uploads import (
    Origin,
    by_first_reason,
    invalid,
    loadable,
    refusals,
    tally,
    to_letters,
    to_silver,
)

ARRIVED = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ORIGIN = Origin("5f0c9c52-7d0b-4e0f-9d8a-6a1f3b7c2d41", "acme", "contacts", "1.0.0", ARRIVED, "0.1.0")
MADE_NOW = {"refined_at", "failed_at"}


def reason(code: str, field: str = "") -> dict[str, str | None]:
    return {"code": code, "rule": None, "field": field, "message": f"about {code}"}


STAGED: list[dict[str, Any]] = [
    {"member": 0, "line": 2, "content_hash": "a" * 64, "data": '{"n":"tab\\t \\\\ \\"é\U0001f469"}'},
    {"member": 1, "line": (1 << 20) + 3, "content_hash": "b" * 64, "data": "{}"},
    {"member": 1, "line": 9, "reasons": [reason("type_mismatch", "n"), reason("empty")], "raw": b"x,\xff"},
    {"member": 0, "line": 7, "reasons": [reason("too_few_fields")], "raw": None},
    {"member": 0, "read": 2},
    {"member": 1, "read": 2},
]
HERE = pa.Table.from_pylist(STAGED, schema=SCHEMA)


def rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparable: in order, without what is made of the clock."""
    plain = [{name: value for name, value in row.items() if name not in MADE_NOW} for row in found]
    return sorted(plain, key=lambda row: (row["source_partition"], row["source_offset"]))


def test_spark_and_the_driver_make_the_same_tables_of_staged_rows(spark: SparkSession) -> None:
    staged = spark.createDataFrame(HERE, STAGED_COLUMNS)
    silver = staged.transform(to_silver(ORIGIN))
    letters = staged.transform(to_letters(ORIGIN))
    assert (
        silver.schema.simpleString() == spark.createDataFrame([], UPLOADED_ROWS.columns).schema.simpleString()
    )
    assert (
        letters.schema.simpleString() == spark.createDataFrame([], DEAD_LETTERS.columns).schema.simpleString()
    )
    on_driver = silver_table(HERE, ORIGIN, ARRIVED)
    assert rows(silver.toArrow().to_pylist()) == rows(on_driver.to_pylist())
    assert on_driver.column_names == silver.columns
    dead = letters_table(invalid_rows(HERE), ORIGIN, ARRIVED)
    assert rows(letters.toArrow().to_pylist()) == rows(dead.to_pylist())
    first, second = rows(dead.to_pylist())
    assert second["dead_letter_id"] == hashlib.sha256(f"validate/{ORIGIN.topic}/1/9".encode()).hexdigest()
    assert second["fingerprint"] == fingerprint(["type_mismatch", "empty"], b"x,\xff")
    assert (first["payload"], first["source_topic"]) == (None, f"upload/{ORIGIN.job_id}")
    versions = [row["row_version"] for row in rows(on_driver.to_pylist())]
    ms = int(ARRIVED.timestamp() * 1000)
    assert versions == [ms << 20 | 2, ms << 20 | 3]


def test_rows_are_counted_as_they_are_staged(spark: SparkSession) -> None:
    broken = {"member": 1, "line": 5, "refused": "malformed_parquet"}
    staged = spark.createDataFrame(pa.Table.from_pylist([*STAGED, broken], schema=SCHEMA), STAGED_COLUMNS)
    assert tuple(staged.transform(tally).collect()[0]) == (4, 2, 2, 1)
    assert [tuple(row) for row in staged.transform(refusals).collect()] == [(1, 5, "malformed_parquet")]
    first = {row.code: row["count"] for row in staged.transform(by_first_reason).collect()}
    assert (
        first
        == StagedHere(cast(Any, None), HERE).first_reasons()
        == {"type_mismatch": 1, "too_few_fields": 1}
    )
    assert [(row.member, row.line) for row in invalid(staged, 5).collect()] == [(0, 7), (1, 9)]
    assert [row.line for row in invalid(staged, 1).collect()] == [7]
    assert {row.line for row in loadable(staged).collect()} == {2, (1 << 20) + 3}


def test_lines_for_copy_keep_every_backslash_of_a_row() -> None:
    valid = pa.Table.from_pylist(STAGED[:1], schema=SCHEMA)
    (lines,) = row_lines(valid.to_batches())
    data = STAGED[0]["data"].replace("\\", "\\\\")
    assert lines == (1, f"\\\\x{'a' * 64}\t{data}\t2\n".encode())
    assert json.loads(STAGED[0]["data"])["n"] == 'tab\t \\ "é\U0001f469'
