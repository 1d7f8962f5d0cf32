"""A parsed document → typed fields, and every reason why it is not what its contract says."""

import re
from collections.abc import Callable
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contract import Contract, Field, walk
from transformations.columns import clean_text, instant
from transformations.envelope import ROOT

EARLIEST = "2000-01-01 00:00:00"
LATEST_AFTER_ARRIVAL = "INTERVAL 1 DAY"
REASON = "STRUCT<code: STRING, rule: STRING, field: STRING, message: STRING>"
_NAME = r'"\s*+:'
_UUID = r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_SENTENCES = {
    "empty": "the record has no value",
    "too_large": "the record is larger than 1 MiB",
    "invalid_utf8": "the text is not UTF-8",
    "malformed_json": "the text is not one JSON value",
    "too_deep": "arrays and objects nest more than 32 levels",
    "nul_character": "a string holds the character U+0000",
    "type_mismatch": "the value has another type than the contract says",
    "missing_required": "the field is required",
    "tenant_missing": "the field that names the tenant is required",
    "event_time_out_of_range": "the event time is before 2000 or more than a day after arrival",
    "rule:max_length": "the value is longer than the contract allows",
    "rule:pattern": "the value does not have the form that the contract asks for",
    "rule:format": "the value does not have the format that the contract asks for",
}


def reason(code: str, field: str = "") -> Column:
    """One reason: code, rule when it is one, the field's JSON Pointer, a sentence without any value."""
    rule = code.removeprefix("rule:") if code.startswith("rule:") else None
    values = {"code": code, "rule": rule, "field": field, "message": _SENTENCES[code]}
    return F.struct(*[F.lit(v).cast("string").alias(k) for k, v in values.items()])


def fault_reason(fault: Column) -> Column:
    """The reason of a document that could not be read, from its code; null for null."""
    known = (
        "empty",
        "too_large",
        "invalid_utf8",
        "malformed_json",
        "too_deep",
        "nul_character",
        "type_mismatch",
    )
    return F.coalesce(*[F.when(fault == code, reason(code)) for code in known])


