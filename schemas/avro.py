"""Bytes in Confluent's framing → a document, by the schema that its writer named.

A record is read by the writer's schema alone: what the contract does not name becomes an extra, and what it
requires and is not there is told as of any other record. So a version that the registry got a minute ago
needs no restart. Times and dates become ISO 8601 text, as JSON has them; numbers keep every digit.
"""

import base64
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
from fastavro.read import LOGICAL_READERS
from fastavro.schema import SchemaParseException

from headwater.errors import SetupError
from schemas.contract import MAX_DEPTH, ROW_LIMIT_BYTES, Contract
from schemas.envelope import Document, read_document

# A byte that is zero, then the schema's number in four, the highest first.
_FRAME = struct.Struct(">BI")
_MAGIC = 0
# Less than 309 digits, as many as the largest double has.
_DECIMAL_BYTES = 128
_EPOCH = datetime(1970, 1, 1)
_AS_IN_JSON = frozenset({int, bool, Decimal})
_UNREADABLE = (
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    struct.error,
    fastavro.read.SchemaResolutionError,
)
Schema = Any  # as fastavro parses it
# The schema that the registry has under this number; None when it has none that is Avro. Raises
# TransientError when the registry is away.
SchemaOf = Callable[[int], Schema | None]
Decode = Callable[[bytes | None], Document]


class _UnfitError(Exception):
    """A document that holds what no document may."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def parsed(text: str, needed: Sequence[str] = ()) -> Schema | None:
    """A schema from its JSON text; None when it is not one, or one of which a short body may be a document
    without end: one that holds itself, or a list of what takes no bytes. `needed` are the texts of those that
    it refers to, each behind its own."""
    known: dict[str, Any] = {}
    try:
        for other in needed:
            fastavro.parse_schema(json.loads(other), named_schemas=known)
        made = fastavro.parse_schema(json.loads(text), named_schemas=known, expand=True)
        return made if _is_bounded(made, ()) else None
    except (SchemaParseException, ValueError, LookupError, TypeError, RecursionError):
        return None


def _is_bounded(schema: Schema, around: tuple[str, ...]) -> bool:
    """fastavro's C code follows records as deep as they go, and makes as many items as are said."""
    if isinstance(schema, str):
        return schema not in around
    if isinstance(schema, list):
        return all(_is_bounded(branch, around) for branch in schema)
    kind = schema["type"]
    if kind == "record":
        inside = (*around, schema["name"])
        return all(_is_bounded(part["type"], inside) for part in schema["fields"])
    if kind == "array":
        return _takes_bytes(schema["items"]) and _is_bounded(schema["items"], around)
    if kind == "map":
        return _is_bounded(schema["values"], around)
    return kind in ("enum", "fixed") or _is_bounded(kind, around)


def _takes_bytes(schema: Schema) -> bool:
    """Whether each value takes a byte at least."""
    if isinstance(schema, str):
        return schema != "null"
    if isinstance(schema, list):
        return True
    if schema["type"] == "record":
        return any(_takes_bytes(part["type"]) for part in schema["fields"])
    if schema["type"] == "fixed":
        return bool(schema["size"])
    return bool(schema["type"] != "null")


def decoder(contract: Contract, schema_of: SchemaOf | None) -> Decode:
    """What reads the records of a stream. Raises SetupError for one of Avro without a place where its schemas
    are."""
    if contract.format == "json":
        return read_document
    if schema_of is None:
        raise SetupError(f"the records of {contract.topic} are Avro: nothing was said of where schemas are")
    return avro_reader(schema_of)


