"""A batch that a crash has cut between two tables, and that is judged otherwise when it is done again."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from headwater.errors import DisagreeError, HeadwaterError
from jobs import refine
from jobs.audit import audit
from jobs.queries import Context
from jobs.refine import Refine
from jobs.runtime import Runtime
from schemas.contract import Contract
from tests.conftest import settings_at
from tests.flow.usage_lake import ARRIVED, CONTRACT, UsageLake, used

THEN = ARRIVED - timedelta(hours=2)
# The contract with another rule for the name of what is used.
STRICT = replace(
    CONTRACT,
    fields=tuple(replace(f, pattern="^api_calls$") if f.name == "metric" else f for f in CONTRACT.fields),
)


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[UsageLake]:
    yield UsageLake(spark, settings_at(tmp_path))
    shutil.rmtree(tmp_path)


def run(lake: UsageLake, contract: Contract) -> Context:
    context = lake.context()
    made = Refine(context, "interactions")
    made.contracts = [contract if c.stream == contract.stream else c for c in made.contracts]
    Runtime(context, once=True).run([made])
    return context


def cut(lake: UsageLake, monkeypatch: pytest.MonkeyPatch, contract: Contract) -> None:
    """A run that dies when silver is written and nothing else."""

    def crash(*_: object) -> None:
        raise HeadwaterError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(refine, "write_ledger", crash)
        patched.setattr(Refine, "_append_beside", crash)
        with pytest.raises(HeadwaterError, match="cut short"):
            run(lake, contract)


def outcomes(lake: UsageLake) -> dict[str, list[int]]:
    """The offsets in each table."""
    tables = {"silver": "silver.usage", "dead": "ops.dead_letters"}
    return {name: sorted(row["source_offset"] for row in lake.table(table)) for name, table in tables.items()}


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        # Silver is written first: what the first attempt found dead had no letter yet, and is sound by now.
        (STRICT, CONTRACT, {"silver": [0, 1, 2], "dead": []}),
        # What the first attempt wrote into silver stays there.
        (CONTRACT, STRICT, {"silver": [0, 1, 2], "dead": []}),
    ],
)
def test_what_is_written_keeps_its_outcome_and_the_rest_gets_one(
    lake: UsageLake,
    monkeypatch: pytest.MonkeyPatch,
    first: Contract,
    then: Contract,
    expected: dict[str, list[int]],
) -> None:
    lake.arrive([used("a", THEN), used("b", THEN, metric="tokens_in"), used("c", THEN)])
    cut(lake, monkeypatch, first)
    assert lake.table("silver.usage") and not lake.table("ops.dead_letters")
    done = run(lake, then).totals
    assert outcomes(lake) == expected
    # The ledger has the same numbers.
    assert (done.rows_in, done.rows_out, done.dead) == (3, len(expected["silver"]), len(expected["dead"]))


def test_an_event_of_which_another_copy_was_written_does_not_enter_twice(
    lake: UsageLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first copy is dead by the first contract, so the second is written; by the second both are sound.
    lake.arrive([used("a", THEN, metric="tokens_in"), used("a", THEN)])
    cut(lake, monkeypatch, STRICT)
    assert [row["source_offset"] for row in lake.table("silver.usage")] == [1]
    run(lake, CONTRACT)
    assert outcomes(lake) == {"silver": [1], "dead": []}
    # No record in both, none in neither, and the ledger agrees.
    assert audit(lake.context(), "interactions")[CONTRACT.stream]["ledger_duplicate"] == 1
    lake.arrive([used("b", THEN)])
    run(lake, CONTRACT)
    assert outcomes(lake) == {"silver": [1, 2], "dead": []}


def test_an_old_copy_of_the_checkpoint_is_refused_and_without_it_nothing_is_lost(
    lake: UsageLake, tmp_path: Path
) -> None:
    lake.arrive([used("a", THEN)])
    run(lake, CONTRACT)
    checkpoint = tmp_path / "_checkpoints" / "refine.interactions"
    shutil.copytree(checkpoint, tmp_path / "old")
    for event in "bc":
        lake.arrive([used(event, THEN)])
        run(lake, CONTRACT)
    shutil.rmtree(checkpoint)
    shutil.move(tmp_path / "old", checkpoint)
    lake.arrive([used("d", THEN)])
    with pytest.raises(DisagreeError, match=r"ops\.ledger has batch 2 of a query that is at 1"):
        run(lake, CONTRACT)
    assert outcomes(lake) == {"silver": [0, 1, 2], "dead": []}
    shutil.rmtree(checkpoint)
    run(lake, CONTRACT)
    assert outcomes(lake) == {"silver": [0, 1, 2, 3], "dead": []}


def test_a_checkpoint_that_lost_its_last_batch_is_refused_once_there_is_more_to_read(
    lake: UsageLake, tmp_path: Path
) -> None:
    for event in "ab":
        lake.arrive([used(event, THEN)])
        run(lake, CONTRACT)
    checkpoint = tmp_path / "_checkpoints" / "refine.interactions"
    for folder in ("offsets", "commits"):
        (checkpoint / folder / "1").unlink()
    # The same batch again is none: what it holds is accounted for.
    run(lake, CONTRACT)
    for folder in ("offsets", "commits"):
        (checkpoint / folder / "1").unlink()
    lake.arrive([used("c", THEN)])
    with pytest.raises(DisagreeError, match="the ledger has a part only"):
        run(lake, CONTRACT)
    shutil.rmtree(checkpoint)
    run(lake, CONTRACT)
    assert outcomes(lake) == {"silver": [0, 1, 2], "dead": []}


def test_a_batch_that_is_in_the_ledger_is_not_judged_again(
    lake: UsageLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.arrive([used("a", THEN), used("b", THEN, metric="tokens_in")])

    def crash(*_: object) -> None:
        raise HeadwaterError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(Refine, "_report", crash)
        with pytest.raises(HeadwaterError, match="cut short"):
            run(lake, STRICT)
    run(lake, CONTRACT)
    assert outcomes(lake) == {"silver": [0], "dead": [1]}
