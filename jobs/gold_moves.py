"""Which keys of gold would move if rows came into silver, or went, from what to what: counted as `build`
counts, and written nowhere.

Of a local lake. Tables of the CRM are worked out by tenant, and are only named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from headwater.delta_log import read_days
from headwater.delta_merge import GONE
from headwater.errors import SetupError
from headwater.tables import ensure_table, frame_of, table_path
from jobs.books import books_held
from jobs.build_crm import KEYS as WORKED_OUT
from jobs.build_crm import SOURCES as CRM_SOURCES
from jobs.queries import Context
from jobs.recount import FEW_KEYS, few_days, few_rows, of_keys, with_keys
from schemas.gold import BILLING_PERIODS
from schemas.tables import SOURCE, Table
from transformations.kpi.base import Kpi
from transformations.kpi.registry import KPIS


@dataclass(frozen=True)
class Moved:
    """A row of gold that would be another: None where there is none."""

    key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def worked_out_again(silver: Iterable[Table]) -> list[str]:
    """The tables of the CRM that are worked out again, as a whole for each tenant that has news."""
    is_touched = any(table in CRM_SOURCES for table in silver)
    return sorted(table.full_name for table in WORKED_OUT) if is_touched else []


def moved(
    context: Context, silver: Mapping[Table, pa.Table], gone: Mapping[Table, pa.Table] | None = None
) -> dict[str, list[Moved]]:
    """By gold table. `silver` are rows that come, `gone` rows that go, whole. Raises SetupError where more
    keys would move than are told one by one."""
    made: dict[Table, pa.Table] = dict(silver)
    found: dict[str, list[Moved]] = {}
    for known in KPIS.values():
        if known.source not in made:
            continue
        going = (gone or {}).get(known.source)
        for table in (known.gold, known.source, BILLING_PERIODS):
            ensure_table(context.spark, context.settings, table)
        with books_held(context, known) as kpi:
            is_gold = known.source not in silver
            after, before = _counted(context, kpi, made[known.source], going, is_gold=is_gold)
        found[known.gold.full_name] = _differing(kpi, before, after)
        made[known.gold] = after
    return found


def _counted(
    context: Context, kpi: Kpi, new: pa.Table, going: pa.Table | None, *, is_gold: bool
) -> tuple[pa.Table, pa.Table]:
    """The touched keys' rows as they would be (`gone`: the key alone), and as they are."""
    spark, settings = context.spark, context.settings
    if is_gold:
        touched = new.select([*kpi.key, "event_date"])
    else:
        told = new if going is None else pa.concat_tables([new, going.cast(new.schema)])
        touched = frame_of(spark, told).coalesce(1).transform(kpi.touched).toArrow()
    if touched.num_rows > FEW_KEYS:
        raise SetupError(
            f"more than {FEW_KEYS} keys of {kpi.gold.full_name} would move: narrow the filter, for example "
            "by --since and --until"
        )
    keys = touched.select(kpi.key).group_by(list(kpi.key)).aggregate([])
    days = few_days(settings, kpi, touched)
    there = few_rows(spark, settings, kpi, touched, days)
    if is_gold:
        identity = list(kpi.identity)
        kept = there.toArrow().join(new.select(identity), identity, join_type="left anti")
        new = new.filter(pc.invert(new[GONE]))
        rows = pa.concat_tables([part.select(kpi.columns).cast(kept.schema) for part in (kept, new)])
        counted = kpi.count(frame_of(spark, rows).coalesce(1))
    else:
        if going is not None:
            there = _without(there, going)
        more = frame_of(spark, new.select(kpi.columns)).coalesce(1)
        counted = kpi.count(there.unionByName(more).coalesce(1))
    after = of_keys(counted.toArrow(), keys)
    if kpi.settled:
        after = frame_of(spark, after).coalesce(1).transform(kpi.settled).toArrow()
    gold = read_days(table_path(settings, kpi.gold.full_name), kpi.gold.names, days, None)
    return after, with_keys(gold, keys)


def _without(rows: DataFrame, going: pa.Table) -> DataFrame:
    """Those of the rows that do not go, by their places."""
    kept = rows.toArrow()
    places = going.select(SOURCE).cast(kept.select(SOURCE).schema)
    return frame_of(rows.sparkSession, kept.join(places, list(SOURCE), join_type="left anti")).coalesce(1)


def _differing(kpi: Kpi, before: pa.Table, after: pa.Table) -> list[Moved]:
    """In the order of their keys."""
    key = (*kpi.key, *kpi.also)
    # What comes from event_date on tells when it was counted, not what.
    said = [name for name in kpi.gold.names[: kpi.gold.names.index("event_date")] if name not in key]
    old, new = (_by_key(rows, key, said) for rows in (before, after))
    # What was billed in a closed month is touched by nobody: it is not among the new ones.
    return [
        Moved(dict(zip(key, one, strict=True)), old.get(one), new[one])
        for one in sorted(new, key=str)
        if old.get(one) != new[one]
    ]


def _by_key(
    rows: pa.Table, key: tuple[str, ...], said: list[str]
) -> dict[tuple[Any, ...], dict[str, Any] | None]:
    """What each row has in these columns; None of a key that is gone."""
    return {
        tuple(row[part] for part in key): None if row.get(GONE) else {name: row[name] for name in said}
        for row in rows.to_pylist()
    }
