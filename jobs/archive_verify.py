"""archive --verify: every manifest against its files, the hours before it, bronze and ops.ledger.

Reads the archive, changes nothing. It may run beside the job: what has a manifest stays as it is.
"""

from collections.abc import Iterator, Sequence

from headwater.errors import QualityError
from headwater.ledger import taken
from headwater.log import logger
from jobs.archive_files import file_faults
from jobs.archive_plan import Counted, Window, differences
from jobs.queries import Context
from schemas.contract import Contract, domain_contracts
from sinks.archive.base import Store, hour_text
from sinks.archive.manifest import Manifest, hours, read_manifest
from sinks.archive.registry import store_of
from sources.bronze import Topic, bronze_files

_log = logger(__name__)
_TOLD = 20
Spots = dict[tuple[str, int], int]


def verify(context: Context, domains: Sequence[str], window: Window) -> dict[str, int]:
    """How many hours, files, rows and bytes the archive has; files are read of the window's hours alone.

    QualityError that names every difference, or the first of many.
    """
    store = store_of(context.settings)
    done: list[Manifest] = []
    faults: list[str] = []
    for domain in domains:
        hours_of, wrong = _domain_hours(store, domain)
        faults += [*wrong, *_domain_faults(context, domain, hours_of)]
        done += [one for some in hours_of.values() for one in some]
    for one in done:
        faults += file_faults(store, one) if window.holds(one.hour) else ()
    for fault in faults:
        _log.error("archive_differs", what=fault)
    if faults:
        more = [f"and {len(faults) - _TOLD} more, in the log"] if len(faults) > _TOLD else []
        raise QualityError("archive: " + "; ".join([*faults[:_TOLD], *more]))
    rows = sum(one.rows for one in done)
    context.totals.add(rows_in=rows, rows_out=rows)
    files = sum(len(one.files) for one in done)
    return {"hours": len(done), "files": files, "rows": rows, "bytes": sum(one.bytes for one in done)}


def _domain_hours(store: Store, domain: str) -> tuple[dict[str, list[Manifest]], list[str]]:
    """The hours of every topic that are done, and what is wrong with their manifests."""
    found: dict[str, list[Manifest]] = {}
    faults: list[str] = []
    for contract in domain_contracts(domain).values():
        for topic in sorted(contract.sources):
            found[topic], wrong = _hours(store, topic)
            faults += wrong
    return found, faults


def _domain_faults(context: Context, domain: str, done: dict[str, list[Manifest]]) -> Iterator[str]:
    """What bronze and the ledger say otherwise. Both are looked at after the manifests: they have what those
    have, and more."""
    bronze = bronze_files(context.settings, domain)
    for topic, some in done.items():
        yield from _chain(some, Counted(Topic(bronze, topic).segments()))
    entries = taken(context.spark, context.settings, f"ingest.{domain}")
    for contract in domain_contracts(domain).values():
        mine = [one for topic in contract.sources for one in done[topic]]
        told = [(records, spots) for stream, records, spots in entries if stream == contract.stream]
        yield from _accounted(contract, mine, told)


def _hours(store: Store, topic: str) -> tuple[list[Manifest], list[str]]:
    """The hours that are done, and what is wrong with their manifests."""
    found, faults = [], []
    for folder in hours(store, topic):
        try:
            manifest = read_manifest(store, folder)
        except QualityError as fault:
            faults.append(str(fault))
            continue
        if manifest and manifest.folder != folder:
            faults.append(f"{folder} has the manifest of {manifest.folder}")
        elif manifest:
            found.append(manifest)
    return found, faults


def _chain(done: list[Manifest], bronze: Counted) -> Iterator[str]:
    """Whether hours follow one another, overlap nowhere, and leave out nothing that bronze has."""
    through: dict[int, int] = {}
    for one in done:
        where = f"{one.topic} {hour_text(one.hour)}"
        for partition, kept in sorted(one.partitions.items()):
            before = through.get(partition, -1)
            if kept.first <= before:
                yield f"{where}: partition {partition} begins at {kept.first}, within earlier hours"
            elif left_out := bronze(partition, before, kept.first - 1):
                yield f"{where}: {left_out} records of partition {partition} before {kept.first} are in none"
            through[partition] = max(before, kept.last)
        if through != one.through:
            yield f"{where}: an hour before it is missing"
            through = dict(one.through)
        yield from differences(bronze, one)


def _accounted(
    contract: Contract, done: list[Manifest], entries: list[tuple[int, dict[str, list[int]]]]
) -> list[str]:
    """Whether the hours hold as many records as the ledger has for the same offsets.

    A batch is in one hour, so its entry is either in the archive or not; where one is in part, as after a
    recovery that entered several batches at once, nothing can be said.
    """
    begins: dict[str, int] = {}
    ends: dict[str, int] = {}
    for one in done:
        for partition, kept in one.partitions.items():
            begins.setdefault(f"{one.topic}-{partition}", kept.first)
            ends[f"{one.topic}-{partition}"] = kept.last
    ingested = 0
    for records, spots in entries:
        inside = {
            begins.get(spot, last + 1) <= first and last <= ends.get(spot, -1)
            for spot, (first, last) in spots.items()
        }
        if len(inside) > 1:
            return []
        ingested += records if True in inside else 0
    archived = sum(one.rows for one in done)
    if not entries or ingested == archived:
        return []
    return [
        f"{contract.stream}: the ledger has {ingested} records of these offsets, the archive has {archived}"
    ]
