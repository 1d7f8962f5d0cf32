"""The race from bronze to silver: the query refine on Spark, the same rules in one process with Polars.

Both read the same files of bronze, leads in ASCII (those that the aim is of), 2 % broken, and write silver
and dead letters, each in a lake of its own. Batches are consecutive ones of one stream, because that is how
refine is warm in life: the query runs on, its state grows, and so do the keys that the peer has seen. A
batch of the query waits until it is its turn, so that neither works while the other is measured; its time
is the trigger's, planning and commit included, without that wait. The first batches meet cold code and are
left out.

What became of every batch must be counted alike, and at the end silver must be the same column by column, all
but what tells which of a duplicate's records was kept, and when. What the peer does not do, peer_silver.py
says.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from headwater.errors import HeadwaterError
from headwater.session import build_session
from headwater.tables import ensure_table
from jobs.pulse import Pulse
from jobs.queries import Context
from jobs.refine import Refine
from jobs.started import StartedQuery, Way
from jobs.turns import Turns
from schemas.tables import DEAD_LETTERS, LEADS, Table, bronze
from tests.builders import LEAD
from tests.conftest import settings_at
from tests.integration.lake import live_files
from tests.perf.figures import OURS, CountError, Figure, interleaved, proven
from tests.perf.peer_silver import Counts, PolarsRefine
from tests.perf.refine import COLD, PARTITIONS, Remembered, write_bronze
from tests.perf.sample import leads

PEER = "polars"
BROKEN = 0.02
POLL_S = 0.01
# How long an ended query's last progress may be on its way.
LATE_S = 10.0
PLACE = ["source_partition", "source_offset"]
_SILVER = [column.split()[0] for column in LEADS.columns.split(",")]
COMPARED = [name for name in _SILVER if name not in ("row_version", "ingested_at", "refined_at", *PLACE)]


class InTurns(Refine):
    """refine, whose batches wait until they are asked for."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, "leads")
        self.waited_s: list[float] = []
        self.begun = 0
        self.asked = threading.Semaphore(0)
        self.over = False

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Wait, then do it; nothing any more when the race was broken off."""
        arrived = time.monotonic()
        self.begun += 1
        self.asked.acquire()
        self.waited_s.append(time.monotonic() - arrived)
        if not self.over:
            super().write(batch, batch_id)


class Ours:
    """The query, started, its first batch waiting."""

    def __init__(self, context: Context, rows: int) -> None:
        self.counts: list[Counts] = []
        self._context, self._rows = context, rows
        self._told = Remembered()
        context.spark.streams.addListener(self._told)
        self._query = InTurns(context)
        turns = Turns(context.written, lambda: 2)
        way = Way(context, True, threading.Event(), turns, lambda: None, lambda: False, Pulse())
        self._started = StartedQuery(self._query, way)
        self._until(lambda: self._query.begun == 1)

    def batch(self) -> float:
        """Rows a second of the next batch; the one after it is planned and waits, or the query has ended."""
        number, before = len(self.counts), self._totals()
        self._query.asked.release()
        self._until(lambda: len(self._told.batches) > number)
        seconds: float = self._told.batches[number]["durationMs"]["triggerExecution"] / 1000
        self._until(lambda: self._query.begun > number + 1 or not self._started.active)
        counts = Counts(*(now - then for now, then in zip(self._totals(), before, strict=True)))
        proven(self._rows, sum(counts))
        self.counts.append(counts)
        return self._rows / (seconds - self._query.waited_s[number])

    def end(self) -> None:
        """Let go of what is left undone."""
        self._query.over = True
        while self._started.active:
            self._query.asked.release()
            time.sleep(POLL_S)

    def _totals(self) -> Counts:
        totals = self._context.totals
        return Counts(totals.rows_out, totals.duplicate, totals.dead, totals.no_consent)

    def _until(self, done: Callable[[], bool]) -> None:
        ended = None
        while not done():
            if not self._started.active:
                ended = ended or time.monotonic()
                if self._started.fault or time.monotonic() - ended > LATE_S:
                    raise self._started.fault or HeadwaterError("refine ended before the race")
            time.sleep(POLL_S)


class Theirs:
    """The peer, and the files that it has still to take."""

    def __init__(self, lake: Path, peer: Path, rows: int) -> None:
        self.counts: list[Counts] = []
        self._rows = rows
        self._refine = PolarsRefine(peer)
        folder = _path(lake, bronze(LEAD.domain))
        files = [folder / unquote(part["path"]) for part in live_files(folder)]
        self._batches = [files[at : at + PARTITIONS] for at in range(0, len(files), PARTITIONS)]

    def batch(self) -> float:
        """Rows a second of the next batch."""
        files = self._batches[len(self.counts)]
        began = time.perf_counter()
        counts = self._refine.batch(files, LEAD.topic)
        seconds = time.perf_counter() - began
        proven(self._rows, sum(counts))
        self.counts.append(counts)
        return self._rows / seconds


def race(rows: int, rounds: int) -> list[Figure]:
    """Rows a second, in batches of so many rows."""
    whole = rows // PARTITIONS * PARTITIONS
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
        lake, peer = Path(folder) / "ours", Path(folder) / "peer"
        settings = settings_at(lake)
        streams = settings.streams.model_copy(update={"max_files_per_trigger": PARTITIONS})
        spark = build_session(settings, "headwater bench")
        try:
            batches = COLD + 1 + rounds
            write_bronze(spark, settings, batches, whole, leads(batches * whole, BROKEN, ascii_only=True))
            for table in (LEADS, DEAD_LETTERS):
                ensure_table(spark, settings_at(peer), table)
            context = Context(spark, settings.model_copy(update={"streams": streams}), "bench")
            found = _run(Ours(context, whole), Theirs(lake, peer, whole), rounds)
        finally:
            spark.stop()
        _compare(lake, peer)
    return [Figure("silver", name, "rows/s", runs) for name, runs in found.items()]


def _run(ours: Ours, theirs: Theirs, rounds: int) -> dict[str, tuple[float, ...]]:
    try:
        for _ in range(COLD):
            ours.batch()
            theirs.batch()
        found = interleaved(rounds, {OURS: ours.batch, PEER: theirs.batch})
    finally:
        ours.end()
    for number, both in enumerate(zip(ours.counts, theirs.counts, strict=True)):
        if both[0] != both[1]:
            raise CountError(f"batch {number}: refine counts {both[0]}, the peer {both[1]}")
    return found


def _compare(lake: Path, peer: Path) -> None:
    """Raises CountError unless both have the same silver, and dead letters of the same records."""
    for table, columns, key in ((LEADS, COMPARED, ["id"]), (DEAD_LETTERS, PLACE, PLACE)):
        ours, theirs = (_in_order(_path(one, table), key) for one in (lake, peer))
        for name in columns:
            found, expected = ours(name), theirs(name)
            if not found.equals(expected.cast(found.type)):
                raise CountError(f"{table.full_name}: refine and the peer differ in {name}")


def _in_order(folder: Path, key: list[str]) -> Callable[[str], pa.ChunkedArray]:
    """A function that gives a column of the table, its rows sorted by the key; one at a time is in memory."""
    files = [folder / unquote(part["path"]) for part in live_files(folder)]

    def read(columns: list[str]) -> pa.Table:
        parts = [pq.ParquetFile(file, coerce_int96_timestamp_unit="us").read(columns) for file in files]
        schema = pa.schema([parts[0].schema.field(name) for name in columns])
        return pa.concat_tables([part.select(columns).cast(schema) for part in parts])

    order = pc.sort_indices(read(key), [(name, "ascending") for name in key])
    return lambda name: read([name]).column(0).take(order)


def _path(lake: Path, table: Table) -> Path:
    return lake / table.layer / table.name
