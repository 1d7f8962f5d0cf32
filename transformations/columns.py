"""Column functions that streams share: Column in, Column out, null in → null out."""

import json
from collections.abc import Mapping, Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.tables import PLACE, SOURCE
from transformations.content_hash import ESCAPED

_MOMENT = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"
_ZEROS_BEHIND = r"\.?0+$"


def document_key(tenant_id: Column, key: Column) -> Column:
    """SHA-256 in hex of tenant NUL key: the Elasticsearch `_id`."""
    return F.sha2(F.concat(tenant_id, F.lit("\0"), key), 256)


def dedupe_hash(stream: Column, tenant_id: Column, key: Sequence[Column]) -> Column:
    """SHA-256 in hex of stream, tenant and key parts, length-prefixed so that no two keys collide.

    The same as headwater.identity makes.
    """
    prefixed = [
        F.concat(F.octet_length(part).cast("string"), F.lit(":"), part) for part in (stream, tenant_id, *key)
    ]
    return F.sha2(F.concat(*prefixed), 256)


def content_hash(kinds: Mapping[str, str]) -> Column:
    """SHA-256 in hex of the canonical JSON of a row's columns, given their kinds by name.

    Null columns are left out. The same as transformations/content_hash.py makes; the session's zone is UTC.
    """
    members = [
        F.concat(
            F.lit(f'{_json(name)}:"'), _escaped(canonical_text(F.col(f"`{name}`"), kinds[name])), F.lit('"')
        )
        for name in sorted(kinds)
    ]
    return F.sha2(F.concat(F.lit("{"), F.concat_ws(",", *members), F.lit("}")), 256)


def canonical_text(value: Column, kind: str) -> Column:
    """The one text of a value of this kind (transformations/cells.py).

    Numbers are decimals with a scale above 0; their text is plain in ANSI mode, which the session has on.
    """
    if kind == "number":
        return F.regexp_replace(value.cast("string"), _ZEROS_BEHIND, "")
    if kind == "timestamp":
        return F.concat(F.regexp_replace(F.date_format(value, _MOMENT), _ZEROS_BEHIND, ""), F.lit("Z"))
    return value if kind == "string" else value.cast("string")


def _escaped(text: Column) -> Column:
    """Text as it stands between the quotes of canonical JSON; the backslash is first to be replaced."""
    letters = ["\\", '"', *map(chr, range(1, 0x20))]
    pairs = F.array(
        *[F.struct(F.lit(one).alias("raw"), F.lit(_json(one)[1:-1]).alias("escaped")) for one in letters]
    )
    replaced = F.aggregate(pairs, text, lambda made, pair: F.replace(made, pair["raw"], pair["escaped"]))
    return F.when(text.rlike(ESCAPED), replaced).otherwise(text)


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def placed() -> list[Column]:
    """The place of a row behind bronze, named as bronze names it."""
    return [F.col(theirs).alias(ours) for theirs, ours in zip(SOURCE, PLACE, strict=True)]


def sourced() -> list[Column]:
    """The place of a record of bronze, named as all tables behind it do."""
    return [F.col(ours).alias(theirs) for ours, theirs in zip(PLACE, SOURCE, strict=True)]
