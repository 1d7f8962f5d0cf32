"""Rows from Spark's partitions to ingested_data: what a row holds arrives as it is, each row once."""

import json
from hashlib import sha256

import psycopg
import pytest
from pyspark.sql import DataFrame, SparkSession

from headwater.errors import TransientError
from headwater.settings import Settings
from local.postgres import dsn
from sinks.ingested_data import Upserted, load
from tests.integration.uploads.harness import ask
from tests.integration.uploads.staged_rows import entered_job, staging_of, upserted

NASTY = [
    "", "\\", "\\N", "\\.", "\\x41", "a\tb", "a\nb", "a\r\nb", '"', "'", "\x01\x1f\x7f", "ÄÖ", "e\u0301",
    "😀👩‍👩‍👧", "\u202eabc", "\u2028", "{1,2}", "%s", "$1", "x" * 100_000,
]  # fmt: skip


def row_of(text: str, line: int) -> tuple[str, str, int]:
    data = json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":"))
    return sha256(data.encode()).hexdigest(), data, line


def frame(spark: SparkSession, *texts: str) -> DataFrame:
    rows = [row_of(text, line) for line, text in enumerate(texts, 2)]
    return spark.createDataFrame(rows, "content_hash STRING, data STRING, line BIGINT")


def test_rows_of_all_partitions_arrive_as_they_are_and_once_each(
    settings: Settings, database: str, spark: SparkSession
) -> None:
    where, job = dsn("headwater_writer", "postgres-writer", database), entered_job(database)
    rows = frame(spark, *NASTY, NASTY[5]).repartition(5)
    load(rows, where, staging_of(job))
    load(rows, where, staging_of(job))  # as a job does that begins again
    with psycopg.connect(where, autocommit=True) as connection:
        assert upserted(connection, job) == Upserted(len(NASTY), 0, 1)
    found = ask(database, "SELECT encode(content_hash, 'hex'), data->>'text' FROM ingested_data")
    assert sorted(found) == sorted((row_of(text, 0)[0], text) for text in NASTY)


def test_rows_of_an_empty_file_are_none(settings: Settings, database: str, spark: SparkSession) -> None:
    where, job = dsn("headwater_writer", "postgres-writer", database), entered_job(database)
    load(frame(spark, "a").where("false"), where, staging_of(job))
    with psycopg.connect(where, autocommit=True) as connection:
        assert upserted(connection, job) == Upserted(0, 0, 0)


def test_a_server_that_is_away_is_an_outage_without_its_password(spark: SparkSession) -> None:
    nowhere = "postgresql://headwater_writer:geheim@127.0.0.1:9/headwater"
    with pytest.raises(TransientError) as caught:
        load(frame(spark, "a"), nowhere, "import_1")
    assert "geheim" not in str(caught.value)
