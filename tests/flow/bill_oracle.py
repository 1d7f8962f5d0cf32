"""The bill's oracle: what DuckDB finds over the rows of silver.usage and the rates, in SQL written apart."""

from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import duckdb

Line = tuple[str, date, str, str]  # tenant, day, metric, model
_USED = """
  SELECT tenant_id, metric, coalesce(model, '') AS model, event_time, CAST(event_time AS DATE) AS day,
         CAST(quantity AS DECIMAL(18,6)) AS quantity
  FROM read_parquet({files}, hive_partitioning = true, union_by_name = true)
"""
# The first of the rates that fit, by how particular they are and then by their age.
_BILL = """
  WITH used AS (SELECT row_number() OVER () AS n, * FROM ({used})),
  fitting AS (
    SELECT used.*, rates.price, row_number() OVER (PARTITION BY n ORDER BY
             rates.tenant IS NULL, rates.model IS NULL, rates.since DESC) AS rank
    FROM used LEFT JOIN rates ON rates.metric = used.metric
      AND coalesce(rates.tenant, used.tenant_id) = used.tenant_id
      AND coalesce(rates.model, used.model) = used.model
      AND rates.since <= date_trunc('hour', used.event_time))
  SELECT tenant_id, day, metric, model, sum(quantity), count(*), sum(quantity * price)
  FROM fitting WHERE rank = 1 GROUP BY ALL
"""
_HOURS = """
  SELECT tenant_id, metric, date_trunc('hour', event_time), sum(quantity), count(*)
  FROM ({used}) GROUP BY ALL
"""


def billed(
    files: Sequence[Path], rates: Sequence[dict[str, Any]]
) -> dict[Line, tuple[Decimal, int, Decimal]]:
    """Quantity, events and amount of each line, the exact sum rounded once."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        kinds = "metric TEXT, tenant TEXT, model TEXT, since TIMESTAMPTZ, price DECIMAL(18,8)"
        connection.execute(f"CREATE TABLE rates ({kinds})")
        said = [[r["metric"], r.get("tenant"), r.get("model"), r["from"], r["price"]] for r in rates]
        connection.executemany("INSERT INTO rates VALUES (?, ?, ?, ?, ?)", said)
        found = connection.execute(_BILL.format(used=_used(files))).fetchall()
    return {tuple(row[:4]): (row[4], row[5], _cents(row[6])) for row in found}


def by_the_hour(files: Sequence[Path]) -> dict[tuple[Any, ...], tuple[Decimal, int]]:
    """Quantity and events by tenant, metric and hour."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(_HOURS.format(used=_used(files))).fetchall()
    return {tuple(row[:3]): (row[3], row[4]) for row in found}


def _used(files: Sequence[Path]) -> str:
    return _USED.format(files="[" + ", ".join(f"'{file}'" for file in files) + "]")


def _cents(exact: Decimal) -> Decimal:
    return exact.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