def read_fields(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Add one typed, cleaned column per leaf, named by its pointer, and `extras`.

    A leaf of another type than the contract says is null, with the found type in `kind<pointer>`, which is
    null where the type fits. Objects without named children are JSON text. `extras` is JSON text of the
    fields that the contract does not name, by JSON Pointer; null when there are none.
    """
    every = walk(contract.fields)
    objects = [field for field in every if field.children]

    def apply(parsed: DataFrame) -> DataFrame:
        good = F.col("fault").isNull()
        event = F.from_json(F.when(good, F.col("text")), f"STRUCT<{_json_ddl(contract.fields)}>")
        kinds = F.struct(*[_kind(f).alias(f.pointer) for f in every])
        suspect = good & F.col("text").rlike(_misfit(every))
        values = {f.pointer: _value(contract, f) for f in contract.leaves}
        return (
            parsed.withColumns({"event": event, "kinds": F.when(suspect, kinds)})
            .withColumns({f"raw{f.pointer}": _raw(f) for f in every})
            .withColumns({**values, "extras": F.when(good, _extras(contract, objects))})
        )

    return apply


def _json_ddl(fields: tuple[Field, ...]) -> str:
    """The Spark schema that from_json reads: values as text, judged later; booleans, numbers as such."""
    types = {"boolean": "BOOLEAN", "integer": "BIGINT", "number": "DECIMAL(38,9)"}
    parts = []
    for field in fields:
        kind = f"STRUCT<{_json_ddl(field.children)}>" if field.children else types.get(field.kind, "STRING")
        parts.append(f"`{field.name}`: {kind}")
    return ", ".join(parts)


def _misfit(fields: tuple[Field, ...]) -> str:
    """A regex that finds, in a document, a known name before a value that is not of its type, or an escaped
    name.

    It may find too much (the name stands in an unknown object too), never too little: the exact look comes
    behind.
    """
    begins = {
        "string": '"n',
        "timestamp": '"n',
        "boolean": "tfn",
        "integer": r"0-9\-n",
        "number": r"0-9\-n",
        "object": r"\{n",
    }
    kinds = sorted({begins[field.kind] for field in fields})
    names = {
        kind: "|".join(sorted({re.escape(f.name) for f in fields if begins[f.kind] == kind}))
        for kind in kinds
    }
    wrong = [rf"(?:{names[kind]})\"\s*+:\s*+[^{kind}\s]" for kind in kinds]
    whole_numbers = "|".join(sorted({re.escape(f.name) for f in fields if f.kind in ("integer", "number")}))
    if whole_numbers:
        wrong.append(rf"(?:{whole_numbers})\"\s*+:\s*+-?[0-9]*+[.eE]")
    return rf'"(?:{"|".join(wrong)})|\\u00[2-7]'


def _raw(field: Field) -> Column:
    """The field as from_json read it."""
    return reduce(lambda at, key: at.getField(key), field.path, F.col("event"))


def _place(field: Field) -> str:
    return ROOT + "".join(f"['{key}']" for key in field.path)


def _kind(field: Field) -> Column:
    """The found type where it does not fit: OBJECT<…>, STRING, …; null where it fits or nothing is there."""
    found = F.nullif(F.schema_of_variant(F.try_variant_get("doc", _place(field), "variant")), F.lit("VOID"))
    return F.when(~_fits(field, found), found)


def _fits(field: Field, kind: Column) -> Column:
    wanted = {"string": "STRING", "timestamp": "STRING", "boolean": "BOOLEAN", "integer": "BIGINT"}
    if field.kind == "number":
        return (kind == "BIGINT") | kind.startswith("DECIMAL")
    if field.kind == "object":
        return kind.startswith("OBJECT<")
    return kind == wanted[field.kind]


def _value(contract: Contract, field: Field) -> Column:
    raw = F.col(f"`raw{field.pointer}`")
    if field.pointer == contract.tenant_field:
        # Even a rejected row is filed under its tenant: never under a number's text.
        raw = F.when(_misfits(field).isNull(), raw)
    if field.kind == "string":
        return clean_text(raw)
    if field.kind == "object":
        # From the VARIANT, which keeps decimals exact; from_json passes numbers through a double.
        return F.when(raw.isNotNull(), F.to_json(F.try_variant_get("doc", _place(field), "variant")))
    return instant(raw) if field.kind == "timestamp" else raw


def _misfits(field: Field) -> Column:
    """The found type of a field that is not of the contract's type; null when it fits or nothing is there."""
    return F.col("kinds").getField(field.pointer)


def _extras(contract: Contract, objects: list[Field]) -> Column:
    levels = [((), contract.fields), *((f.path, f.children) for f in objects)]
    unknown = [_unknown(path, [f.name for f in fields]) for path, fields in levels]
    exact = F.nullif(F.to_json(F.map_concat(*unknown)), F.lit("{}"))
    return F.when(_may_have_others(contract), exact)


def _may_have_others(contract: Contract) -> Column:
    """False only when the document has as many names as known fields were found: then there is no other."""
    found = [F.col(f"`raw{f.pointer}`").isNotNull().cast("int") for f in walk(contract.fields)]
    free = [F.col(f"`raw{f.pointer}`") for f in contract.leaves if f.kind == "object"]
    inside = [F.coalesce(F.regexp_count(text, F.lit(_NAME)), F.lit(0)) for text in free]
    known = reduce(lambda a, b: a + b, [*found, *inside])
    return (F.regexp_count("text", F.lit(_NAME)) != known) | F.contains("text", F.lit("\\u00"))


def _unknown(path: tuple[str, ...], names: list[str]) -> Column:
    place = ROOT + "".join(f"['{key}']" for key in path)
    left = F.map_filter(
        F.try_variant_get("doc", place, "map<string,variant>"), lambda key, _: ~key.isin(names)
    )
    prefix = "".join(f"/{key}" for key in path) + "/"
    named = F.transform_keys(left, lambda key, _: F.concat(F.lit(prefix), _escaped(key)))
    return F.coalesce(named, _nothing())


def _escaped(key: Column) -> Column:
    """A key as a step of a JSON Pointer (RFC 6901 §3)."""
    return F.replace(F.replace(key, F.lit("~"), F.lit("~0")), F.lit("/"), F.lit("~1"))


def _nothing() -> Column:
    return F.map_from_arrays(F.array().cast("array<string>"), F.array().cast("array<variant>"))


def find_reasons(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Add `reasons`: every failed rule in the contract's order, empty when the row is good."""

    def apply(fields: DataFrame) -> DataFrame:
        checks = [check for field in walk(contract.fields) for check in _checks(contract, field)]
        failed = reduce(lambda a, b: a | b, [condition for condition, _ in checks])
        # Numbers first, reasons looked up behind: a struct per check would make the generated code huge.
        numbers = F.array_compact(F.array(*[F.when(c, F.lit(i)) for i, (c, _) in enumerate(checks, 1)]))
        known = F.array(*[found for _, found in checks])
        every = F.transform(numbers, lambda i: F.element_at(known, i))
        nothing = F.array().cast(f"ARRAY<{REASON}>")
        fault = F.col("fault")
        reasons = (
            F.when(fault.isNotNull(), F.array(fault_reason(fault))).when(failed, every).otherwise(nothing)
        )
        return fields.withColumn("reasons", reasons)

    return apply


def _checks(contract: Contract, field: Field) -> list[tuple[Column, Column]]:
    """(condition that is true when a rule fails, its reason) of one field; a condition is never null."""
    found = [(F.col("kinds").isNotNull() & _misfits(field).isNotNull(), "type_mismatch")]
    if field.required:
        code = "tenant_missing" if field.pointer == contract.tenant_field else "missing_required"
        found.append((_absent(field), code))
    if not field.children:
        found += [(_fits_so_far(field) & failed, code) for failed, code in _value_checks(contract, field)]
    return [(F.coalesce(failed, F.lit(False)), reason(code, field.pointer)) for failed, code in found]


def _fits_so_far(field: Field) -> Column:
    return F.col("kinds").isNull() | _misfits(field).isNull()


def _value_checks(contract: Contract, field: Field) -> list[tuple[Column, str]]:
    value, raw = F.col(f"`{field.pointer}`"), F.col(f"`raw{field.pointer}`")
    found: list[tuple[Column, str]] = []
    if field.kind == "timestamp":
        found.append((value.isNull() & ~_blank(raw), "type_mismatch"))
    if field.max_length:
        found.append((F.char_length(value) > field.max_length, "rule:max_length"))
    if field.pattern:
        found.append((~value.rlike(field.pattern), "rule:pattern"))
    if field.format == "uuid":
        found.append((~value.rlike(_UUID), "rule:format"))
    if field.pointer == contract.event_time_field:
        latest = F.col("ingested_at") + F.expr(LATEST_AFTER_ARRIVAL)
        outside = (value < F.lit(EARLIEST).cast("timestamp")) | (value > latest)
        found.append((outside, "event_time_out_of_range"))
    return found


def _absent(field: Field) -> Column:
    """Nothing was there, or only white space; not when its parent is missing itself or of a wrong type."""
    raw = F.col(f"`raw{field.pointer}`")
    if field.kind == "timestamp":
        absent = _blank(raw)
    else:
        absent = (raw if field.children else F.col(f"`{field.pointer}`")).isNull()
    parent = "".join(f"/{key}" for key in field.path[:-1])
    return absent & _fits_so_far(field) & (F.col(f"`raw{parent}`").isNotNull() if parent else F.lit(True))


def _blank(text: Column) -> Column:
    return text.isNull() | text.rlike(r"^\s*$")
