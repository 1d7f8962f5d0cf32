"""Logs: one JSON object a line on stderr, and no foreign text in it."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from headwater.log import configure_logging, logger

CANARY = "ada.lovelace@example.com"


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capfd.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def fail() -> None:
    raise ValueError(f"Key (email)=({CANARY}) already exists")


def test_an_event_is_one_json_object_with_time_level_and_what_is_bound(
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logging()
    with structlog.contextvars.bound_contextvars(job="refine"):
        logger("headwater.x").info("batch", rows=3)
    (line,) = lines(capfd)
    found = {key: line[key] for key in ("event", "level", "logger", "job", "rows")}
    assert found == {"event": "batch", "level": "info", "logger": "headwater.x", "job": "refine", "rows": 3}
    assert line["timestamp"].endswith("Z")


def test_an_exception_is_logged_by_class_and_place_without_its_text(
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logging()
    try:
        fail()
    except ValueError as fault:
        logger("headwater.x").error("batch_failed", exc_info=fault)
        logger("headwater.x").exception("batch_failed")
        logging.getLogger("a.library").exception("it broke")
    found = lines(capfd)
    assert [(line["fault"], line["at"][-1].split(":")[0]) for line in found] == [
        ("ValueError", "test_log.py")
    ] * 3
    assert CANARY not in json.dumps(found)


def test_a_librarys_debug_line_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("py4j").info("secret")
    logging.getLogger("SQLQueryContextLogger").error(CANARY)
    assert lines(capfd) == []
