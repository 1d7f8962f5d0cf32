"""Delta's transaction log: what an application has committed, and commits that carry its mark.

A micro-batch is a transaction of an application (`<query id>.<table>`, batch id). Delta's own check of that
mark rebuilds the table's whole state by Spark jobs at every append, which costs more than the append. So on a
local lake the mark is read by delta-rs, and Delta's writer commits without asking again; rows that are few
and already on the driver, new tables and properties are written by delta-rs altogether. The private Scala
interface is in this file only (docs/adr/0013).
"""

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, WriterProperties, write_deltalake
from pyarrow.dataset import Dataset, dataset, field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from headwater.delta_change import CHECKPOINT_EVERY as CHECKPOINT_EVERY
from headwater.delta_change import GROUP_ROWS as GROUP_ROWS
from headwater.delta_checksum import write_checksum

_DELTA = "org.apache.spark.sql.delta"
_TABLES_KEPT_OPEN = 64
# So many are looked for one by one.
_MOST_HOURS = 24
# delta-rs makes the log's checkpoints, so the tables themselves ask Spark for none.
NO_CHECKPOINTS = "1000000000"


def committed(path: str, application: str) -> int | None:
    """The last version that `application` has committed to the local table at `path`; None for none."""
    return _opened(path).transaction_version(application)


def committed_anywhere(spark: SparkSession, path: str, application: str) -> int | None:
    """The same of a table wherever it is, by Spark."""
    done = int(_begun(spark, path).txnVersion(application))
    return None if done < 0 else done


def exists(path: str) -> bool:
    """Whether there is a local table at `path`."""
    return DeltaTable.is_deltatable(path)


def create(path: str, schema: pa.Schema, partitions: Sequence[str], properties: dict[str, str]) -> None:
    """Make an empty local table. Raises what delta-rs raises when there is one already."""
    DeltaTable.create(
        path, schema, mode="error", partition_by=list(partitions), configuration=dict(properties)
    )
    _open.cache_clear()
    _summed(path)


def columns(path: str) -> dict[str, str]:
    """The table's columns, in their order, with their types in Spark's short words: bigint, decimal(20,6)."""
    fields = StructType.fromJson(json.loads(_opened(path).schema().to_json()))
    return {field.name: field.dataType.simpleString() for field in fields}


def properties(path: str) -> dict[str, str]:
    """The table's properties."""
    return dict(_opened(path).metadata().configuration)


def set_property(path: str, key: str, value: str) -> None:
    """Set one property, ours or Delta's."""
    _opened(path).alter.set_table_properties({key: value}, raise_if_not_exists=False)
    _summed(path)


def add_columns(path: str, fields: pa.Schema) -> None:
    """Add columns behind those that the table has."""
    _opened(path).alter.add_columns(list(Schema.from_arrow(fields).fields))
    _summed(path)


def version(path: str) -> int:
    """The newest version of the local table at `path`."""
    return _opened(path).version()


def is_empty(path: str) -> bool:
    """Whether the local table at `path` has no files."""
    return not _opened(path).file_uris()


def count(path: str) -> int:
    """How many rows the local table at `path` has, as its log says."""
    files = pa.table(_opened(path).get_add_actions(flatten=True))
    return pc.sum(files["num_records"]).as_py() or 0


def append(rows: DataFrame, path: str, application: str, version: int) -> bool:
    """Commit the rows with the mark (application, version), by Spark; whether the log has a new checkpoint.

    Asks nothing: see `committed`.
    """
    jvm: Any = rows.sparkSession._jvm
    nothing = getattr(getattr(jvm, "scala.None$"), "MODULE$")
    update = getattr(jvm, f"{_DELTA}.DeltaOperations$StreamingUpdate")
    mode = getattr(jvm, "org.apache.spark.sql.streaming.OutputMode").Append()
    transaction = _begun(rows.sparkSession, path)
    transaction.updateSetTransaction(application, version, nothing)
    how = update(mode, application, version, nothing)
    return _checkpointed(path, int(transaction.commit(transaction.writeFiles(rows._jdf), how)))


