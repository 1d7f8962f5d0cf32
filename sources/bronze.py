"""bronze.<domain>, one topic, without Spark: which offsets came when, and the records themselves, sorted.

An hour may be many gigabytes in thousands of files. What is read of all files are three narrow columns; the
records come in slices that fit into memory, in the order of partition and offset.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import QualityError, SetupError
from headwater.lake_files import Files, table_files
from headwater.settings import Settings
from schemas.tables import bronze

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US = 3_600_000_000
# Spark cuts the times of its statistics to milliseconds.
_BLUR = timedelta(milliseconds=1)
_PLACES = ["partition", "offset", "ingested_at"]
# partition → (the offset before the first, the last)
Spans = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Segment:
    """The records of one partition that a row group has of one hour of arrival. `size`: about their bytes."""

    path: str
    group: int
    partition: int
    hour: datetime
    first: int
    last: int
    count: int
    size: int


class Topic:
    """One topic's records in a snapshot of bronze."""

    def __init__(self, files: Files, topic: str) -> None:
        self._files = files
        self._topic = topic
        self._actions = files.actions.filter(pc.equal(files.actions["partition.topic"], topic))
        self.topic_id = files.properties.get(f"headwater.topic_id.{topic}")

    @property
    def paths(self) -> pa.ChunkedArray:
        """The files that hold them."""
        return self._actions["path"]

    def first_arrival(self, since: datetime | None) -> datetime | None:
        """The earliest arrival in files that hold one at or after `since`; None when none do."""
        found = pc.min(self._since(since)["min.ingested_at"]).as_py()
        return found if found is None else found.astimezone(UTC)

    def segments(self, since: datetime | None = None, before: datetime | None = None) -> list[Segment]:
        """What the files have that hold an arrival from `since` on and one before `before`, by partition and
        offset; files without statistics are among them."""
        files = self._since(since)
        if before is not None:
            early = pc.less(files["min.ingested_at"], pa.scalar(before, pa.timestamp("us", "UTC")))
            files = files.filter(pc.fill_null(early, True))
        found = [part for path in files["path"].to_pylist() for part in self._look(path)]
        return sorted(found, key=lambda part: (part.partition, part.first))

    def _since(self, since: datetime | None) -> pa.Table:
        if since is None:
            return self._actions
        late = pc.greater_equal(
            self._actions["max.ingested_at"], pa.scalar(since - _BLUR, pa.timestamp("us", "UTC"))
        )
        return self._actions.filter(pc.fill_null(late, True))

    def _look(self, path: str) -> Iterator[Segment]:
        with self._files.open(path) as file:
            for group in range(file.metadata.num_row_groups):
                told = file.metadata.row_group(group)
                rows = file.read_row_group(group, columns=_PLACES)
                hours = pc.divide(rows["ingested_at"].cast(pa.int64()), _HOUR_US)
                placed = rows.drop_columns(["ingested_at"]).append_column("hour", hours)
                grouped = placed.group_by(["partition", "hour"]).aggregate(
                    [("offset", "min"), ("offset", "max"), ("offset", "count")]
                )
                for row in grouped.to_pylist():
                    yield Segment(
                        path,
                        group,
                        row["partition"],
                        _EPOCH + timedelta(hours=row["hour"]),
                        row["offset_min"],
                        row["offset_max"],
                        row["offset_count"],
                        told.total_byte_size * row["offset_count"] // max(1, told.num_rows),
                    )

    def records(
        self, parts: Iterable[Segment], spans: Spans, schema: pa.Schema, size: int
    ) -> Iterator[pa.Table]:
        """The records of these spans in tables of about `size` bytes, sorted by partition and offset.

        QualityError where bronze holds a record twice.
        """
        for some in slices(within(parts, spans), size):
            yield _sorted(pa.concat_tables(self._read(some, spans, schema)), self._topic)

    def _read(self, parts: list[Segment], spans: Spans, schema: pa.Schema) -> Iterator[pa.Table]:
        bounds = {p: _cut(found, spans[p]) for p, found in _bounds(parts).items()}
        names = [name for name in schema.names if name != "topic"]
        for path, group in dict.fromkeys((part.path, part.group) for part in parts):
            with self._files.open(path) as file:
                rows = file.read_row_group(group, columns=names)
            named = rows.append_column("topic", pa.repeat(self._topic, rows.num_rows))
            # First the types: Arrow cannot filter all those that delta-rs writes.
            yield named.select(schema.names).cast(schema).filter(pa.array(_mask(rows, bounds)))


def bronze_files(settings: Settings, domain: str) -> Files:
    """The newest snapshot of a domain's bronze table. SetupError where there is none."""
    table = bronze(domain).full_name
    files = table_files(settings, table)
    if files is None:
        raise SetupError(f"table {table} is not there: run `python -m jobs migrate`")
    return files


def within(parts: Iterable[Segment], spans: Spans) -> list[Segment]:
    """The segments that have a record of these spans, or could."""
    return [
        part
        for part in parts
        if part.partition in spans
        and part.last > spans[part.partition][0]
        and part.first <= spans[part.partition][1]
    ]


def slices(parts: Iterable[Segment], size: int) -> Iterator[list[Segment]]:
    """Segments, sorted by partition and offset, in groups of about `size` bytes and at least one segment. No
    offset of a partition in one group is below any in an earlier one."""
    held: list[Segment] = []
    taken, end = 0, (-1, -1)  # bytes held; the furthest partition and offset of them
    for part in parts:
        if held and end < (part.partition, part.first) and taken + part.size > size:
            yield held
            held, taken = [], 0
        held.append(part)
        taken, end = taken + part.size, max(end, (part.partition, part.last))
    if held:
        yield held


def _bounds(parts: Iterable[Segment]) -> Spans:
    found: Spans = {}
    for part in parts:
        after, last = found.get(part.partition, (part.first - 1, part.last))
        found[part.partition] = min(after, part.first - 1), max(last, part.last)
    return found


def _cut(bounds: tuple[int, int], span: tuple[int, int]) -> tuple[int, int]:
    return max(bounds[0], span[0]), min(bounds[1], span[1])


def _mask(rows: pa.Table, bounds: Spans) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    partition, offset = rows["partition"].to_numpy(), rows["offset"].to_numpy()
    kept = np.zeros(len(offset), np.bool_)
    for number, (after, last) in bounds.items():
        kept |= (partition == number) & (offset > after) & (offset <= last)
    return kept


def _sorted(rows: pa.Table, topic: str) -> pa.Table:
    partition, offset = rows["partition"].to_numpy(), rows["offset"].to_numpy()
    order = np.lexsort((offset, partition))
    again = (np.diff(offset[order]) == 0) & (np.diff(partition[order]) == 0)
    if again.any():
        first = order[int(np.argmax(again))]
        raise QualityError(f"bronze holds a record twice: {topic}-{partition[first]} at {offset[first]}")
    in_order = bool((np.diff(order) > 0).all())
    return rows if in_order else rows.take(pa.array(order))
