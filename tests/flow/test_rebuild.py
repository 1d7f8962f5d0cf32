"""What bronze has is decided again, after a rule came or went, or code was mended.

Each record has one outcome before and after, the ledger adds up, and gold is what a count of all of silver
gives.
"""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from headwater.errors import QualityError, SetupError
from headwater.tables import table_path
from jobs import build, rebuild_apply
from jobs import rebuild as job
from jobs.audit import audit
from jobs.build import Build
from jobs.close_period import close_period
from jobs.rebuild import Order, rebuild
from jobs.rebuild_shadow import Span
from jobs.refine import Refine
from sources.letters.settle import discard
from tests.conftest import settings_at
from tests.flow.usage_lake import ARRIVED, CONTRACT, MIXED, RULES, THEN, UsageLake, used
from tests.integration.lake import Row, live_files

ALL = Span(CONTRACT.stream, ARRIVED, ARRIVED + timedelta(seconds=1))
JUDGED = {"silver": [0, 4], "dead": [2], "filtered": [1, 3, 6]}
FREE = {"silver": [0, 1, 2, 4, 6], "dead": [], "filtered": []}


class Crash(Exception):
    """In place of a SIGKILL."""


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[UsageLake]:
    """Events, refined and counted by the rules of a tenant."""
    (tmp_path / "overlays").mkdir()
    settings = settings_at(tmp_path)
    streams = settings.streams.model_copy(update={"overlays": tmp_path / "overlays"})
    made = UsageLake(spark, settings.model_copy(update={"streams": streams}))
    ruled(made)
    made.arrive(MIXED)
    made.run(Refine)
    yield made
    shutil.rmtree(tmp_path)


def ruled(lake: UsageLake, rules: str = RULES) -> None:
    folder = lake.settings.streams.overlays
    assert folder
    (folder / f"{CONTRACT.stream}.yaml").write_text(rules)


def freed(lake: UsageLake) -> None:
    """The tenant's rules go."""
    folder = lake.settings.streams.overlays
    assert folder
    (folder / f"{CONTRACT.stream}.yaml").unlink()


def plan(lake: UsageLake, span: Span = ALL) -> tuple[UUID, dict[str, Any]]:
    found = rebuild(lake.context(), Order(span))
    return UUID(found["rebuild_id"]), found["plan"]


def apply(lake: UsageLake, number: UUID) -> dict[str, Any]:
    applied: dict[str, Any] = rebuild(lake.context(), Order(apply=number, why="a test"))["applied"]
    return applied


def do(lake: UsageLake, span: Span = ALL) -> dict[str, Any]:
    number, _ = plan(lake, span)
    return apply(lake, number)


def outcomes(lake: UsageLake) -> dict[str, list[int]]:
    """The offsets in each table, once the sum was proved."""
    found = audit(lake.context(), "interactions")[CONTRACT.stream]
    assert found["bronze"] == lake.arrived
    tables = {"silver": "silver.usage", "dead": "ops.dead_letters", "filtered": "ops.filtered"}
    return {name: sorted(row["source_offset"] for row in lake.table(table)) for name, table in tables.items()}


def billed(lake: UsageLake) -> dict[tuple[str, str], str]:
    """Gold, once it was held against a count of all of silver."""

    def told() -> list[Row]:
        names = ("tenant_id", "metric", "window_start", "quantity", "events")
        return [{name: row[name] for name in names} for row in lake.table("gold.billing_usage")]

    before = told()
    lake.run(Build, from_start=True)
    assert told() == before
    return {(row["tenant_id"], row["metric"]): str(row["quantity"]) for row in before}


def test_rules_that_go_and_come_back_leave_what_refine_would_have_made_of_it(lake: UsageLake) -> None:
    lake.run(Build)
    freed(lake)
    number, told = plan(lake)
    assert told["moves"] == {
        "dead → silver": 1, "filtered → duplicate": 1, "filtered → silver": 2,
    }  # fmt: skip
    assert (told["records"], told["unchanged"], told["silver"]) == (
        7, 3, {"silver.usage": {"new": 3, "other": 0, "gone": 0}},
    )  # fmt: skip
    moved = told["gold"]["gold.billing_usage"]["moved"]
    said = [
        (row["key"]["metric"], row["before"] and row["before"]["quantity"], row["after"]) for row in moved
    ]
    assert [(metric, before, after["quantity"]) for metric, before, after in said] == [
        ("api_calls", "1.000000", "2.000000"), ("test", None, "2.000000"),
    ]  # fmt: skip
    assert outcomes(lake) == JUDGED

    assert apply(lake, number)["records"] == told["moves"]
    assert outcomes(lake) == FREE
    mine = {("acme", "api_calls"): "2.000000", ("acme", "test"): "2.000000", ("globex", "test"): "1.000000"}
    assert billed(lake) == mine
    assert apply(lake, number) == {"done": "before"}

    ruled(lake)
    assert do(lake)["records"] == {"duplicate → filtered": 1, "silver → dead": 1, "silver → filtered": 2}
    assert outcomes(lake) == JUDGED
    assert billed(lake) == {("acme", "api_calls"): "1.000000", ("globex", "test"): "1.000000"}


def test_a_row_that_code_has_made_otherwise_is_replaced_and_its_hour_counted_again(lake: UsageLake) -> None:
    silver = DeltaTable(table_path(lake.settings, "silver.usage"))
    silver.update({"quantity": "9"}, predicate="event_id = 'a'")
    lake.run(Build)
    number, told = plan(lake)
    assert (told["moves"], told["billing_hours"]) == ({"silver → silver": 1}, 1)
    assert apply(lake, number)["records"] == {"silver → silver": 1}
    assert outcomes(lake) == JUDGED
    assert billed(lake) == {("acme", "api_calls"): "1.000000", ("globex", "test"): "1.000000"}


