"""build.crm: silver.leads and silver.crm_* → the gold of the CRM: pipeline, journeys, funnel.

What one event changes may lie anywhere in its tenant's past: a contact names a lead of last year, a late
stage changes the sums of every day since. So a batch says which tenants have news, and all that gold says of
these is worked out again from silver, by pure functions; rows that differ from what gold has are replaced.
Safe to run again: working out again gives the same, and then nothing differs. Without a checkpoint, or with
--from-start, all tenants have news.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.delta_log import count, read_days
from headwater.delta_merge import GONE, replace_by_key
from headwater.failpoints import fail_at
from headwater.files import delete_folder
from headwater.locks import commit_lock
from headwater.metrics import EVENTS
from headwater.settings import Settings
from headwater.tables import checkpoint_path, ensure_table, frame_of, read_table, stream_table, table_path
from jobs.queries import Context
from jobs.recount import with_gone
from schemas.gold import CRM_PIPELINE, CRM_PIPELINE_DAILY, LEAD_FUNNEL_DAILY, LEAD_JOURNEY
from schemas.tables import CRM_CONTACTS, CRM_LEADS, CRM_OPPORTUNITIES, LEADS, Table
from transformations.journey import funnel, journeys
from transformations.pipeline import pipeline, pipeline_daily

DOMAIN = "crm"
NAME = "build.crm"
_LINEAGE = (
    "tenant_id row_version event_time ingested_at refined_at source_topic source_partition source_offset"
)
# Silver table → the columns that are needed of it.
SOURCES = {
    LEADS: f"id event_id received_at source utm_campaign email {_LINEAGE}".split(),
    CRM_LEADS: f"lead_id email metadata {_LINEAGE}".split(),
    CRM_CONTACTS: f"contact_id email lead_id {_LINEAGE}".split(),
    CRM_OPPORTUNITIES: (
        "opportunity_id event_type lead_id contact_id stage amount currency probability expected_close_date"
        f" {_LINEAGE}"
    ).split(),
}
# Gold table → its key, behind the tenant.
KEYS = {
    CRM_PIPELINE: ("opportunity_id",),
    CRM_PIPELINE_DAILY: ("day", "currency", "stage", "status"),
    LEAD_JOURNEY: ("lead_id",),
    LEAD_FUNNEL_DAILY: ("day", "source", "campaign"),
}
# Whole tenants are worked out: more often would cost other queries more than it tells anyone.
_EVERY_S = 60.0
# A batch looks at one column of each file, and each batch works out its tenants whole: so few batches.
_FILES = 10_000
# Of a local lake with so many rows of leads and of the CRM, the driver reads silver and compares gold.
FEW_ROWS = 100_000


class BuildCrm:
    """The query build.crm."""

    name = NAME
    domain = DOMAIN
    reads: tuple[str, ...] = tuple(table.full_name for table in SOURCES)
    writes: tuple[str, ...] = tuple(table.full_name for table in KEYS)

    def __init__(self, context: Context) -> None:
        self.context = context
        self.every_s = max(_EVERY_S, context.settings.streams.triggers.build_s)
        self._reset_due = context.from_start

    def prepare(self) -> None:
        """Create the tables; with --from-start forget the checkpoint, once."""
        spark, settings = self.context.spark, self.context.settings
        for table in (*SOURCES, *KEYS):
            ensure_table(spark, settings, table)
        if self._reset_due:
            delete_folder(spark, checkpoint_path(settings, self.name))
            self._reset_due = False

    def source(self) -> DataFrame:
        """The tenants of new rows of silver."""
        spark, settings = self.context.spark, self.context.settings
        news = [stream_table(spark, settings, table.full_name, files=_FILES) for table in SOURCES]
        return reduce(DataFrame.union, [rows.select("tenant_id") for rows in news])

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Work out again all gold of the tenants that have news."""
        fail_at(self.name, "offsets")
        self.count_again(batch)
        fail_at(self.name, "after_write")
        fail_at(self.name, "before_commit")

    def count_again(self, rows: DataFrame) -> None:
        """All of the tenants that have such rows, whether these came or went. One at a time: who has worked
        out is not overtaken by who works out silver as it was before."""
        tenants = rows.select("tenant_id").distinct().toArrow()
        fail_at(self.name, "before_write")
        if tenants.num_rows:
            with commit_lock(self.context.settings.lake_root, self.name):
                self._work_out(tenants)

    def _work_out(self, tenants: pa.Table) -> None:
        settings = self.context.settings
        few = settings.small_batches_here and _is_small(settings)
        read = self._few if few else self._all
        silver = [read(tenants, table, columns).persist() for table, columns in SOURCES.items()]
        deals = silver[-1]
        journey = journeys(*silver).persist()
        made = {
            CRM_PIPELINE: pipeline(deals),
            CRM_PIPELINE_DAILY: pipeline_daily(deals),
            LEAD_JOURNEY: journey,
            LEAD_FUNNEL_DAILY: funnel(journey),
        }
        try:
            for table, rows in made.items():
                replaced = (
                    self._replace_few(tenants, table, rows) if few else self._replace(tenants, table, rows)
                )
                if replaced:
                    self.context.written.update((table.full_name,))
                    self.context.totals.add(rows_out=replaced)
                    EVENTS.labels(self.name, table.full_name, "built").inc(replaced)
        finally:
            for rows in (*silver, journey):
                rows.unpersist()

    def _few(self, tenants: pa.Table, table: Table, columns: Sequence[str]) -> DataFrame:
        """The tenants' rows of silver or gold, read without Spark, which takes a second and more for it."""
        return frame_of(self.context.spark, _rows_of(self.context.settings, tenants, table, columns))

    def _all(self, tenants: pa.Table, table: Table, columns: Sequence[str]) -> DataFrame:
        spark = self.context.spark
        rows = read_table(spark, self.context.settings, table.full_name)
        mine = rows.join(F.broadcast(frame_of(spark, tenants)), "tenant_id", "left_semi")
        return mine.select(*columns)

    def _replace_few(self, tenants: pa.Table, table: Table, made: DataFrame) -> int:
        """The same as `_replace`, of rows that the driver holds."""
        said, key = _said(table), _key(table)
        rows = made.toArrow()
        kept = _rows_of(self.context.settings, tenants, table, said)
        now = {tuple(row[name] for name in key): row for row in rows.select(said).to_pylist()}
        before = {tuple(row[name] for name in key): row for row in kept.to_pylist()}
        new = pa.array([before.get(name) != row for name, row in now.items()], pa.bool_())
        gone = pa.array([name not in now for name in before], pa.bool_())
        differs = with_gone(rows.filter(new), kept.select(key).filter(gone))
        if differs.num_rows:
            self._put(table, differs, set(differs["event_date"].to_pylist()))
        return int(differs.num_rows)

    def _replace(self, tenants: pa.Table, table: Table, made: DataFrame) -> int:
        """Rows of gold that differ from what is kept take its place; what is not among them goes.

        The day is part of the key: a row that is of another day now, for an earlier event came, moves there.
        """
        said, key = _said(table), _key(table)
        kept = self._all(tenants, table, said)
        new = made.select(*said).subtract(kept).withColumn(GONE, F.lit(False))
        gone = kept.select(*key).subtract(made.select(*key)).withColumn(GONE, F.lit(True))
        rows = new.withColumn("row_version", F.unix_micros("refined_at"))
        differs = rows.unionByName(gone, allowMissingColumns=True).persist()
        try:
            days = {row[0]: row[1] for row in differs.groupBy("event_date").count().collect()}
            if days:
                self._put(table, differs, days)
            return sum(days.values())
        finally:
            differs.unpersist()

    def _put(self, table: Table, differs: DataFrame | pa.Table, days: Iterable[date]) -> None:
        replace_by_key(differs, self.context.settings, table.full_name, _key(table), days)


def _said(table: Table) -> list[str]:
    """What rows of gold are compared by: the version grows with each replacement, and says nothing else."""
    return [name for name in table.names if name != "row_version"]


def _key(table: Table) -> list[str]:
    return ["tenant_id", *KEYS[table], "event_date"]


def _is_small(settings: Settings) -> bool:
    return sum(count(table_path(settings, table.full_name)) for table in SOURCES) <= FEW_ROWS


def _rows_of(settings: Settings, tenants: pa.Table, table: Table, columns: Sequence[str]) -> pa.Table:
    mine = pc.field("tenant_id").isin(tenants["tenant_id"].to_pylist())
    return read_days(table_path(settings, table.full_name), columns, None, mine)
