"""refine after a lost checkpoint: which records are accounted for, and which rows are written, already.

The dedupe state is rebuilt by reading bronze from its start. Records up to the old high water (the ledger's
entries under earlier query ids) pass through the dedupe operator and nowhere else. Until the query has read
past everything that the tables hold, survivors are also held against those tables: a crash may
have left rows written and not accounted for, and an event may be met in another order than the first time.
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.ledger import high_water
from headwater.log import logger
from headwater.tables import is_empty, read_table
from jobs.outcomes import outcome_rows, tables_of
from jobs.queries import Context
from schemas.contract import Contract
from schemas.tables import PLACE, SILVER
from transformations.dedupe import identities

_log = logger(__name__)


class Recovery:
    """What one refine query must leave out. Idle, and free, when there was no earlier checkpoint."""

    def __init__(self, context: Context, name: str, contracts: Sequence[Contract]) -> None:
        self.context = context
        self.name = name
        self.contracts = contracts
        self.accounted: dict[str, int] = {}
        self.ahead: dict[str, int] = {}

    def prepare(self) -> None:
        """Look up what earlier checkpoints of this query have done."""
        spark, settings = self.context.spark, self.context.settings
        this = self.context.checkpoint_id(self.name) or ""
        self.accounted = high_water(spark, settings, self.name, before=this)
        seen = high_water(spark, settings, self.name, only=this) if this else {}
        target = dict(self.accounted)
        # Nothing in the ledger does not mean nothing written: the very first batch may have crashed between.
        if self.accounted or not seen:
            for place, last in self._written_offsets().items():
                target[place] = max(target.get(place, -1), last)
        self.ahead = {place: last for place, last in target.items() if seen.get(place, -1) < last}
        if self.ahead:
            _log.warning("recovering", query=self.name, until=self.ahead)

    def _written_offsets(self) -> dict[str, int]:
        spark, settings = self.context.spark, self.context.settings
        if all(is_empty(spark, settings, table.full_name) for table in tables_of(self.contracts)):
            return {}
        found = self._written().groupBy("topic", "partition").agg(F.max("offset").alias("last")).collect()
        return {f"{row['topic']}-{row['partition']}": row["last"] for row in found}

    def _written(self) -> DataFrame:
        """(topic, partition, offset) of every record of these streams that has a row."""
        return outcome_rows(self.context, self.contracts).select(*PLACE).distinct()

    def _silver(self, contract: Contract) -> DataFrame:
        return read_table(self.context.spark, self.context.settings, SILVER[contract.stream].full_name)

    def mark(self, records: DataFrame) -> DataFrame:
        """Add `accounted`: true for records that an earlier checkpoint has in the ledger."""
        return records.withColumn("accounted", self._accounted())

    def _accounted(self) -> Column:
        if not self.accounted:
            return F.lit(False)
        pairs = [F.lit(part) for pair in self.accounted.items() for part in pair]
        place = F.concat_ws("-", "topic", F.col("partition").cast("string"))
        return F.coalesce(F.col("offset") <= F.try_element_at(F.create_map(*pairs), place), F.lit(False))

    def kept(self, batch: DataFrame) -> tuple[DataFrame, DataFrame]:
        """The batch as it is kept, and with `written`: whether the row is in its table.

        What is the same in every row is not kept: it would cost a copy of each.
        """
        kept = (self._reconciled(batch) if self.ahead else batch).persist()
        return kept, kept if self.ahead else kept.withColumn("written", F.lit(False))

    def _reconciled(self, batch: DataFrame) -> DataFrame:
        """Add `written`; an event silver has from elsewhere is a duplicate."""
        places = self._written().withColumn("found", F.lit(True))
        events = self._events().withColumn("known", F.lit(True))
        joined = batch.join(places, ["topic", "partition", "offset"], "left").join(
            events, "dedupe_hash", "left"
        )
        written = F.coalesce("found", F.lit(False))
        again = ~written & ~F.col("accounted") & (F.col("outcome") == "silver") & F.col("known")
        outcome = F.when(F.coalesce(again, F.lit(False)), "duplicate").otherwise(F.col("outcome"))
        return joined.withColumns({"written": written, "outcome": outcome}).drop("found", "known")

    def _events(self) -> DataFrame:
        """The identity of every event that silver has, once: each hash holds its stream's name."""
        return reduce(DataFrame.union, [self._silver(c).transform(identities(c)) for c in self.contracts])

    def passed(self, last: dict[str, int]) -> None:
        """Take note of how far the query has come."""
        if self.ahead:
            self.ahead = {place: end for place, end in self.ahead.items() if last.get(place, -1) < end}
            if not self.ahead:
                _log.warning("recovered", query=self.name)
