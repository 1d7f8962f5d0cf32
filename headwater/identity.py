"""Names that every store agrees on: event ids and document keys, made from tenant and idempotency key."""

import hashlib
import uuid

NAMESPACE = uuid.UUID("5f0c9c52-7d0b-5e0f-9d8a-6a1f3b7c2d41")


def event_id(tenant_id: str, key: str) -> str:
    """uuid5(NAMESPACE, tenant NUL key): the same for every retry of a submission."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant_id}\0{key}"))


def document_key(tenant_id: str, key: str) -> str:
    """SHA-256 in hex of tenant NUL key: the Elasticsearch `_id`."""
    return hashlib.sha256(f"{tenant_id}\0{key}".encode()).hexdigest()


def message_key(tenant_id: str, key: str) -> bytes:
    """The Kafka message key: one tenant's retries of a submission stay in one partition, in order."""
    return f"{tenant_id}|{key}".encode()
