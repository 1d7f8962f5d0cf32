"""`--verify` finds what is wrong with an archive, and names topic and hour."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from headwater import delta_log
from headwater.errors import QualityError
from headwater.tables import table_path
from jobs.archive_plan import window_of
from tests.integration.archive.harness import HOUR, TEN, TOPIC, Lake, lead, noise

WHERE = r"lead\.ingest 2026-03-01T10:00:00\.000Z"
Damage = Callable[[Path], None]


@pytest.fixture
def archived(lake: Lake) -> Lake:
    """Three hours; the one in the middle, at ten, has two files and two partitions."""
    lake.configure(file_bytes=1 << 20, memory_bytes=1 << 20)
    lake.arrive(TEN - HOUR, [lead(0)])
    lake.arrive(TEN, noise(0, 500))
    lake.arrive(TEN, noise(500, 600), partition=1)
    lake.arrive(TEN + HOUR, [lead(1)])
    assert lake.archive() == [1, 1_100, 1]
    return lake


def first(folder: Path) -> Path:
    return folder / "part-00000.parquet"


def flip(folder: Path) -> None:
    """One bit."""
    content = bytearray(first(folder).read_bytes())
    content[1_000] ^= 1
    first(folder).write_bytes(content)


def edit(change: Callable[[dict[str, Any]], None]) -> Damage:
    """A change to the manifest."""

    def damage(folder: Path) -> None:
        path = folder / "_manifest.json"
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return damage


def swap_rows(folder: Path) -> None:
    """The file with its rows in another order, and a manifest that fits."""
    rows = pq.ParquetFile(first(folder)).read()
    pq.write_table(rows.take(list(range(rows.num_rows))[::-1]), first(folder))
    content = first(folder).read_bytes()

    def change(found: dict[str, Any]) -> None:
        found["files"][0] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    edit(change)(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip, rf"{WHERE}: part-00000\.parquet has another SHA-256"),
        (lambda folder: first(folder).unlink(), rf"{WHERE}: part-00000\.parquet is missing"),
        (lambda folder: first(folder).write_bytes(b"PAR1"), rf"{WHERE}: part-00000\.parquet has 4 bytes"),
        (
            lambda folder: (folder / "part-00009.parquet").write_bytes(first(folder).read_bytes()),
            rf"{WHERE}: part-00009\.parquet is not in the manifest",
        ),
        (swap_rows, rf"{WHERE}: part-00000\.parquet is not in the order of its offsets"),
        (edit(lambda found: found.update(rows=7)), rf"{WHERE}: the manifest's rows do not add up"),
        (edit(lambda found: found["files"][0].update(rows=7)), r"part-00000\.parquet has \d+ rows, not 7"),
        (
            edit(lambda found: found["partitions"]["1"].update(count=599)),
            rf"{WHERE}: bronze has 600 records of partition 1 from offset 0 to 599, the archive has 599",
        ),
        (
            edit(lambda found: found["partitions"]["1"].update(last=598)),
            rf"{WHERE}: the files hold other offsets than the manifest says",
        ),
        (lambda folder: (folder / "_manifest.json").write_text("{"), r"hour=10/_manifest\.json is damaged"),
        (
            lambda folder: (folder / "_manifest.json").unlink(),
            r"lead\.ingest 2026-03-01T11:00:00\.000Z: an hour before it is missing",
        ),
        (
            lambda folder: folder.rename(folder.with_name("hour=12")),
            r"hour=12 has the manifest of topic=lead\.ingest/date=2026-03-01/hour=10",
        ),
        (
            edit(lambda found: found["partitions"].update({"0": {"first": 0, "last": 500, "count": 501}})),
            rf"{WHERE}: partition 0 begins at 0, within earlier hours",
        ),
    ],
)  # fmt: skip
def test_damage_is_found(archived: Lake, damage: Damage, told: str) -> None:
    assert archived.verify()["hours"] == 3
    damage(archived.hour(TEN))
    with pytest.raises(QualityError, match=told):
        archived.verify()


def test_files_outside_of_the_window_are_not_read(archived: Lake) -> None:
    flip(archived.hour(TEN))
    assert archived.verify(window_of("2026-03-01T11", None))["rows"] == 1_102
    with pytest.raises(QualityError, match="SHA-256"):
        archived.verify(window_of(None, "2026-03-01T10"))


def test_records_that_the_ledger_has_and_the_archive_has_not_are_found_without_bronze(lake: Lake) -> None:
    lake.arrive(TEN, noise(0, 10))
    lake.arrive(TEN, noise(10, 10))
    path = table_path(lake.settings, "bronze.leads")
    delta_log._opened(path).delete("offset = 4")  # noqa: SLF001 - damage to bronze before it is archived
    assert lake.archive() == [19]
    with pytest.raises(
        QualityError, match=r"lead\.ingest: the ledger has 20 records of these offsets, the archive has 19"
    ):
        lake.verify()


def test_a_file_that_is_under_way_is_no_fault(archived: Lake) -> None:
    folder = archived.hour(TEN + 2 * HOUR)
    folder.mkdir()
    (folder / "_part-00000.parquet.incoming").write_bytes(b"PAR1")
    (folder / "part-00000.parquet").write_bytes(b"PAR1")
    assert archived.verify()["hours"] == 3


def test_an_archive_of_nothing_is_sound(lake: Lake) -> None:
    assert lake.verify() == {"hours": 0, "files": 0, "rows": 0, "bytes": 0}
    lake.arrive(TEN, [lead(1)], topic=TOPIC)
    assert lake.verify()["rows"] == 0
