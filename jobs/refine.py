"""refine: bronze.<domain> → silver.<entity>, ops.dead_letters and ops.filtered, one outcome per record.

Keyed by the stream's dedupe key within its window. Safe to run again: appends carry query id and batch id;
after a lost checkpoint bronze is read again to rebuild the dedupe state, and what the tables have is left
out.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.errors import HeadwaterError, TransientError
from headwater.execution import batch_numbers, busy, query_id
from headwater.failpoints import fail_at, fail_during
from headwater.ledger import Entry, write_ledger
from headwater.locks import commit_lock
from headwater.metrics import DEAD, EVENTS, WARNED
from headwater.offsets import last_offsets, numbered, observe_places, observed_ranges
from headwater.tables import append_once, append_rows, ensure_table, properties, stream_table
from headwater.version import CODE_VERSION
from jobs.accounting import (
    KEPT_OR_LEFT_OUT,
    Balance,
    Size,
    check_balance,
    check_breaker,
    count_groups,
    examples,
    ledger_entries,
)
from jobs.for_ever import without_earlier
from jobs.outcomes import tables_of
from jobs.queries import Context
from jobs.recovery import Recovery
from jobs.resume import Mark, Resume
from jobs.runs import record_decision
from schemas.contract import Contract, domain_contracts
from schemas.overlay import overlaid
from schemas.tables import DEAD_LETTERS, FILTERED, LEDGER, SILVER, Table, bronze
from sources.registry import schemas_for
from transformations.classify import classify, silver_rows, silver_table
from transformations.dead_letters import to_dead_letters, to_filtered
from transformations.dedupe import first_within, sent_again, stamped

# Distinct (stream, tenant) pairs that one batch can be told apart by; beyond, duplicates are counted without
# a tenant.
TENANTS = 10_000
# So little is written from the driver, of all streams at once: for each table it takes half a second less.
FEW_ROWS = 20_000
# A property of a table of silver: when a rebuild last changed which events are in it.
REBUILT = "headwater.rebuilt"
FEW_BYTES = 16 << 20


class Refine:
    """The query refine.<domain>: every stream of the domain, told apart by topic."""

    def __init__(self, context: Context, domain: str) -> None:
        self.context = context
        self.domain = domain
        self.name = f"refine.{domain}"
        self.every_s = context.settings.streams.triggers.refine_s
        found = overlaid(domain_contracts(domain), context.settings.streams.overlays)
        self.contracts = sorted(found.values(), key=lambda c: c.stream)
        self.bronze = bronze(domain)
        self.reads: tuple[str, ...] = (self.bronze.full_name,)
        self.writes: tuple[str, ...] = tuple(SILVER[c.stream].full_name for c in self.contracts)
        self.places = [(t, p) for c in self.contracts for t, n in c.sources.items() for p in range(n)]
        self.recovery = Recovery(context, self.name, self.contracts)
        self.resume = Resume(context, self.name, self.contracts)
        self._rebuilt: dict[str, str] = {}
        # Made once: calls into the JVM, which every small batch would feel.
        self.dead_letters = to_dead_letters(CODE_VERSION, {c.stream: c.version for c in self.contracts})
        self.filtered = to_filtered(CODE_VERSION)

    def prepare(self) -> None:
        """Create the tables; see whether an earlier checkpoint's work is to be left out."""
        for table in (self.bronze, *tables_of(self.contracts), LEDGER):
            ensure_table(self.context.spark, self.context.settings, table)
        self.recovery.prepare()
        self.resume.is_first = True

    def source(self) -> DataFrame:
        """bronze, classified and deduplicated; range and tenants are observed before the dedupe."""
        settings = self.context.settings
        rows = stream_table(self.context.spark, settings, self.bronze.full_name)
        geo = settings.enrichment.geo_database
        schemas = schemas_for(self.contracts, settings.registry)
        decided = classify(*self.contracts, geo_database=str(geo) if geo else None, schema_of=schemas)
        known = rows.transform(stamped).transform(self.recovery.mark).transform(sent_again)
        marked = known.transform(numbered(self.places)).transform(decided)
        who = F.concat_ws("\t", "stream", F.coalesce("tenant_id", F.lit("")))
        counted = F.when(~F.col("accounted"), who)
        tenants = F.call_function("approx_top_k", counted, F.lit(TENANTS), F.lit(TENANTS)).alias("tenants")
        fresh = [_count(~F.col("accounted") & (F.col("stream") == c.stream)) for c in self.contracts]
        named = [column.alias(f"fresh{number}") for number, column in enumerate(fresh)]
        again = _count(F.col("replayed")).alias("replayed")
        seen = observe_places(marked, self.name, self.places, *named, tenants, again)
        # One operator for the domain: the widest window of its streams.
        widest = max((c.dedupe_window for c in self.contracts), key=pd.Timedelta)
        self._rebuilt = self._rebuilds()
        return seen.transform(first_within(widest, self._rebuilt))

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Count, check the sum, then append to the tables, to the ledger last. No rebuild changes them
        meanwhile; after one the query starts again, for it remembers events that are in silver no more."""
        with commit_lock(self.context.settings.lake_root, self.name):
            if self._rebuilds() != self._rebuilt:
                raise TransientError(f"{self.name}: silver was rebuilt, what was seen before is forgotten")
            self._write(batch, batch_id)

    def _write(self, batch: DataFrame, batch_id: int) -> None:
        this = query_id(batch)
        fail_at(self.name, "offsets")
        fail_during(self.name, "task", lambda: busy(self.context.spark))
        kept, rows = self.recovery.kept(batch)
        try:
            balance, mark = self._balance(rows, this), (this, batch_id)
            check_balance(self.name, balance)
            begun = self.resume.was_begun(mark)
            if begun and self.resume.was_accounted(mark, balance.ranges):
                self.recovery.passed(last_offsets(balance.ranges))
                return  # all of it was written, and is not judged again
            if begun:
                rows = self.resume.held(rows, balance.ranges)
                balance = self._balance(rows, this)
            rows, balance = self._first_ever(rows, balance, this)
            if accepted := check_breaker(self.context, self.name, batch_id, balance, examples(rows)):
                record_decision(self.context, self.name, "; ".join(accepted), (this, batch_id))
            fail_at(self.name, "before_write")
            self._append(rows, balance, mark, begun=begun)
            fail_at(self.name, "after_write")
            entries = ledger_entries(balance)
            write_ledger(self.context.spark, self.context.settings, self.name, this, batch_id, entries)
            # Only now, as the log of events reads both: other queries may go on with it at once.
            self.context.written.update((LEDGER.full_name, *self._filled(balance)))
        finally:
            kept.unpersist()
        self._report(balance, entries)
        self.recovery.passed(last_offsets(balance.ranges))
        fail_at(self.name, "before_commit")

    def _first_ever(self, rows: DataFrame, balance: Balance, this: str) -> tuple[DataFrame, Balance]:
        """Where the window does not decide, what silver has already is a duplicate: events of streams that
        have each once for ever, those that were sent again, and all of a stream that was rebuilt within its
        window: what the dedupe had seen of it is forgotten."""
        replays = int(balance.numbers.observed["replayed"])
        for contract in self.contracts:
            count = balance.size("silver", contract.stream).rows
            every = contract.unique_for_ever or (count and self._was_rebuilt(contract))
            asked = F.lit(True) if every else F.col("replayed")
            if count and (every or replays):
                found = without_earlier(self.context, contract, rows, asked, count)
                balance = balance if found is rows else self._balance(found, this)
                rows = found
        return rows, balance

    def _rebuilds(self) -> dict[str, str]:
        """When each stream was rebuilt last. A lake that is not a folder is never."""
        settings = self.context.settings
        if settings.lake_is_remote:
            return {}
        tables = {contract.stream: SILVER[contract.stream].full_name for contract in self.contracts}
        said = {s: properties(self.context.spark, settings, table) for s, table in tables.items()}
        return {stream: found[REBUILT] for stream, found in said.items() if REBUILT in found}

    def _was_rebuilt(self, contract: Contract) -> bool:
        moment = self._rebuilt.get(contract.stream)
        window = pd.Timedelta(contract.dedupe_window)
        return moment is not None and utc_now() - datetime.fromisoformat(moment) <= window

    def _balance(self, rows: DataFrame, this: str) -> Balance:
        groups = count_groups(rows)
        numbers = batch_numbers(self.context.spark, this, self.name)
        ranges = observed_ranges(numbers.observed, self.places)
        if ranges is None:
            raise HeadwaterError(
                f"{self.name}: bronze has partitions that the contract does not know; raise `partitions`"
            )
        fresh = {c.stream: int(numbers.observed[f"fresh{n}"]) for n, c in enumerate(self.contracts)}
        return Balance(groups, numbers, ranges, fresh, {c.stream: tuple(c.sources) for c in self.contracts})

    def _append(self, batch: DataFrame, balance: Balance, mark: Mark, *, begun: bool) -> None:
        """Each table once under the batch's mark; what is left of one that was `begun`, under another."""
        tables = tables_of(self.contracts)
        marks = {t: self.resume.mark_for(t, mark) if begun else mark for t in tables}
        fresh = batch.where(~F.col("accounted") & ~F.col("written"))
        spark, settings = self.context.spark, self.context.settings
        due = self._due(balance)
        if due and self._is_few(balance.size("silver")):
            few = fresh.where(F.col("outcome") == "silver").toArrow()
            for contract in due:
                table = SILVER[contract.stream]
                append_rows(spark, silver_table(contract, few), settings, table.full_name, marks[table])
        else:
            for contract in due:
                rows = fresh.transform(self._silver_rows[contract.stream])
                table = SILVER[contract.stream]
                append_once(rows, settings, table.full_name, *marks[table])
        beside = (("dead", DEAD_LETTERS, self.dead_letters), ("filtered", FILTERED, self.filtered))
        for outcome, table, made in beside:
            if (size := balance.size(outcome)).rows:
                self._append_beside(fresh.transform(made), table, size, marks[table])
                self.context.written.update((table.full_name,))

    def _due(self, balance: Balance) -> list[Contract]:
        return [c for c in self.contracts if balance.size("silver", c.stream).rows]

    def _filled(self, balance: Balance) -> list[str]:
        return [SILVER[contract.stream].full_name for contract in self._due(balance)]

    @cached_property
    def _silver_rows(self) -> dict[str, Callable[[DataFrame], DataFrame]]:
        """Made once, and not before there is a batch that Spark writes: some hundred calls into the JVM."""
        return {contract.stream: silver_rows(contract) for contract in self.contracts}

    def _append_beside(self, rows: DataFrame, table: Table, size: Size, mark: Mark) -> None:
        spark, settings, name = self.context.spark, self.context.settings, table.full_name
        if self._is_few(size):
            append_rows(spark, rows.toArrow(), settings, name, mark)
        else:
            append_once(rows.coalesce(1), settings, name, *mark)

    def _is_few(self, size: Size) -> bool:
        return self.context.settings.small_batches_here and size.rows <= FEW_ROWS and size.bytes <= FEW_BYTES

    def _report(self, balance: Balance, entries: list[Entry]) -> None:
        counts = {outcome: balance.count(outcome) for outcome in KEPT_OR_LEFT_OUT}
        rows_out = counts.pop("silver")
        self.context.totals.add(
            rows_in=balance.total, rows_out=rows_out, duplicate=balance.duplicates, **counts
        )
        for entry in entries:
            for outcome in (*KEPT_OR_LEFT_OUT, "duplicate"):
                EVENTS.labels(self.name, entry.stream, outcome).inc(getattr(entry, outcome))
        for contract in self.contracts:
            for (stage, reason), count in balance.reasons(contract.stream).items():
                DEAD.labels(contract.stream, stage, reason).inc(count)
            for column, count in balance.warnings(contract.stream).items():
                WARNED.labels(contract.stream, column).inc(count)


def _count(those: Column) -> Column:
    """How many rows are `those`.

    Not `count_if`: Spark works out its condition in a column of its own, put beside every row's before they
    are observed and taken away after: two more copies of each.
    """
    return F.count(F.when(those, F.lit(1)))