def append_rows(rows: pa.Table, path: str, mark: tuple[str, int] | None = None) -> bool:
    """The same for a few rows, without Spark; the mark (application, version) may be left out."""
    marks = CommitProperties(app_transactions=[Transaction(*mark)] if mark else None)
    write_deltalake(_opened(path), rows, mode="append", commit_properties=marks)
    return _checkpointed(path, _summed(path))


def merge(
    rows: pa.Table, path: str, same: str, columns: dict[str, str], newer: dict[str, str], gone: str
) -> bool:
    """Replace rows of the table, `kept`, by those given, `made`; whether the log has a new checkpoint.

    `same` says which row takes the place of which, `columns` and `newer` what a new and a replaced one hold,
    and with `gone` a row only takes one away: all in SQL. The change feed is written if the table has one.
    """
    merging = _opened(path).merge(rows, same, source_alias="made", target_alias="kept")
    merging = merging.when_matched_delete(gone).when_matched_update(newer)
    merging.when_not_matched_insert(columns, predicate=f"NOT {gone}").execute()
    return _checkpointed(path, _summed(path))


def compact(path: str, small_bytes: int, at_least: int) -> int:
    """Put files of less than `small_bytes` together, to about that, where a partition has so many: how many
    went. No row changes, and streams that read the table see none of it.

    Whoever commits, delta-rs or Spark, looks at every file that the table has. Row groups are of few rows,
    for they are held in memory, and a row may be long: Arrow takes 2 GiB of one column.
    """
    table = _opened(path)
    few = WriterProperties(compression="ZSTD", max_row_group_size=GROUP_ROWS)
    went = 0
    for part in _crowded(table, small_bytes, at_least):
        found = table.optimize.compact(
            part, target_size=small_bytes, max_concurrent_tasks=1, writer_properties=few
        )
        went += int(found["numFilesRemoved"])
        _checkpointed(path, _summed(path))
    return went


def _crowded(table: DeltaTable, small_bytes: int, at_least: int) -> list[list[tuple[str, str, str]] | None]:
    """The partitions with so many small files, as delta-rs names them; None is a table without partitions."""
    files = pa.table(table.get_add_actions(flatten=True))
    small = files.filter(pc.less(files["size_bytes"], small_bytes))
    names = table.metadata().partition_columns
    if not names:
        return [None] if 0 < at_least <= small.num_rows else []
    keys = [f"partition.{name}" for name in names]
    counted = small.select(keys).group_by(keys).aggregate([([], "count_all")])
    crowded = counted.filter(pc.greater_equal(counted["count_all"], at_least))
    rows = zip(*[crowded[key].to_pylist() for key in keys], strict=True)
    return [[(name, "=", str(value)) for name, value in zip(names, row, strict=True)] for row in rows]


def _summed(path: str) -> int:
    """The version that was just committed by delta-rs, which knows its own: it gets its checksum."""
    table = _open(path)
    write_checksum(table, path)
    return int(table.version())


def _checkpointed(path: str, version: int) -> bool:
    if version % CHECKPOINT_EVERY:
        return False
    _opened(path).create_checkpoint()
    return True


def read(path: str, columns: list[str], where: tuple[str, str | list[str]] | None) -> pa.Table:
    """These columns, none of which is a partition, of the rows whose column where[0] is where[1], or one of
    these; None: of all; of a table that is only appended to.

    Not by DeltaTable.to_pyarrow_table: its files are opened by threads that call back into Python, and a
    process that ends soon after is sometimes aborted.
    """
    table = _opened(path)
    files = _files(table, path, table.file_uris())
    schema = _schema(table)
    if not files:
        return schema.empty_table().select(columns)
    rows = dataset(files, schema=schema, format="parquet")
    if where is None:
        return rows.to_table(columns=columns)
    texts = where[1] if isinstance(where[1], list) else [where[1]]
    needed = list(dict.fromkeys([*columns, where[0]]))
    return _fitting(rows, needed, field(where[0]).isin(texts)).select(columns)


