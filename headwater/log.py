"""JSON lines on stderr: one object per event, with what is bound (job, query, batch_id, tenant_id, event_id).

Values of personal fields are never passed to a logger; exceptions are logged by class and place, not by text,
because a driver's text may quote a row.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog


def configure_logging(level: str = "INFO") -> None:
    """Send structlog and the standard library's loggers to stderr as JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _fault_without_text,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for chatty in ("py4j", "httpx", "httpx2", "httpcore", "elastic_transport", "uvicorn.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # kafka-python warns of having no group, which is what we want; PySpark's query context may quote a row.
    for silent in ("kafka", "DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        logging.getLogger(silent).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _Stderr(logging.StreamHandler[TextIO]):
    """Whatever stderr is when a line is written: it may have been replaced, and closed, since the start."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # an attribute in the base class
        return sys.stderr


def logger(name: str) -> Any:
    """A logger that takes an event name and key-value pairs."""
    return structlog.stdlib.get_logger(name)


def _fault_without_text(
    _logger: Any, _method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    fault = entry.pop("exc_info", None)
    if fault is True:
        fault = sys.exc_info()
    if isinstance(fault, tuple):
        fault = fault[1]
    if isinstance(fault, BaseException):
        frames = traceback.extract_tb(fault.__traceback__)
        entry["fault"] = type(fault).__name__
        entry["at"] = [f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno}" for frame in frames[-4:]]
    return entry
