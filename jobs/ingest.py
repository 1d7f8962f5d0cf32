"""ingest: Kafka topics of a domain → bronze.<domain>, keyed by (topic, partition, offset).

Safe to run again: an append carries the query's id and batch id, so a replayed batch is written once; without
a checkpoint the query starts behind the highest offset that the ledger or the table has.
"""

from uuid import uuid4

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from headwater.errors import DataLossError, DisagreeError, SetupError
from headwater.execution import busy, query_id
from headwater.failpoints import fail_at, fail_during
from headwater.files import delete_folder
from headwater.ledger import Entry, high_water, write_ledger
from headwater.metrics import EVENTS
from headwater.offsets import (
    PLACE_NUMBER,
    Place,
    Ranges,
    counted_ranges,
    last_offsets,
    numbered,
    observe_places,
    observed_ranges,
    of_topics,
    ranges_here,
    reach_beyond,
    spans_of,
    within,
)
from headwater.tables import (
    append_once,
    append_rows,
    checkpoint_path,
    ensure_table,
    properties,
    read_table,
    set_property,
    was_appended,
)
from jobs.queries import Context
from jobs.runs import record_decision
from schemas.contract import domain_contracts
from schemas.tables import LEDGER, bronze
from sources.kafka import partition_bounds, read_stream, starting_offsets, topic_ids
from sources.kafka_few import few_records

_TOPIC_ID = "headwater.topic_id."


