"""Ids that all stores agree on."""

import hashlib
import uuid

from headwater import identity

NUL = chr(0)


def test_an_event_id_is_the_rfcs_uuid5_of_tenant_nul_key() -> None:
    name = f"acme{NUL}key é".encode()
    digest = bytearray(hashlib.sha1(identity.NAMESPACE.bytes + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    assert identity.event_id("acme", "key é") == str(uuid.UUID(bytes=bytes(digest)))


def test_an_event_id_never_changes_between_releases() -> None:
    assert identity.event_id("acme", "key-1") == "caad8410-2e19-5f68-862a-b722a2282407"


def test_tenant_and_key_are_told_apart() -> None:
    assert identity.event_id("a", "bc") != identity.event_id("ab", "c")
    assert identity.document_key("a", "bc") != identity.document_key("ab", "c")


def test_a_document_key_is_the_sha256_of_tenant_nul_key() -> None:
    assert identity.document_key("acme", "é") == hashlib.sha256(f"acme{NUL}é".encode()).hexdigest()


def test_a_message_key_is_tenant_bar_key() -> None:
    assert identity.message_key("acme", "é") == "acme|é".encode()
