"""What would become of records if they were sent: refine's own code on the driver, held against silver.

Reads silver, writes nothing.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from headwater.clock import utc_now
from jobs.for_ever import in_silver
from jobs.queries import Context
from jobs.replay_letters import Again
from schemas.contract import Contract, domain_contracts
from schemas.overlay import overlaid
from schemas.tables import SILVER, Table
from sources.registry import schemas_for
from transformations.classify import classified, silver_table

# Where a record will be, nobody knows before it is sent.
_PARTITION = -1
_MOMENT = pa.timestamp("us", tz="UTC")


class Verdict(NamedTuple):
    """What would become of a record, for which reasons, and of what passes its key in Kafka."""

    record: Again
    outcome: str
    codes: tuple[str, ...]
    identity: str
    key: bytes | None


def judged(context: Context, records: Sequence[Again]) -> tuple[list[Verdict], dict[Table, pa.Table]]:
    """A verdict of each, in their order, and the rows that silver's tables would get."""
    verdicts: dict[str, Verdict] = {}
    silver: dict[Table, pa.Table] = {}
    in_order = sorted(records, key=lambda record: record.contract.stream)
    for stream, group in groupby(in_order, key=lambda record: record.contract.stream):
        mine = list(group)
        found, rows = _judged(context, _contract(context, mine[0].contract), mine)
        verdicts |= {one.record.letter_id: one for one in found}
        if rows.num_rows:
            silver[SILVER[stream]] = rows
    return [verdicts[record.letter_id] for record in records], silver


def _contract(context: Context, known: Contract) -> Contract:
    """As refine has it: with the rules and filters of single tenants."""
    return overlaid(domain_contracts(known.domain), context.settings.streams.overlays)[known.stream]


def _judged(context: Context, contract: Contract, records: list[Again]) -> tuple[list[Verdict], pa.Table]:
    settings = context.settings
    geo = settings.enrichment.geo_database
    schemas = schemas_for([contract], settings.registry)
    outcomes = classified([contract], _batch(contract, records), str(geo) if geo else None, schemas)
    outcomes = outcomes.sort_by("offset")
    outcomes = _with_duplicates(context, contract, outcomes)
    names = [f"{SILVER[contract.stream].name}.{name}" for name in contract.key_columns]
    keys = outcomes.flatten().select(names).to_pylist()
    columns = ("offset", "outcome", "dedupe_hash", "reasons", "tenant_id")
    rows = zip(*[outcomes[name].to_pylist() for name in columns], keys, strict=True)
    verdicts = [
        Verdict(
            records[number], outcome, tuple(reason["code"] for reason in reasons or ()), identity,
            _message_key(tenant, list(key.values())),
        )
        for number, outcome, identity, reasons, tenant, key in rows
    ]  # fmt: skip
    return verdicts, silver_table(contract, outcomes)


def _message_key(tenant: str | None, key: list[str | None]) -> bytes | None:
    """As producers make it: `tenant|dedupe key`. Of what has none Kafka chooses the partition."""
    if tenant is None or None in key:
        return None
    return "|".join([tenant, *map(str, key)]).encode()


def _batch(contract: Contract, records: list[Again]) -> pa.RecordBatch:
    """As records of the topic that come now. Their offset is their number."""
    count, now = len(records), utc_now()
    return pa.record_batch(
        {
            "value": pa.array([record.value for record in records], pa.binary()),
            "headers": pa.array(["[]"] * count, pa.string()),
            "topic": pa.array([contract.topic] * count, pa.string()),
            "partition": pa.array([_PARTITION] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "ingested_at": pa.array([now] * count, _MOMENT),
            "refined_at": pa.array([now] * count, _MOMENT),
        }
    )


def _with_duplicates(context: Context, contract: Contract, outcomes: pa.Table) -> pa.Table:
    """An event that silver has, or that another of the records is, is a duplicate."""
    is_silver = pc.equal(outcomes["outcome"], "silver")
    few = outcomes.filter(is_silver)
    if not few.num_rows:
        return outcomes
    own = few[SILVER[contract.stream].name].combine_chunks()
    place = ("dedupe_hash", "tenant_id", "topic", "partition", "offset")
    asked = {name: few[name] for name in place}
    asked |= {name: pc.struct_field(own, name) for name in contract.key_columns}
    seen = set(in_silver(context, contract, pa.table(asked))["dedupe_hash"].to_pylist())
    made = []
    for outcome, identity in zip(*[outcomes[n].to_pylist() for n in ("outcome", "dedupe_hash")], strict=True):
        made.append("duplicate" if outcome == "silver" and identity in seen else outcome)
        if outcome == "silver":
            seen.add(identity)
    at = outcomes.column_names.index("outcome")
    return outcomes.set_column(at, "outcome", pa.array(made, pa.string()))
