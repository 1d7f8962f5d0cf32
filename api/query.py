"""Query parameters by an allow-list: one that is unknown, doubled or wrong is 422, without its value."""

import codecs
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from starlette.requests import Request

from api.problems import Fault, Problem
from schemas.dataset import ENCODINGS
from sources.import_jobs import DATASET, STATUSES

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
MAX_NAME = 1024
ENCODING = r"[A-Za-z0-9_.-]{1,32}"
MARKS = string.punctuation + "\t "  # what may separate or quote
MAX_ID = 2**63 - 1
_DATASET = re.compile(DATASET)
_PLACE = re.compile(r"(\d{1,18})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ENCODING = re.compile(ENCODING)
_MAX_DIGITS = 19
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Read = Callable[[str], Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter: what reads it (ValueError: it is wrong), and how it is said to be."""

    read: Read
    says: str


def asked(request: Request, known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The given ones, read. Raises Problem 422 that names all that are wrong."""
    return read_given(request.query_params.multi_items(), known)


def read_given(given: Sequence[tuple[str, str]], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The same of names and texts from anywhere: a query, or a form's fields."""
    names = [name for name, _ in given]
    faults, found = [], {}
    for name, text in given:
        if name not in known:
            faults.append(Fault("", "rule:unknown_parameter", "a query parameter is not known"))
        elif names.count(name) > 1:
            faults.append(Fault(name, "rule:once", "is given more than once"))
        else:
            try:
                found[name] = known[name].read(text)
            except ValueError:
                faults.append(Fault(name, "rule:parameter", known[name].says))
    if faults:
        raise Problem(422, "invalid_parameter", faults[: len(known)])
    return found


def missing(name: str) -> Problem:
    """422 for a parameter that must be given."""
    return Problem(422, "invalid_parameter", (Fault(name, "missing_required", "is missing"),))


def job_id(request: Request) -> UUID:
    """The job's id in the path."""
    return id_in(request, "job_id")


def id_in(request: Request, name: str) -> UUID:
    """The id in the path. What is no id is the id of nothing: Problem 404."""
    text = request.path_params[name]
    if not _UUID.fullmatch(text):
        raise Problem(404, "not_found")
    return UUID(text)


def place(moment: datetime, identity: UUID) -> str:
    """A cursor: behind what has that time and id."""
    return f"{(moment - _EPOCH) // timedelta(microseconds=1)}-{identity}"


def _dataset(text: str) -> str:
    return _matching(_DATASET, text)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError
    return text


def _name(text: str) -> str:
    if len(text) > MAX_NAME:
        raise ValueError
    return text


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[_one_of("true", "false")(text)]


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS) or int(text) > MAX_ID:
        raise ValueError
    return int(text)


def _place(text: str) -> tuple[int, UUID]:
    micros, identity = _matching_groups(_PLACE, text)
    return int(micros), UUID(identity)


def _matching_groups(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.fullmatch(text)
    if not found:
        raise ValueError
    return found.groups()


def _encoding(text: str) -> str:
    """One that files of a data set may have, by its usual name."""
    try:
        found = str(codecs.lookup(_matching(_ENCODING, text)).name)
    except LookupError:
        raise ValueError from None
    return _one_of(*ENCODINGS)(found)


def one_of(*words: str) -> Parameter:
    """One of these words."""
    return Parameter(_one_of(*words), "is not one of " + ", ".join(words))


def at_most(most: int) -> Parameter:
    """How many entries an answer may have."""

    def read(text: str) -> int:
        value = _number(text)
        if not 1 <= value <= most:
            raise ValueError
        return value

    return Parameter(read, f"is not a number from 1 to {most}")


CURSOR_OF_ROWS = Parameter(_number, "is not a cursor that an answer gave")
CURSOR_OF_JOBS = Parameter(_place, "is not a cursor that an answer gave")
CURSOR_OF_REPLAYS = CURSOR_OF_JOBS
LIMIT = at_most(MAX_LIMIT)
STATUS = one_of(*STATUSES)
FLAG = Parameter(_flag, "is neither true nor false")
FORMAT = Parameter(_one_of("json", "csv"), "is neither json nor csv")
UPLOAD = {
    "dataset": Parameter(_dataset, "is not a data set's name: a-z, then a-z 0-9 _ . -, at most 63 in all"),
    "force": FLAG,
    "name": Parameter(_name, f"is longer than {MAX_NAME} characters"),
    "encoding": Parameter(_encoding, "is not an encoding that is read"),
    "delimiter": Parameter(_one_of(*MARKS), "is not one character that separates"),
    "quote": Parameter(_one_of(*MARKS), "is not one character that quotes"),
    "header": FLAG,
}
# Those that say how the file is to be read: kept with the job, for whoever parses it.
READING = ("encoding", "delimiter", "quote", "header")
