"""What is said of a batch, out of what Spark says of it."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headwater.log import configure_logging
from jobs.progress import report
from jobs.pulse import Pulse


def stream(batch: int, rows: int, **milliseconds: int) -> Any:
    told = {"batchId": batch, "numInputRows": rows, "durationMs": milliseconds, "sources": [{}]}
    return cast(Any, SimpleNamespace(lastProgress=SimpleNamespace(json=json.dumps(told))))


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.fixture(autouse=True)
def _log() -> None:
    configure_logging()


def test_the_seconds_of_a_batch_are_those_without_the_wait_for_a_turn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(
        "refine.x", stream(7, 600, addBatch=9_000, triggerExecution=10_000, walCommit=20), 7, 8.0, Pulse()
    )
    (line,) = said(capsys)
    assert line["seconds"] == {"addBatch": 1.0, "triggerExecution": 2.0}
    assert (line["rows"], line["rows_per_s"]) == (600, 300)


def test_progress_of_an_earlier_batch_is_not_yet_that_of_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert not report("refine.x", stream(6, 600, triggerExecution=1_000), 7, 0.0, Pulse())
    assert said(capsys) == []


def test_of_a_batch_without_rows_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert report("refine.x", stream(7, 0, triggerExecution=1_000), 7, 0.0, Pulse())
    assert said(capsys) == []
