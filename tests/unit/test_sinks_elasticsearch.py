"""How each item of a bulk answer is judged, with a client that answers from a list."""

from typing import Any, cast

import pytest
from elasticsearch import Elasticsearch
from pyspark.sql import Row

from headwater.errors import SetupError, TransientError
from sinks.base import Rejected
from sinks.elasticsearch_judge import Bulk

CREATED = {"status": 201, "result": "created"}
UPDATED = {"status": 200, "result": "updated"}
CONFLICT = {"status": 409, "error": {"type": "version_conflict_engine_exception"}}
BUSY = {"status": 429, "error": {"type": "es_rejected_execution_exception"}}
BAD = {"status": 400, "error": {"type": "mapper_parsing_exception"}}
UNMAPPED = {"status": 400, "error": {"type": "strict_dynamic_mapping_exception"}}
NO_ALIAS = {"status": 404, "error": {"type": "index_not_found_exception"}}


class Answers:
    """Answers each bulk request with the next list of items, and remembers the requests' sizes."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self._answers = list(answers)
        self.sizes: list[int] = []

    def bulk(self, operations: list[Any], **_: object) -> dict[str, Any]:
        self.sizes.append(len(operations) // 2)
        return {"items": [{"index": item} for item in self._answers.pop(0)]}


def rows(count: int, document: str = "{}") -> list[Row]:
    return [
        Row(
            doc_key=f"k{i}", row_version=i, document=document,
            source_topic="t", source_partition=0, source_offset=i, tenant_id="acme",
        )
        for i in range(count)
    ]  # fmt: skip


def bulk(client: Answers, entries: int = 100, size: int = 1000, patience_s: float = 5) -> Bulk:
    return Bulk(cast(Elasticsearch, client), "leads", entries, size, patience_s)


def test_created_updated_and_conflicting_documents_are_counted_apart() -> None:
    written = bulk(Answers([CREATED, UPDATED, CONFLICT])).write(rows(3))
    assert (written.inserted, written.updated, written.unchanged, written.rejected) == (1, 1, 1, ())


def test_a_400_rejects_its_document_alone() -> None:
    written = bulk(Answers([CREATED, BAD])).write(rows(2))
    assert written.rejected == (Rejected("t", 0, 1, "acme", "400", "mapper_parsing_exception"),)
    assert written.inserted == 1


def test_only_what_was_busy_is_sent_again() -> None:
    client = Answers([CREATED, BUSY, BUSY], [CREATED, BUSY], [UPDATED])
    written = bulk(client).write(rows(3))
    assert client.sizes == [3, 2, 1]
    assert (written.inserted, written.updated) == (2, 1)


def test_busy_for_too_long_is_an_outage() -> None:
    with pytest.raises(TransientError, match="too busy for 1 documents"):
        bulk(Answers([BUSY]), patience_s=0).write(rows(1))


@pytest.mark.parametrize("item", [UNMAPPED, NO_ALIAS])
def test_an_unmapped_field_or_a_missing_alias_is_a_setup_fault(item: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="check mapping and rights"):
        bulk(Answers([item])).write(rows(1))


def test_requests_keep_to_entries_and_bytes() -> None:
    by_entries = Answers([CREATED] * 2, [CREATED] * 2, [CREATED])
    bulk(by_entries, entries=2).write(rows(5))
    by_bytes = Answers([CREATED] * 2, [CREATED])
    bulk(by_bytes, size=25).write(rows(3, document='{"a":"123"}'))
    assert (by_entries.sizes, by_bytes.sizes) == ([2, 2, 1], [2, 1])
