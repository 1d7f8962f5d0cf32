"""Bills on a lake, from bronze to the closed month: October is billed and closed, and more of it comes."""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable as RustTable
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from headwater.clock import utc_now
from headwater.errors import HeadwaterError, QualityError, SetupError
from headwater.tables import frame_of, table_path
from jobs import build
from jobs.build import Build
from jobs.close_period import close_period
from jobs.explain_bill import explain_bill
from jobs.recount import FEW_KEYS
from jobs.refine import Refine
from schemas.gold import BILLING_DAILY
from schemas.tables import USAGE
from tests.conftest import settings_at
from tests.flow.bill_oracle import billed, by_the_hour
from tests.flow.usage_lake import ARRIVED, TOPIC, UsageLake, rate, used, with_card
from tests.integration.lake import Row

OCTOBER, NOVEMBER = date(2025, 10, 1), date(2025, 11, 1)
MIDDLE = datetime(2025, 10, 15, 13, tzinfo=UTC)
RATES = [
    rate("api_calls", "0.005"),
    rate("api_calls", "0.0045", MIDDLE),
    rate("api_calls", "0.0025", tenant="globex"),
    rate("tokens_in", "0.00000250"),
    rate("tokens_in", "0.00000755", model="river-large"),
    rate("tokens_in", "0.00000666", MIDDLE, model="river-large", tenant="acme"),
]
STEPS = ("open", "late", "rebuilt", "later")


