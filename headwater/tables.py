"""Delta tables of the lake: create, append exactly once, read."""

import shutil
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from headwater import delta_log
from headwater.errors import DisagreeError, SetupError
from headwater.files import delete_folder
from headwater.locks import commit_lock, forget_lock
from headwater.log_trim import trim
from headwater.paths import table_path as table_path
from headwater.settings import Settings

PROPERTIES = {
    # Readable by anyone who reads Delta; erased rows leave no trace in the log beyond these days.
    "delta.deletedFileRetentionDuration": "interval 7 days",
    "delta.logRetentionDuration": "interval 30 days",
}


def checkpoint_path(settings: Settings, query: str) -> str:
    """<lake>/_checkpoints/<query>."""
    return f"{settings.lake_root}/_checkpoints/{query}"


def exists(spark: SparkSession, settings: Settings, full_name: str) -> bool:
    """Whether the Delta table is there."""
    path = table_path(settings, full_name)
    return bool(DeltaTable.isDeltaTable(spark, path)) if settings.lake_is_remote else delta_log.exists(path)


def is_empty(spark: SparkSession, settings: Settings, full_name: str) -> bool:
    """Whether the table has no rows. Local: without Spark."""
    if not settings.lake_is_remote:
        return delta_log.is_empty(table_path(settings, full_name))
    return read_table(spark, settings, full_name).isEmpty()


def ensure_table(spark: SparkSession, settings: Settings, table: Any) -> bool:
    """Create `table` (a schemas.tables.Table) unless it is there; whether it was created.

    Raises SetupError where a local one lacks columns, or has them of another type: an older version, or a
    newer one, made it.
    """
    path = table_path(settings, table.full_name)
    if exists(spark, settings, table.full_name):
        if not settings.lake_is_remote:
            _check_columns(table, delta_log.columns(path))
        return False
    schema = spark.createDataFrame([], table.columns).schema
    checkpoints = str(delta_log.CHECKPOINT_EVERY) if settings.lake_is_remote else delta_log.NO_CHECKPOINTS
    wanted = PROPERTIES | {
        "delta.checkpointInterval": checkpoints,
        "delta.dataSkippingStatsColumns": ",".join(table.statistics),
        **dict(table.properties),
    }
    with commit_lock(settings.lake_root, table.full_name):
        if settings.lake_is_remote or table.properties:  # which ask for features of the protocol
            _create(spark, path, schema, table.partitions, wanted)
        elif not delta_log.exists(path):  # another query was quicker
            delta_log.create(path, to_arrow_schema(schema), table.partitions, wanted)
    return True


def _check_columns(table: Any, found: dict[str, str]) -> None:
    declared = {name: "".join(kind.split()).lower() for name, kind in table.kinds.items()}
    if missing := sorted(declared.keys() - found.keys()):
        raise SetupError(
            f"{table.full_name} has no column {', '.join(missing)}; run `python -m jobs migrate`"
        )
    other = [f"{name} as {found[name]}" for name, kind in declared.items() if found[name].lower() != kind]
    if other:
        raise SetupError(
            f"{table.full_name} has {', '.join(other)}: another type than declared; run "
            "`python -m jobs migrate` of the newest version that was here"
        )


def add_columns(
    spark: SparkSession, settings: Settings, full_name: str, fields: Sequence[StructField]
) -> None:
    """Add columns behind those that the table has, null in its rows."""
    path = table_path(settings, full_name)
    with commit_lock(settings.lake_root, full_name):
        if not settings.lake_is_remote:
            delta_log.add_columns(path, to_arrow_schema(StructType(list(fields))))
            return
        name = path.replace("`", "``")
        columns = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in fields)
        spark.sql(f"ALTER TABLE delta.`{name}` ADD COLUMNS ({columns})")


def _create(
    spark: SparkSession, path: str, schema: StructType, partitions: Sequence[str], wanted: dict[str, str]
) -> None:
    builder = DeltaTable.createIfNotExists(spark).location(path).addColumns(schema)
    for key, value in wanted.items():
        builder = builder.property(key, value)
    (builder.partitionedBy(*partitions) if partitions else builder).execute()


def forget_table(spark: SparkSession, settings: Settings, full_name: str) -> None:
    """Delete a table that nobody else reads or writes, with all that is kept beside it; or what is left."""
    path = table_path(settings, full_name)
    if settings.lake_is_remote:
        delete_folder(spark, path)
        return
    shutil.rmtree(path, ignore_errors=True)
    forget_lock(settings.lake_root, full_name)


def read_table(spark: SparkSession, settings: Settings, full_name: str) -> DataFrame:
    """The table's newest snapshot."""
    return spark.read.format("delta").load(table_path(settings, full_name))


def read_table_at(spark: SparkSession, settings: Settings, full_name: str, version: int) -> DataFrame:
    """The table as it was at that version, whatever is written meanwhile."""
    rows = spark.read.format("delta").option("versionAsOf", version)
    return rows.load(table_path(settings, full_name))


def stream_table(
    spark: SparkSession,
    settings: Settings,
    full_name: str,
    *,
    since: int | None = None,
    changes: bool = False,
    files: int | None = None,
) -> DataFrame:
    """The rows that are appended to the table, as a stream; commits that change rows are passed over.

    From version `since` on; None: all that are there first. With `changes` the table's change feed. A batch
    has up to `files` files, by default what the settings say.
    """
    most = settings.streams.max_files_per_trigger if files is None else files
    rows = spark.readStream.format("delta").option("maxFilesPerTrigger", most)
    rows = rows.option("readChangeFeed" if changes else "skipChangeCommits", "true")
    if since is not None:
        rows = rows.option("startingVersion", since)
    return rows.load(table_path(settings, full_name))


