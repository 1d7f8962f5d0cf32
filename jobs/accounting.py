"""The sum of a refine batch, checked before its first write, and the breaker.

`total` and the tenants' shares are observed before the dedupe, duplicates come from the operator's own
metric, the other outcomes are counted in the batch that is about to be written.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.errors import HeadwaterError, QualityError
from headwater.execution import BatchNumbers
from headwater.ledger import Entry
from headwater.offsets import Ranges, of_topics
from jobs.queries import Context

# What is decided of a record by itself, in the order it is told in; all else is a duplicate.
KEPT_OR_LEFT_OUT = ("silver", "dead", "no_consent", "filtered")


# (stream, stage, reason) → places of records
Examples = Callable[[str, str, str], Sequence[str]]
_EXAMPLES = 3


@dataclass(frozen=True)
class Group:
    """Rows of one stream and tenant with one outcome and, for dead ones, one stage and first reason; `warned`
    names the columns that were stored null though something was said, `bytes` is the size of the records."""

    stream: str
    tenant_id: str | None
    outcome: str
    stage: str | None
    accounted: bool
    written: bool
    reason: str | None
    warned: tuple[str, ...] | None
    rows: int
    bytes: int = 0


class Size(NamedTuple):
    """How much is to be written."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Balance:
    """Everything that was counted in one batch. `fresh` are the records of each stream that this batch
    accounts for: those read, without the ones that an earlier checkpoint accounted for. `topics` are by
    stream."""

    groups: tuple[Group, ...]
    numbers: BatchNumbers
    ranges: Ranges
    fresh: dict[str, int]
    topics: dict[str, tuple[str, ...]]

    @property
    def read(self) -> int:
        """Records read, among them those that an earlier checkpoint accounted for."""
        return int(self.numbers.observed.get("total", 0))

    @property
    def total(self) -> int:
        """Records that this batch accounts for."""
        return sum(self.fresh.values())

    def count(self, outcome: str, stream: str | None = None) -> int:
        """Rows with this outcome that this batch accounts for."""
        return sum(group.rows for group in self._mine(outcome, stream))

    def size(self, outcome: str, stream: str | None = None) -> Size:
        """Of the same rows, those that are not in their table yet."""
        fresh = [group for group in self._mine(outcome, stream) if not group.written]
        return Size(sum(group.rows for group in fresh), sum(group.bytes for group in fresh))

    def _mine(self, outcome: str, stream: str | None) -> list[Group]:
        mine = [g for g in self.groups if stream in (None, g.stream) and not g.accounted]
        return [group for group in mine if group.outcome == outcome]

    @property
    def duplicates(self) -> int:
        """Records whose event had come before."""
        return self.total - sum(self.count(outcome) for outcome in KEPT_OR_LEFT_OUT)

    def reasons(self, stream: str) -> Counter[tuple[str, str]]:
        """A stream's dead rows by stage and first reason."""
        found: Counter[tuple[str, str]] = Counter()
        for group in self.groups:
            if group.stream == stream and group.outcome == "dead" and not group.accounted:
                found[group.stage or "unknown", group.reason or "unknown"] += group.rows
        return found

    def warnings(self, stream: str) -> Counter[str]:
        """A stream's silver rows by the columns that were stored null though something was said."""
        found: Counter[str] = Counter()
        for group in self.groups:
            if group.stream == stream and group.outcome == "silver" and not group.accounted:
                found.update(dict.fromkeys(group.warned or (), group.rows))
        return found


def count_groups(rows: DataFrame) -> tuple[Group, ...]:
    """Consume the batch whole, once."""
    reason = F.try_element_at("reasons", F.lit(1))["code"].alias("reason")
    names = ("stream", "tenant_id", "outcome", "stage", "accounted", "written")
    groups = rows.groupBy(*names, reason, "warned")
    counted = groups.agg(F.count(F.lit(1)).alias("rows"), F.sum("size").alias("bytes"))
    return tuple(Group(*row) for row in counted.collect())


