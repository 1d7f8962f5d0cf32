"""The contract of lead.ingest as expressions of Polars: bronze's bytes → values, and what becomes of them.

Polars fails a whole column for one text that is no JSON, and leaves no object as text. So every record first
goes through msgspec, which says whether it is JSON, and hands out `metadata` as it stands.
"""

import re
from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import msgspec
import polars as pl

from headwater.text import WHITESPACE
from schemas.contract import MAX_DEPTH, ROW_LIMIT_BYTES, Field
from tests.builders import LEAD
from transformations.validate import EARLIEST_US, LATEST_AFTER_ARRIVAL_US, UUID

TENANT, CONSENT, TIME = LEAD.tenant_field, str(LEAD.consent_field), LEAD.event_time_field
METADATA = "/metadata"
INSTANT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:[0-5]\d)$"
# Polars' regular expressions look neither ahead nor back. The e-mail address's goes without; what it looked
# for are two more: one that must be found, one that must not.
LOOK_AROUND = re.compile(r"\(\?[=!][^()]*\)")
EMAIL_LOCAL, EMAIL_NUMERIC = r"^[^@]{1,64}@", r"\.[0-9]+$"
# Of a number that may be beyond a double: Polars would fail the whole column.
LARGE_EXPONENT = r"[eE]\+?[0-9]{3}"


class Rule(NamedTuple):
    """When a record is dead, and what its letter then says of which field."""

    broken: pl.Expr
    code: str
    pointer: str


class _Envelope(msgspec.Struct, gc=False):
    metadata: msgspec.Raw = msgspec.Raw(b"null")


_envelope = msgspec.json.Decoder(_Envelope)
_whole = msgspec.json.Decoder()


def judged(records: pl.DataFrame) -> pl.DataFrame:
    """Records with what they say, a column a field, with `fault`, and `outcome`: silver, dead, no_consent."""
    faults, texts, metadata = _read(records["value"].to_list())
    read = records.with_columns(faults.alias("fault"), texts.alias("text"), metadata.alias(METADATA))
    documents = pl.col("text").str.json_decode(_kind(LEAD.fields))
    values = [_value(leaf).alias(leaf.pointer) for leaf in LEAD.leaves if leaf.pointer != METADATA]
    steps = read.lazy().with_columns(document=documents).with_columns(values).with_columns(outcome=_OUTCOME)
    return steps.collect(engine="streaming")


def _read(values: list[bytes | None]) -> list[pl.Series]:
    """Of each record the fault, or the text and its metadata."""
    faults, texts, metadata = (
        pl.Series(found, dtype=pl.String) for found in zip(*map(_readable, values), strict=True)
    )
    doubtful = texts.str.contains(LARGE_EXPONENT).arg_true()
    beyond = [row for row in doubtful if not _is_readable(texts[row])]
    if beyond:
        faults.scatter(beyond, "type_mismatch")
        texts.scatter(beyond, None)
    return [faults, texts, metadata]


def _is_readable(text: str) -> bool:
    try:
        _whole.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _readable(raw: bytes | None) -> tuple[str | None, str | None, str | None]:
    if not raw:
        return "empty", None, None
    if len(raw) > ROW_LIMIT_BYTES:
        return "too_large", None, None
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        return "too_deep", None, None
    if b"\\u0000" in raw:
        return "nul_character", None, None
    try:
        text, metadata = raw.decode(), bytes(_envelope.decode(raw).metadata)
    except UnicodeDecodeError:
        return "invalid_utf8", None, None
    except msgspec.ValidationError:  # no object
        return "type_mismatch", None, None
    except msgspec.DecodeError:
        return "malformed_json", None, None
    if metadata == b"null":
        return None, text, None
    return (None, text, metadata.decode()) if metadata[:1] == b"{" else ("type_mismatch", None, None)


def _kind(fields: tuple[Field, ...]) -> pl.Struct:
    """What the documents are read as: without the objects that name no children."""
    kinds = {"boolean": pl.Boolean(), "string": pl.String(), "timestamp": pl.String()}
    named = [field for field in fields if field.pointer != METADATA]
    return pl.Struct({f.name: _kind(f.children) if f.children else kinds[f.kind] for f in named})


def _said(field: Field) -> pl.Expr:
    return reduce(lambda holder, name: holder.struct.field(name), field.path, pl.col("document"))


def _value(field: Field) -> pl.Expr:
    """A text cleaned, a time parsed, null for what says nothing or cannot be read."""
    said = _said(field)
    if field.kind == "boolean":
        return said
    text = said.map_batches(_composed, return_dtype=pl.String, is_elementwise=True)
    text = text.str.strip_chars(WHITESPACE)
    if field.kind == "string":
        return pl.when(text != "").then(text)
    form = "%Y-%m-%dT%H:%M:%S%.f%#z"
    moment = text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
    return pl.when(text.str.contains(INSTANT)).then(moment)


def _composed(texts: pl.Series) -> pl.Series:
    """In NFC, as ASCII is: it is looked for first, because Polars does not."""
    plain = (texts.str.len_bytes() == texts.str.len_chars()).all()
    return texts if plain else texts.str.normalize("NFC")


def _rules(field: Field) -> Iterator[Rule]:
    value, pointer = pl.col(field.pointer), field.pointer
    if field.kind == "timestamp":
        yield Rule(value.is_null() & _said(field).is_not_null(), "type_mismatch", pointer)
        latest = pl.col("ingested_at").dt.epoch("us") + LATEST_AFTER_ARRIVAL_US
        outside = ~value.dt.epoch("us").is_between(EARLIEST_US, latest)
        if pointer == TIME:
            yield Rule(outside, "event_time_out_of_range", pointer)
    if field.required:
        code = "tenant_missing" if pointer == TENANT else "missing_required"
        yield Rule(value.is_null(), code, pointer)
    if field.max_length:
        yield Rule(value.str.len_chars() > field.max_length, "rule:max_length", pointer)
    if field.pattern:
        yield Rule(~_matches(value, field.pattern), "rule:pattern", pointer)
    if field.format == "uuid":
        yield Rule(~value.str.contains(f"^(?:{UUID.pattern})$"), "rule:format", pointer)


def _matches(value: pl.Expr, pattern: str) -> pl.Expr:
    plain = value.str.contains(LOOK_AROUND.sub("", pattern))
    if not LOOK_AROUND.search(pattern):
        return plain
    return plain & value.str.contains(EMAIL_LOCAL) & ~value.str.contains(EMAIL_NUMERIC)


RULES = [rule for leaf in LEAD.leaves for rule in _rules(leaf)]
_BROKEN = pl.any_horizontal([rule.broken.fill_null(False) for rule in RULES])
_OUTCOME: pl.Expr = (
    pl.when(~pl.col(CONSENT))
    .then(pl.lit("no_consent"))
    .when(pl.col("fault").is_not_null() | _BROKEN)
    .then(pl.lit("dead"))
    .otherwise(pl.lit("silver"))
)


def reasons(dead: pl.DataFrame) -> list[list[tuple[str, str]]]:
    """(code, field) of every reason against each record."""
    broken: list[tuple[Any, ...]] = dead.select(
        [rule.broken.fill_null(False).alias(str(number)) for number, rule in enumerate(RULES)]
    ).rows()
    found = [
        [(rule.code, rule.pointer) for rule, against in zip(RULES, row, strict=True) if against]
        for row in broken
    ]
    faults = dead["fault"].to_list()
    return [[(fault, "")] if fault else against for fault, against in zip(faults, found, strict=True)]
