"""Records of one stream → their outcomes: silver with its columns, dead with its reasons, no_consent, or
filtered with the filter's name.

Plain Python, no Spark: what `classify` runs for every batch, and what a test can ask without a cluster.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from headwater.identity import dedupe_hashes
from schemas.avro import Decode
from schemas.contract import Contract, Filter
from schemas.envelope import Document, read_document
from schemas.overlay import narrowed
from transformations.quick import Columns, quick_reader
from transformations.validate import Event, Reason, reader

# (values by JSON Pointer, each row's unknown fields by JSON Pointer or None, tenants), one of each row
# → columns of the silver table, `warned` (the columns that could not be read, None without any), and `extras`
Normalise = Callable[[Columns, Sequence[dict[str, Any] | None], Sequence[str]], Columns]


class Sound(NamedTuple):
    """The valid events by column: which of the records they are, in their order, whose, when (µs), the dedupe
    hashes, and the silver columns without the lineage."""

    rows: list[int]
    tenants: list[str]
    times: list[int]
    identities: list[str]
    columns: Columns


class Unsound(NamedTuple):
    """A record that does not become silver: dead, no_consent, or filtered. Tenant and event time (µs) are
    what could be read of them; refused consent keeps neither time nor reasons. The reason of a filtered one
    is `filter:<name>`. `stage` says where a dead record failed: decode, validate or api."""

    outcome: str
    tenant_id: str | None
    event_time: int | None = None
    reasons: Sequence[Reason] = ()
    stage: str | None = None


# The other records by their place among those given.
Decided = tuple[Sound, dict[int, Unsound]]
Judge = Callable[[Sequence[bytes | None], Sequence[int]], Decided]
# (records, their arrivals in µs) → why, for those that a tenant does not take
_Sieve = Callable[[Sequence[bytes | None], Sequence[int]], dict[int, Unsound]]


def judge(contract: Contract, normalise: Normalise, decode: Decode = read_document) -> Judge:
    """A function (records, their arrivals in µs) → what becomes of each by this contract.

    `decode` reads a record. Refused consent wins over every other fault, even in a document too large to be
    taken. What the contract takes is then held against the filters and the rules of its tenant, if that has
    some.
    """
    quick, exact = quick_reader(contract), _exact(contract, decode)
    sieves = _sieves(contract, decode)
    tenant_field, time_field, consent = (
        contract.tenant_field,
        contract.event_time_field,
        contract.consent_field,
    )

    def decide(records: Sequence[bytes | None], arrived_us: Sequence[int]) -> Decided:
        columns, doubtful = quick(records, arrived_us)
        extras: list[dict[str, Any] | None] = [None] * len(records)
        unsound: dict[int, Unsound] = {}
        for row in sorted(doubtful):
            found = exact(records[row], arrived_us[row])
            if isinstance(found, Unsound):
                unsound[row] = found
                continue
            extras[row] = found.extras
            for pointer, column in columns.items():
                column[row] = found.values.get(pointer)
        if consent:
            refused = [
                row for row, said in enumerate(columns[consent]) if said is False and row not in unsound
            ]
            unsound |= {row: Unsound("no_consent", columns[tenant_field][row]) for row in refused}
        if sieves:
            theirs = [None if n in unsound else tenant for n, tenant in enumerate(columns[tenant_field])]
            unsound |= _kept_back(sieves, records, arrived_us, theirs, columns[time_field])
        rows = list(range(len(records)))
        every: list[list[Any]] = [rows, extras, *columns.values()]
        for row in sorted(unsound, reverse=True):
            for column in every:
                del column[row]
        tenants = columns[tenant_field]
        key = [list(map(str, columns[part])) for part in contract.dedupe_key]
        identities = dedupe_hashes(contract.stream, tenants, key)
        made = normalise(columns, extras, tenants)
        return Sound(rows, tenants, columns[time_field], identities, made), unsound

    return decide


def _kept_back(
    sieves: Mapping[str, Sequence[_Sieve]],
    records: Sequence[bytes | None],
    arrived_us: Sequence[int],
    tenants: Sequence[str | None],
    times: Sequence[int],
) -> dict[int, Unsound]:
    """What the records' own tenants do not take. Records without a tenant are not asked about."""
    mine: dict[str, list[int]] = {}
    for row, tenant in enumerate(tenants):
        if tenant is not None and tenant in sieves:
            mine.setdefault(tenant, []).append(row)
    found: dict[int, Unsound] = {}
    for tenant, rows in mine.items():
        for sieve in sieves[tenant]:
            left = [row for row in rows if row not in found]
            refused = sieve([records[row] for row in left], [arrived_us[row] for row in left])
            for place, why in refused.items():
                row = left[place]
                found[row] = why._replace(tenant_id=tenant, event_time=times[row])
    return found


def _sieves(contract: Contract, decode: Decode) -> dict[str, list[_Sieve]]:
    """By tenant, in the order in which they are asked: the filters, then the rules.

    Each is a contract of its own: the same readers read the tenant's records again.
    """
    made: dict[str, list[_Sieve]] = {}
    for tenant, filters in contract.filters:
        made[tenant] = [_sieve(narrowed(contract, one.conditions), decode, one) for one in filters]
    for tenant, rules in contract.rules:
        made.setdefault(tenant, []).append(_sieve(narrowed(contract, rules), decode))
    return made


def _sieve(contract: Contract, decode: Decode, of: Filter | None = None) -> _Sieve:
    """What keeps back the records that the contract refuses; that of a filter which drops, all others."""
    quick, exact = quick_reader(contract), _exact(contract, decode)
    filtered = Unsound("filtered", None, None, ((f"filter:{of.name}", ""),)) if of else None

    def kept_back(records: Sequence[bytes | None], arrived_us: Sequence[int]) -> dict[int, Unsound]:
        _, doubtful = quick(records, arrived_us)
        verdicts = {row: exact(records[row], arrived_us[row]) for row in sorted(doubtful)}
        refused = {row: found for row, found in verdicts.items() if isinstance(found, Unsound)}
        if of is None or filtered is None:
            return refused
        if of.keeps:
            return dict.fromkeys(refused, filtered)
        return dict.fromkeys((row for row in range(len(records)) if row not in refused), filtered)

    return kept_back


def _exact(contract: Contract, decode: Decode) -> Callable[[bytes | None, int], Event | Unsound]:
    """A function (record, arrival in µs) → an event, valid or refusing consent, or why there is none."""
    read, consent = reader(contract), contract.consent_field
    path = tuple(consent.strip("/").split("/")) if consent else ()

    def exact(record: bytes | None, arrived_us: int) -> Event | Unsound:
        document = decode(record)
        if document.fault:
            if path and says_no(document, path):
                return Unsound("no_consent", None)
            return Unsound("dead", None, None, ((document.fault, ""),), "decode")
        event = read(document.value, arrived_us)
        if event.reasons and not (consent and event.values.get(consent) is False):
            tenant, happened = (
                event.values.get(contract.tenant_field),
                event.values.get(contract.event_time_field),
            )
            return Unsound("dead", tenant, happened, event.reasons, "validate")
        return event

    return exact


def says_no(document: Document, consent: tuple[str, ...]) -> bool:
    """Whether a document that has a fault says no, as a boolean or as text: in doubt for the person."""
    found = document.value
    for name in consent:
        found = found.get(name) if isinstance(found, dict) else None
    return found is False or found == "false"
