"""Rows of a Delta table replaced by key: what a batch counted again takes the place of what was there."""

from collections.abc import Iterable, Sequence
from datetime import date

import pyarrow as pa
from delta.tables import DeltaMergeBuilder, DeltaTable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater import delta_log
from headwater.locks import commit_lock
from headwater.log_trim import trim
from headwater.settings import Settings
from headwater.tables import table_path

GONE = "gone"
_VERSION = "row_version"


def replace_by_key(
    rows: DataFrame | pa.Table, settings: Settings, full_name: str, key: Sequence[str], days: Iterable[date]
) -> None:
    """Each of `rows` takes the place of the row with its key, or is new; of a key that is `gone` none stays.

    Only rows of these days (`event_date`) are looked at: of a key whose row is of another day, there would be
    two afterwards. `row_version` grows with every replacement, also when the clock was set back. Rows that
    are on the driver are merged without Spark, which takes seconds for it; the lake must be local.
    """
    wanted = ", ".join(f"DATE '{day.isoformat()}'" for day in sorted(days))
    same = " AND ".join([*[f"kept.{name} = made.{name}" for name in key], f"kept.event_date IN ({wanted})"])
    if isinstance(rows, DataFrame):
        _merge(rows, settings, full_name, same, None)
        return
    columns, newer = _set(rows.column_names)
    path = table_path(settings, full_name)
    with commit_lock(settings.lake_root, full_name):
        if delta_log.merge(rows, path, same, columns, newer, f"made.{GONE}"):
            trim(settings.lake_root, path, delta_log.table_id(path))


def replace_all(
    rows: DataFrame, settings: Settings, full_name: str, key: Sequence[str], unless: str = "false"
) -> None:
    """The same for all keys at once: a row whose key is not among `rows` goes, `unless` it stays (SQL).

    None of the rows is `gone`. A row of the table without a day is none that anything made today would leave:
    it goes, and what it stood for is new.
    """
    same = " AND ".join([*[f"kept.{name} = made.{name}" for name in key], "kept.event_date IS NOT NULL"])
    _merge(rows, settings, full_name, same, f"NOT ({unless})")


def change_rows(
    rows: DataFrame, settings: Settings, full_name: str, key: Sequence[str], only: Column
) -> None:
    """Each of `rows` takes the place of the row with its key, as it is; of a key that is `gone` none stays.

    Keys that the table does not have are passed over, and so are rows of the table, `kept`, that are not
    among the `only` ones.
    """
    said = {name: f"made.{name}" for name in rows.columns if name != GONE}
    with commit_lock(settings.lake_root, full_name):
        merge = _matched(rows, settings, full_name, key, only).whenMatchedDelete(f"made.{GONE}")
        merge.whenMatchedUpdate(set=dict(said)).execute()


def remove_rows(
    rows: DataFrame, settings: Settings, full_name: str, key: Sequence[str], only: Column
) -> None:
    """The rows of the table with these keys go, of the `only` ones, which may look at `kept` and `made`."""
    with commit_lock(settings.lake_root, full_name):
        _matched(rows, settings, full_name, key, only).whenMatchedDelete().execute()


def _matched(
    rows: DataFrame, settings: Settings, full_name: str, key: Sequence[str], only: Column
) -> DeltaMergeBuilder:
    table = DeltaTable.forPath(rows.sparkSession, table_path(settings, full_name)).alias("kept")
    same = F.expr(" AND ".join(f"kept.{name} = made.{name}" for name in key))
    return table.merge(rows.alias("made"), same & only)


def _set(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What a new row holds, and what one that is replaced does."""
    columns = {name: f"made.{name}" for name in names if name != GONE}
    return columns, {**columns, _VERSION: f"greatest(made.{_VERSION}, kept.{_VERSION} + 1)"}


def _merge(rows: DataFrame, settings: Settings, full_name: str, same: str, drop: str | None) -> None:
    columns, newer = _set(rows.columns)
    with commit_lock(settings.lake_root, full_name):
        table = DeltaTable.forPath(rows.sparkSession, table_path(settings, full_name)).alias("kept")
        merge = (
            table.merge(rows.alias("made"), same)
            .whenMatchedDelete(f"made.{GONE}")
            .whenMatchedUpdate(set=dict(newer))
            .whenNotMatchedInsert(f"NOT made.{GONE}", values=dict(columns))
        )
        (merge.whenNotMatchedBySourceDelete(drop) if drop else merge).execute()
