"""One record → its outcome: silver with its row, dead with its reasons, or no_consent with nothing.

Plain Python, no Spark: what `classify` runs for every record, and what a test can ask without a cluster.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from headwater.identity import dedupe_hash
from schemas.contract import Contract
from transformations.envelope import Document, read_document
from transformations.quick import quick_reader
from transformations.validate import Reason, reader

# (values by JSON Pointer, unknown fields by JSON Pointer, tenant) → columns of the silver table, and `extras`
Normalise = Callable[[dict[str, Any], dict[str, Any], str], dict[str, Any]]


class Verdict(NamedTuple):
    """`identity` is the dedupe hash of a valid event, None for others; `row` its silver columns without the
    lineage. `tenant_id` and `event_time` (µs) are what could be read of them; refused consent keeps neither
    time nor reasons. `stage` says where a dead record failed: decode, validate or api."""

    outcome: str
    tenant_id: str | None
    event_time: int | None = None
    reasons: Sequence[Reason] = ()
    identity: str | None = None
    row: dict[str, Any] | None = None
    stage: str | None = None


Judge = Callable[[bytes | None, int], Verdict]


def judge(contract: Contract, normalise: Normalise) -> Judge:
    """A function (value, arrival in µs) → Verdict by this contract.

    Refused consent wins over every other fault, even in a document too large to be taken.
    """
    quick, read = quick_reader(contract), reader(contract)
    consent = contract.consent_field
    path = tuple(consent.strip("/").split("/")) if consent else ()
    tenant_field, time_field, key = contract.tenant_field, contract.event_time_field, contract.dedupe_key

    def verdict(value: bytes | None, arrived_us: int) -> Verdict:
        values = quick(value, arrived_us) if value else None
        return exact(value, arrived_us) if values is None else sound(values, {})

    def exact(value: bytes | None, arrived_us: int) -> Verdict:
        document = read_document(value)
        if document.fault:
            if path and _refused(document, path):
                return Verdict("no_consent", None)
            return Verdict("dead", None, None, ((document.fault, ""),), stage="decode")
        event = read(document.value, arrived_us)
        if event.reasons and not (consent and event.values.get(consent) is False):
            tenant, happened = event.values.get(tenant_field), event.values.get(time_field)
            return Verdict("dead", tenant, happened, event.reasons, stage="validate")
        return sound(event.values, event.extras)

    def sound(values: dict[str, Any], extras: dict[str, Any]) -> Verdict:
        if consent and values.get(consent) is False:
            return Verdict("no_consent", values.get(tenant_field))
        tenant = values[tenant_field]
        identity = dedupe_hash(contract.stream, tenant, [str(values[part]) for part in key])
        return Verdict("silver", tenant, values[time_field], (), identity, normalise(values, extras, tenant))

    return verdict


def _refused(document: Document, consent: tuple[str, ...]) -> bool:
    """Whether a document that has a fault says no, as a boolean or as text: in doubt for the person."""
    found = document.value
    for name in consent:
        found = found.get(name) if isinstance(found, dict) else None
    return found is False or found == "false"
