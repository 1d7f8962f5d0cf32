"""Hours of bronze become files of the archive: each record once, whatever happens in between."""

import shutil
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headwater import delta_log
from headwater.errors import DataLossError, LockedError, QualityError, SetupError
from headwater.tables import table_path
from jobs import archive_hour
from jobs.archive_plan import window_of
from sinks.archive.base import MANIFEST
from tests.integration.archive.harness import HOUR, TEN, TOPIC, Lake, lead, noise

REFUSED = "lead.refused"
LAST_MOMENT = HOUR - timedelta(microseconds=1)


def leads(first: int, count: int, size: int = 0) -> list[bytes | None]:
    return [lead(n, message="x" * size) for n in range(first, first + count)]


def test_an_hour_has_what_arrived_in_it_sorted_by_partition_and_offset(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 3), partition=1)
    lake.arrive(TEN, leads(3, 3))
    lake.arrive(TEN + LAST_MOMENT, leads(6, 2), partition=1)
    lake.arrive(TEN + HOUR, leads(8, 1))
    assert lake.archive() == [8, 1]
    assert lake.places(TEN) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]
    assert lake.places(TEN + HOUR) == [(0, 3)]


def test_a_record_comes_back_byte_by_byte(lake: Lake) -> None:
    headers = [{"key": "trace", "value": b"\xff\x00"}, {"key": "trace", "value": None}]
    values = [None, b"", b"\xff\xfe", b"{", lead(1), b"{}" * 10]
    lake.arrive(TEN, values, headers=headers)
    lake.archive()
    rows = lake.rows(TEN)
    assert [row["value"] for row in rows] == values
    assert [row["key"] for row in rows] == [f"acme|{n}".encode() for n in range(6)]
    assert all(row["headers"] == headers for row in rows)
    assert {(row["topic"], row["ingested_at"]) for row in rows} == {(TOPIC, TEN)}
    assert {row["kafka_timestamp"] for row in rows} == {TEN - timedelta(seconds=2)}


def test_the_manifest_says_what_the_hour_consists_of(lake: Lake) -> None:
    lake.arrive(TEN - HOUR, leads(0, 5), partition=2)
    lake.arrive(TEN, leads(5, 2))
    lake.archive()
    found = lake.manifest(TEN)
    assert (found["topic"], found["hour"], found["rows"]) == (TOPIC, "2026-03-01T10:00:00.000Z", 2)
    assert found["partitions"] == {"0": {"first": 0, "last": 1, "count": 2}}
    assert found["through"] == {"0": 1, "2": 4}
    assert (found["contract_version"], found["code_version"]) == ("1.0.0", "0.1.0")
    hashes = {name.rpartition("/")[2]: sha for name, sha in lake.everything().items() if "hour=10" in name}
    assert {file["name"]: file["sha256"] for file in found["files"]} == {
        name: sha for name, sha in hashes.items() if name != MANIFEST
    }


def test_a_second_run_does_nothing(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 5))
    assert lake.archive() == [5]
    before = lake.everything()
    assert lake.archive() == []
    assert lake.everything() == before


def test_nothing_that_has_arrived_is_nothing_to_archive(lake: Lake) -> None:
    assert lake.archive() == []
    assert lake.everything() == {}


def test_every_topic_of_the_domain_is_archived_and_idle_hours_leave_nothing(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 2))
    lake.arrive(TEN + 5 * HOUR, leads(2, 1))
    lake.arrive(TEN + 2 * HOUR, [b"{"], topic=REFUSED)
    assert sorted(lake.archive()) == [1, 1, 2]
    assert lake.rows(TEN + 2 * HOUR, REFUSED)[0]["value"] == b"{"
    manifests = [name for name in lake.everything() if name.endswith(MANIFEST)]
    assert len(manifests) == 3


