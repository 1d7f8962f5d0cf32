"""Records as bronze has them → the archive's rows: the bytes as they came, and what they say by the contract.

A field of the contract is a column `event__<path>`, null where the record does not say it in that type. What
cannot be decoded keeps its bytes. Refused consent keeps its place and times and nothing else (ADR 0028).
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from headwater.errors import SetupError
from schemas.avro import Decode, SchemaOf, decoder
from schemas.contract import Contract, Field
from transformations.quick import quick_reader
from transformations.validate import reader
from transformations.verdict import says_no

WITHHELD = "withheld"
_TIME = pa.timestamp("us", tz="UTC")
_HEADER = pa.struct([("key", pa.string()), ("value", pa.binary())])
RECORD = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_timestamp", _TIME),
        ("ingested_at", _TIME),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.field("element", _HEADER))),
        (WITHHELD, pa.string()),
    ]
)
_SAID = ("key", "value", "headers")
_NO_CONSENT = "no_consent"
_DIGITS = 38
# So many at a time: few enough for all that is made of them to stay in a core's cache.
_AT_ONCE = 1_000
_TYPES = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "timestamp": _TIME,
    "date": pa.date32(),
    "object": pa.string(),
}
# Values by JSON Pointer of every row, and the rows that refuse consent.
_Said = tuple[dict[str, list[Any]], list[int]]


def archive_schema(contract: Contract | None) -> pa.Schema:
    """The columns of a topic's files: the record's, then the contract's fields in document order."""
    return pa.schema([*RECORD, *((column(leaf), _type(leaf)) for leaf in _leaves(contract))])


def column(field: Field) -> str:
    """The name of a field's column: its path, a double underscore between levels."""
    return "__".join(("event", *field.path))


def archived(contract: Contract | None, schema_of: SchemaOf | None = None) -> Callable[[pa.Table], pa.Table]:
    """A function (records with the columns of RECORD, but for `withheld`) → the archive's rows, in order.
    `schema_of` is asked for the schemas of records in Avro.

    Without a contract (a topic of bodies that were refused) there are no columns but the record's.
    """
    schema = archive_schema(contract)
    if len(set(schema.names)) < len(schema):
        raise SetupError("two fields of a contract make the same column: a name holds a double underscore")
    said = _reader(contract, decoder(contract, schema_of)) if contract else None

    def apply(records: pa.Table) -> pa.Table:
        if not said:
            return records.append_column(RECORD.field(WITHHELD), pa.nulls(records.num_rows, pa.string()))
        parts = [_rows(part, schema, said) for part in records.to_batches(max_chunksize=_AT_ONCE)]
        return pa.Table.from_batches(parts, schema)

    return apply


def _leaves(contract: Contract | None) -> Sequence[Field]:
    return contract.leaves if contract else ()


def _type(field: Field) -> pa.DataType:
    return _TYPES[field.kind] if field.places is None else pa.decimal128(_DIGITS, field.places)


def _rows(records: pa.RecordBatch, schema: pa.Schema, said: Callable[[pa.RecordBatch], _Said]) -> Any:
    values, refusing = said(records)
    given = {name: records.column(name) for name in records.schema.names}
    rows: list[int | None] = list(range(records.num_rows))
    reasons: list[str | None] = [None] * records.num_rows
    for row in refusing:
        rows[row], reasons[row] = None, _NO_CONSENT
        for column_values in values.values():
            column_values[row] = None
    if refusing:  # what is taken from nowhere is null
        given |= {name: given[name].take(pa.array(rows, pa.int64())) for name in _SAID}
    given[WITHHELD] = pa.array(reasons, pa.string())
    arrays = [given[name] for name in RECORD.names]
    arrays += [
        _array(found, kind.type)
        for found, kind in zip(values.values(), list(schema)[len(RECORD) :], strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(kind):
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, OverflowError):
        return pa.array([_fitting(value, kind) for value in values], kind)


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """The value, if the type can hold it."""
    try:
        pa.scalar(value, kind)
    except (pa.ArrowInvalid, OverflowError):
        return None
    return value


def _reader(contract: Contract, decode: Decode) -> Callable[[pa.RecordBatch], _Said]:
    quick, exact, consent = quick_reader(contract), reader(contract), contract.consent_field
    path = tuple(consent.strip("/").split("/")) if consent else ()

    def said(records: pa.RecordBatch) -> _Said:
        values = records.column("value").to_pylist()
        arrived_us = records.column("ingested_at").cast(pa.int64()).to_pylist()
        columns, doubtful = quick(values, arrived_us)
        refusing = set()
        for row in sorted(doubtful):
            document = decode(values[row])
            if path and document.fault and says_no(document, path):
                refusing.add(row)
            found = {} if document.fault else exact(document.value, arrived_us[row]).values
            for pointer, column_values in columns.items():
                column_values[row] = found.get(pointer)
        if consent:
            refusing |= {row for row, found in enumerate(columns[consent]) if found is False}
        return columns, sorted(refusing)

    return said
