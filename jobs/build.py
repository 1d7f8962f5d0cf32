"""build: silver.<table> → the gold tables that count it, each row keyed by the KPI's key.

A batch of new rows of silver says which keys have changed; these are counted again over all of silver, and
take the place of what gold has. So gold is what a query over silver would give, whatever came late, twice or
out of order, and a batch costs what it touches. Safe to run again: counting again gives the same.
Without a checkpoint gold is counted as a whole, once, and the query goes on from that version of silver.
"""

from datetime import date

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.delta_merge import GONE, replace_all, replace_by_key
from headwater.errors import SetupError
from headwater.failpoints import fail_at
from headwater.files import delete_folder
from headwater.locks import commit_lock
from headwater.log import logger
from headwater.metrics import EVENTS
from headwater.tables import (
    checkpoint_path,
    ensure_table,
    frame_of,
    read_table,
    stream_table,
    table_version,
)
from jobs.books import books_held, open_month
from jobs.queries import Context
from jobs.recount import DAYS, FEW_KEYS, HOUR, few_days, few_rows, of_keys
from schemas.contract import contracts
from schemas.gold import BILLING_PERIODS
from schemas.tables import SILVER, Table
from sinks.registry import SINKS
from transformations.kpi.base import Kpi
from transformations.kpi.registry import KPIS

_log = logger(__name__)
BUILT = {kpi.source.name: kpi.source for kpi in KPIS.values() if kpi.source.layer == "silver"}


def silver_of(table: str) -> str:
    """The silver table's name of a silver or gold table. Raises SetupError for one that feeds no gold."""
    if table in KPIS:
        return silver_of(KPIS[table].source.name)
    if table not in BUILT:
        known = ", ".join(sorted({*BUILT, *KPIS}))
        raise SetupError(f"nothing is built of, or into, a table {table!r}; known: {known}")
    return table


