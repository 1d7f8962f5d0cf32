"""The demo's verdict: it is content only when what was sent and what the tables have are the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.demo_check import Findings, differences
from local.demo_report import Measured, quantile, write
from local.demo_send import Tally
from local.demo_upload import Upload
from local.traffic import Kind, Mix, Way, traffic


def sent(way: Way) -> Tally:
    tally = Tally()
    for event in traffic(way, 100, run="r-", seed=1, mix=Mix(0.1, 0.2, 0.05)):
        tally.send(event, 0.0)
    return tally


def right(way: Way) -> dict[str, object]:
    if way is Way.HTTP:
        return {"bronze": 75, "silver": 65, "duplicate": 10, "reasons": {}}
    codes = dict(sent(way).codes)
    return {"bronze": 100, "silver": 65, "duplicate": 10, "dead": 20, "no_consent": 5, "reasons": codes}


@pytest.mark.parametrize("way", Way)
def test_nothing_is_said_when_all_is_accounted_for(way: Way) -> None:
    assert differences(way, sent(way), right(way)) == []


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("name", ["bronze", "silver", "duplicate", "dead", "no_consent"])
@pytest.mark.parametrize("off", [-1, 1])
def test_every_wrong_count_is_named(way: Way, name: str, off: int) -> None:
    outcomes = right(way)
    outcomes[name] = outcomes.get(name, 0) + off  # type: ignore[operator]
    assert any(fault.startswith(f"{name} is") for fault in differences(way, sent(way), outcomes))


def test_a_dead_letter_for_another_reason_is_named() -> None:
    outcomes = right(Way.KAFKA)
    outcomes["reasons"] = {"malformed_json": 20}
    assert any("by reason" in fault for fault in differences(Way.KAFKA, sent(Way.KAFKA), outcomes))


def test_a_submission_sent_again_may_be_in_kafka_twice_but_not_in_silver() -> None:
    tally, outcomes = sent(Way.HTTP), right(Way.HTTP)
    tally.retries = 1
    assert differences(Way.HTTP, tally, outcomes | {"bronze": 76, "duplicate": 11}) == []
    assert differences(Way.HTTP, tally, outcomes | {"bronze": 76, "silver": 66})


def test_an_answer_that_should_have_been_another_is_named() -> None:
    tally = sent(Way.HTTP)
    tally.unexpected["nul: accepted, not refused"] += 2
    assert differences(Way.HTTP, tally, right(Way.HTTP)) == ["2 answers nul: accepted, not refused"]


def test_quantiles_are_values_that_were_measured() -> None:
    assert [quantile(range(1, 101), q) for q in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert quantile([7.0], 0.5) == 7.0


def test_the_figures_for_programs_are_of_the_measured_part_only(tmp_path: Path) -> None:
    http = Tally(began=100.0, ended=110.0)
    for key, due in (("warm", 100.0), ("first", 105.0), ("second", 106.0)):
        http.due[key], http.confirmed[key] = due, due + 0.5
    http.sent[Kind.VALID] = 3
    seen = {"warm": 130.0, "first": 107.5, "second": 110.0}
    measured = Measured(
        "r-", {Way.HTTP: http}, {}, seen, {}, {}, Upload("", 0, 0), 60, 105.0, 50.0, (Tally(), {})
    )
    write(measured, Findings({}, {}, ["a fault"]), tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["latency_s"]["accepted_to_row"] == {"p50": 2.0, "p95": 3.5, "max": 3.5}
    assert found["latency_s"]["due_to_row"]["max"] == 4.0
    assert (found["http_events_per_s"], found["events_per_s"], found["faults"]) == (0.3, 2.0, ["a fault"])


def test_an_upload_is_right_when_job_postgresql_silver_and_errors_say_what_was_sent() -> None:
    job = {"status": "COMPLETED_WITH_ERRORS", "rows_read": 10, "rows_inserted": 8, "finished_at": "2026"}
    right = Upload("1", 10, 2, job, rows=8, in_silver=8, told=2)
    assert right.ended
    assert right.faults == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"rows": 7}, "upload: rows in PostgreSQL: 7, expected 8"),
        ({"in_silver": 16}, "upload: rows in silver: 16, expected 8"),
        ({"told": 1}, "upload: wrong rows told of: 1, expected 2"),
        ({"sent": 11, "wrong": 3}, "upload: rows read: 10, expected 11"),
        ({"job": {"status": "FAILED"}}, "upload: status: FAILED, expected COMPLETED_WITH_ERRORS"),
    ],
)
def test_an_upload_that_does_not_add_up_is_a_fault(changed: dict[str, Any], fault: str) -> None:
    job = {"status": "COMPLETED_WITH_ERRORS", "rows_read": 10, "rows_inserted": 8}
    given = {"sent": 10, "wrong": 2, "job": job, "rows": 8, "in_silver": 8, "told": 2} | changed
    assert fault in Upload("1", **given).faults
