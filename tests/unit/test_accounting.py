"""The sum of a batch and the breaker, from numbers made up here: no Spark."""

from dataclasses import replace
from typing import Any, cast

import pytest

from headwater.errors import HeadwaterError, QualityError
from headwater.execution import BatchNumbers
from headwater.ledger import Entry
from headwater.offsets import Range, Ranges
from headwater.settings import Settings
from jobs.accounting import Balance, Group, check_balance, check_breaker, ledger_entries
from jobs.queries import Context

LEADS, VISITS = "lead.ingest", "visit.track"
TOPICS = {LEADS: ("leads.in", "leads.refused"), VISITS: ("visits.in",)}
RANGES: Ranges = {"leads.in-0": Range(0, 99, 100)}
BOTH: Ranges = {**RANGES, "leads.in-1": Range(3, 5, 3), "visits.in-0": Range(7, 8, 2)}
Outcomes = dict[str, int]


def group(tenant: str | None, outcome: str, rows: int, **more: Any) -> Group:
    made = Group(
        LEADS, tenant, outcome, None, accounted=False, written=False, reason=None, warned=None, rows=rows
    )
    return replace(made, **more)


def balance(
    groups: list[Group], total: int, duplicates: int = 0, late: int = 0, accounted: int = 0, **observed: Any
) -> Balance:
    """A batch of leads alone, `accounted` of them by an earlier checkpoint."""
    numbers = BatchNumbers({"total": total, **observed}, duplicates, late)
    return Balance(tuple(groups), numbers, RANGES, {LEADS: total - accounted}, TOPICS)


def of_both(groups: list[Group], leads: int, visits: int, ranges: Ranges, **observed: Any) -> Balance:
    """A batch of leads and visits."""
    numbers = BatchNumbers({"total": leads + visits, **observed}, duplicates=0, late=0)
    return Balance(tuple(groups), numbers, ranges, {LEADS: leads, VISITS: visits}, TOPICS)


def tenants(stream: str = LEADS, **counts: int) -> list[dict[str, Any]]:
    """As approx_top_k observes them, by stream TAB tenant."""
    return [{"item": f"{stream}\t{name}", "count": count} for name, count in counts.items()]


def outcomes(entry: Entry) -> Outcomes:
    names = ("in_rows", "silver", "duplicate", "dead", "no_consent", "erased")
    return {name: getattr(entry, name) for name in names if getattr(entry, name)}


def by_tenant(found: Balance) -> dict[str | None, Outcomes]:
    entries = ledger_entries(found)
    assert {entry.stream for entry in entries} == {LEADS}
    return {entry.tenant_id: outcomes(entry) for entry in entries}


def some(stream: str, stage: str, reason: str) -> list[str]:
    """Places of records."""
    return [f"{stream}-0-7 ({stage}, {reason})"]


def context(settings: Settings, accept_batch: int | None = None) -> Context:
    return Context(cast(Any, None), settings, "run", accept_batch=accept_batch)


def test_a_sum_that_is_right_passes() -> None:
    check_balance("q", balance([group("a", "silver", 7), group("a", "dead", 1)], total=10, duplicates=2))


@pytest.mark.parametrize(("total", "duplicates"), [(10, 1), (10, 3), (9, 2), (0, 2)])
def test_a_sum_that_is_off_stops_the_batch_with_its_numbers(total: int, duplicates: int) -> None:
    wrong = balance([group("a", "silver", 8)], total=total, duplicates=duplicates)
    with pytest.raises(
        HeadwaterError, match=rf"{total} records read, 8 survived, {duplicates} were duplicates"
    ):
        check_balance("q", wrong)


def test_a_record_dropped_as_late_stops_the_batch_and_names_the_clock() -> None:
    with pytest.raises(HeadwaterError, match="dropped 1 records as late; the driver's clock"):
        check_balance("q", balance([group("a", "silver", 9)], total=10, late=1))


def test_each_tenant_has_its_own_counts_duplicates_among_them() -> None:
    groups = [group("a", "silver", 5), group("a", "dead", 1), group("b", "no_consent", 2)]
    found = balance(groups, total=12, duplicates=4, tenants=tenants(a=8, b=4))
    assert by_tenant(found) == {
        "a": {"in_rows": 8, "silver": 5, "dead": 1, "duplicate": 2},
        "b": {"in_rows": 4, "no_consent": 2, "duplicate": 2},
    }


