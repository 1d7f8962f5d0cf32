"""deliver: a table of the lake → one destination, keyed by the sink's own key, newest row_version wins.

Safe to run again: every sink takes the same rows twice, in any order, and ends the same. A row that the
destination refuses for ever becomes a dead letter of stage sink:<system>, with its original bytes from
bronze.
"""

from pyspark.sql import DataFrame

from headwater.errors import SetupError
from headwater.execution import query_id
from headwater.failpoints import fail_at
from headwater.files import delete_folder
from headwater.metrics import DEAD, EVENTS
from headwater.tables import append_once, checkpoint_path, ensure_table, table_path
from jobs.queries import Context
from jobs.rejects import rejected_letters
from schemas.tables import DEAD_LETTERS, SILVER
from sinks.registry import SINKS


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
        self.table = destination.table
        streams = [stream for stream, table in SILVER.items() if table == self.table]
        self.stream = streams[0] if streams else self.table.full_name
        self.sink = destination.make(context.settings, self.name)
        self._reset_due = context.from_start

    def prepare(self) -> None:
        """Check the destination; with --from-start empty it and forget the checkpoint, once."""
        for table in (self.table, DEAD_LETTERS):
            ensure_table(self.context.spark, self.context.settings, table)
        if self._reset_due:
            self.sink.reset()
            delete_folder(self.context.spark, checkpoint_path(self.context.settings, self.name))
            self._reset_due = False
        self.sink.setup()

    def source(self) -> DataFrame:
        """New rows of the table."""
        return (
            self.context.spark.readStream.format("delta")
            .option("maxFilesPerTrigger", self.context.settings.streams.max_files_per_trigger)
            .option("skipChangeCommits", "true")
            .load(table_path(self.context.settings, self.table.full_name))
        )

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Upsert; then keep what the destination refused."""
        fail_at(self.name, "offsets")
        rows = batch.persist()
        try:
            fail_at(self.name, "before_write")
            written = self.sink.write(rows)
            fail_at(self.name, "after_write")
            if written.rejected:
                letters = rejected_letters(self.context, self.domain, self.sink.name, written.rejected)
                append_once(letters, self.context.settings, DEAD_LETTERS.full_name, query_id(batch), batch_id)
                self.context.written.add(DEAD_LETTERS.full_name)
                DEAD.labels(self.stream, f"sink:{self.sink.name}", "sink_rejected").inc(len(written.rejected))
        finally:
            rows.unpersist()
        count = written.rows + len(written.rejected)
        self.context.totals.add(rows_in=count, rows_out=written.rows, dead=len(written.rejected))
        EVENTS.labels(self.name, self.stream, "delivered").inc(written.rows)
        fail_at(self.name, "before_commit")
