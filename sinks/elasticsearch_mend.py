"""Documents of Elasticsearch by their id: to take some away, unless somebody has written them since.

The server remembers the version of what was deleted for `index.gc_deletes`, a minute unless it says
otherwise, and refuses older ones meanwhile.
"""

import re
import time
from collections.abc import Sequence
from typing import Any

from elasticsearch import Elasticsearch

from headwater.errors import SetupError, TransientError
from sinks.base import Seen
from sinks.elasticsearch_judge import BAD_REQUEST, CONFLICT, SERVER_FAULT, TOO_MANY, explained

_AT_ONCE = 1000
_NOT_FOUND = 404
_ANSWER = "items.*.status"
_GC_DELETES = "index.gc_deletes"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# The server's clock for this moves in steps.
_MORE_S = 1.0


def take_away(client: Elasticsearch, alias: str, rows: Sequence[Seen]) -> int:
    """Delete documents that are as they were seen; how many went. A row's token is the document's id, and the
    sequence number and term of its last change."""
    gone = 0
    for first in range(0, len(rows), _AT_ONCE):
        operations = [_operation(row) for row in rows[first : first + _AT_ONCE]]
        with explained("bulk"):
            answer = client.bulk(index=alias, operations=operations, require_alias=True, filter_path=_ANSWER)
        gone += sum(_went(int(item["delete"]["status"])) for item in answer["items"])
    return gone


def wait_until_forgotten(client: Elasticsearch, alias: str) -> None:
    """Wait until the server would take a document again whatever its version."""
    with explained("reading settings"):
        found = client.indices.get_settings(
            index=alias, name=_GC_DELETES, include_defaults=True, flat_settings=True
        )
    said = [{**of["defaults"], **of["settings"]}.get(_GC_DELETES, "60s") for of in found.values()]
    time.sleep(max(map(seconds, said)) + _MORE_S)


def seconds(text: str) -> float:
    """A duration as the server writes it: 60s, 1m, 500ms."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not found:
        raise SetupError(f"{_GC_DELETES} {text!r} is no duration that we know: set it to 60s")
    return float(found[1]) * _SECONDS[found[2]]


def _operation(row: Seen) -> dict[str, Any]:
    document, number, term = row.token
    return {"delete": {"_id": document, "if_seq_no": number, "if_primary_term": term}}


def _went(status: int) -> bool:
    if status in (_NOT_FOUND, CONFLICT):
        return False
    if status == TOO_MANY or status >= SERVER_FAULT:
        raise TransientError(f"Elasticsearch answers {status} to a deletion")
    if status >= BAD_REQUEST:
        raise SetupError(f"Elasticsearch refuses a deletion with {status}: check the rights")
    return True
