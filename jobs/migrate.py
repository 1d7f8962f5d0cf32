"""migrate: bring topics, Avro schemas, Delta tables, PostgreSQL and Elasticsearch to what the contracts and
migrations say.

Safe to run again: what is there already is left as it is, but for columns that a table lacks: they are added.
"""

from pyspark.sql.types import StructField

from headwater.errors import SetupError
from headwater.tables import add_columns, ensure_table, exists, read_table
from jobs.queries import Context
from schemas.comments import lake_tables
from schemas.migrate import upgrade
from schemas.tables import Table
from schemas.topics import create_topics
from sinks.registry import SINKS
from sources.registry import register


def migrate(context: Context) -> list[str]:
    """What was changed, a line each. Raises SetupError where a column has another type than it should."""
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
    """Add the columns that the table lacks: null in the rows that it has. One that is declared no more stays,
    null in the rows to come; one of another type is refused, for rows and readers have the old one."""
    spark, settings = context.spark, context.settings
    found = {field.name: field for field in read_table(spark, settings, table.full_name).schema}
    wanted = spark.createDataFrame([], table.columns).schema
    other = [field for field in wanted if field.name in found and _kind(field) != _kind(found[field.name])]
    if other:
        named = ", ".join(f"{f.name} ({_kind(found[f.name])}, declared {_kind(f)})" for f in other)
        raise SetupError(
            f"{table.full_name} has columns of another type than declared: {named}. Declare a column of a "
            "new name, or rebuild the table (docs/operations.md)"
        )
    missing = [field for field in wanted if field.name not in found]
    if missing:
        add_columns(spark, settings, table.full_name, missing)
    return [f"table {table.full_name}: column {field.name} added" for field in missing]


def _kind(field: StructField) -> str:
    return field.dataType.simpleString()