def test_an_hour_that_is_not_over_for_long_enough_waits(lake: Lake) -> None:
    now = datetime.now(UTC)
    lake.arrive(now, leads(0, 1), partition=1)
    lake.configure(settle_s=(now - TEN).total_seconds() - 3000)
    lake.arrive(TEN - HOUR, leads(1, 1))
    lake.arrive(TEN, leads(2, 1))
    assert lake.archive() == [1]
    assert not lake.hour(TEN).exists()


def test_a_large_hour_is_cut_into_files_of_about_one_size_and_read_in_slices(lake: Lake) -> None:
    lake.configure(file_bytes=1 << 20, memory_bytes=1 << 20)
    for first in range(0, 4_000, 500):
        lake.arrive(TEN + timedelta(seconds=first), noise(first, 500), partition=first // 500 % 3)
    lake.arrive(TEN + HOUR, leads(0, 1))
    assert lake.archive() == [4_000, 1]
    files = lake.manifest(TEN)["files"]
    assert len(files) > 1
    assert lake.places(TEN) == sorted(lake.places(TEN))
    assert {row["value"] for row in lake.rows(TEN)} == set(noise(0, 4_000))
    assert lake.verify()["rows"] == 4_001


def test_files_of_bronze_that_were_put_together_are_read_by_hour(lake: Lake) -> None:
    for hour in range(3):
        for _ in range(4):
            lake.arrive(TEN + hour * HOUR, leads(0, 5), partition=hour % 2)
    delta_log.compact(table_path(lake.settings, "bronze.leads"), 1 << 20, 2)
    assert lake.archive() == [20, 20, 20]
    assert lake.places(TEN + 2 * HOUR) == [(0, n) for n in range(20, 40)]


def test_a_batch_that_is_dated_into_an_hour_that_is_done_goes_into_the_next(lake: Lake) -> None:
    """The clock was set back, or a batch of before a crash was committed at last."""
    lake.arrive(TEN, leads(0, 5))
    lake.archive()
    before = lake.everything()
    lake.arrive(TEN + timedelta(minutes=5), leads(5, 2))
    lake.arrive(TEN + HOUR, leads(7, 1))
    assert lake.archive() == [3]
    assert lake.places(TEN + HOUR) == [(0, 5), (0, 6), (0, 7)]
    assert before.items() <= lake.everything().items()


def test_a_batch_that_is_dated_long_before_is_found_by_the_gap_that_it_leaves(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 5))
    lake.archive()
    lake.arrive(TEN - 50 * HOUR, leads(5, 2))
    lake.arrive(TEN + HOUR, leads(7, 1))
    assert lake.archive() == [3]
    assert lake.verify()["rows"] == 8


def test_a_batch_that_is_dated_into_the_future_goes_with_those_that_followed_it(lake: Lake) -> None:
    lake.arrive(TEN + 24 * 365 * 10 * HOUR, leads(0, 5))
    lake.arrive(TEN, leads(5, 5))
    assert lake.archive() == [10]
    assert lake.places(TEN) == [(0, n) for n in range(10)]


def test_offsets_that_kafka_left_out_are_no_gap(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 2), skip=100)
    lake.arrive(TEN, leads(2, 2), skip=1)
    lake.arrive(TEN + HOUR, leads(4, 1), skip=7)
    assert lake.archive() == [4, 1]
    assert lake.manifest(TEN)["partitions"]["0"] == {"first": 100, "last": 104, "count": 4}
    assert lake.verify()["rows"] == 5


def test_bronze_that_holds_a_record_twice_stops_the_job(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 3))
    lake.ends[TOPIC, 0] = 1
    lake.arrive(TEN, leads(1, 1))
    with pytest.raises(QualityError, match=r"lead\.ingest-0 at 1"):
        lake.archive()
    assert lake.everything() == {}


def test_a_difference_between_bronze_and_the_last_hour_is_told(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 3), skip=1)
    lake.archive()
    lake.ends[TOPIC, 0] = 1
    lake.arrive(TEN, leads(0, 1))
    with pytest.raises(QualityError, match=r"lead\.ingest 2026-03-01T10:00:00\.000Z: bronze has 4 records"):
        lake.archive()


