"""refine: bronze.<domain> → silver.<entity> and ops.dead_letters, one outcome per record.

Keyed by the stream's dedupe key within its window. Safe to run again: appends carry query id and batch id;
after a lost checkpoint bronze is read again to rebuild the dedupe state, and what silver and dead_letters
have is left out.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.errors import HeadwaterError
from headwater.execution import batch_numbers, busy, query_id
from headwater.failpoints import fail_at, fail_during
from headwater.ledger import write_ledger
from headwater.metrics import DEAD, EVENTS
from headwater.offsets import Place, last_offsets, observe_places, observed_ranges
from headwater.tables import append_once, ensure_table, table_path
from headwater.version import CODE_VERSION
from jobs.accounting import Balance, check_balance, check_breaker, count_groups, ledger_entries
from jobs.queries import Context
from jobs.recovery import Recovery
from schemas.contract import domain_contracts
from schemas.tables import DEAD_LETTERS, LEDGER, SILVER, bronze
from transformations.classify import classify
from transformations.dead_letters import DECODE_CODES, to_dead_letters
from transformations.dedupe import first_within
from transformations.registry import NORMALISE

# Distinct (stream, tenant) pairs that one batch can be told apart by; beyond, duplicates are counted without
# a tenant.
TENANTS = 10_000


class Refine:
    """The query refine.<domain>."""

    def __init__(self, context: Context, domain: str) -> None:
        self.context = context
        self.name = f"refine.{domain}"
        self.every_s = context.settings.streams.triggers.refine_s
        (self.contract,) = domain_contracts(domain).values()
        self.bronze = bronze(domain)
        self.silver = SILVER[self.contract.stream]
        geo = context.settings.enrichment.geo_database
        self.normalise = NORMALISE[self.contract.stream](str(geo) if geo else None)
        self.places: list[Place] = []
        self.recovery = Recovery(context, self.name, self.silver, self.contract)

    def prepare(self) -> None:
        """Create the tables; see whether an earlier checkpoint's work is to be left out."""
        for table in (self.bronze, self.silver, DEAD_LETTERS, LEDGER):
            ensure_table(self.context.spark, self.context.settings, table)
        self.recovery.prepare()

    def source(self) -> DataFrame:
        """bronze, classified and deduplicated; range and tenants are observed before the dedupe."""
        settings = self.context.settings
        rows = (
            self.context.spark.readStream.format("delta")
            .option("maxFilesPerTrigger", settings.streams.max_files_per_trigger)
            .option("skipChangeCommits", "true")
            .load(table_path(settings, self.bronze.full_name))
        )
        self.places = [(self.contract.topic, p) for p in range(self.contract.partitions)]
        marked = rows.transform(classify(self.contract)).transform(self.recovery.mark)
        who = F.concat_ws("\t", "stream", F.coalesce("tenant_id", F.lit("")))
        counted = F.when(~F.col("accounted"), who)
        tenants = F.call_function("approx_top_k", counted, F.lit(TENANTS), F.lit(TENANTS)).alias("tenants")
        seen = observe_places(
            marked, self.name, self.places, F.count_if("accounted").alias("accounted"), tenants
        )
        return seen.transform(first_within(self.contract.dedupe_window))

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Count, check the sum, then append to silver and dead_letters, then to the ledger."""
        this = query_id(batch)
        fail_at(self.name, "offsets")
        fail_during(self.name, "task", lambda: busy(self.context.spark))
        rows = self.recovery.reconcile(batch).persist()
        try:
            balance = self._balance(rows, this)
            check_balance(self.name, balance)
            check_breaker(self.context, self.name, batch_id, balance)
            fail_at(self.name, "before_write")
            self._append(rows, balance, this, batch_id)
            fail_at(self.name, "after_write")
            entries = ledger_entries(balance, self.contract.stream)
            write_ledger(self.context.spark, self.context.settings, self.name, this, batch_id, entries)
        finally:
            rows.unpersist()
        self._report(balance)
        self.recovery.passed(last_offsets(balance.ranges))
        fail_at(self.name, "before_commit")

    def _balance(self, rows: DataFrame, this: str) -> Balance:
        groups = count_groups(rows)
        numbers = batch_numbers(self.context.spark, this, self.name)
        ranges = observed_ranges(numbers.observed, self.places)
        if ranges is None:
            raise HeadwaterError(
                f"{self.name}: bronze has partitions that the contract does not know; raise `partitions`"
            )
        return Balance(groups, numbers, ranges)

    def _append(self, rows: DataFrame, balance: Balance, this: str, batch_id: int) -> None:
        settings = self.context.settings
        fresh = rows.where(~F.col("accounted") & ~F.col("written"))
        if balance.count("silver", fresh=True):
            append_once(fresh.transform(self.normalise), settings, self.silver.full_name, this, batch_id)
        if balance.count("dead", fresh=True):
            letters = fresh.transform(to_dead_letters(CODE_VERSION, self.contract.version))
            append_once(letters, settings, DEAD_LETTERS.full_name, this, batch_id)

    def _report(self, balance: Balance) -> None:
        counts = {outcome: balance.count(outcome) for outcome in ("silver", "dead", "no_consent")}
        self.context.totals.add(
            rows_in=balance.total,
            rows_out=counts["silver"],
            duplicate=balance.duplicates,
            dead=counts["dead"],
            no_consent=counts["no_consent"],
        )
        for outcome, count in {**counts, "duplicate": balance.duplicates}.items():
            EVENTS.labels(self.name, self.contract.stream, outcome).inc(count)
        for reason, count in balance.reasons.items():
            stage = "decode" if reason in DECODE_CODES else "validate"
            DEAD.labels(self.contract.stream, stage, reason).inc(count)
