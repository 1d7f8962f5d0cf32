"""A batch that a crash has cut between two tables, and that is judged otherwise when it is done again."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from headwater.errors import HeadwaterError
from jobs import refine
from jobs.audit import audit
from jobs.queries import Context
from jobs.refine import Refine
from jobs.runtime import Runtime
from schemas.contract import Contract
from tests.conftest import settings_at
from tests.flow.usage_lake import ARRIVED, CONTRACT, UsageLake, used

THEN = ARRIVED - timedelta(hours=2)


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[UsageLake]:
    yield UsageLake(spark, settings_at(tmp_path))
    shutil.rmtree(tmp_path)


def with_metric(pattern: str | None) -> Contract:
    """The contract of usage with another rule for the name of what is used."""
    fields = [replace(f, pattern=pattern) if f.name == "metric" else f for f in CONTRACT.fields]
    return replace(CONTRACT, fields=tuple(fields))


def run(lake: UsageLake, contract: Contract) -> Context:
    context = lake.context()
    made = Refine(context, "interactions")
    made.contracts = [contract if c.stream == contract.stream else c for c in made.contracts]
    Runtime(context, once=True).run([made])
    return context


def outcomes(lake: UsageLake) -> dict[str, list[int]]:
    """The offsets in each table."""
    tables = {"silver": "silver.usage", "dead": "ops.dead_letters"}
    return {name: sorted(row["source_offset"] for row in lake.table(table)) for name, table in tables.items()}


@pytest.mark.parametrize(
    ("first", "then", "few", "expected"),
    [
        # Silver is written first: what the first attempt found dead had no letter yet, and is sound by now.
        ("^[a-z_]+$", None, refine.FEW_ROWS, {"silver": [0, 1, 2], "dead": []}),
        ("^[a-z_]+$", None, 0, {"silver": [0, 1, 2], "dead": []}),
        # What the first attempt wrote into silver stays there.
        (None, "^[a-z_]+$", refine.FEW_ROWS, {"silver": [0, 1, 2], "dead": []}),
        ("^[a-z_]+$", "^[a-z_]+$", refine.FEW_ROWS, {"silver": [0, 2], "dead": [1]}),
    ],
)
def test_what_is_written_keeps_its_outcome_and_the_rest_gets_one(
    lake: UsageLake,
    monkeypatch: pytest.MonkeyPatch,
    first: str | None,
    then: str | None,
    few: int,
    expected: dict[str, list[int]],
) -> None:
    monkeypatch.setattr(refine, "FEW_ROWS", few)
    lake.arrive([used("a", THEN), used("b", THEN, metric="TOKENS"), used("c", THEN)])

    def crash(*_: object) -> None:
        raise HeadwaterError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(refine, "write_ledger", crash)
        patched.setattr(Refine, "_append_dead", crash)
        with pytest.raises(HeadwaterError, match="cut short"):
            run(lake, with_metric(first))
    assert lake.table("silver.usage") and not lake.table("ops.dead_letters")
    done = run(lake, with_metric(then)).totals
    assert outcomes(lake) == expected
    assert (done.rows_out, done.dead) == (len(expected["silver"]), len(expected["dead"]))
    lake.arrive([used("d", THEN)])
    run(lake, with_metric(then))
    assert outcomes(lake) == {**expected, "silver": [*expected["silver"], 3]}
    # No record in both, none in neither, and the ledger agrees.
    assert audit(lake.context(), "interactions")[CONTRACT.stream]["bronze"] == lake.arrived