def test_a_window_takes_its_hours_and_no_others(lake: Lake) -> None:
    for hour in range(3):
        lake.arrive(TEN + hour * HOUR, leads(hour, 1))
    with pytest.raises(SetupError, match="comes first"):
        lake.archive(window_of("2026-03-01T11", None))
    assert lake.archive(window_of("2026-03-01T10", "2026-03-01T11")) == [1, 1]
    assert lake.archive(window_of("2026-03-01T11", None)) == [1]


def test_the_newest_hour_may_be_deleted_and_is_then_written_again(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 3))
    lake.arrive(TEN + HOUR, leads(3, 3))
    lake.archive()
    shutil.rmtree(lake.hour(TEN + HOUR))
    assert lake.archive() == [3]
    assert lake.verify()["rows"] == 6


def test_a_table_that_cannot_be_read_file_by_file_is_refused(lake: Lake) -> None:
    path = table_path(lake.settings, "bronze.leads")
    delta_log.set_property(path, "delta.enableDeletionVectors", "true")
    with pytest.raises(SetupError, match="deletionVectors"):
        lake.archive()


def test_an_interaction_is_archived_with_its_numbers_exact(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "interactions")
    used = b'{"event_id":"e","account_id":"a","ts_ms":1772360000000,"metric":"m","quantity":0.1,"unit":"t"}'
    lake.arrive(TEN, [used], topic="billing.usage.metered")
    assert lake.archive() == [1]
    (row,) = lake.rows(TEN, "billing.usage.metered")
    assert (row["value"], row["event__quantity"]) == (used, Decimal("0.100000"))


def test_a_topic_that_was_made_again_is_refused(lake: Lake) -> None:
    path, name = table_path(lake.settings, "bronze.leads"), f"headwater.topic_id.{TOPIC}"
    delta_log.set_property(path, name, "one")
    lake.arrive(TEN, leads(0, 1))
    lake.archive()
    delta_log.set_property(path, name, "two")
    with pytest.raises(DataLossError, match=r"its id was one, is two.*archive\.root"):
        lake.archive()


def test_an_hour_that_another_instance_has_written_is_left_alone(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 1))
    slow = lake.job()
    lake.archive()
    before = lake.everything()
    with pytest.raises(LockedError, match="another instance"):
        slow.step()
    assert lake.everything() == before


def test_a_stop_in_the_midst_of_an_hour_leaves_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.configure(memory_bytes=1 << 20)
    for _ in range(3):
        lake.arrive(TEN, leads(0, 1_000, size=2_000))
    stopping = threading.Event()
    job = lake.job(stopping=stopping)
    monkeypatch.setattr(archive_hour, "fail_at", lambda query, point: stopping.set())
    assert job.step() == 0
    assert lake.everything() == {}
    assert lake.archive() == [3_000]


def test_a_log_line_tells_of_each_hour(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 4))
    with capture_logs() as lines:
        lake.archive()
    (line,) = [line for line in lines if line["event"] == "archived"]
    assert (line["topic"], line["hour"], line["rows"]) == (TOPIC, "2026-03-01T10:00:00.000Z", 4)
    assert line["bytes"] == lake.manifest(TEN)["bytes"] and line["seconds"] >= 0


def test_bronze_may_be_purged_of_what_is_archived(lake: Lake) -> None:
    lake.arrive(TEN, leads(0, 4))
    lake.archive()
    delta_log._opened(table_path(lake.settings, "bronze.leads")).delete("offset < 4")  # noqa: SLF001 - as maintain will
    lake.arrive(TEN + HOUR, leads(4, 2))
    assert lake.archive() == [2]
    assert lake.places(TEN + HOUR) == [(0, 4), (0, 5)]
    assert lake.verify()["rows"] == 6
