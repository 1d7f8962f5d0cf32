"""migrate: bring topics, Delta tables, PostgreSQL and Elasticsearch to what the contracts and migrations say.

Safe to run again: everything that is there already is left as it is.
"""

from pyspark.sql.types import StructType

from headwater.errors import SetupError
from headwater.tables import ensure_table, exists, read_table
from jobs.queries import Context
from schemas.comments import lake_tables
from schemas.migrate import upgrade
from schemas.tables import Table
from schemas.topics import create_topics
from sinks.registry import SINKS


def migrate(context: Context) -> list[str]:
    """What was changed, a line each. Raises SetupError where a table has other columns than it should."""
    spark, settings = context.spark, context.settings
    done = [f"topic {name} created" for name in create_topics(settings)]
    for table in lake_tables():
        if exists(spark, settings, table.full_name):
            _check_columns(context, table)
        elif ensure_table(spark, settings, table):
            done.append(f"table {table.full_name} created")
    done += [f"PostgreSQL migrated to {revision}" for revision in upgrade(settings)]
    for (domain, system), destination in sorted(SINKS.items()):
        for route in destination.routes:
            route.make(settings, f"deliver.{domain}.{system}").setup()
    return done


def _check_columns(context: Context, table: Table) -> None:
    found = _types(read_table(context.spark, context.settings, table.full_name).schema)
    wanted = _types(context.spark.createDataFrame([], table.columns).schema)
    wrong = sorted(name for name, kind in wanted.items() if found.get(name) != kind)
    if wrong:
        raise SetupError(
            f"{table.full_name}: columns {', '.join(wrong)} are missing or of another type than declared"
        )


def _types(schema: StructType) -> dict[str, str]:
    return {field.name: field.dataType.simpleString() for field in schema}