def test_a_plan_is_of_what_refine_has_judged_in_its_span_and_nobody_has_settled(lake: UsageLake) -> None:
    freed(lake)
    Path(lake.settings.lake_root, "rebuilds", "lost+found").mkdir(parents=True)  # is none of a plan's
    early = Span(CONTRACT.stream, ARRIVED - timedelta(days=1), ARRIVED)
    first, told = plan(lake, early)
    assert told["records"] == 0
    (letter,) = lake.table("ops.dead_letters")
    discard(lake.settings, [letter["dead_letter_id"]])
    lake.arrive([used("late", THEN)])
    number, told = plan(lake)
    assert (told["records"], told["waiting"], told["settled"], told["unchanged"]) == (7, 1, 1, 3)
    # What it keeps has no statistics of personal fields in its log.
    parts = live_files(Path(table_path(lake.settings, f"rebuilds.{number.hex}")))
    told_of = {name for part in parts for name in json.loads(part["stats"])["minValues"]}
    assert told_of == {"partition", "offset"}
    with pytest.raises(SetupError, match="it was replaced by another"):
        apply(lake, first)
    apply(lake, number)
    lake.run(Refine)
    assert outcomes(lake) == {"silver": [0, 1, 4, 6, 7], "dead": [2], "filtered": []}


def test_a_stream_that_is_not_there_and_a_plan_that_never_was_are_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = UsageLake(spark, settings_at(tmp_path))
    with pytest.raises(SetupError, match=r"there is no stream 'usage'; known: agent\.tool\.invoked, "):
        plan(lake, Span("usage", ARRIVED, ARRIVED + timedelta(days=1)))
    with pytest.raises(SetupError, match="there is no plan"):
        apply(lake, UUID(int=0))


def test_copies_that_came_elsewhen_take_the_place_of_an_event_that_leaves(lake: UsageLake) -> None:
    freed(lake)
    do(lake)
    ruled(lake)
    number, _ = plan(lake)
    lake.moment += timedelta(hours=1)
    lake.arrive([used("c", THEN)])
    assert lake.run(Refine).totals.duplicate == 1
    with pytest.raises(QualityError, match="copies of them that came since"):
        apply(lake, number)
    moves = {"duplicate → filtered": 1, "duplicate → silver": 1, "silver → dead": 1, "silver → filtered": 2}
    assert do(lake)["records"] == moves
    assert outcomes(lake) == JUDGED | {"silver": [0, 4, 7]}


def test_what_a_rebuild_took_away_comes_in_when_it_is_sent_mended(lake: UsageLake) -> None:
    freed(lake)
    do(lake)
    ruled(lake)
    do(lake)
    lake.arrive([used("c", THEN), used("c", THEN)])
    assert lake.run(Refine).totals.duplicate == 1
    assert outcomes(lake) == JUDGED | {"silver": [0, 4, 7]}


@pytest.mark.parametrize("what", ["the event came in", "its letter was discarded", "the rules came back"])
def test_a_plan_is_refused_when_the_data_has_moved(lake: UsageLake, what: str) -> None:
    freed(lake)
    number, _ = plan(lake)
    if what == "the event came in":
        lake.arrive([MIXED[2]])
        lake.run(Refine)
    elif what == "its letter was discarded":
        discard(lake.settings, [lake.table("ops.dead_letters")[0]["dead_letter_id"]])
    else:
        ruled(lake)
    before = lake.table("silver.usage")
    with pytest.raises(QualityError, match="plan it again"):
        apply(lake, number)
    assert lake.table("silver.usage") == before


def test_a_rebuild_that_was_cut_off_is_ended_by_the_same_command_and_copies_are_duplicates(
    lake: UsageLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.run(Build)
    freed(lake)
    number, _ = plan(lake)

    def crash(_: str, at: str) -> None:
        if at == "before_write":
            raise Crash

    with monkeypatch.context() as patched, pytest.raises(Crash):
        for module in (job, rebuild_apply):
            patched.setattr(module, "fail_at", crash)
        apply(lake, number)
    with pytest.raises(SetupError, match="was cut off: end it by --apply"):
        plan(lake)
    # Streams go on between, and bring a copy of what comes in.
    lake.arrive([used("f", THEN), MIXED[2]])
    lake.run(Refine, Build)
    apply(lake, number)
    assert outcomes(lake) == FREE | {"silver": [*FREE["silver"], 7]}
    assert billed(lake)["acme", "api_calls"] == "3.000000"
    assert apply(lake, number) == {"done": "before"}


def test_of_a_closed_month_what_comes_and_what_goes_is_billed_in_the_open_one(
    lake: UsageLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FEW_KEYS", 0)  # by Spark, as other tests do not
    october, november = date(2025, 10, 1), date(2025, 11, 1)
    then = datetime(2025, 10, 15, 13, tzinfo=UTC)
    lake.arrive([used("o1", then), used("o2", then, model="a long name")])
    lake.run(Refine, Build)
    close_period(lake.context(), october)

    def lines() -> list[tuple[date, str, int]]:
        found = [row for row in lake.table("gold.billing_daily") if row["day"] == then.date()]
        return sorted((row["period"], row["model"], row["events"]) for row in found)

    assert lines() == [(october, "", 1)]
    freed(lake)
    do(lake)
    assert lines() == [(october, "", 1), (november, "a long name", 1)]
    ruled(lake, "filters:\n  acme: [{name: none, drop: [{property: /metric, enum: [{value: api_calls}]}]}]\n")
    do(lake)
    assert lines() == [(october, "", 1), (november, "", -1)]
