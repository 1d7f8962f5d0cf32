"""migrate: bring topics, Avro schemas, Delta tables, PostgreSQL and Elasticsearch to what the contracts and
migrations say.

Safe to run again: what is there already is left as it is, but for columns that a table lacks, which are
added, and columns whose type is to be wider.
"""

from pyspark.sql.types import StructField

from headwater.errors import SetupError
from headwater.log import logger
from headwater.tables import add_columns, ensure_table, exists, read_table
from headwater.widen import is_wider, widen
from jobs.queries import Context
from schemas.comments import lake_tables
from schemas.migrate import upgrade
from schemas.tables import Table
from schemas.topics import create_topics
from sinks.registry import SINKS
from sources.registry import register

# Bronze is found by its files, and whoever delivers gold would be told that every row went and came.
_WIDENED = ("silver", "ops")
_log = logger(__name__)


def migrate(context: Context) -> list[str]:
    """What was changed, a line each. Raises SetupError where a column's type is another, and not wider."""
    spark, settings = context.spark, context.settings
    done = [f"topic {name} created" for name in create_topics(settings)]
    for table in lake_tables():
        if exists(spark, settings, table.full_name):
            done += _evolve(context, table)
        elif ensure_table(spark, settings, table):
            done.append(f"table {table.full_name} created")
    done += [f"PostgreSQL migrated to {revision}" for revision in upgrade(settings)]
    for (domain, system), destination in sorted(SINKS.items()):
        for route in destination.routes:
            route.make(settings, f"deliver.{domain}.{system}").setup()
    # At the end: all else is done by then, also where there is no registry yet.
    return done + register(settings.registry)


def _evolve(context: Context, table: Table) -> list[str]:
    """Widen columns, then add those that the table lacks: null in the rows that it has. One that is declared
    no more stays, null in the rows to come; one of a type that is not wider is refused."""
    spark, settings = context.spark, context.settings
    found = {field.name: field for field in read_table(spark, settings, table.full_name).schema}
    wanted = spark.createDataFrame([], table.columns).schema
    other = [field for field in wanted if field.name in found and _kind(field) != _kind(found[field.name])]
    told = {f.name: f"{f.name} ({_kind(found[f.name])}, declared {_kind(f)})" for f in other}
    may_be = table.layer in _WIDENED and not settings.lake_is_remote
    if refused := [f.name for f in other if not (may_be and is_wider(f.dataType, found[f.name].dataType))]:
        raise SetupError(
            f"{table.full_name} has columns of another type than declared: "
            f"{', '.join(told[name] for name in refused)}. Declare a column of a new name"
        )
    if other:
        _log.info("widening", table=table.full_name, columns=list(told))
        widen(spark, settings, table, other)
    missing = [field for field in wanted if field.name not in found]
    if missing:
        add_columns(spark, settings, table.full_name, missing)
    done = [f"table {table.full_name}: column {name} widened" for name in told.values()]
    return done + [f"table {table.full_name}: column {field.name} added" for field in missing]


def _kind(field: StructField) -> str:
    return field.dataType.simpleString()
