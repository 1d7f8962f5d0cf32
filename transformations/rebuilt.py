"""Records of bronze judged anew, held against what the tables have of them → what becomes of each now.

Pure. Of one stream. A record that silver has stays in silver as long as it passes and is the same event: of
copies, refine has chosen one, and a rebuild does not choose again.
"""

from collections.abc import Callable
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.contract import Contract
from schemas.tables import PLACE, SILVER, Table
from transformations.classify import outcome_columns, silver_columns, silver_rows
from transformations.columns import placed
from transformations.dead_letters import STAGES
from transformations.dedupe import identity_of

# Outcomes that have a row.
_KEPT = ("silver", "dead", "filtered")


def decisions(contract: Contract, name: str) -> Table:
    """The table that holds them: outcome rows, what each record `was`, whose (`was_tenant`), and the row that
    silver had of it (`old`)."""
    old = f"was STRING, was_tenant STRING, old STRUCT<{SILVER[contract.stream].columns.strip()}>"
    columns = f"{outcome_columns([contract], ['refined_at'])}, {old}"
    # Places only: all else may be personal.
    return Table("rebuilds", name, columns, ("partition", "offset"))


def kept(contract: Contract, silver: DataFrame, letters: DataFrame, filtered: DataFrame) -> DataFrame:
    """What the tables have of records, by place: `was`, `was_tenant`, `old` (silver's row), `identity` (of
    the event in it), `said` (what a letter or a filtered row says), `settled` (a person has dealt with the
    letter)."""
    table = SILVER[contract.stream]
    nothing = F.lit(None)
    rows = silver.select(
        *placed(),
        F.lit("silver").alias("was"),
        F.struct(*table.names).alias("old"),
        identity_of(contract).alias("identity"),
        nothing.cast("string").alias("said"),
        F.col("tenant_id").alias("was_tenant"),
        F.lit(False).alias("settled"),
    )
    told = [nothing.cast(rows.schema["old"].dataType).alias("old"), nothing.cast("string").alias("identity")]
    dead = letters.where(F.col("stage").isin(*STAGES)).select(
        *placed(), F.lit("dead").alias("was"), *told, _said_of_letter().alias("said"),
        F.col("tenant_id").alias("was_tenant"), (F.col("status") != "new").alias("settled"),
    )  # fmt: skip
    left_out = filtered.select(
        *placed(), F.lit("filtered").alias("was"), *told, F.col("filter").alias("said"),
        F.col("tenant_id").alias("was_tenant"), F.lit(False).alias("settled"),
    )  # fmt: skip
    return reduce(DataFrame.unionByName, [rows, dead, left_out])


def decided(contract: Contract, there: DataFrame, silver: DataFrame) -> Callable[[DataFrame], DataFrame]:
    """Outcome rows → the same with `was`, `was_tenant`, `old`, `settled`, and `changed`: whether anything is
    otherwise now.

    `there` is what `kept` gives of these records at least, `silver` all of the stream's table. A record that
    passes is a duplicate if its event is in silver from another record; of several that come into silver the
    one that arrived first does.
    """

    def apply(outcomes: DataFrame) -> DataFrame:
        rows = outcomes.join(there, list(PLACE), "left")
        stays = (F.col("was") == "silver") & (F.col("outcome") == "silver")
        stays = stays & (F.col("dedupe_hash") == F.col("identity"))
        rows = rows.withColumn("stays", F.coalesce(stays, F.lit(False)))
        leaving = rows.where("was = 'silver' AND NOT stays")
        rows = rows.join(_known(contract, silver, leaving), "dedupe_hash", "left")
        # In no table are duplicates and refusals of consent: the bytes tell which.
        nowhere = F.when(F.col("outcome") == "no_consent", "no_consent").otherwise("duplicate")
        rows = rows.withColumn("was", F.coalesce("was", nowhere)).withColumn("outcome", _outcome())
        changed = _differs(contract) & ~F.coalesce("settled", F.lit(False))
        who = F.when(F.col("was").isin(*_KEPT), F.col("was_tenant")).otherwise(F.col("tenant_id"))
        gone = ("identity", "said", "stays", "known")
        return rows.withColumns({"changed": changed, "was_tenant": who}).drop(*gone)

    return apply


