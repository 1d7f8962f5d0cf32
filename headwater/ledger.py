"""ops.ledger: what became of the rows of every micro-batch, per stream and tenant. Never purged."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from headwater.clock import utc_now
from headwater.offsets import Ranges
from headwater.settings import Settings
from headwater.tables import append_rows, exists, read_few
from headwater.version import CODE_VERSION

Offsets = dict[str, int]
TABLE = "ops.ledger"
_COUNTS = ("in_rows", "silver", "duplicate", "dead", "no_consent", "erased", "filtered")
_SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("query_id", pa.string()),
        ("batch_id", pa.int64()),
        ("stream", pa.string()),
        ("tenant_id", pa.string()),
        *[(name, pa.int64()) for name in _COUNTS],
        ("offsets", pa.map_(pa.string(), pa.list_(pa.int64()))),
        ("code_version", pa.string()),
        ("written_at", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass
class Entry:
    """The counts of one stream and tenant in one batch."""

    stream: str
    tenant_id: str | None
    in_rows: int = 0
    silver: int = 0
    duplicate: int = 0
    dead: int = 0
    no_consent: int = 0
    erased: int = 0
    filtered: int = 0
    offsets: Ranges = field(default_factory=dict)


def rebuilding(domain: str) -> str:
    """The query whose entries correct those of refine: less of one outcome, more of another."""
    return f"rebuild.{domain}"


def write_ledger(
    spark: SparkSession,
    settings: Settings,
    query: str,
    query_id: str,
    batch_id: int,
    entries: Iterable[Entry],
) -> None:
    """Append a batch's entries; a second call for the same batch writes nothing."""
    common = {"query": query, "query_id": query_id, "batch_id": batch_id, "code_version": CODE_VERSION}
    rows = [
        {**common, **asdict(entry), "offsets": _pairs(entry), "written_at": utc_now()} for entry in entries
    ]
    if rows:
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        append_rows(spark, table, settings, TABLE, (query_id, batch_id))


def _pairs(entry: Entry) -> list[tuple[str, list[int]]]:
    return [(place, [found.first, found.last]) for place, found in entry.offsets.items()]


def high_water(
    spark: SparkSession, settings: Settings, query: str, *, before: str | None = None, only: str | None = None
) -> Offsets:
    """The last offset of every topic-partition that `query` has accounted for.

    `only` takes just what the checkpoint with that query id wrote; `before` leaves that out, so that what
    remains is from checkpoints that are gone.
    """
    if not exists(spark, settings, TABLE):
        return {}
    entries = read_few(spark, settings, TABLE, ["query_id", "offsets"], ("query", query))
    if before is not None:
        entries = entries.filter(pc.field("query_id") != before)
    if only is not None:
        entries = entries.filter(pc.field("query_id") == only)
    maps = entries.column("offsets").combine_chunks()
    ends = pa.table({"place": maps.keys, "last": pc.list_element(maps.items, 1)})
    highest = ends.group_by("place").aggregate([("last", "max")])
    return dict(zip(highest["place"].to_pylist(), highest["last_max"].to_pylist(), strict=True))


def taken(spark: SparkSession, settings: Settings, query: str) -> list[tuple[str, int, dict[str, list[int]]]]:
    """Stream, records, and first and last offset by topic-partition of every entry of `query`."""
    if not exists(spark, settings, TABLE):
        return []
    entries = read_few(spark, settings, TABLE, ["stream", "in_rows", "offsets"], ("query", query))
    return [(row["stream"], row["in_rows"], dict(row["offsets"])) for row in entries.to_pylist()]