def read_days(
    path: str,
    columns: Sequence[str],
    days: Sequence[date] | None,
    where: pc.Expression | None,
    hours: Sequence[datetime] = (),
) -> pa.Table:
    """These columns, which `where` names too, of the rows that fit.

    Only of these days (`event_date`, the partition); None: of all. With `hours` the files of these days are
    left out in which, by their statistics, no `event_time` is of one of these hours.
    """
    table = _opened(path)
    of_days = [] if days is None else [("event_date", "in", [day.isoformat() for day in days])]
    any_of = [[*of_days, *span] for span in _spans(hours)]
    files = _files(table, path, table.file_uris(file_pruning_predicate=any_of if any(any_of) else None))
    schema = _schema(table)
    if not files:
        return schema.empty_table().select(columns)
    rows = dataset(files, schema=schema, format="parquet", partitioning="hive")
    return _fitting(rows, columns, where)


def _spans(hours: Sequence[datetime]) -> list[list[tuple[str, str, datetime]]]:
    """Conditions, any of which a file is to meet: an hour for each, or what lies between all of them."""
    if not hours:
        return [[]]
    far = len(hours) > _MOST_HOURS
    begins = [min(hours)] if far else hours
    ends = [(max(hours) if far else begin) + timedelta(hours=1) for begin in begins]
    return [
        [("event_time", ">=", begin), ("event_time", "<", end)]
        for begin, end in zip(begins, ends, strict=True)
    ]


def files(path: str) -> list[str]:
    """The names of the table's files, below its folder."""
    table = _opened(path)
    return [name[len(path) + 1 :] for name in _files(table, path, table.file_uris())]


def read_files(path: str, names: Sequence[str], columns: list[str]) -> pa.Table:
    """These columns, none of which is a partition, of some of the table's files."""
    found = dataset([f"{path}/{name}" for name in names], schema=_schema(_opened(path)), format="parquet")
    return found.to_table(columns=columns)


def _files(table: DeltaTable, path: str, uris: Sequence[str]) -> list[str]:
    """Where the table's files are: of a URI only what is below the folder, which comes percent-encoded."""
    depth = len(table.metadata().partition_columns) + 1
    return ["/".join((path, *uri.rsplit("/", depth)[1:])) for uri in uris]


def _fitting(rows: Dataset, columns: Sequence[str], where: pc.Expression | None) -> pa.Table:
    """These columns, which `where` names too, of the rows that fit.

    Filtered here, not by the files' readers: what delta-rs has merged or compacted holds texts as views,
    whose statistics Arrow cannot compare with a text.
    """
    if where is None:
        return rows.to_table(columns=list(columns))
    parts = [pa.Table.from_batches([part]).filter(where) for part in rows.to_batches(columns=list(columns))]
    return pa.concat_tables(parts) if parts else rows.schema.empty_table().select(list(columns))


def _schema(table: DeltaTable) -> pa.Schema:
    """The table's columns. Arrow's filters know plain strings only, which files hold as well."""
    fields = pa.schema(table.schema().to_arrow())
    return pa.schema([f.with_type(pa.string()) if pa.types.is_string_view(f.type) else f for f in fields])


def table_id(path: str) -> str:
    """What checkpoints of queries call the local table at `path`."""
    return str(_opened(path).metadata().id)


def _begun(spark: SparkSession, path: str) -> Any:
    """A transaction of Delta's own."""
    # By whole names: each part of jvm.org.apache… would be looked for in all jars.
    logs = getattr(cast(Any, spark._jvm), f"{_DELTA}.DeltaLog")
    return logs.forTable(spark._jsparkSession, path).startTransaction()


def _opened(path: str) -> DeltaTable:
    table = _open(path)
    table.update_incremental()
    return table


@lru_cache(maxsize=_TABLES_KEPT_OPEN)
def _open(path: str) -> DeltaTable:
    return DeltaTable(path)