def usage(count: int, first: int, days: tuple[datetime, datetime]) -> list[bytes]:
    """Events at any moment of these days, in disorder."""
    rng = random.Random(first)  # noqa: S311 - sample data
    seconds = int((days[1] - days[0]).total_seconds())
    made = []
    for number in range(first, first + count):
        at = days[0] + timedelta(seconds=rng.randrange(seconds) // 7200 * 7200 + rng.randrange(60))
        metric = rng.choice(("api_calls", "tokens_in"))
        quantity = (
            str(rng.randrange(1, 9)) if metric == "api_calls" else f"{rng.randrange(10**12) / 10**6:.6f}"
        )
        model = rng.choice(("river-large", "river-small", None))
        tenant = rng.choice(("acme", "globex"))
        made.append(used(f"e{number}", at, quantity, metric=metric, model=model, account_id=tenant))
    return made


@dataclass
class Story:
    """The lines of the bill after each step, and what the closes said."""

    lake: UsageLake
    lines: dict[str, list[Row]] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    events: int = 0

    def note(self, step: str) -> None:
        self.lines[step] = self.lake.table("gold.billing_daily")

    def of(self, step: str, period: date) -> list[Row]:
        return [line for line in self.lines[step] if line["period"] == period]


@pytest.fixture(scope="module")
def story(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("bills")
    lake = UsageLake(spark, with_card(settings_at(folder / "lake"), folder, *RATES))
    made = Story(lake)
    days = (datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC))
    events = usage(240, 0, days)
    lake.arrive([*events, *events[:20]])
    lake.run(Refine, Build)
    made.note("open")
    made.told += [close_period(lake.context(), OCTOBER) for _ in range(2)]
    late = usage(30, 1000, (days[0], days[0] + timedelta(days=31)))
    lake.arrive([*late, *events[50:70], *late[:5], *usage(20, 2000, (days[0] + timedelta(days=31), days[1]))])
    lake.run(Refine, Build)
    made.note("late")
    lake.run(Build, from_start=True)
    made.note("rebuilt")
    made.told.append(close_period(lake.context(), NOVEMBER))
    lake.arrive([*usage(20, 3000, days), *late[10:15]])
    lake.run(Refine, Build)
    made.note("later")
    made.events = 240 + 30 + 20 + 20
    yield made
    shutil.rmtree(folder)


def without_version(lines: list[Row]) -> list[Row]:
    return [{name: value for name, value in line.items() if name != "row_version"} for line in lines]


@pytest.mark.parametrize("step", STEPS[1:])
def test_the_lines_of_a_closed_month_never_change(story: Story, step: str) -> None:
    assert story.of("open", OCTOBER)
    assert story.of(step, OCTOBER) == story.of("open", OCTOBER)
    if step == "later":
        assert story.of(step, NOVEMBER) == story.of("rebuilt", NOVEMBER)


def test_what_is_late_for_a_closed_month_is_billed_in_the_first_open_one(story: Story) -> None:
    assert {line["day"].month for line in story.of("open", NOVEMBER)} == {11}
    assert {line["day"].month for line in story.of("late", NOVEMBER)} == {10, 11}
    late = [line for line in story.of("later", date(2025, 12, 1)) if line["day"] < NOVEMBER]
    assert sum(line["events"] for line in late) > 0
    assert {line["period"] for line in story.lines["later"]} == {OCTOBER, NOVEMBER, date(2025, 12, 1)}


def test_a_rebuild_after_closing_changes_no_line(story: Story) -> None:
    assert without_version(story.lines["rebuilt"]) == without_version(story.lines["late"])


def test_over_all_periods_the_bill_is_what_sql_over_silver_finds(story: Story) -> None:
    sums: dict[Any, tuple[Decimal, int, Decimal]] = {}
    for line in story.lines["later"]:
        key = tuple(line[name] for name in ("tenant_id", "day", "metric", "model"))
        more = (line["quantity"], line["events"], line["amount"])
        before = sums.get(key, (Decimal(0), 0, Decimal(0)))
        sums[key] = (before[0] + more[0], before[1] + more[1], before[2] + more[2])
    assert sums == billed(story.lake.files("silver.usage"), RATES)
    assert sum(events for _, events, _ in sums.values()) == story.events


def test_usage_by_the_hour_is_what_sql_over_silver_finds(story: Story) -> None:
    rows = story.lake.table("gold.billing_usage")
    found = {
        (row["tenant_id"], row["metric"], row["window_start"]): (row["quantity"], row["events"])
        for row in rows
    }
    assert found == by_the_hour(story.lake.files("silver.usage"))
    assert len(found) == len(rows)


def test_a_month_is_closed_once_with_what_was_billed_in_it(story: Story) -> None:
    first, again, second = story.told
    assert again == {"closed": "2025-10", "already": True}
    for told, month in ((first, OCTOBER), (second, NOVEMBER)):
        lines = story.of("later", month)
        amount = sum(line["amount"] for line in lines)
        assert told == {
            "closed": f"{month:%Y-%m}", "lines": len(lines), "amount": str(amount), "currency": "EUR",
        }  # fmt: skip
    periods = sorted(story.lake.table("gold.billing_periods"), key=lambda row: row["month"])
    kept = [(row["month"], row["lines"], str(row["amount"]), row["run_id"]) for row in periods]
    assert kept == [
        (month, told["lines"], told["amount"], "test")
        for told, month in ((first, OCTOBER), (second, NOVEMBER))
    ]


def test_every_event_behind_a_number_is_listed_with_its_place(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    late, before = (
        [(line["tenant_id"], line["day"], line["metric"]) for line in story.of(*of)]
        for of in (("late", NOVEMBER), ("open", OCTOBER))
    )
    tenant, day, metric = next(number for number in late if number in before)
    told = explain_bill(story.lake.context(), tenant, day, metric)
    said = [json.loads(text) for text in capsys.readouterr().out.splitlines() if text.startswith('{"')]
    events = [entry["event"] for entry in said if "event" in entry]
    lines = [entry["line"] for entry in said if "line" in entry]
    assert {
        (e["event_id"], e["source_topic"], e["source_partition"], e["source_offset"]) for e in events
    } == {
        (row["event_id"], TOPIC, 0, row["source_offset"])
        for row in story.lake.table("silver.usage")
        if (row["tenant_id"], row["event_date"], row["metric"]) == (tenant, day, metric)
    }
    assert {line["period"] for line in lines} > {"2025-11-01"}
    assert told["events"] == len(events) == sum(line["events"] for line in lines)
    assert Decimal(told["amount"]) == sum(Decimal(line["amount"]) for line in lines)
    assert all(Decimal(event["price"]) > 0 for event in events)


@pytest.mark.parametrize("few", [0, FEW_KEYS])
def test_usage_that_goes_from_a_closed_month_is_credited_once_until_it_is_back(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(build, "FEW_KEYS", few)  # counted by Spark, or read without it
    lake = UsageLake(spark, with_card(settings_at(tmp_path / "lake"), tmp_path, rate("api_calls", "2")))
    lake.enter([used("a", MIDDLE, "3")])
    lake.run(Build)
    close_period(lake.context(), OCTOBER)
    billed = [(OCTOBER, MIDDLE.date(), Decimal(3), Decimal(6), "EUR", MIDDLE)]
    credit = (NOVEMBER, MIDDLE.date(), Decimal(-3), Decimal(-6), "EUR", MIDDLE)

    def lines() -> list[tuple[Any, ...]]:
        names = ("period", "event_date", "quantity", "amount", "currency", "event_time")
        return sorted(tuple(row[name] for name in names) for row in lake.table("gold.billing_daily"))

    silver = RustTable(table_path(lake.settings, USAGE.full_name))
    usage = frame_of(spark, silver.to_pyarrow_table())
    silver.delete()
    for _ in range(2):
        Build(lake.context(), "usage").count_again(usage)
        assert lines() == [*billed, credit]
    # As an earlier version left it, twice.
    gold = RustTable(table_path(lake.settings, BILLING_DAILY.full_name))
    gold.update({"event_date": "NULL"}, predicate=f"period = '{NOVEMBER}'")
    write_deltalake(gold, gold.to_pyarrow_table(filters=[("period", "=", NOVEMBER)]), mode="append")
    assert len(lake.table("gold.billing_daily")) == 3
    lake.run(Build, from_start=True)
    assert lines() == [*billed, credit]
    lake.enter([used("a", MIDDLE, "3")])
    lake.run(Build)
    assert lines() == billed


@pytest.fixture
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsageLake]:
    folder = tmp_path_factory.mktemp("bill")
    yield UsageLake(spark, with_card(settings_at(folder / "lake"), folder, *RATES))
    shutil.rmtree(folder)


def test_a_month_that_has_not_ended_cannot_be_closed(lake: UsageLake) -> None:
    with pytest.raises(SetupError, match="has not ended"):
        close_period(lake.context(), utc_now().date().replace(day=1))


def test_usage_that_has_no_price_is_named_and_keeps_its_month_open(lake: UsageLake) -> None:
    lake.enter([used("a", MIDDLE), used("b", MIDDLE, metric="minutes", model="river-large")])
    lake.run(Build)
    with pytest.raises(QualityError, match=r"1 events up to 2025-10 have no price .minutes of river-l"):
        close_period(lake.context(), OCTOBER)
    (unpriced,) = [line for line in lake.table("gold.billing_daily") if line["metric"] == "minutes"]
    assert (unpriced["unpriced"], unpriced["amount"]) == (1, None)


def test_a_month_is_not_closed_while_gold_has_not_counted_all_of_it(lake: UsageLake) -> None:
    lake.enter([used("a", MIDDLE)])
    lake.run(Build)
    lake.enter([used("b", MIDDLE + timedelta(hours=3)), used("later", ARRIVED)])
    for refuses in (
        lambda: close_period(lake.context(), OCTOBER),
        lambda: explain_bill(lake.context(), "acme", MIDDLE.date(), "api_calls"),
    ):
        with pytest.raises(HeadwaterError, match="build --table usage") as fault:
            refuses()
        assert not isinstance(fault.value, SetupError)
    assert lake.table("gold.billing_periods") == []
    lake.run(Build)
    assert close_period(lake.context(), OCTOBER)["lines"] == 1
