"""Column functions that streams share: Column in, Column out, null in → null out unless said otherwise."""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from headwater.identity import NAMESPACE
from headwater.text import WHITESPACE

_OFFSET_BITS = 20
_SPACE = 0x20


def clean_text(raw: Column) -> Column:
    """Trimmed of white space, in Unicode NFC (by the ICU library that Spark ships); empty becomes null."""
    composed = F.reflect(F.lit("com.ibm.icu.text.Normalizer"), F.lit("compose"), raw, F.lit(False))
    cleaned = F.nullif(F.btrim(composed, F.lit(WHITESPACE)), F.lit(""))
    # Most values are ASCII without white space at their ends: they pass untouched.
    ends = (F.ascii(raw) > _SPACE) & (F.ascii(F.substring(raw, -1, 1)) > _SPACE)
    return F.when((F.octet_length(raw) == F.char_length(raw)) & ends, raw).when(raw.isNotNull(), cleaned)


def event_uuid(tenant_id: Column, key: Column) -> Column:
    """uuid5 of tenant NUL key in Headwater's namespace (RFC 9562 §5.5); null when either is null."""
    name = F.concat(tenant_id, F.lit("\0"), key).cast("binary")
    digest = F.sha1(F.concat(F.lit(bytearray(NAMESPACE.bytes)), name))
    variant = F.substr(
        F.lit("89ab"), F.conv(F.substr(digest, F.lit(17), F.lit(1)), 16, 10).cast("int") % 4 + 1, F.lit(1)
    )
    return F.concat_ws(
        "-",
        F.substr(digest, F.lit(1), F.lit(8)),
        F.substr(digest, F.lit(9), F.lit(4)),
        F.concat(F.lit("5"), F.substr(digest, F.lit(14), F.lit(3))),
        F.concat(variant, F.substr(digest, F.lit(18), F.lit(3))),
        F.substr(digest, F.lit(21), F.lit(12)),
    )


def document_key(tenant_id: Column, key: Column) -> Column:
    """SHA-256 in hex of tenant NUL key: the Elasticsearch `_id`."""
    return F.sha2(F.concat(tenant_id, F.lit("\0"), key), 256)


def row_version(event_time: Column, offset: Column) -> Column:
    """Event time in ms, shifted left by 20 bits, or the offset's low 20 bits: later event, then offset."""
    low_bits = offset.bitwiseAND(F.lit((1 << _OFFSET_BITS) - 1))
    return F.shiftleft(F.unix_millis(event_time), _OFFSET_BITS).bitwiseOR(low_bits)


def dedupe_hash(stream: Column, tenant_id: Column, key: Sequence[Column]) -> Column:
    """SHA-256 in hex of stream, tenant and key parts, length-prefixed so that no two keys collide."""
    prefixed = [
        F.concat(F.octet_length(part).cast("string"), F.lit(":"), part) for part in (stream, tenant_id, *key)
    ]
    return F.sha2(F.concat(*prefixed), 256)


def record_hash(topic: Column, partition: Column, offset: Column) -> Column:
    """SHA-256 in hex of a Kafka record's place: unique, and free of what the record says."""
    return F.sha2(F.concat_ws("/", topic, partition.cast("string"), offset.cast("string")), 256)


def utm_parameter(page_url: Column, name: str, longest: int = 255) -> Column:
    """One utm_* parameter of a URL, percent-decoded, cut to `longest`; null when absent or unreadable."""
    found = F.regexp_extract(page_url, rf"[?&]utm_{name}=([^&#]*)", 1)
    decoded = F.try_url_decode(F.nullif(found, F.lit("")))
    return clean_text(F.left(decoded, F.lit(longest)))


def instant(text: Column) -> Column:
    """A timestamp from ISO 8601 text with an offset or Z; null when it is anything else."""
    iso = r"^\s*\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})\s*$"
    return F.when(text.rlike(iso), text.try_cast("timestamp"))
