"""Refused bodies of known callers → the contract's topic of refusals, from where refine makes dead letters.

Best effort and bounded: 10 a second and 100 at once for a tenant, none while Kafka is away, at most 64 KiB of
each body. Nothing is kept of a body that denies consent anywhere, even when it cannot be parsed.
"""

import re
import time
import uuid
from functools import cache

import orjson

from api.events import Refused, contract
from api.metrics import DEAD_LETTERS
from api.publisher import Publisher, Record
from headwater.errors import SetupError

MAX_PAYLOAD = 65536
RATE_PER_SECOND = 10.0
BURST = 100.0
MAX_TENANTS = 10_000
_NO_CONSENT = re.compile(rb'"consent"\s*:\s*"?\s*(?:false|no|0)\b', re.IGNORECASE)


class DeadLetters:
    """Decides which refused bodies are kept, and hands them to the publisher."""

    def __init__(self, publisher: Publisher) -> None:
        _topic()  # asked once at the start, not at the first refusal
        self._publisher = publisher
        self._tokens: dict[str, tuple[float, float]] = {}

    def offer(self, raw: bytes, tenant_id: str, refused: Refused) -> None:
        """Keep the body if it may be kept; never waits, never fails."""
        if says_no_consent(raw):
            DEAD_LETTERS.labels("no_consent").inc()
        elif not self._take(tenant_id, time.monotonic()):
            DEAD_LETTERS.labels("over_rate").inc()
        else:
            sent = self._publisher.offer(refusal(raw, tenant_id, refused))
            DEAD_LETTERS.labels("published" if sent else "unavailable").inc()

    def _take(self, tenant_id: str, now: float) -> bool:
        """A token bucket of each tenant."""
        if len(self._tokens) >= MAX_TENANTS:
            self._tokens.clear()
        left, since = self._tokens.get(tenant_id, (BURST, now))
        left = min(BURST, left + (now - since) * RATE_PER_SECOND)
        taken = left >= 1
        self._tokens[tenant_id] = (left - taken, now)
        return taken


def says_no_consent(raw: bytes) -> bool:
    """Whether the text denies consent anywhere, in UTF-8 or UTF-16, parsed or not. In doubt: yes."""
    return bool(_NO_CONSENT.search(raw.replace(b"\0", b"")))


def refusal(raw: bytes, tenant_id: str, refused: Refused) -> Record:
    """The record: the body, and in its headers whose it is, (code, field) of every fault and its length."""
    reasons = orjson.dumps([(fault.code, fault.field) for fault in refused.faults])
    headers = (
        ("tenant_id", tenant_id.encode()),
        ("reasons", reasons),
        ("length", str(len(raw)).encode()),
    )
    return Record(_topic(), f"{tenant_id}|{uuid.uuid4()}".encode(), raw[:MAX_PAYLOAD], headers)


@cache
def _topic() -> str:
    """Raises SetupError when the contract names none."""
    found = contract().refused_topic
    if found is None:
        raise SetupError(f"the contract of {contract().stream} has no customProperty 'refusedTopic'")
    return found