class Ingest:
    """The query ingest.<domain>."""

    def __init__(self, context: Context, domain: str) -> None:
        self.context = context
        self.domain = domain
        self.name = f"ingest.{domain}"
        self.every_s = context.settings.streams.triggers.ingest_s
        self.reads: tuple[str, ...] = ()
        self.writes: tuple[str, ...] = (bronze(domain).full_name,)
        self.contracts = sorted(domain_contracts(domain).values(), key=lambda c: c.stream)
        self.topics = sorted(topic for c in self.contracts for topic in c.sources)
        self.table = bronze(domain)
        self.places: list[Place] = []
        self._gap_accepted = context.accept_gap
        # Of a start of the query, only the first batch may be one that was written before.
        self._is_first = True

    def prepare(self) -> None:
        """Create the tables; refuse a checkpoint without its table, and a topic that was made again."""
        spark, settings = self.context.spark, self.context.settings
        self._is_first = True
        ensure_table(spark, settings, self.table)
        ensure_table(spark, settings, LEDGER)
        known = properties(spark, settings, self.table.full_name)
        resumed = self.context.has_checkpoint(self.name)
        # Not whether the table is there: another job, or an earlier refused start, may have made it anew.
        if resumed and not any(name.startswith(_TOPIC_ID) for name in known):
            where = checkpoint_path(settings, self.name)
            raise SetupError(
                f"table {self.table.full_name} is gone, but its checkpoint is not; "
                f"restore it, or, to go on behind what the ledger has accounted for, delete {where}"
            )
        for topic, found in topic_ids(settings, self.topics).items():
            self._check_topic(topic, known.get(_TOPIC_ID + topic), found)
        if resumed and self._gap_accepted:
            # It names offsets that are gone; ledger and table know as well where to go on.
            delete_folder(spark, checkpoint_path(settings, self.name))
            resumed = False
        if not resumed:
            self._account_for_written()

    def _check_topic(self, topic: str, before: str | None, found: str) -> None:
        if before is None:
            name = self.table.full_name
            set_property(self.context.spark, self.context.settings, name, _TOPIC_ID + topic, found)
        elif before != found:
            raise DataLossError(
                f"topic {topic} was deleted and made again (its id was {before}, is {found}): its offsets "
                "now mean other records. Restore the topic, or begin a new lake (docs/operations.md)"
            )

    def _account_for_written(self) -> None:
        """Enter into the ledger what only the table has: a crash came between them, then the checkpoint went.

        A later start finds the ledger level with the table, and enters nothing.
        """
        spark, settings = self.context.spark, self.context.settings
        known = [F.lit(part) for pair in high_water(spark, settings, self.name).items() for part in pair]
        rows = read_table(spark, settings, self.table.full_name)
        if known:
            place = F.concat_ws("-", "topic", F.col("partition").cast("string"))
            rows = rows.where(
                F.col("offset") > F.coalesce(F.try_element_at(F.create_map(*known), place), F.lit(-1))
            )
        entries = self._entries(counted_ranges(rows))
        write_ledger(spark, settings, self.name, f"recovery-{uuid4()}", 0, entries)

    def source(self) -> DataFrame:
        """The topics' records, from the checkpoint's offsets or from behind what the lake has."""
        settings = self.context.settings
        _, end = partition_bounds(settings, self.topics)
        self.places = sorted((name.rsplit("-", 1)[0], int(name.rsplit("-", 1)[1])) for name in end)
        starting = "earliest"  # Spark ignores it once a checkpoint exists
        if not self.context.has_checkpoint(self.name):
            starting, gaps = starting_offsets(
                settings, self.topics, self._last_offsets(), accept_gaps=self._gap_accepted
            )
            for gap in gaps:
                record_decision(self.context, self.name, gap)
            self._gap_accepted = False
        return read_stream(self.context.spark, settings, self.topics, starting)

    def _last_offsets(self) -> dict[str, int]:
        """The higher of the ledger (never purged) and the table (a batch ahead after a crash)."""
        spark, settings = self.context.spark, self.context.settings
        last = high_water(spark, settings, self.name)
        rows = read_table(spark, settings, self.table.full_name)
        for row in rows.groupBy("topic", "partition").agg(F.max("offset").alias("last")).collect():
            place = f"{row['topic']}-{row['partition']}"
            last[place] = max(last.get(place, -1), row["last"])
        return last

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Append to bronze, then to the ledger."""
        spark, settings = self.context.spark, self.context.settings
        this = query_id(batch)
        fail_at(self.name, "offsets")
        fail_during(self.name, "task", lambda: busy(spark))
        fail_at(self.name, "before_write")
        # A task and a file for each core, not for each of Kafka's partitions.
        tasks = batch.coalesce(spark.sparkContext.defaultParallelism)
        ranges = self._append(tasks, (this, batch_id))
        fail_at(self.name, "after_write")
        entries = self._entries(ranges)
        write_ledger(spark, settings, self.name, this, batch_id, entries)
        self.context.written.update((self.table.full_name, LEDGER.full_name))
        for entry in entries:
            self.context.totals.add(rows_in=entry.in_rows, rows_out=entry.in_rows)
            EVENTS.labels(self.name, entry.stream, "bronze").inc(entry.in_rows)
        fail_at(self.name, "before_commit")

    def _append(self, batch: DataFrame, mark: tuple[str, int]) -> Ranges:
        """Append the batch, unless the table has it; what it holds."""
        spark, settings, name = self.context.spark, self.context.settings, self.table.full_name
        is_first, self._is_first = self._is_first, False
        if is_first and (settings.lake_is_remote or was_appended(settings, name, *mark)):
            # Nothing is observed of a batch that the table has: it is not read.
            append_once(batch, settings, name, *mark)
            return self._appended(batch)
        checkpoint = checkpoint_path(settings, self.name)
        few = few_records(batch, checkpoint, mark[1]) if settings.small_batches_here else None
        if few is not None:
            append_rows(spark, few, settings, name, mark)
            return ranges_here(few)
        counted = Observation()
        rows = batch.transform(numbered(self.places))
        append_once(observe_places(rows, counted, self.places).drop(PLACE_NUMBER), settings, name, *mark)
        return observed_ranges(counted.get, self.places) or counted_ranges(batch)

    def _appended(self, batch: DataFrame) -> Ranges:
        """What a batch holds that the table has, also by another start. A checkpoint that has lost its newest
        files gives the batch's number to more records than the table took under it: DisagreeError."""
        ranges = counted_ranges(batch)
        rows = read_table(self.context.spark, self.context.settings, self.table.full_name)
        held = last_offsets(counted_ranges(rows.where(within(spans_of(ranges)))))
        if reach_beyond(ranges, held):
            raise DisagreeError(f"{self.table.full_name} has a part only of the batch that was begun last")
        return ranges

    def _entries(self, ranges: Ranges) -> list[Entry]:
        entries = [self._entry(c.stream, of_topics(ranges, c.sources)) for c in self.contracts]
        return [entry for entry in entries if entry.in_rows]

    def _entry(self, stream: str, ranges: Ranges) -> Entry:
        return Entry(
            stream=stream, tenant_id=None, in_rows=sum(r.count for r in ranges.values()), offsets=ranges
        )
