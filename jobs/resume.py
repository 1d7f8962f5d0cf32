"""refine after a crash between the writes of a batch: what is in a table by then stays what it is.

A table that has the batch's mark takes nothing more under it. Done again, the batch may be judged otherwise
(by a newer contract, or because a schema has come to the registry), or another copy of an event may come
first: then a record would be in neither table, or in both, or an event twice in silver. So the batch is held
against what the tables have of its offsets. Of a local lake: of another nobody can tell a mark without Spark.
"""

from collections.abc import Sequence
from itertools import count

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.errors import DisagreeError
from headwater.ledger import high_water
from headwater.log import logger
from headwater.offsets import Ranges, reach_beyond, spans_of, within
from headwater.tables import was_appended
from jobs.outcomes import outcome_rows, tables_of
from jobs.queries import Context
from schemas.contract import Contract
from schemas.tables import LEDGER, PLACE, Table

Mark = tuple[str, int]
_log = logger(__name__)


class Resume:
    """Of one refine query, between two of its starts."""

    def __init__(self, context: Context, name: str, contracts: Sequence[Contract]) -> None:
        self._context = context
        self._name = name
        self._contracts = contracts
        self._tables = tables_of(contracts)
        self.is_first = True

    def was_begun(self, mark: Mark) -> bool:
        """Whether an earlier start has written some of the batch's tables: asked of each batch before it
        writes. Only the first of a start can be such. Raises DisagreeError when a table, or the ledger, has a
        later batch."""
        first, self.is_first = self.is_first, False
        return first and any([self._has(table, mark) for table in (LEDGER, *self._tables)])

    def was_accounted(self, mark: Mark, ranges: Ranges) -> bool:
        """Whether the batch is in the ledger, which is written last: there is nothing left to write. Raises
        DisagreeError when it has more than the ledger has seen, as one of a checkpoint that lost a batch."""
        if not self._has(LEDGER, mark):
            return False
        known = high_water(self._context.spark, self._context.settings, self._name)
        if reach_beyond(ranges, known):
            raise DisagreeError(f"the ledger has a part only of the batch that {self._name} has begun last")
        return True

    def mark_for(self, table: Table, mark: Mark) -> Mark:
        """The first mark of the batch that the table does not have."""
        query_id, batch_id = mark
        names = (query_id if again == 0 else f"{query_id}.{again}" for again in count())
        return next((name, batch_id) for name in names if not self._has(table, (name, batch_id)))

    def _has(self, table: Table, mark: Mark) -> bool:
        return was_appended(self._context.settings, table.full_name, *mark)

    def held(self, rows: DataFrame, ranges: Ranges) -> DataFrame:
        """Outcome rows of a batch that was begun, with what the tables have of its offsets.

        What a table has is `written`, with the outcome of then, also a record that is no longer among the
        rows. What is not there, but is an event that silver has, is a duplicate.
        """
        _log.warning("resumed", query=self._name)
        there = outcome_rows(self._context, self._contracts).where(within(spans_of(ranges)))
        known = there.where("was = 'silver'").select("dedupe_hash", F.lit(True).alias("known")).distinct()
        mine = rows.join(there.select(*PLACE, "was"), [*PLACE], "left").join(known, "dedupe_hash", "left")
        again = F.col("was").isNull() & (F.col("outcome") == "silver") & F.col("known")
        outcome = F.when(again, "duplicate").otherwise(F.coalesce("was", "outcome"))
        written = F.col("written") | F.col("was").isNotNull()
        mine = mine.withColumns({"outcome": outcome, "written": written}).drop("was", "known")
        gone = there.join(rows.select(*PLACE), [*PLACE], "left_anti").select(
            *PLACE, "stream", "tenant_id", F.col("was").alias("outcome"),
            F.lit(False).alias("accounted"), F.lit(True).alias("written"), F.lit(0).alias("size"),
        )  # fmt: skip
        return mine.unionByName(gone, allowMissingColumns=True)
