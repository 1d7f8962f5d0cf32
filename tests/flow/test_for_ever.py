"""An event of usage never counts twice: after the dedupe's window, without its state, in a repeated batch."""

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from headwater.errors import HeadwaterError
from headwater.tables import checkpoint_path
from jobs import for_ever, refine
from jobs.audit import audit
from jobs.queries import Context
from jobs.refine import Refine
from schemas.contract import Contract
from tests.conftest import settings_at
from tests.flow.usage_lake import ARRIVED, CONTRACT, UsageLake, used

THEN = ARRIVED - timedelta(hours=2)
QUERY = "refine.interactions"


@pytest.fixture(params=["on the driver", "by Spark"])
def lake(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UsageLake]:
    if request.param == "by Spark":
        monkeypatch.setattr(for_ever, "_FEW", 0)
        monkeypatch.setattr(refine, "FEW_ROWS", 0)
    yield UsageLake(spark, settings_at(tmp_path))
    shutil.rmtree(tmp_path)


def event(name: str, quantity: int = 1, tenant: str = "acme") -> bytes:
    return used(name, THEN, str(quantity), account_id=tenant)


def kept(lake: UsageLake) -> dict[tuple[str, str], tuple[int, int]]:
    """Offset and quantity of each event in silver, none of which is there twice."""
    rows = lake.table("silver.usage")
    found = {(r["tenant_id"], r["event_id"]): (r["source_offset"], int(r["quantity"])) for r in rows}
    assert len(found) == len(rows)
    return found


def counts(lake: UsageLake) -> Counter[str]:
    """What the ledger has of the stream's records, once `audit` agrees."""
    assert audit(lake.context(), "interactions")[CONTRACT.stream]["bronze"] == lake.arrived
    sums: Counter[str] = Counter()
    for row in lake.table("ops.ledger"):
        if (row["query"], row["stream"]) == (QUERY, CONTRACT.stream):
            sums.update({name: row[name] for name in ("in_rows", "silver", "duplicate") if row[name]})
    return sums


def test_an_event_that_comes_again_after_the_window_is_a_duplicate(lake: UsageLake) -> None:
    lake.window = "1 millisecond"
    rounds = [
        [event("a"), event("b"), event("a", 2)],
        [event("c")],
        [event("d")],
        [event("a", 3), event("e"), event("a", 4), event("a", 5, "globex"), event("b", 6)],
    ]
    totals = Counter[str]()
    for events in rounds:
        lake.arrive(events)
        done = lake.run(Refine).totals
        totals.update({"in_rows": done.rows_in, "silver": done.rows_out, "duplicate": done.duplicate})
    acme = {"a": (0, 1), "b": (1, 1), "c": (3, 1), "d": (4, 1), "e": (6, 1)}
    assert kept(lake) == {("acme", k): v for k, v in acme.items()} | {("globex", "a"): (8, 5)}
    assert counts(lake) == totals == {"in_rows": 10, "silver": 6, "duplicate": 4}


def test_silver_is_not_read_for_events_that_the_index_does_not_know(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = UsageLake(spark, settings_at(tmp_path))
    lake.window = "1 millisecond"
    looked: list[int] = []
    as_it_is = for_ever.in_silver

    def counted(context: Context, contract: Contract, few: pa.Table) -> pa.Table:
        looked.append(few.num_rows)
        return as_it_is(context, contract, few)

    monkeypatch.setattr(for_ever, "in_silver", counted)
    rounds = [["a", "b"], ["c"], ["d"], ["b", "e"], ["f"], ["g"], ["c", "h"]]
    for number, names in enumerate(rounds):
        if number == 4:
            (index,) = Path(lake.settings.lake_root, "_index").glob("*.sqlite")
            index.write_bytes(b"not a database at all" * 50)
        lake.arrive([event(name, number + 1) for name in names])
        lake.run(Refine)
    assert looked == [0, 0, 0, 1, 0, 0, 1]
    firsts = {"a": (0, 1), "b": (1, 1), "c": (2, 2), "d": (3, 3), "e": (5, 4), "f": (6, 5), "g": (7, 6)}
    assert kept(lake) == {("acme", k): v for k, v in (firsts | {"h": (9, 7)}).items()}


def test_without_its_checkpoint_refine_doubles_no_event(lake: UsageLake) -> None:
    lake.arrive([event("a"), event("b")])
    lake.run(Refine)
    shutil.rmtree(checkpoint_path(lake.settings, QUERY))
    lake.arrive([event("b", 2), event("c"), event("c", 2)])
    lake.run(Refine)
    assert kept(lake) == {("acme", "a"): (0, 1), ("acme", "b"): (1, 1), ("acme", "c"): (3, 1)}
    assert counts(lake) == {"in_rows": 5, "silver": 3, "duplicate": 2}


def test_a_batch_that_is_done_again_keeps_its_own_rows(
    lake: UsageLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.window = "1 millisecond"
    for events in ([event("a")], [event("b")], [event("c")]):
        lake.arrive(events)
        lake.run(Refine)
    lake.arrive([event("a", 2), event("d"), event("e")])

    def crash(*_: Any) -> None:
        raise HeadwaterError("power cut")

    with monkeypatch.context() as patched, pytest.raises(HeadwaterError, match="power cut"):
        patched.setattr(refine, "write_ledger", crash)
        lake.run(Refine)
    once = lake.table("silver.usage")
    assert len(once) == 5
    lake.run(Refine)
    assert lake.table("silver.usage") == once
    assert counts(lake) == {"in_rows": 6, "silver": 5, "duplicate": 1}
