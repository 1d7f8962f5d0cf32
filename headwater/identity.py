"""Names that every store agrees on: event ids and document keys, made from tenant and idempotency key."""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OFFSET_BITS = 20
_Int = TypeVar("_Int", int, "NDArray[np.int64]")
NAMESPACE = uuid.UUID("5f0c9c52-7d0b-5e0f-9d8a-6a1f3b7c2d41")
_NAMESPACE_BYTES = NAMESPACE.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def event_id(tenant_id: str, key: str) -> str:
    """uuid5(NAMESPACE, tenant NUL key): the same for every retry of a submission."""
    # What uuid.uuid5 gives (RFC 9562 §5.5), without the object that it makes on the way.
    name = hashlib.sha1(_NAMESPACE_BYTES + f"{tenant_id}\0{key}".encode(), usedforsecurity=False).hexdigest()
    return f"{name[:8]}-{name[8:12]}-5{name[13:16]}-{_VARIANT[name[16]]}{name[17:20]}-{name[20:32]}"


def document_key(tenant_id: str, key: str) -> str:
    """SHA-256 in hex of tenant NUL key: the Elasticsearch `_id`."""
    return hashlib.sha256(f"{tenant_id}\0{key}".encode()).hexdigest()


def message_key(tenant_id: str, key: str) -> bytes:
    """The Kafka message key: one tenant's retries of a submission stay in one partition, in order."""
    return f"{tenant_id}|{key}".encode()


def dedupe_hashes(stream: str, tenants: Sequence[str], key: Sequence[Sequence[str]]) -> list[str]:
    """SHA-256 in hex of stream, tenant and key parts of each event, length-prefixed so that no two keys
    collide. Tenants and each part of the key are columns."""
    whose = {tenant: _prefixed(stream) + _prefixed(tenant) for tenant in set(tenants)}
    texts = [whose[tenant] for tenant in tenants]
    for part in key:
        texts = [text + _prefixed(more) for text, more in zip(texts, part, strict=True)]
    return [hashlib.sha256(text).hexdigest() for text in texts]


def _prefixed(part: str) -> bytes:
    text = part.encode()
    return b"%d:%b" % (len(text), text)


def record_hash(topic: str, partition: int, offset: int) -> str:
    """SHA-256 in hex of a Kafka record's place: unique, and free of what the record says."""
    return hashlib.sha256(f"{topic}/{partition}/{offset}".encode()).hexdigest()


def row_version(event_time_us: _Int, offset: _Int) -> _Int:
    """Event time in ms, shifted left by 20 bits, or the offset's low 20 bits: later event, then offset.

    Of one record, or of a column.
    """
    return event_time_us // 1000 << _OFFSET_BITS | offset & (1 << _OFFSET_BITS) - 1


def fingerprint(codes: Iterable[str], value: bytes | None) -> str:
    """SHA-256 in hex of the sorted distinct reason codes joined by commas, NUL, and the whole value."""
    return hashlib.sha256(",".join(sorted(set(codes))).encode() + b"\0" + (value or b"")).hexdigest()