def avro_reader(schema_of: SchemaOf) -> Decode:
    """A function (record) → its document, or the one reason why there is none: empty, too_large,
    avro_mismatch (no frame, a body that its schema does not fit, bytes behind it, no record),
    unknown_schema_id, invalid_utf8, too_deep, nul_character, type_mismatch (a number that is none).

    Raises what `schema_of` raises.
    """

    def read(raw: bytes | None) -> Document:
        if not raw:
            return Document(None, "empty")
        if len(raw) > ROW_LIMIT_BYTES:
            return Document(None, "too_large")
        if len(raw) < _FRAME.size or raw[0] != _MAGIC:
            return Document(None, "avro_mismatch")
        schema = schema_of(_FRAME.unpack_from(raw)[1])
        if schema is None:
            return Document(None, "unknown_schema_id")
        return _read(raw, schema)

    return read


def framed(number: int, schema: Schema, document: Mapping[str, Any]) -> bytes:
    """What `avro_reader` reads: a record as producers send it, for samples and tests."""
    body = BytesIO()
    fastavro.schemaless_writer(body, schema, document)
    return _FRAME.pack(_MAGIC, number) + body.getvalue()


def _read(raw: bytes, schema: Schema) -> Document:
    body = BytesIO(raw)
    body.seek(_FRAME.size)
    try:
        value = fastavro.schemaless_reader(body, schema, None)
    except UnicodeDecodeError:
        return Document(None, "invalid_utf8")
    except _UNREADABLE:
        return Document(None, "avro_mismatch")
    if type(value) is not dict or body.tell() != len(raw):
        return Document(None, "avro_mismatch")
    try:
        return Document(_plain(value, MAX_DEPTH), None)
    except _UnfitError as unfit:
        return Document(None, unfit.code)


def _plain(value: Any, levels: int) -> Any:
    """The same in JSON's types, with Decimal for numbers that are not whole; of at most so many levels."""
    kind = type(value)
    if kind is str:
        if "\0" in value:
            raise _UnfitError("nul_character")
        return value
    if value is None or kind in _AS_IN_JSON:
        return value
    if kind is dict or kind is list:
        if not levels:
            raise _UnfitError("too_deep")
        if kind is list:
            return [_plain(item, levels - 1) for item in value]
        return {_plain(name, 0): _plain(item, levels - 1) for name, item in value.items()}
    if kind is float:
        if not math.isfinite(value):
            raise _UnfitError("type_mismatch")
        return Decimal(repr(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


# fastavro's own give datetimes, and fail where Python has none: a time out of range is a value that the
# contract judges, not a body that its schema does not fit.


def _moment(since: int, unit: timedelta, utc: str) -> Any:
    try:
        return (_EPOCH + since * unit).isoformat() + utc
    except OverflowError:
        return since


def _instant_of(unit: timedelta, utc: str) -> Callable[..., Any]:
    return lambda since, *_schemas: _moment(since, unit, utc)


def _decimal(raw: bytes, schema: dict[Any, Any] | None, *_schemas: Any) -> Decimal:
    """Exact, unlike fastavro's own, which rounds; and of no length that would take it seconds."""
    said = schema or {}
    unscaled = int.from_bytes(raw[: _DECIMAL_BYTES + 1], "big", signed=True)
    digits = tuple(map(int, str(abs(unscaled))))
    if len(raw) > _DECIMAL_BYTES or len(digits) > said["precision"]:
        raise ValueError("a decimal of more digits than it may have")
    return Decimal((unscaled < 0, digits, -said.get("scale", 0)))


def _date(days: int, *_schemas: Any) -> Any:
    found = _moment(days, timedelta(days=1), "")
    return found if found is days else found.partition("T")[0]


for _name, _unit in (("millis", timedelta(milliseconds=1)), ("micros", timedelta(microseconds=1))):
    LOGICAL_READERS[f"long-timestamp-{_name}"] = _instant_of(_unit, "Z")
    LOGICAL_READERS[f"long-local-timestamp-{_name}"] = _instant_of(_unit, "")
LOGICAL_READERS["int-date"] = _date
# As it was said: whether it is one, the contract judges.
LOGICAL_READERS["string-uuid"] = lambda said, *_schemas: said
for _name in ("bytes", "fixed"):
    LOGICAL_READERS[f"{_name}-decimal"] = _decimal
