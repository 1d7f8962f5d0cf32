"""build: silver.<table> → the gold tables that count it, each row keyed by the KPI's key.

A batch of new rows of silver says which keys have changed; these are counted again over all of silver, and
take the place of what gold has. So gold is what a query over silver would give, whatever came late, twice or
out of order, and a batch costs what it touches. Safe to run again: counting again gives the same.
Without a checkpoint gold is counted as a whole, once, and the query goes on from that version of silver.
"""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.delta_merge import GONE, replace_all, replace_by_key
from headwater.errors import SetupError
from headwater.failpoints import fail_at
from headwater.files import delete_folder
from headwater.log import logger
from headwater.metrics import EVENTS
from headwater.tables import checkpoint_path, ensure_table, read_table, table_path, table_version
from jobs.queries import Context
from transformations.kpi.base import Kpi
from transformations.kpi.registry import KPIS

_log = logger(__name__)
# So many keys are counted on the driver of a local lake.
FEW_KEYS = 10_000
BUILT = {kpi.silver.name: kpi.silver for kpi in KPIS.values()}


def silver_of(table: str) -> str:
    """The silver table's name of a silver or gold table. Raises SetupError for one that feeds no gold."""
    name = KPIS[table].silver.name if table in KPIS else table
    if name not in BUILT:
        known = ", ".join(sorted({*BUILT, *KPIS}))
        raise SetupError(f"nothing is built of, or into, a table {table!r}; known: {known}")
    return name


class Build:
    """The query build.<silver table>."""

    def __init__(self, context: Context, table: str) -> None:
        self.context = context
        self.silver = BUILT[silver_of(table)]
        self.name = f"build.{self.silver.name}"
        self.every_s = context.settings.streams.triggers.build_s
        self.kpis = [kpi for kpi in KPIS.values() if kpi.silver == self.silver]
        self._reset_due = context.from_start
        self._since: int | None = None

    def prepare(self) -> None:
        """Create the tables; without a checkpoint, or with --from-start, count all of silver."""
        spark, settings = self.context.spark, self.context.settings
        for table in (self.silver, *[kpi.gold for kpi in self.kpis]):
            ensure_table(spark, settings, table)
        if self._reset_due:
            delete_folder(spark, checkpoint_path(settings, self.name))
            self._reset_due = False
        if not self.context.has_checkpoint(self.name):
            # Delta begins with a version that is there: the rows of this one are counted twice, which does
            # no harm.
            self._since = table_version(spark, settings, self.silver.full_name)
            self._build_all()

    def _build_all(self) -> None:
        settings = self.context.settings
        rows = read_table(self.context.spark, settings, self.silver.full_name)
        if rows.isEmpty():
            return
        for kpi in self.kpis:
            replace_all(kpi.count(rows), settings, kpi.gold.full_name, kpi.key)
            self.context.written.add(kpi.gold.full_name)
        _log.info("built_all", query=self.name, version=self._since)

    def source(self) -> DataFrame:
        """New rows of silver."""
        settings = self.context.settings
        rows = (
            self.context.spark.readStream.format("delta")
            .option("maxFilesPerTrigger", settings.streams.max_files_per_trigger)
            .option("skipChangeCommits", "true")
        )
        if self._since is not None:
            rows = rows.option("startingVersion", self._since)
        return rows.load(table_path(settings, self.silver.full_name))

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Count the touched keys of each KPI again."""
        fail_at(self.name, "offsets")
        fail_at(self.name, "before_write")
        for kpi in self.kpis:
            self._replace(kpi, batch)
        fail_at(self.name, "after_write")
        fail_at(self.name, "before_commit")

    def _replace(self, kpi: Kpi, new: DataFrame) -> None:
        """Count the keys again that these rows touch."""
        spark, settings = self.context.spark, self.context.settings
        touched = new.transform(kpi.touched).persist()
        try:
            count = touched.count()
            few = count <= FEW_KEYS and not settings.lake_is_remote
            keys = touched.select(*kpi.key).distinct()
            days = self._days(kpi, keys, touched)
            silver = read_table(spark, settings, kpi.silver.full_name).where(F.col("event_date").isin(days))
            mine = silver.transform(kpi.keyed).join(F.broadcast(keys), [*kpi.key], "left_semi")
            counted = keys.join(kpi.count(mine), [*kpi.key], "left")
            rows = counted.withColumn(GONE, F.col("row_version").isNull())
            made = rows.toArrow() if few else rows
            replace_by_key(made, settings, kpi.gold.full_name, kpi.key, days)
        finally:
            touched.unpersist()
        self.context.written.add(kpi.gold.full_name)
        self.context.totals.add(rows_out=count)
        EVENTS.labels(self.name, kpi.gold.full_name, "built").inc(count)

    def _days(self, kpi: Kpi, keys: DataFrame, touched: DataFrame) -> list[date]:
        """The days on which these keys have rows in silver; gold's rows are of one of them."""
        days = touched.select("event_date")
        if kpi.is_long:
            gold = read_table(self.context.spark, self.context.settings, kpi.gold.full_name)
            known = gold.join(F.broadcast(keys), [*kpi.key], "left_semi")
            whole = F.sequence(F.to_date("started_at"), F.to_date("ended_at"))
            days = days.union(known.select(F.explode(whole)))
        return sorted(row[0] for row in days.distinct().collect())
