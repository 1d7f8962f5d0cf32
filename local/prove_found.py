"""What the tables say: the fate of each record of Kafka, read from their files without the jobs' code."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from headwater.delta_log import read, read_days
from headwater.settings import Settings
from headwater.tables import table_path
from local.demo_watch import end_offset, rows
from schemas.contract import domain_contracts
from schemas.tables import DEAD_LETTERS, SILVER, bronze

DOMAINS = ("leads", "interactions", "crm")
_PLACE = ("source_topic", "source_partition", "source_offset")
_LOGGED = 'SELECT topic, partition, "offset" FROM analytics.crm_events_log'
_ANNOUNCED = """
SELECT count(*) FILTER (WHERE told.versions IS NULL), coalesce(sum(told.versions - 1), 0)
FROM leads LEFT JOIN (
  SELECT lead_id, count(*) AS versions FROM lead_outbox WHERE relayed_at IS NOT NULL GROUP BY lead_id
) AS told ON told.lead_id = leads.id"""
_USAGE = "SELECT account_id, metric, window_start, quantity, events FROM billing_usage"
Place = tuple[str, int, int]
# Tenant, metric, the hour's first second since 1970.
Hour = tuple[str, str, int]
Bill = dict[Hour, tuple[Decimal, int]]


class Record(NamedTuple):
    """A record of bronze. `fates`: a word for each row that it has elsewhere, silver, filtered, or dead: with
    the first reason's code."""

    topic: str
    key: str
    fates: tuple[str, ...]
    partition: int = 0
    offset: int = 0

    @property
    def at(self) -> Place:
        """Where it is in Kafka."""
        return self.topic, self.partition, self.offset

    @property
    def fate(self) -> str:
        """The one, `nowhere`, or `two outcomes`."""
        if len(self.fates) > 1:
            return "two outcomes"
        return self.fates[0] if self.fates else "nowhere"

    @property
    def place(self) -> str:
        """The same for people, with its key, which the traffic made."""
        return f"{self.topic}-{self.partition}@{self.offset} {self.key}"


def records(settings: Settings) -> list[Record]:
    """Every record of the streams' own topics."""
    fates: defaultdict[Place, list[str]] = defaultdict(list)
    for place, fate in _fates(settings):
        fates[place].append(fate)
    found = []
    for domain in DOMAINS:
        columns = ("topic", "partition", "offset", "key")
        kept = read_days(table_path(settings, bronze(domain).full_name), columns, None, None)
        for topic, partition, offset, key in _tuples(kept, columns):
            if topic in domain_contracts(domain):
                place = (topic, partition, offset)
                found.append(
                    Record(topic, bytes(key).decode(), tuple(fates.get(place, ())), partition, offset)
                )
    return found


def _fates(settings: Settings) -> Iterator[tuple[Place, str]]:
    for domain in DOMAINS:
        for contract in domain_contracts(domain).values():
            kept = read(table_path(settings, SILVER[contract.stream].full_name), [*_PLACE], None)
            yield from ((place, "silver") for place in _places(kept))
    dead = read(
        table_path(settings, DEAD_LETTERS.full_name), [*_PLACE, "reasons"], ("stage", ["decode", "validate"])
    )
    codes = [reasons[0]["code"] for reasons in dead["reasons"].to_pylist()]
    yield from ((place, f"dead {code}") for place, code in zip(_places(dead), codes, strict=True))
    left_out = read(table_path(settings, "ops.filtered"), [*_PLACE], None)
    yield from ((place, "filtered") for place in _places(left_out))


def _places(table: pa.Table) -> Iterator[Place]:
    for topic, partition, offset in _tuples(table, _PLACE):
        yield str(topic), int(partition), int(offset)


def _tuples(table: pa.Table, names: Iterable[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*[table[name].to_pylist() for name in names], strict=True)


def logged(settings: Settings) -> set[Place]:
    """The records of the CRM that PostgreSQL's log has."""
    return {(topic, partition, offset) for topic, partition, offset in rows(settings, _LOGGED)}


def announced(settings: Settings) -> tuple[int, int]:
    """How many leads in PostgreSQL were not announced, and how many announcements are too many."""
    ((untold, again),) = rows(settings, _ANNOUNCED)
    return int(untold), int(again)


def letters(settings: Settings) -> Counter[tuple[str, str]]:
    """How many dead letters there are, by stage and status."""
    columns = ["stage", "status"]
    return Counter(_tuples(read(table_path(settings, DEAD_LETTERS.full_name), columns, None), columns))


def billed(settings: Settings) -> Bill:
    """What PostgreSQL has billed, by hour."""
    return {
        (account, metric, int(began.timestamp())): (quantity, events)
        for account, metric, began, quantity, events in rows(settings, _USAGE)
    }


def ends(settings: Settings) -> dict[str, int]:
    """How many records Kafka has, by domain: of all the topics that its streams are read from."""
    return {
        domain: sum(
            end_offset(settings, topic) for c in domain_contracts(domain).values() for topic in c.sources
        )
        for domain in DOMAINS
    }


def taken(settings: Settings) -> dict[str, dict[str, int]]:
    """How many records ingest, and refine, have accounted for, by domain."""
    ledger = read(table_path(settings, "ops.ledger"), ["query", "in_rows"], None)
    sums: Counter[str] = Counter()
    for query, count in _tuples(ledger, ("query", "in_rows")):
        sums[query] += count
    return {verb: {domain: sums[f"{verb}.{domain}"] for domain in DOMAINS} for verb in ("ingest", "refine")}
