"""The body of POST …/enqueue: which record of the CRM's topics is to be sent again, and after how long."""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from api.json_object import read_object
from api.problems import Fault, Problem
from schemas.contract import domain_contracts

MAX_BODY_BYTES = 4096
MAX_OFFSET = 2**53 - 1  # what every JSON reader takes exactly (RFC 7493); no topic has so many records
MAX_DELAY_MS = 86_400_000
FIELDS = ("topic", "partition", "offset", "delay")
REQUIRED = FIELDS[:-1]


@dataclass(frozen=True)
class NewJob:
    """A record by its place; `delay` in milliseconds."""

    topic: str
    partition: int
    offset: int
    delay: int = 0

    def parameters(self) -> dict[str, Any]:
        """For statements, by name."""
        return asdict(self)


@cache
def topics() -> dict[str, int]:
    """The CRM's topics with their partitions."""
    return {contract.topic: contract.partitions for contract in domain_contracts("crm").values()}


def read_job(raw: bytes) -> NewJob:
    """The job. Raises Problem 400 for what is no document, 422 with all faults of one."""
    body, faults = read_object(raw, FIELDS, "invalid_job")
    faults += [Fault(f"/{name}", "missing_required", "is missing") for name in REQUIRED if name not in body]
    faults += _checked(body)
    if faults:
        raise _invalid(faults)
    numbers = {name: int(body[name]) for name in FIELDS[1:] if name in body}
    return NewJob(topic=body["topic"], **numbers)


def _checked(body: dict[str, Any]) -> list[Fault]:
    """Faults of the fields that are there."""
    topic = body.get("topic")
    # Of a topic that is not known any partition may be.
    partitions = topics().get(topic, max(topics().values())) if isinstance(topic, str) else None
    most = {"partition": (partitions or max(topics().values())) - 1, "offset": MAX_OFFSET}
    most["delay"] = MAX_DELAY_MS
    found = [_number(name, body[name], most[name]) for name in FIELDS[1:] if name in body]
    found += [_topic(topic)] if "topic" in body else []
    return [fault for fault in found if fault]


def _topic(value: object) -> Fault | None:
    if not isinstance(value, str):
        return Fault("/topic", "type_mismatch", "must be a string")
    if value not in topics():
        return Fault("/topic", "rule:enum", "is not a topic of the CRM")
    return None


def _number(name: str, value: object, most: int) -> Fault | None:
    # 1.0 is an integer to JSON Schema; true is one to Python alone.
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not isinstance(value, int | float) or not whole:
        return Fault(f"/{name}", "type_mismatch", "must be an integer")
    if value < 0:
        return Fault(f"/{name}", "rule:minimum", "is less than 0")
    if value > most:
        return Fault(f"/{name}", "rule:maximum", f"is more than {most}")
    return None


def _invalid(faults: list[Fault]) -> Problem:
    return Problem(422, "invalid_job", faults[:100])
