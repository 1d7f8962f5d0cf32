"""Refused bodies of known callers → lead.dlq, with the columns of ops.dead_letters.

Best effort and bounded: 10 a second and 100 at once for a tenant, none while Kafka is away, at most 64 KiB of
each body. Nothing is kept of a body that denies consent anywhere, even when it cannot be parsed.
"""

import base64
import hashlib
import re
import time
import uuid

import orjson

from api.events import STREAM, Refused, contract
from api.metrics import DEAD_LETTERS
from api.publisher import Publisher, Record
from headwater import identity
from headwater.clock import iso, utc_now
from headwater.version import CODE_VERSION

TOPIC = "lead.dlq"
MAX_PAYLOAD = 65536
RATE_PER_SECOND = 10.0
BURST = 100.0
MAX_TENANTS = 10_000
_NO_CONSENT = re.compile(rb'"consent"\s*:\s*"?\s*(?:false|no|0)\b', re.IGNORECASE)


class DeadLetters:
    """Decides which refused bodies are kept, and hands them to the publisher."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._tokens: dict[str, tuple[float, float]] = {}

    def offer(self, raw: bytes, tenant_id: str, refused: Refused) -> None:
        """Keep the body if it may be kept; never waits, never fails."""
        if says_no_consent(raw):
            DEAD_LETTERS.labels("no_consent").inc()
        elif not self._take(tenant_id, time.monotonic()):
            DEAD_LETTERS.labels("over_rate").inc()
        else:
            sent = self._publisher.offer(dead_letter(raw, tenant_id, refused))
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


def dead_letter(raw: bytes, tenant_id: str, refused: Refused) -> Record:
    """The record."""
    name = hashlib.sha256(f"api\0{uuid.uuid4()}".encode()).hexdigest()
    row: dict[str, object] = {
        "dead_letter_id": name,
        "fingerprint": identity.fingerprint((fault.code for fault in refused.faults), raw),
        "stream": STREAM,
        "stage": "api",
        "tenant_id": tenant_id,
        "reasons": [_reason(fault.code, fault.field, fault.message) for fault in refused.faults],
        "payload": base64.b64encode(raw[:MAX_PAYLOAD]).decode(),
        "headers": {},
        "source_topic": None,
        "source_partition": None,
        "source_offset": None,
        "event_id": None,
        "event_time": None,
        "failed_at": iso(utc_now()),
        "code_version": CODE_VERSION,
        "contract_version": contract().version,
        "replay_count": 0,
        "replay_of": None,
        "status": "new",
        "failed_sinks": [],
    }
    return Record(TOPIC, f"{tenant_id}|{name}".encode(), orjson.dumps(row))


def _reason(code: str, field: str, message: str) -> dict[str, str | None]:
    rule = code.partition(":")[2] or None
    return {"code": code, "rule": rule, "field": field, "message": message}