def test_records_without_a_tenant_are_counted_under_none() -> None:
    seen = [*tenants(a=1), {"item": f"{LEADS}\t", "count": 3}]
    found = balance([group("a", "silver", 1), group(None, "dead", 3)], total=4, tenants=seen)
    assert by_tenant(found) == {"a": {"in_rows": 1, "silver": 1}, None: {"in_rows": 3, "dead": 3}}


def test_with_too_many_tenants_to_tell_apart_the_duplicates_are_nobodys_but_the_sum_holds() -> None:
    groups = [group("a", "silver", 5), group("b", "silver", 3)]
    found = balance(groups, total=10, duplicates=2, tenants=tenants(a=7))
    assert by_tenant(found) == {
        "a": {"in_rows": 5, "silver": 5},
        "b": {"in_rows": 3, "silver": 3},
        None: {"in_rows": 2, "duplicate": 2},
    }


def test_what_an_earlier_checkpoint_accounted_for_is_not_counted_again() -> None:
    groups = [group("a", "silver", 4, accounted=True), group("a", "silver", 3)]
    found = balance(groups, total=8, duplicates=1, accounted=4, tenants=tenants(a=4))
    check_balance("q", found)
    assert by_tenant(found) == {"a": {"in_rows": 4, "silver": 3, "duplicate": 1}}


def test_an_event_that_silver_has_from_elsewhere_is_a_duplicate() -> None:
    groups = [group("a", "duplicate", 2), group("a", "silver", 3)]
    found = balance(groups, total=5, tenants=tenants(a=5))
    check_balance("q", found)
    assert by_tenant(found) == {"a": {"in_rows": 5, "silver": 3, "duplicate": 2}}


def test_rows_that_are_in_their_table_already_are_counted_but_not_fresh() -> None:
    groups = [group("a", "silver", 3, written=True, bytes=90), group("a", "silver", 2, bytes=50)]
    found = balance(groups, total=5)
    assert (found.count("silver"), found.size("silver")) == (5, (2, 50))


def test_every_entry_carries_the_batchs_offsets_even_when_nothing_is_counted() -> None:
    found = balance([group("a", "silver", 4, accounted=True)], total=4, accounted=4, tenants=[])
    entries = ledger_entries(found)
    assert entries and all(entry.offsets == RANGES for entry in entries)
    assert [outcomes(entry) for entry in entries] == [{}] * len(entries)


@pytest.mark.parametrize(
    ("dead", "total", "stops"),
    [(999, 1000, False), (1000, 1000, True), (1000, 2000, True), (1000, 2001, False), (5000, 20_000, False)],
)
def test_the_breaker_needs_both_a_number_and_a_share(
    settings: Settings, dead: int, total: int, stops: bool
) -> None:
    groups = [group("a", "dead", dead, reason="malformed_json"), group("a", "silver", total - dead)]
    if not stops:
        check_breaker(context(settings), "q", 7, balance(groups, total), some)
        return
    with pytest.raises(QualityError, match=rf"{dead} of {total} records of {LEADS} in batch 7 fail"):
        check_breaker(context(settings), "q", 7, balance(groups, total), some)


def test_the_breaker_names_the_dominant_reason(settings: Settings) -> None:
    groups = [
        group("a", "dead", 900, reason="missing_required"),
        group("b", "dead", 800, reason="malformed_json"),
        group("c", "dead", 700, reason="malformed_json"),
    ]
    told = r"1500 of them with malformed_json, for example lead\.ingest-0-7 \(.*, malformed_json\)\. Nothing"
    with pytest.raises(QualityError, match=told):
        check_breaker(context(settings), "q", 7, balance(groups, 2400), some)


@pytest.mark.parametrize(("broken", "stops"), [(1000, True), (999, False)])
def test_what_the_api_refused_neither_opens_the_breaker_nor_holds_it_closed(
    settings: Settings, broken: int, stops: bool
) -> None:
    groups = [
        group("a", "dead", 9000, stage="api", reason="malformed_json"),
        group("a", "dead", broken, stage="validate", reason="missing_required"),
        group("a", "silver", 900),
    ]
    found = balance(groups, 9900 + broken)
    if not stops:
        assert check_breaker(context(settings), "q", 7, found, some) == []
        return
    with pytest.raises(QualityError, match=r"1000 of 1900 records .* 1000 of them with missing_required"):
        check_breaker(context(settings), "q", 7, found, some)