def check_balance(name: str, balance: Balance) -> None:
    """Every record read either survived the dedupe or was dropped by it as a duplicate; none as late."""
    survived = sum(group.rows for group in balance.groups)
    dropped = balance.numbers.duplicates
    if balance.numbers.late:
        raise HeadwaterError(
            f"{name}: the dedupe dropped {balance.numbers.late} records as late; the driver's clock has "
            "stepped back by more than the window. Nothing was written; mend the clock and start again"
        )
    if balance.read != survived + dropped:
        raise HeadwaterError(
            f"{name}: {balance.read} records read, {survived} survived, {dropped} were duplicates: the sum "
            "is off. Nothing was written"
        )


def examples(rows: DataFrame) -> Examples:
    """A function (stream, stage, first reason) → places of some such records, with the field at fault."""

    def find(stream: str, stage: str, reason: str) -> list[str]:
        first = F.try_element_at("reasons", F.lit(1))
        mine = rows.where((F.col("stream") == stream) & (F.col("stage") == stage) & (first["code"] == reason))
        found = mine.select("topic", "partition", "offset", first["field"]).limit(_EXAMPLES).collect()
        return [f"{topic}-{part}-{at}" + (f" ({field})" if field else "") for topic, part, at, field in found]

    return find


def check_breaker(
    context: Context, name: str, batch_id: int, balance: Balance, examples: Examples
) -> list[str]:
    """Stop when so much of a stream's records fails that its producer, or the contract, must be wrong.

    What the API refused is not counted: each caller was told, and the contract was asked.
    Returns what passes only because a person accepted this batch.
    """
    accepted = []
    limits = context.settings.breaker
    for stream, fresh in balance.fresh.items():
        reasons = balance.reasons(stream)
        judged = Counter({(stage, reason): n for (stage, reason), n in reasons.items() if stage != "api"})
        dead, total = judged.total(), fresh - (reasons.total() - judged.total())
        if dead < limits.min_failed_rows or dead < limits.max_failed_share * total:
            continue
        (stage, reason), count = judged.most_common(1)[0]
        what = (
            f"{dead} of {total} records of {stream} in batch {batch_id} fail, {count} of them with {reason}"
        )
        if context.accept_batch != batch_id:
            some = ", ".join(examples(stream, stage, reason))
            raise QualityError(
                f"{name}: {what}, for example {some}. Nothing was written; mend the producer or the "
                f"contract, or let this batch pass with --accept-batch {batch_id} (docs/operations.md)"
            )
        accepted.append(what)
    return accepted


def ledger_entries(balance: Balance) -> list[Entry]:
    """One entry per stream and tenant; together they hold every record that the batch accounts for.

    A stream whose records were all accounted for before has an empty one, which says how far it was read.
    """
    entries: dict[tuple[str, str | None], Entry] = {}
    for (stream, tenant), rows in _records(balance).items():
        ranges = of_topics(balance.ranges, balance.topics[stream])
        made = Entry(stream=stream, tenant_id=tenant, in_rows=rows, duplicate=rows, offsets=ranges)
        entries[stream, tenant] = made
    for group in balance.groups:
        if group.accounted or group.outcome == "duplicate":
            continue
        # Of a row that an earlier start wrote, the tenant may be another than the record's is now.
        entry = entries.setdefault(
            (group.stream, group.tenant_id), Entry(stream=group.stream, tenant_id=group.tenant_id)
        )
        setattr(entry, group.outcome, getattr(entry, group.outcome) + group.rows)
        entry.duplicate -= group.rows
    return list(entries.values())


def _records(balance: Balance) -> dict[tuple[str, str | None], int]:
    """Records by stream and tenant, as observed before the dedupe; with too many tenants, as they survived
    it, the duplicates without a tenant."""
    seen: Counter[tuple[str, str | None]] = Counter()
    for found in balance.numbers.observed.get("tenants") or []:
        if found["item"] is not None:
            stream, tenant = found["item"].split("\t", 1)
            seen[stream, tenant or None] += int(found["count"])
    if seen.total() != balance.total:
        seen.clear()
        for group in balance.groups:
            if not group.accounted and group.outcome != "duplicate":
                seen[group.stream, group.tenant_id] += group.rows
        for stream, total in balance.fresh.items():
            seen[stream, None] += total - sum(rows for (of, _), rows in seen.items() if of == stream)
    read = [stream for stream, topics in balance.topics.items() if of_topics(balance.ranges, topics)]
    told = {stream for stream, _ in seen}
    return dict(seen) | {(stream, None): 0 for stream in read if stream not in told}
