"""The lake → a Spark session in which its tables have names, for whoever looks: notebooks and shells.

    from sources.lake import lake_session
    spark = lake_session()
    spark.table("gold.session_kpis")

The names are views in a catalog that is kept in memory and ends with the session. Nothing is written into the
lake, and no lock is taken: it may be read while jobs write.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pyspark.sql import SparkSession

from headwater.session import build_session
from headwater.settings import Settings, load_settings
from headwater.tables import exists, read_table, table_path
from schemas.comments import comments, lake_tables, personal_columns
from schemas.tables import Table

LAYERS = ("bronze", "silver", "gold", "ops")


def lake_session(*, masked: bool = True, settings: Settings | None = None) -> SparkSession:
    """A session with the tables that there are, as bronze.x, silver.x, gold.x and ops.x.

    `masked` leaves out personal columns and raw records; called again with False it shows them, too. The lake
    is HEADWATER_LAKE, or that of the settings. A table made later needs another call.
    """
    settings = settings or load_settings()
    spark = build_session(_in_memory(settings), "headwater notebook")
    for layer in LAYERS:
        # Where an analyst's own tables would go. The lake would not do: they are gone with the session.
        spark.sql(f"CREATE DATABASE IF NOT EXISTS {layer} LOCATION '{_folder()}/{layer}'")
    for table in lake_tables():
        if exists(spark, settings, table.full_name):
            spark.sql(_view(spark, settings, table, masked))
    return spark


def _view(spark: SparkSession, settings: Settings, table: Table, masked: bool) -> str:
    hidden, said = personal_columns() if masked else frozenset(), comments(table)
    there = read_table(spark, settings, table.full_name).columns
    shown = [name for name in there if name not in hidden]
    described = ", ".join(f"`{name}` COMMENT '{_quoted(said.get(name, ''))}'" for name in shown)
    columns = ", ".join(f"`{name}`" for name in shown)
    path = table_path(settings, table.full_name).replace("`", "``")
    rows = f"SELECT {columns} FROM delta.`{path}`"  # noqa: S608 - names of our own tables
    return f"CREATE OR REPLACE VIEW {table.full_name} ({described}) AS {rows}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _in_memory(settings: Settings) -> Settings:
    """No metastore, and no spark-warehouse in the folder one happens to be in."""
    conf = {
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": str(_folder()),
        **settings.spark.conf,
    }
    return settings.model_copy(update={"spark": settings.spark.model_copy(update={"conf": conf})})


@cache
def _folder() -> Path:
    """A folder that goes when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="headwater-notebook-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