class Build:
    """The query build.<silver table>."""

    def __init__(self, context: Context, table: str) -> None:
        self.context = context
        self.silver = BUILT[silver_of(table)]
        self.name = f"build.{self.silver.name}"
        fed = (c.domain for c in contracts().values() if SILVER[c.stream].name == self.silver.name)
        self.domain: str | None = next(fed, None)
        self.kpis = [kpi for name, kpi in KPIS.items() if silver_of(name) == self.silver.name]
        self.reads: tuple[str, ...] = (self.silver.full_name,)
        delivered = {route.table for found in SINKS.values() for route in found.routes}
        # They come first: what stays in the lake is counted when others have begun to deliver.
        self.writes: tuple[str, ...] = tuple(k.gold.full_name for k in self.kpis if k.gold in delivered)
        triggers = context.settings.streams.triggers
        # Nobody waits for gold that stays in the lake but those who look into it.
        self.every_s = triggers.build_s if self.writes else triggers.report_s
        self._reset_due = context.from_start
        self._since: int | None = None

    def prepare(self) -> None:
        """Create the tables; without a checkpoint, or with --from-start, count all of silver."""
        spark, settings = self.context.spark, self.context.settings
        for table in (self.silver, *[kpi.gold for kpi in self.kpis], BILLING_PERIODS):
            ensure_table(spark, settings, table)
        if self._reset_due:
            delete_folder(spark, checkpoint_path(settings, self.name))
            self._reset_due = False
        if not self.context.has_checkpoint(self.name):
            # Delta begins with a version that is there: the rows of this one are counted twice, which does
            # no harm.
            self._since = table_version(spark, settings, self.silver.full_name)
            if self._since:
                with commit_lock(settings.lake_root, self.name):
                    self._build_all()

    def _build_all(self) -> None:
        spark, settings = self.context.spark, self.context.settings
        for known in self.kpis:
            with books_held(self.context, known) as kpi:
                rows = kpi.count(read_table(spark, settings, kpi.source.full_name))
                made = rows.withColumn(GONE, F.lit(False))
                if kpi.whole:
                    made = made.transform(kpi.whole)
                if kpi.settled:
                    made = made.transform(kpi.settled).where(~F.col(GONE))
                kept = f"kept.period < DATE '{open_month(self.context)}'" if kpi.settled else "false"
                replace_all(made, settings, kpi.gold.full_name, (*kpi.key, *kpi.also), unless=kept)
            self.context.written.update((kpi.gold.full_name,))
        _log.info("built_all", query=self.name, version=self._since)

    def source(self) -> DataFrame:
        """New rows of silver."""
        spark, settings = self.context.spark, self.context.settings
        return stream_table(spark, settings, self.silver.full_name, since=self._since)

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Count the touched keys of each KPI again, and of those that are made of these."""
        fail_at(self.name, "offsets")
        fail_at(self.name, "before_write")
        self.count_again(batch)
        fail_at(self.name, "after_write")
        fail_at(self.name, "before_commit")

    def count_again(self, rows: DataFrame) -> None:
        """All keys that these rows of silver touch, whether they came or went. One at a time: who has counted
        is not overtaken by who counts silver as it was before."""
        with commit_lock(self.context.settings.lake_root, self.name):
            self._replace(self.silver, rows)

    def _replace(self, source: Table, new: DataFrame | pa.Table) -> None:
        for known in [kpi for kpi in self.kpis if kpi.source == source]:
            with books_held(self.context, known) as kpi:
                made = self._counted_again(kpi, new)
            self.context.written.update((kpi.gold.full_name,))
            if made is not None and any(kpi.gold == other.source for other in self.kpis):
                self._replace(kpi.gold, made)

    def _counted_again(self, kpi: Kpi, new: DataFrame | pa.Table) -> DataFrame | pa.Table | None:
        """The rows that the touched keys have now in gold; of a key that is gone the key and its day."""
        spark, settings = self.context.spark, self.context.settings
        if isinstance(new, pa.Table):
            found = new.select([*kpi.key, "event_date"])
        else:
            # Of a local lake in one piece, whose keys are told apart without a shuffle.
            rows = new if settings.lake_is_remote else new.coalesce(1)
            found = rows.transform(kpi.touched).limit(FEW_KEYS + 1).toArrow()
        if not found.num_rows:
            return None
        EVENTS.labels(self.name, kpi.gold.full_name, "built").inc(found.num_rows)
        self.context.totals.add(rows_out=found.num_rows)
        key = (*kpi.key, *kpi.also)
        if found.num_rows <= FEW_KEYS and settings.small_batches_here:
            days = few_days(settings, kpi, found)
            counted = kpi.count(few_rows(spark, settings, kpi, found, days)).toArrow()
            few = of_keys(counted, found.select(kpi.key).group_by(kpi.key).aggregate([]))
            if kpi.settled:
                few = frame_of(spark, few).coalesce(1).transform(kpi.settled).toArrow()
            replace_by_key(few, settings, kpi.gold.full_name, key, days)
            return few
        rows = frame_of(spark, new) if isinstance(new, pa.Table) else new
        touched = rows.transform(kpi.touched).persist()
        try:
            keys = touched.select(*kpi.key).distinct()
            days = self._days(kpi, keys, touched)
            source = read_table(spark, settings, kpi.source.full_name)
            mine = source.where(F.col("event_date").isin(days)).transform(kpi.keyed)
            mine = mine.join(F.broadcast(keys), [*kpi.key], "left_semi")
            made = self._rows(kpi, keys, mine).localCheckpoint()
            replace_by_key(made, settings, kpi.gold.full_name, key, days)
            return made
        finally:
            touched.unpersist()

    def _rows(self, kpi: Kpi, keys: DataFrame, mine: DataFrame) -> DataFrame:
        counted = keys.join(kpi.count(mine), [*kpi.key], "left")
        if HOUR in kpi.key:
            days = [name for name in DAYS if name in counted.columns]
            counted = counted.withColumns({name: F.coalesce(name, F.to_date(HOUR)) for name in days})
        made = counted.withColumn(GONE, F.col("row_version").isNull())
        return made.transform(kpi.settled) if kpi.settled else made

    def _days(self, kpi: Kpi, keys: DataFrame, touched: DataFrame) -> list[date]:
        """The days on which these keys have rows in the source; gold's rows are of one of them."""
        days = touched.select("event_date")
        if kpi.is_long:
            gold = read_table(self.context.spark, self.context.settings, kpi.gold.full_name)
            known = gold.join(F.broadcast(keys), [*kpi.key], "left_semi")
            whole = F.sequence(F.to_date("started_at"), F.to_date("ended_at"))
            days = days.union(known.select(F.explode(whole)))
        return sorted(row[0] for row in days.distinct().collect())
