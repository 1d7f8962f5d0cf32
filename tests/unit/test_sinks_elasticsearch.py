"""How each item of a bulk answer is judged, with a client that answers from a list."""

from typing import Any, cast

import pyarrow as pa
import pytest
from elasticsearch import Elasticsearch
from pydantic import SecretStr

from headwater.errors import SetupError, TransientError
from headwater.settings import load_settings
from sinks.base import Rejected, Written
from sinks.elasticsearch_bulk import BulkTarget
from sinks.elasticsearch_judge import LINES, Bulk

CREATED = {"status": 201, "result": "created"}
UPDATED = {"status": 200, "result": "updated"}
CONFLICT = {"status": 409, "error": {"type": "version_conflict_engine_exception"}}
BUSY = {"status": 429, "error": {"type": "es_rejected_execution_exception"}}
BAD = {"status": 400, "error": {"type": "mapper_parsing_exception"}}
UNMAPPED = {"status": 400, "error": {"type": "strict_dynamic_mapping_exception"}}
NO_ALIAS = {"status": 404, "error": {"type": "index_not_found_exception"}}


class Answers:
    """Answers each bulk request with the next list of items, then all as created."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self._answers = list(answers)
        self.bodies: list[bytes] = []

    def bulk(self, operations: bytes, **_: object) -> dict[str, Any]:
        self.bodies.append(operations)
        items = self._answers.pop(0) if self._answers else [CREATED] * self.sizes[-1]
        return {"items": [{"index": item} for item in items]}

    @property
    def sizes(self) -> list[int]:
        return [body.count(b"\n") // 2 for body in self.bodies]


def rows(count: int, document: str = "{}") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            LINES: [f'{{"index":{{"_id":"k{i}"}}}}\n{document}\n' for i in range(count)],
            "source_topic": ["t"] * count,
            "source_partition": [0] * count,
            "source_offset": list(range(count)),
            "tenant_id": ["acme"] * count,
        }
    )


def bulk(client: Answers, entries: int = 100, size: int = 1000, patience_s: float = 5) -> Bulk:
    return Bulk(cast(Elasticsearch, client), "leads", entries, size, patience_s)


def written(client: Answers, *batches: pa.RecordBatch, **limits: Any) -> Written:
    return bulk(client, **limits).write(batches).written()


def test_created_updated_and_conflicting_documents_are_counted_apart() -> None:
    assert written(Answers([CREATED, UPDATED, CONFLICT]), rows(3)) == Written(1, 1, 1)


def test_a_400_rejects_its_document_alone() -> None:
    refused = Rejected("t", 0, 1, "acme", "400", "mapper_parsing_exception")
    assert written(Answers([CREATED, BAD]), rows(2)) == Written(1, 0, 0, (refused,))


def test_only_what_was_busy_is_sent_again() -> None:
    client = Answers([CREATED, BUSY, BUSY], [CREATED, BUSY], [UPDATED])
    assert written(client, rows(3)) == Written(2, 1, 0)
    assert client.sizes == [3, 2, 1]
    assert client.bodies[2] == b'{"index":{"_id":"k2"}}\n{}\n'


def test_what_is_rejected_after_a_wait_is_still_named_by_its_place() -> None:
    found = written(Answers([BUSY, CREATED, BUSY], [CREATED, BAD]), rows(3))
    assert [refused.source_offset for refused in found.rejected] == [2]


def test_busy_for_too_long_is_an_outage() -> None:
    with pytest.raises(TransientError, match="too busy for 1 documents"):
        written(Answers([BUSY]), rows(1), patience_s=0)


@pytest.mark.parametrize("item", [UNMAPPED, NO_ALIAS])
def test_an_unmapped_field_or_a_missing_alias_is_a_setup_fault(item: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="check mapping and rights"):
        written(Answers([item]), rows(1))


def test_an_answer_that_is_short_of_items_is_an_outage() -> None:
    with pytest.raises(TransientError, match="answers for 1 of 2 documents"):
        written(Answers([CREATED]), rows(2), patience_s=0)


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({}, [5]),
        ({"entries": 2}, [1, 2, 2]),
        ({"size": 70}, [1, 2, 2]),
        ({"size": 1}, [1, 1, 1, 1, 1]),
    ],
)
def test_requests_keep_to_entries_and_bytes(limits: dict[str, int], sizes: list[int]) -> None:
    client = Answers()
    assert written(client, rows(5, '{"a":"12"}'), **limits).inserted == 5
    assert sorted(client.sizes) == sizes


def test_every_document_of_every_batch_is_sent_once() -> None:
    client = Answers()
    assert written(client, rows(7), rows(7).slice(7), rows(5), entries=2).inserted == 12
    lines = sorted(line for body in client.bodies for line in body.splitlines() if b"index" in line)
    assert lines == sorted(b'{"index":{"_id":"k%d"}}' % n for count in (7, 5) for n in range(count))


def test_a_target_does_not_show_its_login() -> None:
    login = {"username": "elastic", "password": SecretStr("geheim")}
    server = load_settings("staging").elasticsearch.model_copy(update=login)
    target = BulkTarget(server, "leads", 1, 1, 1.0)
    assert "geheim" not in repr(target) and "leads" in repr(target)
