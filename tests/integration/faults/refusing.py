"""Documents that Elasticsearch does not take: some never, some only after it was asked again and again."""

import threading
from collections import Counter
from typing import Any

from tests.integration.jobs_harness import Sent

STAGE = "sink:elasticsearch"
# The source of a lead that is refused for ever, and with what type of error.
REFUSED = {
    "unmapped": "mapper_parsing_exception",
    "parsed": "document_parsing_exception",
    "argued": "illegal_argument_exception",
}
_TOO_MANY = (429, "es_rejected_execution_exception")
# More often than the connector tries by itself.
TRIES = 5


class Refusing:
    """400 for leads of a source in REFUSED; every other document of the rest meets 429 TRIES times first."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._number: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, document: dict[str, Any]) -> tuple[int, str] | None:
        with self._lock:
            number = self._number.setdefault(document["id"], len(self._number))
            self.seen[document["id"]] += 1
            if kind := REFUSED.get(document["source"]):
                return 400, kind
            return _TOO_MANY if number % 2 and self.seen[document["id"]] <= TRIES else None


def refused_letter(sent: Sent) -> dict[str, Any]:
    """What the dead letter of such a lead says: the server's reason, the record's own bytes, whose it is."""
    message = "the destination refused the row with code 400"
    reason = {
        "code": "sink_rejected",
        "rule": REFUSED[sent.key.partition(".")[2]],
        "field": "",
        "message": message,
    }
    return {
        "reasons": [reason],
        "payload": sent.value,
        "tenant_id": sent.tenant,
        "status": "new",
        "failed_sinks": ["elasticsearch"],
    }
