"""Names that every store agrees on: event ids and document keys, made from tenant and idempotency key."""

import hashlib
import uuid
from collections.abc import Iterable

_OFFSET_BITS = 20
NAMESPACE = uuid.UUID("5f0c9c52-7d0b-5e0f-9d8a-6a1f3b7c2d41")


def event_id(tenant_id: str, key: str) -> str:
    """uuid5(NAMESPACE, tenant NUL key): the same for every retry of a submission."""
    # What uuid.uuid5 gives (RFC 9562 §5.5), without the object that it makes on the way.
    name = hashlib.sha1(NAMESPACE.bytes + f"{tenant_id}\0{key}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(name[16], 16) & 3]
    return f"{name[:8]}-{name[8:12]}-5{name[13:16]}-{variant}{name[17:20]}-{name[20:32]}"


def document_key(tenant_id: str, key: str) -> str:
    """SHA-256 in hex of tenant NUL key: the Elasticsearch `_id`."""
    return hashlib.sha256(f"{tenant_id}\0{key}".encode()).hexdigest()


def message_key(tenant_id: str, key: str) -> bytes:
    """The Kafka message key: one tenant's retries of a submission stay in one partition, in order."""
    return f"{tenant_id}|{key}".encode()


def dedupe_hash(stream: str, tenant_id: str, key: Iterable[str]) -> str:
    """SHA-256 in hex of stream, tenant and key parts, length-prefixed so that no two keys collide."""
    parts = [part.encode() for part in (stream, tenant_id, *key)]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(part), part) for part in parts])).hexdigest()


def record_hash(topic: str, partition: int, offset: int) -> str:
    """SHA-256 in hex of a Kafka record's place: unique, and free of what the record says."""
    return hashlib.sha256(f"{topic}/{partition}/{offset}".encode()).hexdigest()


def row_version(event_time_us: int, offset: int) -> int:
    """Event time in ms, shifted left by 20 bits, or the offset's low 20 bits: later event, then offset."""
    return event_time_us // 1000 << _OFFSET_BITS | offset & (1 << _OFFSET_BITS) - 1


def fingerprint(codes: Iterable[str], value: bytes | None) -> str:
    """SHA-256 in hex of the sorted distinct reason codes joined by commas, NUL, and the whole value."""
    return hashlib.sha256(",".join(sorted(set(codes))).encode() + b"\0" + (value or b"")).hexdigest()