def lost(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Decisions → `dedupe_hash` of every event that leaves silver and does not come in by another record."""

    def apply(rows: DataFrame) -> DataFrame:
        had = rows.where("was = 'silver'").select("old.*").select(identity_of(contract).alias("dedupe_hash"))
        has = rows.where("outcome = 'silver'").select("dedupe_hash")
        return had.join(has, "dedupe_hash", "left_anti").distinct()

    return apply


def stale(contract: Contract, there: DataFrame, silver: DataFrame) -> Callable[[DataFrame], DataFrame]:
    """Decisions → those that would be others now: the record's row, or its letter, is not what it was, or its
    event has come into silver from elsewhere. `there` and `silver` as `decided` has them."""

    def apply(rows: DataFrame) -> DataFrame:
        now = there.withColumnsRenamed({"was": "is", "old": "row"}).drop("was_tenant")
        both = rows.join(now, list(PLACE), "left")
        stays = F.coalesce(F.col("dedupe_hash") == F.col("identity"), F.lit(False))
        both = both.withColumn("stays", stays & (F.col("was") == "silver") & (F.col("outcome") == "silver"))
        leaving = both.where("was = 'silver' AND NOT stays")
        both = both.join(_known(contract, silver, leaving), "dedupe_hash", "left")
        was = F.when(F.col("was").isin(*_KEPT), F.col("was"))
        moved = ~F.col("is").eqNullSafe(was) | ~F.col("row").eqNullSafe(F.col("old"))
        moved = moved | F.coalesce("settled", F.lit(False))
        comes = (F.col("outcome") == "silver") & ~F.col("stays")
        return both.where(moved | (comes & F.coalesce("known", F.lit(False))))

    return apply


def _known(contract: Contract, silver: DataFrame, leaving: DataFrame) -> DataFrame:
    """`dedupe_hash` of all events that silver has, but from records that are `leaving`; `known` is true."""
    held = silver.select(identity_of(contract).alias("dedupe_hash"), *placed())
    held = held.join(leaving.select(*PLACE), list(PLACE), "left_anti")
    return held.select("dedupe_hash").distinct().withColumn("known", F.lit(True))


def _outcome() -> Column:
    """Of what comes into silver, the first of each event; nothing of what silver keeps."""
    comes = (F.col("outcome") == "silver") & ~F.col("stays") & ~F.coalesce("settled", F.lit(False))
    order = Window.partitionBy("dedupe_hash", comes).orderBy("ingested_at", *PLACE)
    again = comes & (F.coalesce("known", F.lit(False)) | (F.row_number().over(order) > 1))
    return F.when(again, F.lit("duplicate")).otherwise(F.col("outcome"))


def _differs(contract: Contract) -> Column:
    """Whether a record is another thing now, or its row says something else; when it was judged is no
    matter."""
    new = {name: made for name, made in silver_columns(contract).items() if name != "refined_at"}
    same = reduce(and_, [F.col("old")[name].eqNullSafe(made) for name, made in new.items()])
    name = F.regexp_replace(F.try_element_at("reasons", F.lit(1))["code"], "^filter:", "")
    return (
        F.when(F.col("was") != F.col("outcome"), F.lit(True))
        .when(F.col("was") == "silver", ~same)
        .when(F.col("was") == "dead", ~F.col("said").eqNullSafe(_said_of_letter()))
        .when(F.col("was") == "filtered", ~F.col("said").eqNullSafe(name))
        .otherwise(F.lit(False))
    )


def _said_of_letter() -> Column:
    """All that a rule decides of a letter, as one text."""
    return F.to_json(F.struct("stage", "tenant_id", "fingerprint", "reasons"))


def new_rows(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Decisions → rows of records that silver did not have."""
    return _silver(contract, "was != 'silver'")


def other_rows(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Decisions → rows that take the place of those that silver has of the same records."""
    return _silver(contract, "was = 'silver'")


def coming_rows(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Decisions → both."""
    return _silver(contract, "true")


def leaving_rows(decided: DataFrame) -> DataFrame:
    """Decisions → rows of silver that go, or give way."""
    return decided.where("was = 'silver'").select("old.*")


def _silver(contract: Contract, which: str) -> Callable[[DataFrame], DataFrame]:
    rows = silver_rows(contract)
    return lambda decided: decided.where(which).transform(rows)
