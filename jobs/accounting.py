"""The sum of a refine batch, checked before its first write, and the breaker.

`total` and the tenants' shares are observed before the dedupe, duplicates come from the operator's own
metric, the other outcomes are counted in the batch that is about to be written.
"""

from collections import Counter
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.errors import HeadwaterError, QualityError
from headwater.execution import BatchNumbers
from headwater.ledger import Entry
from headwater.log import logger
from headwater.offsets import Ranges
from jobs.queries import Context

_log = logger(__name__)


@dataclass(frozen=True)
class Group:
    """Rows of one tenant with one outcome and, for dead ones, one first reason."""

    tenant_id: str | None
    outcome: str
    accounted: bool
    written: bool
    reason: str | None
    rows: int


@dataclass(frozen=True)
class Balance:
    """Everything that was counted in one batch."""

    groups: tuple[Group, ...]
    numbers: BatchNumbers
    ranges: Ranges

    @property
    def read(self) -> int:
        """Records read, among them those that an earlier checkpoint accounted for."""
        return int(self.numbers.observed.get("total", 0))

    @property
    def total(self) -> int:
        """Records that this batch accounts for."""
        return self.read - int(self.numbers.observed.get("accounted", 0))

    def count(self, outcome: str, *, fresh: bool = False) -> int:
        """Rows with this outcome that this batch accounts for; `fresh`: that are not in their table yet."""
        return sum(
            g.rows
            for g in self.groups
            if g.outcome == outcome and not g.accounted and not (fresh and g.written)
        )

    @property
    def duplicates(self) -> int:
        """Records whose event had come before."""
        return self.total - sum(self.count(outcome) for outcome in ("silver", "dead", "no_consent"))

    @property
    def reasons(self) -> Counter[str]:
        """Dead rows by their first reason."""
        found: Counter[str] = Counter()
        for group in self.groups:
            if group.outcome == "dead" and not group.accounted:
                found[group.reason or "unknown"] += group.rows
        return found


def count_groups(rows: DataFrame) -> tuple[Group, ...]:
    """Consume the batch whole, once."""
    reason = F.try_element_at("reasons", F.lit(1))["code"].alias("reason")
    counted = rows.groupBy("tenant_id", "outcome", "accounted", "written", reason).count().collect()
    return tuple(Group(*row) for row in counted)


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


def check_breaker(context: Context, name: str, batch_id: int, balance: Balance) -> None:
    """Stop when so much of a batch fails that its producer, or the contract, must be wrong."""
    limits = context.settings.breaker
    dead = balance.count("dead")
    if dead < limits.min_failed_rows or dead < limits.max_failed_share * balance.total:
        return
    reason, count = balance.reasons.most_common(1)[0]
    if context.accept_batch == batch_id:
        _log.warning(
            "batch_accepted", query=name, batch_id=batch_id, dead=dead, of=balance.total, reason=reason
        )
        return
    raise QualityError(
        f"{name}: {dead} of {balance.total} records of batch {batch_id} fail, {count} of them with {reason}. "
        f"Nothing was written; mend the producer or the contract, or let this batch pass with "
        f"--accept-batch {batch_id}"
    )


def ledger_entries(balance: Balance, stream: str) -> list[Entry]:
    """One entry per tenant; together they hold every record that the batch accounts for."""
    entries: dict[str | None, Entry] = {}
    for tenant, rows in _tenants(balance).items():
        entries[tenant] = Entry(
            stream=stream, tenant_id=tenant, in_rows=rows, duplicate=rows, offsets=balance.ranges
        )
    for group in balance.groups:
        if group.accounted or group.outcome == "duplicate":
            continue
        entry = entries[group.tenant_id]
        setattr(entry, group.outcome, getattr(entry, group.outcome) + group.rows)
        entry.duplicate -= group.rows
    return list(entries.values()) or [Entry(stream=stream, tenant_id=None, offsets=balance.ranges)]


def _tenants(balance: Balance) -> dict[str | None, int]:
    """Records by tenant, as observed before the dedupe; with too many tenants, as they survived it."""
    seen = {
        t["item"]: int(t["count"])
        for t in balance.numbers.observed.get("tenants") or []
        if t["item"] is not None
    }
    if sum(seen.values()) == balance.total:
        return {item.split("\t", 1)[1] or None: rows for item, rows in seen.items()}
    survived: Counter[str | None] = Counter()
    for group in balance.groups:
        if not group.accounted and group.outcome != "duplicate":
            survived[group.tenant_id] += group.rows
    survived[None] += balance.total - sum(survived.values())
    return dict(survived)
