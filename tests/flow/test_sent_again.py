"""Records that were sent again: held against all of silver, not only against what refine remembers."""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import for_ever, refine
from jobs.audit import audit
from jobs.refine import Refine
from schemas.contract import domain_contracts
from tests.conftest import settings_at
from tests.flow.usage_lake import ARRIVED, UsageLake

TOOLS = domain_contracts("interactions")["agent.tool.invoked"]
AGAIN = {"replay_of": b"1f0c", "replay_count": b"1"}
THEN = ARRIVED - timedelta(hours=2)


@pytest.fixture(params=["on the driver", "by Spark"])
def lake(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UsageLake]:
    """A lake whose refine forgets an event in the batch after the next."""
    if request.param == "by Spark":
        monkeypatch.setattr(for_ever, "_FEW", 0)
        monkeypatch.setattr(refine, "FEW_ROWS", 0)
    yield UsageLake(spark, settings_at(tmp_path), window="1 millisecond", contract=TOOLS)
    shutil.rmtree(tmp_path)


def call(name: str, **said: object) -> bytes:
    fields = {"account_id": "acme", "session_id": "s", "turn_id": "t", "tool_name": "search", "status": "ok"}
    times = {"duration_ms": 5, "ts_ms": int(THEN.timestamp() * 1000)}
    return json.dumps({"event_id": name, **fields, **times, **said}).encode()


def forget(lake: UsageLake) -> None:
    """Two batches later refine knows no event of before."""
    for name in ("x", "y"):
        lake.arrive([call(f"{name}{lake.arrived}")])
        lake.run(Refine)


def test_what_silver_has_is_a_duplicate_when_it_is_sent_again_after_the_window(lake: UsageLake) -> None:
    lake.arrive([call("a"), call("b")])
    lake.run(Refine)
    forget(lake)
    lake.arrive([call("a"), call("b"), call("c"), call("a", account_id="globex")], [AGAIN, {}, AGAIN, AGAIN])
    done = lake.run(Refine).totals
    # The stream need not have an event once for ever: what comes again by itself is in silver twice.
    assert (done.rows_in, done.rows_out, done.duplicate) == (4, 3, 1)
    rows = [
        (r["tenant_id"], r["event_id"], r["source_offset"]) for r in lake.table("silver.tool_invocations")
    ]
    mine = sorted(row for row in rows if not row[1].startswith(("x", "y")))
    assert mine == [
        ("acme", "a", 0), ("acme", "b", 1), ("acme", "b", 5), ("acme", "c", 6), ("globex", "a", 7),
    ]  # fmt: skip
    assert audit(lake.context(), "interactions")[TOOLS.stream]["unexplained"] == 0


def test_what_fails_again_is_a_letter_that_names_the_one_it_was(lake: UsageLake) -> None:
    lake.arrive([call("a", status="odd")])
    lake.run(Refine)
    (first,) = lake.table("ops.dead_letters")
    lake.arrive(
        [call("a", status="odd")], [{"replay_of": first["dead_letter_id"].encode(), "replay_count": b"1"}]
    )
    lake.run(Refine)
    (again,) = [row for row in lake.table("ops.dead_letters") if row["source_offset"] == 1]
    assert (again["replay_of"], again["replay_count"]) == (first["dead_letter_id"], 1)
    assert (again["status"], again["fingerprint"]) == ("new", first["fingerprint"])
