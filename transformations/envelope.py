"""bronze bytes → a parsed document, or the one reason why there is none.

The document is parsed twice, by built-ins that stay in the JVM: to VARIANT, which is strict and keeps each
value's own type, so that 5 is never mistaken for "5"; and later by from_json, which is the quick way to many
fields. Whatever is rare is looked for behind a cheap test that most documents pass.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contract import MAX_DEPTH, ROW_LIMIT_BYTES

ROOT = "$.z"
_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"


def parse_json(bronze: DataFrame) -> DataFrame:
    """Add `text`, `doc` (VARIANT, the document at $.z) and `fault` (reason code or null).

    `text` and `doc` are null when the bytes are too many, not UTF-8 or not JSON. The parser stops behind the
    first value: wrapped as {"z": document, "a": 0}, a document with anything behind it is malformed or loses
    its "a".
    """
    size = F.coalesce(F.octet_length("value"), F.lit(0))
    text = F.col("value").cast("string")
    readable = (size > 0) & (size <= ROW_LIMIT_BYTES) & F.is_valid_utf8(text)
    wrapped = F.concat(F.lit('{"z":'), F.col("text"), F.lit(',"a":0}'))
    return (
        bronze.withColumn("text", F.when(readable, text))
        .withColumn("doc", F.try_parse_json(wrapped))
        .withColumn("fault", _fault(size, F.col("text"), F.col("doc")))
    )


def _fault(size: Column, text: Column, doc: Column) -> Column:
    # What stands behind the document may fit into the wrapper as more keys: then the list is longer than one.
    alone = F.json_array_length(F.concat(F.lit("["), text, F.lit("]"))) == 1
    closed = F.try_variant_get(doc, "$.a", "variant").isNotNull()
    whole = closed & F.coalesce(alone, F.lit(False))
    return (
        F.when(size == 0, "empty")
        .when(size > ROW_LIMIT_BYTES, "too_large")
        .when(text.isNull(), "invalid_utf8")
        .when(deeper_than(text, MAX_DEPTH), "too_deep")
        .when(~whole & text.rlike(r"^\s*$"), "empty")
        .when(~whole, "malformed_json")
        .when(~text.rlike(r"^\s*\{"), "type_mismatch")
        .when(F.contains(text, F.lit("\\u")) & has_nul(text), "nul_character")
        .when(F.contains(text, F.lit("\\u")) & has_lone_surrogate(text), "invalid_utf8")
        .when(has_overflow(text), "type_mismatch")
    )


def without_strings(text: Column) -> Column:
    """JSON text with the content of its strings taken out. Two passes, no backtracking: safe on any input."""
    return F.regexp_replace(F.regexp_replace(text, r"(?s)\\.", ""), '"[^"]*+"', '""')


def deeper_than(text: Column, depth: int) -> Column:
    """True when arrays and objects nest more than `depth` levels; a look only where enough open."""
    shape = F.regexp_replace(without_strings(text), r"[^\[\]{}]++", "")
    # A loop inside one expression: 32 nested calls would outgrow what the JVM compiles.
    peeled = F.aggregate(
        F.sequence(F.lit(1), F.lit(depth)), shape, lambda left, _: F.regexp_replace(left, r"\[\]|\{\}", "")
    )
    closed = F.replace(F.replace(text, F.lit("["), F.lit("")), F.lit("{"), F.lit(""))
    opening = F.octet_length(text) - F.octet_length(closed)
    return F.when(opening <= depth, F.lit(False)).otherwise(F.octet_length(peeled) > 0)


def has_nul(text: Column) -> Column:
    """True when a string holds an escaped U+0000, which PostgreSQL cannot store."""
    return F.contains(_without_escaped_backslashes(text), F.lit("\\u0000"))


def has_lone_surrogate(text: Column) -> Column:
    """True when an escape names half of a surrogate pair: not a character, and not UTF-8."""
    return F.regexp_replace(_without_escaped_backslashes(text), _PAIR, "").rlike(r"\\u[dD][89a-fA-F]")


def has_overflow(text: Column) -> Column:
    """True when a number is too large for a double, such as 1e400."""
    number = r"-?[0-9]+(?:\.[0-9]+)?[eE]\+?[0-9]{3,}|[0-9]{309,}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
    found = F.regexp_extract_all(without_strings(text), F.lit(f"({number})"))
    infinite = F.exists(found, lambda n: F.abs(n.try_cast("double")) == F.lit(float("inf")))
    return F.when(~text.rlike(r"[0-9][eE]\+?[0-9]{3}|[0-9]{309}"), F.lit(False)).otherwise(infinite)


def _without_escaped_backslashes(text: Column) -> Column:
    return F.replace(text, F.lit("\\\\"), F.lit(""))
