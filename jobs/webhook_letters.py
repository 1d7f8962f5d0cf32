"""Deliveries that ended badly → ops.dead_letters, stage sink:webhook-<name>, without Spark on a local lake.

A letter points at its event's place in Kafka; its payload stays null: bronze has the bytes, by that place.
"""

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from headwater.clock import utc_now
from headwater.identity import fingerprint
from headwater.tables import append_rows, read_few
from headwater.version import CODE_VERSION
from jobs.queries import Context
from schemas.contract import contracts
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS
from sinks.webhook.deliveries import Dead
from sources.letters.settle import failed_again
from sources.letters.wanted import REPLAYED


def append_letters(context: Context, sink: str, stream: str, dead: Sequence[Dead]) -> None:
    """Append a letter for each that has none; one that was sent again is new once more. Safe to run again:
    the ids are fixed, and looked up first."""
    name = DEAD_LETTERS.full_name
    where = ("stage", f"sink:{sink}")
    there = read_few(context.spark, context.settings, name, ["dead_letter_id", "status"], where)
    known = dict(zip(*[there[column].to_pylist() for column in ("dead_letter_id", "status")], strict=True))
    made = [_letter(sink, stream, one) for one in dead]
    rows = [row for row in made if row["dead_letter_id"] not in known]
    again = [str(row["dead_letter_id"]) for row in made if known.get(row["dead_letter_id"]) == REPLAYED]
    if again:
        failed_again(context.settings, again)
    if rows:
        table = pa.Table.from_pylist(rows, schema=LETTERS)
        append_rows(context.spark, table, context.settings, name)
        context.written.update((name,))


def _letter(sink: str, stream: str, one: Dead) -> dict[str, object]:
    """`dead_letter_id` is sha-256 of stage and place, as everywhere; of stage and event without a place."""
    stage = f"sink:{sink}"
    place = (stage, one.source_topic, one.source_partition, one.source_offset)
    parts = place if one.source_topic else (stage, one.tenant_id, one.event_id)
    why = f"status {one.last_status}" if one.last_status else f"no answer: {one.last_error}"
    message = f"the connector gave {why}"
    return {
        "dead_letter_id": hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest(),
        "fingerprint": fingerprint((one.dead_reason,), None),
        "stream": stream,
        "stage": stage,
        "tenant_id": one.tenant_id,
        "reasons": [{"code": one.dead_reason, "rule": None, "field": "", "message": message}],
        "source_topic": one.source_topic,
        "source_partition": one.source_partition,
        "source_offset": one.source_offset,
        "event_id": one.event_id,
        "failed_at": utc_now(),
        "code_version": CODE_VERSION,
        "contract_version": contracts()[stream].version,
        "status": "new",
        "failed_sinks": [sink],
    }