def test_warnings_are_counted_by_column_for_what_this_batch_accounts_for() -> None:
    groups = [
        group("a", "silver", 3, warned=["phone"]),
        group("b", "silver", 2, warned=["phone", "ip_address"]),
        group("b", "silver", 7, warned=["phone"], accounted=True),
        group("b", "silver", 9),
    ]
    assert balance(groups, 14).warnings(LEADS) == {"phone": 5, "ip_address": 2}


def test_an_accepted_batch_passes_the_breaker_and_no_other_does(settings: Settings) -> None:
    found = balance([group("a", "dead", 5000, reason="empty")], 5000)
    assert check_breaker(context(settings, accept_batch=7), "q", 7, found, some) == [
        f"5000 of 5000 records of {LEADS} in batch 7 fail, 5000 of them with empty"
    ]
    with pytest.raises(QualityError, match="--accept-batch 8"):
        check_breaker(context(settings, accept_batch=7), "q", 8, found, some)


def test_each_streams_entries_carry_its_own_counts_and_its_own_topics_offsets() -> None:
    groups = [group("a", "silver", 3), group("a", "dead", 2, stream=VISITS), group("a", "dead", 1)]
    seen = [*tenants(a=6), *tenants(VISITS, a=2)]
    entries = ledger_entries(of_both(groups, 6, 2, BOTH, tenants=seen))
    assert {(e.stream, e.tenant_id): (outcomes(e), list(e.offsets)) for e in entries} == {
        (LEADS, "a"): ({"in_rows": 6, "silver": 3, "dead": 1, "duplicate": 2}, ["leads.in-0", "leads.in-1"]),
        (VISITS, "a"): ({"in_rows": 2, "dead": 2}, ["visits.in-0"]),
    }


def test_with_too_many_tenants_the_duplicates_stay_with_their_stream() -> None:
    groups = [group("a", "silver", 4), group("b", "dead", 1, stream=VISITS)]
    entries = ledger_entries(of_both(groups, 6, 2, BOTH, tenants=tenants(a=5)))
    assert {(e.stream, e.tenant_id): outcomes(e) for e in entries} == {
        (LEADS, "a"): {"in_rows": 4, "silver": 4},
        (LEADS, None): {"in_rows": 2, "duplicate": 2},
        (VISITS, "b"): {"in_rows": 1, "dead": 1},
        (VISITS, None): {"in_rows": 1, "duplicate": 1},
    }


def test_a_stream_that_was_accounted_for_before_still_says_how_far_it_was_read() -> None:
    groups = [group("a", "silver", 2, stream=VISITS, accounted=True), group("a", "silver", 3)]
    entries = ledger_entries(of_both(groups, 3, 0, BOTH, tenants=tenants(a=3)))
    assert {e.stream: (outcomes(e), list(e.offsets)) for e in entries} == {
        LEADS: ({"in_rows": 3, "silver": 3}, ["leads.in-0", "leads.in-1"]),
        VISITS: ({}, ["visits.in-0"]),
    }


def test_a_stream_of_which_nothing_was_read_has_no_entry() -> None:
    entries = ledger_entries(of_both([group("a", "silver", 3)], 3, 0, RANGES, tenants=tenants(a=3)))
    assert [entry.stream for entry in entries] == [LEADS]


def test_the_breaker_of_one_stream_is_not_hidden_by_a_sound_other_one(settings: Settings) -> None:
    groups = [
        group("a", "dead", 600, reason="malformed_json"),
        group("a", "dead", 400, reason="empty"),
        group("a", "silver", 500),
        group("a", "dead", 900, stream=VISITS, reason="empty"),
        group("a", "silver", 99_100, stream=VISITS),
    ]
    expected = rf"1000 of 1500 records of {LEADS} in batch 7 fail, 600 of them with malformed_json"
    with pytest.raises(QualityError, match=expected):
        check_breaker(context(settings), "q", 7, of_both(groups, 1500, 100_000, BOTH), some)


def test_the_failures_of_two_streams_do_not_add_up_to_a_broken_one(settings: Settings) -> None:
    groups = [
        group("a", "dead", 999, reason="empty"),
        group("a", "dead", 999, stream=VISITS, reason="empty"),
    ]
    check_breaker(context(settings), "q", 7, of_both(groups, 999, 999, BOTH), some)


def test_an_accepted_batch_passes_with_every_stream_of_it(settings: Settings) -> None:
    groups = [
        group("a", "dead", 5000, reason="empty"),
        group("a", "dead", 5000, stream=VISITS, reason="empty"),
    ]
    check_breaker(context(settings, accept_batch=7), "q", 7, of_both(groups, 5000, 5000, BOTH), some)
