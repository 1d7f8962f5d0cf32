"""The body of POST …/dead-letters/discard: which letters, by their ids or by a filter, and why."""

from dataclasses import dataclass
from typing import Any

from api.document import step
from api.json_object import read_object
from api.letters_query import FILTER, is_id, wanted_of
from api.problems import Fault, Problem
from sources.letters.wanted import Wanted

MAX_BODY_BYTES = 128 << 10
MAX_IDS = 1000
MAX_WHY = 500
FIELDS = ("ids", "filter", "why")
INVALID = "invalid_order"
_ONE_OF = "has either ids or a filter"


@dataclass(frozen=True)
class Order:
    """Letters of one tenant with which something is to be done."""

    wanted: Wanted
    why: str


def read_order(raw: bytes, tenant: str) -> Order:
    """The order. Raises Problem 400 for what is no document, 422 with all faults of one."""
    return order_of(*read_object(raw, FIELDS, INVALID), tenant)


def order_of(body: dict[str, Any], faults: list[Fault], tenant: str) -> Order:
    """The order in a body of which these faults are known. Raises Problem 422 with all of them."""
    faults = [*faults, *_why(body)]
    if ("ids" in body) == ("filter" in body):
        faults.append(Fault("", "rule:one_of", _ONE_OF))
    found: dict[str, Any] = {}
    if "ids" in body:
        faults += _ids(body["ids"])
    if "filter" in body:
        found, wrong = _filter(body["filter"])
        faults += wrong
    if faults:
        raise _invalid(faults)
    if "ids" in body:
        return Order(Wanted(tenant=tenant, ids=tuple(dict.fromkeys(body["ids"]))), body["why"])
    return Order(wanted_of(found, tenant), body["why"])


def detail_of(wanted: Wanted) -> dict[str, Any]:
    """What was asked for; whose letters, the trail has already."""
    return {name: value for name, value in wanted.given.items() if name != "tenant"}


def _why(body: dict[str, Any]) -> list[Fault]:
    if "why" not in body:
        return [Fault("/why", "missing_required", "is missing")]
    why = body["why"]
    if not isinstance(why, str):
        return [Fault("/why", "type_mismatch", "must be a string")]
    if not why.strip():
        return [Fault("/why", "rule:min_length", "is blank")]
    return [Fault("/why", "rule:max_length", f"is longer than {MAX_WHY}")] if len(why) > MAX_WHY else []


def _ids(ids: object) -> list[Fault]:
    if not isinstance(ids, list):
        return [Fault("/ids", "type_mismatch", "must be an array")]
    if not 1 <= len(ids) <= MAX_IDS:
        return [Fault("/ids", "rule:items", f"has not 1 to {MAX_IDS} ids")]
    wrong = [number for number, one in enumerate(ids) if not (isinstance(one, str) and is_id(one))]
    return [Fault(f"/ids/{number}", "rule:pattern", "is not 64 of 0-9 a-f") for number in wrong]


def _filter(given: object) -> tuple[dict[str, Any], list[Fault]]:
    if not isinstance(given, dict):
        return {}, [Fault("/filter", "type_mismatch", "must be an object")]
    if not given:
        return {}, [Fault("/filter", "rule:properties", "is empty: all letters that are new have a status")]
    found: dict[str, Any] = {}
    faults = []
    for name, text in given.items():
        place = step("/filter", name)
        if name not in FILTER:
            faults.append(Fault(place, "rule:unknown_field", "is not a field of a filter"))
        elif not isinstance(text, str):
            faults.append(Fault(place, "type_mismatch", "must be a string"))
        else:
            try:
                found[name] = FILTER[name].read(text)
            except ValueError:
                faults.append(Fault(place, "rule:parameter", FILTER[name].says))
    return found, faults


def _invalid(faults: list[Fault]) -> Problem:
    return Problem(422, INVALID, faults[:100])