def read_few(
    spark: SparkSession,
    settings: Settings,
    full_name: str,
    columns: list[str],
    where: tuple[str, str | list[str]],
) -> pa.Table:
    """Some columns of the rows where a column has this text, or one of these. Local: without Spark.

    The first table that Spark reads costs a young driver ten seconds.
    """
    if not settings.lake_is_remote:
        return delta_log.read(table_path(settings, full_name), columns, where)
    texts = where[1] if isinstance(where[1], list) else [where[1]]
    rows = read_table(spark, settings, full_name).where(F.col(where[0]).isin(texts))
    return rows.select(*columns).toArrow()


def read_whole(spark: SparkSession, settings: Settings, full_name: str, columns: list[str]) -> pa.Table:
    """Some columns of a small table without partitions, on the driver. Local: without Spark."""
    if not settings.lake_is_remote:
        return delta_log.read(table_path(settings, full_name), columns, None)
    return read_table(spark, settings, full_name).select(*columns).toArrow()


def frame_of(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """Rows that are on the driver, for Spark. In one piece: of several (as files are read in), Spark takes
    those before the first that is empty, and leaves out the rest without a word."""
    return spark.createDataFrame(rows.combine_chunks())


def append_once(rows: DataFrame, settings: Settings, full_name: str, query_id: str, batch_id: int) -> None:
    """Append a micro-batch's rows; a second call for the same query and batch writes nothing.

    Raises DisagreeError where the table has a later batch of the query: its checkpoint is an old copy, and
    has given the number to other rows.
    """
    path, application = table_path(settings, full_name), f"{query_id}.{full_name}"
    with commit_lock(settings.lake_root, full_name):
        if settings.lake_is_remote:
            done = delta_log.committed_anywhere(rows.sparkSession, path, application)
            if _is_new(full_name, done, batch_id):
                marked = {"txnAppId": application, "txnVersion": str(batch_id)}
                rows.write.format("delta").mode("append").options(**marked).save(path)
            return
        done = delta_log.committed(path, application)
        if _is_new(full_name, done, batch_id) and delta_log.append(rows, path, application, batch_id):
            trim(settings.lake_root, path, delta_log.table_id(path))


def was_appended(settings: Settings, full_name: str, query_id: str, batch_id: int) -> bool:
    """Whether a local table has a micro-batch's rows, as `append_once` tells; of a remote one False.

    Raises DisagreeError as `append_once` does.
    """
    if settings.lake_is_remote:
        return False
    done = delta_log.committed(table_path(settings, full_name), f"{query_id}.{full_name}")
    return not _is_new(full_name, done, batch_id)


def append_rows(
    spark: SparkSession,
    rows: pa.Table,
    settings: Settings,
    full_name: str,
    mark: tuple[str, int] | None = None,
) -> None:
    """Append a few rows that are on the driver; with a mark (query id, batch id) once, as `append_once`."""
    path = table_path(settings, full_name)
    if settings.lake_is_remote:
        frame = frame_of(spark, rows).coalesce(1)
        if mark:
            append_once(frame, settings, full_name, *mark)
        else:
            frame.write.format("delta").mode("append").save(path)
        return
    application = f"{mark[0]}.{full_name}" if mark else ""
    with commit_lock(settings.lake_root, full_name):
        fresh = not mark or _is_new(full_name, delta_log.committed(path, application), mark[1])
        if fresh and delta_log.append_rows(rows, path, (application, mark[1]) if mark else None):
            trim(settings.lake_root, path, delta_log.table_id(path))


def compact(settings: Settings, full_name: str, small_bytes: int, at_least: int) -> int:
    """Put files of less than `small_bytes` together in a local lake, where a partition has so many: how many
    went."""
    if settings.lake_is_remote:
        return 0
    with commit_lock(settings.lake_root, full_name):
        return delta_log.compact(table_path(settings, full_name), small_bytes, at_least)


def _is_new(full_name: str, done: int | None, batch_id: int) -> bool:
    if done is not None and done > batch_id:
        raise DisagreeError(f"{full_name} has batch {done} of a query that is at {batch_id}: an old copy")
    return done is None or done < batch_id


def table_version(spark: SparkSession, settings: Settings, full_name: str) -> int:
    """The table's newest version."""
    path = table_path(settings, full_name)
    if settings.lake_is_remote:
        return int(DeltaTable.forPath(spark, path).history(1).collect()[0]["version"])
    return delta_log.version(path)


def properties(spark: SparkSession, settings: Settings, full_name: str) -> dict[str, str]:
    """The table's properties."""
    path = table_path(settings, full_name)
    if settings.lake_is_remote:
        return dict(DeltaTable.forPath(spark, path).detail().collect()[0]["properties"])
    return delta_log.properties(path)


def set_property(spark: SparkSession, settings: Settings, full_name: str, key: str, value: str) -> None:
    """Set one property. Keys and values come from us or from the broker, never from data."""
    path = table_path(settings, full_name)
    with commit_lock(settings.lake_root, full_name):
        if not settings.lake_is_remote:
            delta_log.set_property(path, key, value)
            return
        name = path.replace("`", "``")
        quoted = [text.replace("\\", "\\\\").replace("'", "\\'") for text in (key, value)]
        spark.sql(f"ALTER TABLE delta.`{name}` SET TBLPROPERTIES ('{quoted[0]}' = '{quoted[1]}')")
