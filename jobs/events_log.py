"""events log: what refine has done → PostgreSQL's analytics.crm_events_log, a row for each record of Kafka.

Keyed by event time and place. Reads the ledger, whose entries say which records are accounted for; what
became of each is where its row is: in silver (processed), in dead_letters (failed), in filtered (skipped,
with the filter's name), or nowhere, for its event had come before (skipped). Safe to run again: a record that
is in the log stays as it is.
"""

from collections.abc import Iterable
from functools import reduce
from operator import attrgetter

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.errors import SetupError
from headwater.failpoints import fail_at
from headwater.files import delete_folder
from headwater.locks import commit_lock
from headwater.metrics import EVENTS
from headwater.offsets import Span, counted_ranges, merged, span_of, spans_of, within
from headwater.tables import checkpoint_path, ensure_table, read_table, stream_table
from jobs.maintain import kept_from
from jobs.outcomes import tables_of
from jobs.queries import Context
from schemas.contract import domain_contracts
from schemas.tables import DEAD_LETTERS, FILTERED, LEDGER, PLACE, SILVER, SOURCE, Table, bronze
from sinks.base import Written
from sinks.postgres_events import LogSink
from sources.registry import RegistrySchemas
from transformations.classify import classify
from transformations.columns import placed, sourced
from transformations.dead_letters import STAGES
from transformations.validate import EARLIEST_US

SYSTEM = "log"
DOMAINS = ("crm",)
_TOLD = ("event_id", "event_type", "metadata")


