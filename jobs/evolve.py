"""Delta tables become what the code declares: made, columns given a wider type, columns added.

All tables are looked at before the first is changed: where one is refused, the version before can go on.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from headwater.errors import SetupError
from headwater.locks import instance_lock
from headwater.log import logger
from headwater.tables import add_columns, append_rows, ensure_table, exists, read_table
from headwater.widen import is_wider, late, widen
from jobs.queries import Context
from schemas.contract import contracts
from schemas.tables import SILVER, Table

_log = logger(__name__)


@dataclass(frozen=True)
class Change:
    """What a table that is there lacks of what is declared; `told` is for people, by column."""

    table: Table
    found: StructType
    wider: list[StructField]
    refused: list[StructField]
    missing: list[StructField]

    @property
    def name(self) -> str:
        return self.table.full_name

    def told(self, field: StructField) -> str:
        """A column with both types."""
        return f"{field.name} ({_kind(self.found[field.name])}, declared {_kind(field)})"


def evolve(context: Context, tables: Sequence[Table]) -> list[str]:
    """What was changed, a line each. A column that is declared no more stays, null in the rows to come.

    Raises SetupError, with no column changed, where a type is another and not wider, and where a query has to
    read on first; LockedError while refine of a stream runs whose table is to be widened.
    """
    spark, settings = context.spark, context.settings
    there = {table.full_name for table in tables if exists(spark, settings, table.full_name)}
    changes = [_change(context, table) for table in tables if table.full_name in there]
    refused = [f"{c.name} has {c.told(field)}" for c in changes for field in c.refused]
    if refused:
        raise SetupError(
            f"columns have another type than declared, and cannot be given it: {'; '.join(refused)}. Declare "
            "a column of a new name (docs/operations.md)"
        )
    done = []
    with ExitStack() as locks:
        domains = {_domains()[change.name] for change in changes if change.wider}
        for domain in sorted(domains):
            locks.enter_context(instance_lock(settings.lake_root, f"refine.{domain}"))
        _refuse_late(context, [change for change in changes if change.wider])
        for change in changes:
            done += _changed(context, change)
    new = [table for table in tables if table.full_name not in there]
    return done + [f"table {t.full_name} created" for t in new if ensure_table(spark, settings, t)]


def _change(context: Context, table: Table) -> Change:
    spark, settings = context.spark, context.settings
    found = read_table(spark, settings, table.full_name).schema
    has = {field.name: field for field in found}
    wanted = spark.createDataFrame([], table.columns).schema
    other = [field for field in wanted if field.name in has and _kind(field) != _kind(has[field.name])]
    # Bronze is found by its files, and whoever delivers gold would be told that every row went and came.
    may_be = table.full_name in _domains() and not settings.lake_is_remote
    wider = [f for f in other if may_be and is_wider(f.dataType, has[f.name].dataType)]
    refused = [field for field in other if field not in wider]
    return Change(table, found, wider, refused, [field for field in wanted if field.name not in has])


def _refuse_late(context: Context, changes: Sequence[Change]) -> None:
    waiting = [(change, names) for change in changes if (names := late(context.settings, change.name))]
    for change, _ in waiting:
        # Of no rows: the queries have something to read past, also where nothing comes any more.
        nothing = to_arrow_schema(change.found).empty_table()
        append_rows(context.spark, nothing, context.settings, change.name)
    if waiting:
        told = "; ".join(f"{change.name}: {', '.join(names)}" for change, names in waiting)
        raise SetupError(
            f"before columns get a wider type, queries have to read past what was changed before ({told}): "
            "let the version before do so by `python -m jobs run --once`, and run `python -m jobs migrate` "
            "again; twice may be needed. Of a query that is no more, delete the folder in <lake>/_checkpoints"
        )


def _changed(context: Context, change: Change) -> list[str]:
    """Widened first: what is said of the columns afterwards is then no obstacle to whoever reads on."""
    spark, settings = context.spark, context.settings
    if change.wider:
        _log.info("widening", table=change.name, columns=[field.name for field in change.wider])
        widen(spark, settings, change.table, change.wider)
    if change.missing:
        add_columns(spark, settings, change.name, change.missing)
    done = [f"table {change.name}: column {change.told(field)} widened" for field in change.wider]
    return done + [f"table {change.name}: column {field.name} added" for field in change.missing]


def _domains() -> dict[str, str]:
    """Whose refine writes each table of silver."""
    return {SILVER[contract.stream].full_name: contract.domain for contract in contracts().values()}


def _kind(field: StructField) -> str:
    return field.dataType.simpleString()
