"""Column functions that streams share: Column in, Column out, null in → null out."""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F


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
