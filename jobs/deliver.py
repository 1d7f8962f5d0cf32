"""deliver: tables of the lake → one destination, keyed by the sink's own key, newest row_version wins.

Safe to run again: every sink takes the same rows twice, in any order, and ends the same. A row that the
destination refuses for ever becomes a dead letter of stage sink:<system>, with its original bytes from
bronze. Of gold, whose rows are replaced, the change feed is read: deletions are delivered, too.
"""

from functools import cached_property, partial, reduce
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.errors import SetupError
from headwater.execution import query_id
from headwater.failpoints import fail_at
from headwater.files import delete_folder
from headwater.metrics import DEAD, EVENTS
from headwater.tables import append_once, checkpoint_path, ensure_table, frame_of, stream_table
from jobs.queries import Context
from jobs.rejects import rejected_letters
from schemas.tables import DEAD_LETTERS, SILVER
from sinks.base import HereSink, KeyedSink, Rejected, Sink, Written
from sinks.registry import SINKS, Route
from transformations.changes import FEED, is_deleted, latest_changes, latest_here

# So few rows of several tables are delivered from the driver, if their texts are no longer than this.
FEW_ROWS = 5_000
FEW_BYTES = 16 << 20
# Of which route a row of a batch is.
ROUTE = "route"


class Deliver:
    """The query deliver.<domain>.<system>."""

    def __init__(self, context: Context, domain: str, system: str) -> None:
        if (domain, system) not in SINKS:
            known = ", ".join(sorted(s for d, s in SINKS if d == domain)) or "none"
            raise SetupError(f"domain {domain} is not delivered to {system!r}; known: {known}")
        self.context = context
        self.domain = domain
        self.system = system
        self.name = f"deliver.{domain}.{system}"
        destination = SINKS[domain, system]
        self.every_s = destination.pace(context.settings.streams.triggers)
        self.routes = [(route, route.make(context.settings, self.name)) for route in destination.routes]
        self.reads: tuple[str, ...] = tuple(route.table.full_name for route in destination.routes)
        self.writes: tuple[str, ...] = ()
        self._reset_due = context.from_start

    def prepare(self) -> None:
        """Check the destination; with --from-start empty it and forget the checkpoint, once."""
        for table in (*[route.table for route, _ in self.routes], DEAD_LETTERS):
            ensure_table(self.context.spark, self.context.settings, table)
        if self._reset_due:
            for _, sink in self.routes:
                sink.reset()
            delete_folder(self.context.spark, checkpoint_path(self.context.settings, self.name))
            self._reset_due = False
        for _, sink in self.routes:
            sink.setup()

    def source(self) -> DataFrame:
        """New rows of the table; of several tables a struct for each, null in the rows of others."""
        streams = [self._stream(route) for route, _ in self.routes]
        if len(streams) == 1:
            return streams[0]
        tagged = [
            rows.select(F.lit(route.table.name).alias(ROUTE), F.struct("*").alias(route.table.name))
            for (route, _), rows in zip(self.routes, streams, strict=True)
        ]
        return reduce(partial(DataFrame.unionByName, allowMissingColumns=True), tagged)

    def _stream(self, route: Route) -> DataFrame:
        spark, settings = self.context.spark, self.context.settings
        return stream_table(spark, settings, route.table.full_name, changes=bool(route.key))

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Upsert, and delete what is gone; then keep what the destination refused."""
        fail_at(self.name, "offsets")
        rows = batch.persist()
        try:
            fail_at(self.name, "before_write")
            rejected: list[Rejected] = []
            for route, sink, mine in self._parts(rows):
                written = self._deliver(route, sink, mine)
                rejected += written.rejected
                self._count(route, sink, written)
            fail_at(self.name, "after_write")
            if rejected:
                letters = rejected_letters(self.context, self.domain, self.system, rejected)
                append_once(letters, self.context.settings, DEAD_LETTERS.full_name, query_id(batch), batch_id)
                self.context.written.update((DEAD_LETTERS.full_name,))
        finally:
            rows.unpersist()
        fail_at(self.name, "before_commit")

    def _parts(self, batch: DataFrame) -> list[tuple[Route, Sink, DataFrame | pa.Table]]:
        """The routes that have rows in this batch, with these: on the driver if they are few."""
        if len(self.routes) == 1:
            return [(*self.routes[0], batch)]
        size = batch.agg(F.count("*").alias("rows"), self._bytes.alias("bytes")).collect()[0]
        if size["rows"] <= FEW_ROWS and (size["bytes"] or 0) <= FEW_BYTES:
            few = batch.toArrow()
            parts = [(route, sink, _part(few, route.table.name)) for route, sink in self.routes]
            return [(route, sink, mine) for route, sink, mine in parts if mine.num_rows]
        there = {row[ROUTE] for row in batch.select(ROUTE).distinct().collect()}
        return [
            (route, sink, batch.where(F.col(ROUTE) == route.table.name).select(f"{route.table.name}.*"))
            for route, sink in self.routes
            if route.table.name in there
        ]

    @cached_property
    def _bytes(self) -> Column:
        """How long all texts are. Made once and as text: else a hundred calls into the JVM for each batch."""
        texts = [
            f"coalesce(octet_length({route.table.name}.{name}), 0)"
            for route, _ in self.routes
            for name, kind in route.table.kinds.items()
            if kind == "STRING"
        ]
        return F.expr(f"sum({' + '.join(texts) or '0'})")

    def _deliver(self, route: Route, sink: Sink, rows: DataFrame | pa.Table) -> Written:
        if isinstance(rows, pa.Table):
            return self._deliver_few(route, sink, rows)
        if not route.key:
            return sink.write(rows)
        changes = rows.transform(latest_changes(*route.key)).persist()
        try:
            gone = changes.where(is_deleted()).drop(*FEED)
            if not gone.isEmpty():
                cast(KeyedSink, sink).remove(gone)
            return sink.write(changes.where(~is_deleted()).drop(*FEED))
        finally:
            changes.unpersist()

    def _deliver_few(self, route: Route, sink: Sink, rows: pa.Table) -> Written:
        frame = partial(frame_of, self.context.spark)
        if route.key:
            rows, gone = latest_here(rows, route.key)
            if gone.num_rows:
                cast(KeyedSink, sink).remove(frame(gone))
        return cast(HereSink, sink).write(rows) if route.here else sink.write(frame(rows))

    def _count(self, route: Route, sink: Sink, written: Written) -> None:
        streams = [stream for stream, table in SILVER.items() if table == route.table]
        stream = streams[0] if streams else route.table.full_name
        refused = len(written.rejected)
        self.context.totals.add(rows_in=written.rows + refused, rows_out=written.rows, dead=refused)
        EVENTS.labels(self.name, stream, "delivered").inc(written.rows)
        if refused:
            DEAD.labels(stream, f"sink:{sink.name}", "sink_rejected").inc(refused)


def _part(batch: pa.Table, name: str) -> pa.Table:
    """The rows of one table, with its columns."""
    mine = batch.filter(pc.equal(batch[ROUTE], name))
    rows = mine[name].combine_chunks()
    return pa.table(dict(zip([part.name for part in rows.type], rows.flatten(), strict=True)))