class EventsLog:
    """The query deliver.<domain>.log."""

    def __init__(self, context: Context, domain: str) -> None:
        self.context = context
        self.domain = domain
        self.name = f"deliver.{domain}.{SYSTEM}"
        self.every_s = context.settings.streams.triggers.publish_s
        self.contracts = sorted(domain_contracts(domain).values(), key=attrgetter("stream"))
        # Every query writes into the ledger; where silver has news, refine has written there, too.
        self.reads: tuple[str, ...] = tuple(table.full_name for table in self._silver_tables)
        self.writes: tuple[str, ...] = ()
        self.sink = LogSink(context.settings, self.name)
        self._reset_due = context.from_start

    def prepare(self) -> None:
        """Check the log; with --from-start empty it and forget the checkpoint, once."""
        spark, settings = self.context.spark, self.context.settings
        for table in (bronze(self.domain), *tables_of(self.contracts), LEDGER):
            ensure_table(spark, settings, table)
        if self._reset_due:
            self.sink.reset()
            delete_folder(spark, checkpoint_path(settings, self.name))
            self._reset_due = False
        self.sink.setup()

    def source(self) -> DataFrame:
        """The entries of refine: the records of each batch, by place."""
        rows = stream_table(self.context.spark, self.context.settings, LEDGER.full_name)
        return rows.where(F.col("query") == f"refine.{self.domain}").select("offsets")

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Look up what became of the records, and tell the log."""
        fail_at(self.name, "offsets")
        spans = merged(self._said(batch.toArrow()["offsets"].to_pylist()))
        fail_at(self.name, "before_write")
        if spans:
            with commit_lock(self.context.settings.lake_root, self.name):
                written = self._accepted(self.sink.write(self._rows(spans)))
            self.context.totals.add(rows_in=written.rows, rows_out=written.rows)
            EVENTS.labels(self.name, self.domain, "delivered").inc(written.rows)
        fail_at(self.name, "after_write")
        fail_at(self.name, "before_commit")

    def _accepted(self, written: Written) -> Written:
        if written.rejected:
            raise SetupError(f"{self.name}: the log refuses {len(written.rejected)} rows; check its columns")
        return written

    def tell_anew(self, decided: DataFrame) -> int:
        """Tell the log again of the records of a rebuild, which may be other things now; of how many."""
        self.sink.setup()
        spans = spans_of(counted_ranges(decided))
        if not spans:
            return 0
        # A batch of the query that has looked before the rebuild would tell what it saw, afterwards.
        with commit_lock(self.context.settings.lake_root, self.name):
            mine = self._rows(spans).join(decided.select(*sourced()), [*SOURCE], "left_semi")
            if first := kept_from(self.context.settings):
                mine = mine.where(F.col("event_time") >= F.lit(first))
            return self._accepted(self.sink.tell_anew(mine)).rows

    @property
    def _silver_tables(self) -> list[Table]:
        return [SILVER[contract.stream] for contract in self.contracts]

    def _said(self, entries: Iterable[list[tuple[str, list[int]]]]) -> list[Span]:
        """The ranges of entries of the ledger."""
        found = []
        for place, (first, last) in {(name, tuple(span)) for entry in entries for name, span in entry}:
            found.append(span_of(place, first, last))
        return found

    def _rows(self, spans: list[Span]) -> DataFrame:
        """A row of the log for each record of these ranges."""
        spark, settings = self.context.spark, self.context.settings
        raw = read_table(spark, settings, bronze(self.domain).full_name).where(within(spans))
        there = within(spans, *SOURCE)
        silver = [
            read_table(spark, settings, table.full_name)
            .where(there)
            .select(*_TOLD, *SOURCE, "tenant_id", "event_time", "row_version", *_became("processed"))
            for table in self._silver_tables
        ]
        dead = read_table(spark, settings, DEAD_LETTERS.full_name)
        codes = F.array_join(F.transform("reasons", lambda reason: reason["code"]), ", ")
        version = F.lit(0).cast("bigint").alias("row_version")
        became = _became("failed", codes, "replay_count")
        failed = dead.where(there & F.col("stage").isin(*STAGES)).select(
            *_nothing(*_TOLD), *SOURCE, "tenant_id", "event_time", version, *became
        )
        left_out = read_table(spark, settings, FILTERED.full_name).where(there)
        why = F.concat(F.lit("filtered: "), F.col("filter"))
        filtered = left_out.select(
            *_nothing(*_TOLD), *SOURCE, "tenant_id", "event_time", version, *_became("skipped", why)
        )
        done = reduce(DataFrame.unionByName, [*silver, filtered], failed)
        arrived = raw.select(*sourced(), "ingested_at")
        known = done.join(arrived, [*SOURCE], "left")
        known = known.withColumn("event_time", _logged_at()).drop("ingested_at")
        return known.unionByName(self._skipped(raw, done))

    def _skipped(self, raw: DataFrame, done: DataFrame) -> DataFrame:
        """The records that are in no table: their events had come before."""
        settings = self.context.settings
        rest = raw.join(done.select(*placed()), [*PLACE], "left_anti")
        said = rest.transform(classify(*self.contracts, schema_of=RegistrySchemas(settings.registry)))
        told = [
            F.coalesce(*[F.col(f"{table.name}.{name}") for table in self._silver_tables]).alias(name)
            for name in _TOLD
        ]
        moment = _logged_at().alias("event_time")
        version = F.coalesce("row_version", F.lit(0)).alias("row_version")
        return said.select(*told, *sourced(), "tenant_id", moment, version, *_became("skipped"))


def _logged_at() -> Column:
    """When the event happened, if that can be; else, or where nobody said, when it arrived."""
    earliest, latest = F.timestamp_micros(F.lit(EARLIEST_US)), F.col("ingested_at") + F.expr("INTERVAL 1 DAY")
    said = F.when(F.col("event_time").between(earliest, latest), F.col("event_time"))
    # Of what bronze has no more, nobody knows when it arrived.
    return F.coalesce(said, "ingested_at", "event_time")


def _nothing(*columns: str) -> list[Column]:
    return [F.lit(None).cast("string").alias(name) for name in columns]


def _became(status: str, message: Column | None = None, retries: str | None = None) -> list[Column]:
    count = F.coalesce(F.col(retries), F.lit(0)) if retries else F.lit(0)
    said = F.lit(None).cast("string") if message is None else message
    return [F.lit(status).alias("processing_status"), said.alias("error_message"), count.alias("retry_count")]
