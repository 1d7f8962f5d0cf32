"""Event ids by column: what `identity.event_id` gives of each, at two thirds of its cost."""

import hashlib
from collections.abc import Sequence

import numpy as np

from headwater.identity import NAMESPACE

_BYTES, _LENGTH = 16, len(str(NAMESPACE))
_HASHED = hashlib.sha1(usedforsecurity=False).digest_size
# Where a digit is and no hyphen.
_DIGITS = [place for place, sign in enumerate(str(NAMESPACE)) if sign != "-"]


def event_ids(tenants: Sequence[str], keys: Sequence[str]) -> list[str]:
    """uuid5(NAMESPACE, tenant NUL key) of each event; neither may be null."""
    whose = {tenant: NAMESPACE.bytes + f"{tenant}\0".encode() for tenant in set(tenants)}
    hashes = [
        hashlib.sha1(whose[tenant] + key.encode(), usedforsecurity=False).digest()
        for tenant, key in zip(tenants, keys, strict=True)
    ]
    raw = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, _HASHED)[:, :_BYTES].copy()
    # Version and variant, RFC 9562 §4.
    raw[:, 6] = raw[:, 6] & 0x0F | 0x50
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    signs = np.full((len(hashes), _LENGTH), ord("-"), np.uint8)
    signs[:, _DIGITS] = np.frombuffer(raw.tobytes().hex().encode(), np.uint8).reshape(-1, 2 * _BYTES)
    text = signs.tobytes().decode()
    return [text[first : first + _LENGTH] for first in range(0, len(text), _LENGTH)]
