"""A lake with usage in it: records as ingest leaves them in bronze, or rows in silver; refine and build."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable as RustTable
from pyspark.sql import SparkSession

from headwater.ledger import Entry, write_ledger
from headwater.offsets import Range
from headwater.settings import Billing, Settings
from headwater.tables import append_rows, ensure_table, table_path
from jobs.build import Build
from jobs.queries import Context, Query
from jobs.refine import Refine
from jobs.runtime import Runtime
from schemas.contract import Contract, domain_contracts
from schemas.tables import LEDGER, USAGE, bronze
from tests.builders import arrow_bronze, arrow_schema
from tests.integration.lake import Row, live_files
from transformations.classify import Classifier, outcome_columns, silver_table

CONTRACT = domain_contracts("interactions")["billing.usage.metered"]
TOPIC = CONTRACT.topic
ARRIVED = datetime(2025, 12, 3, 9, tzinfo=UTC)
BRONZE = bronze("interactions")
_WORK = Classifier((CONTRACT,), None, arrow_schema(outcome_columns([CONTRACT], ["refined_at"])))
_HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def used(event_id: str, at: datetime, quantity: str = "1", **said: str | None) -> bytes:
    """An event of usage; a quantity is written as it is given."""
    fields = {"event_id": event_id, "account_id": "acme", "metric": "api_calls", **said}
    document = {**{k: v for k, v in fields.items() if v}, "ts_ms": int(at.timestamp() * 1000)}
    return (json.dumps(document)[:-1] + f', "quantity": {quantity}}}').encode()


def in_silver(events: Sequence[bytes], first: int) -> pa.Table:
    """Rows of silver, of events at this offset and the next ones."""
    outcomes = pa.Table.from_batches(_WORK([arrow_bronze(list(events), TOPIC, first)]), _WORK.schema)
    rows = silver_table(CONTRACT, outcomes)
    assert rows.num_rows == len(events)
    return rows


THEN = ARRIVED - timedelta(hours=2)
# What acme does not want, and what only it refuses.
RULES = """
filters:
  acme: [{name: no-tests, drop: [{property: /metric, enum: [{value: test}]}]}]
rules:
  acme: [{property: /model, logicalTypeOptions: {maxLength: 5}}]
"""
# By these: in silver the first and the fifth, dead the third, filtered the second, fourth and last.
MIXED = [
    used("a", THEN),
    used("b", THEN, metric="test"),
    used("c", THEN, model="a long name"),
    used("b", THEN, metric="test"),
    used("d", THEN, metric="test", account_id="globex"),
    used("a", THEN),
    used("e", THEN, metric="test", model="a long name"),
]


@dataclass
class UsageLake:
    """One partition of the topic, and what is made of it. `window`: for how long refine remembers events, if
    not for the contract's time; it forgets in the batch after the next. `moment`: when records arrive."""

    spark: SparkSession
    settings: Settings
    window: str | None = None
    arrived: int = 0
    moment: datetime = ARRIVED
    contract: Contract = CONTRACT

    def arrive(self, events: Sequence[bytes | None], headers: Sequence[dict[str, bytes]] = ()) -> None:
        """Records in bronze and in the ledger, as ingest writes them; with headers, these of each."""
        topic, listed = self.contract.topic, [list(given.items()) for given in headers]
        first, self.arrived = self.arrived, self.arrived + len(events)
        for table in (BRONZE, LEDGER):
            ensure_table(self.spark, self.settings, table)
        count = len(events)
        moments = pa.array([self.moment] * count, pa.timestamp("us", tz="UTC"))
        rows = {
            "key": pa.array([b""] * count, pa.binary()),
            "value": pa.array(events, pa.binary()),
            "headers": pa.array(listed or [[]] * count, _HEADERS),
            "topic": [topic] * count,
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(range(first, self.arrived), pa.int64()),
            "kafka_timestamp": moments,
            "ingested_at": moments,
            "ingest_date": pa.array([self.moment.date()] * count),
        }
        append_rows(self.spark, pa.table(rows), self.settings, BRONZE.full_name)
        taken = {f"{topic}-0": Range(first, self.arrived - 1, count)}
        entry = Entry(self.contract.stream, None, in_rows=count, offsets=taken)
        mark = ("ingest.interactions", uuid.uuid4().hex, 0)
        write_ledger(self.spark, self.settings, *mark, [entry])

    def enter(self, events: Sequence[bytes]) -> None:
        """Rows in silver, without refine."""
        rows = in_silver(events, self.arrived)
        self.arrived += len(events)
        ensure_table(self.spark, self.settings, USAGE)
        append_rows(self.spark, rows, self.settings, USAGE.full_name)

    def context(self, *, from_start: bool = False) -> Context:
        return Context(self.spark, self.settings, "test", from_start=from_start)

    def run(self, *queries: type[Refine] | type[Build], from_start: bool = False) -> Context:
        """Take all there is, one query after another; what they did."""
        context = self.context(from_start=from_start)
        for made in queries:
            query: Query = self._refine(context) if made is Refine else Build(context, "usage")
            Runtime(context, once=True).run([query])
        return context

    def _refine(self, context: Context) -> Refine:
        made = Refine(context, "interactions")
        if self.window:
            made.contracts = [replace(c, dedupe_window=self.window) for c in made.contracts]
        return made

    def table(self, name: str) -> list[Row]:
        """The table's rows, read without Spark, in one order."""
        rows = RustTable(table_path(self.settings, name)).to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: json.dumps(row, default=str))

    def files(self, name: str) -> list[Path]:
        """The files of a table to which rows are only appended."""
        folder = Path(table_path(self.settings, name))
        return [folder / part["path"] for part in live_files(folder)]


def with_card(settings: Settings, folder: Path, *rates: dict[str, Any]) -> Settings:
    """Settings with a card of these rates."""
    path = folder / "rates.yaml"
    path.write_text(json.dumps({"currency": "EUR", "rates": rates}))
    return settings.model_copy(update={"billing": Billing(rates=path)})


def rate(metric: str, price: str, since: datetime = ARRIVED - timedelta(days=400), **whose: str) -> Row:
    return {"metric": metric, "price": price, "from": since.isoformat(), **whose}
