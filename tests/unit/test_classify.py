"""Arrow batches of bronze → outcome rows: by column as one by one, by the exact reader alone."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.identity import fingerprint, record_hash
from local.traffic import Mix, Way, traffic
from schemas.contract import Contract
from schemas.envelope import to_json
from schemas.tables import LEADS, LETTER_PAYLOAD_BYTES, LINEAGE, SILVER, Table
from tests.builders import ARRIVED, LEAD, arrow_bronze, arrow_schema, lead
from tests.flow.test_poison import TABLE
from tests.unit.test_verdict import EVERY_KIND, documents
from transformations import classify, verdict
from transformations.classify import Classifier, outcome_columns
from transformations.quick import Columns, Taken
from transformations.registry import NORMALISE

KINDS = Table("silver", "every_kind", "said STRING," + LINEAGE, ())


@pytest.fixture(autouse=True)
def every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream every.kind, whose silver column holds all that was read, as Python writes it."""
    monkeypatch.setitem(SILVER, EVERY_KIND.stream, KINDS)
    monkeypatch.setitem(NORMALISE, EVERY_KIND.stream, lambda _geo: as_said)


def as_said(values: Columns, unknown: Sequence[dict[str, Any] | None], tenants: Sequence[str]) -> Columns:
    rows = [repr(dict(zip(values, row, strict=True))) for row in zip(*values.values(), strict=True)]
    return {
        "said": rows,
        "warned": [None] * len(tenants),
        "extras": [to_json(found) if found else None for found in unknown],
    }


def classifier(*contracts: Contract) -> Classifier:
    return Classifier(contracts, None, arrow_schema(outcome_columns(contracts, ["refined_at"])))


def outcomes(work: Classifier, *batches: pa.RecordBatch) -> pa.Table:
    """All rows, in the order of their offsets."""
    found = pa.Table.from_batches(work(batches), work.schema)
    found.validate(full=True)
    return found.sort_by("offset").combine_chunks()


def exactly(*batches: pa.RecordBatch) -> pa.Table:
    """The same, record by record, with a quick reader that doubts everything."""

    def doubting(contract: Contract) -> Any:
        pointers = [leaf.pointer for leaf in contract.leaves]
        return lambda records, _: Taken(
            {p: [None] * len(records) for p in pointers}, set(range(len(records)))
        )

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verdict, "quick_reader", doubting)
        classify.judges.cache_clear()
        alone = [batch.slice(row, 1) for batch in batches for row in range(batch.num_rows)]
        found = outcomes(classifier(LEAD, EVERY_KIND), *alone)
    classify.judges.cache_clear()
    return found


def records(contract: Contract) -> st.SearchStrategy[list[bytes | None]]:
    return st.lists(documents(contract) | st.binary(max_size=20) | st.none(), max_size=6)


def shuffled(*batches: pa.RecordBatch) -> pa.RecordBatch:
    """One batch of all records, the streams in no order."""
    table = pa.Table.from_batches(batches)
    rows = random.Random(1).sample(range(table.num_rows), table.num_rows)  # noqa: S311 - a test's order
    return table.take(rows).combine_chunks().to_batches()[0]


@given(leads=records(LEAD), others=records(EVERY_KIND))
def test_a_batch_of_several_streams_becomes_what_each_record_alone_becomes(
    leads: list[bytes | None], others: list[bytes | None]
) -> None:
    batches = arrow_bronze(leads), arrow_bronze(others, EVERY_KIND.topic, len(leads))
    assert outcomes(classifier(LEAD, EVERY_KIND), *batches) == exactly(*batches)


def test_the_table_of_faults_and_sample_leads_become_what_each_alone_becomes() -> None:
    events = traffic(Way.KAFKA, 2_000, run="c", seed=2, mix=Mix(broken=0.2), clock=lambda: ARRIVED)
    sample = [event.body for event in events]
    values = [*sample, *[value for value, _ in TABLE.values()]]
    batch = shuffled(arrow_bronze(values), arrow_bronze(sample[:200], EVERY_KIND.topic, len(values)))
    found = outcomes(classifier(LEAD, EVERY_KIND), batch)
    assert found == exactly(batch)
    assert found.num_rows == batch.num_rows


@pytest.fixture
def rows() -> Iterator[list[dict[str, Any]]]:
    """A lead, a broken one, and one without consent."""
    values = [lead(), lead({"/source": 5}), lead({"/payload/consent": False})]
    yield outcomes(classifier(LEAD, EVERY_KIND), arrow_bronze(values, first=3)).to_pylist()


def test_a_silver_row_has_its_struct_and_no_bytes(rows: list[dict[str, Any]]) -> None:
    row = rows[0]
    assert (row["outcome"], row["stream"], row["tenant_id"]) == ("silver", "lead.ingest", "acme")
    assert row["leads"]["email"] == "ada@example.com"
    assert (
        row["every_kind"] is row["payload"] is row["headers"] is row["reasons"] is row["fingerprint"] is None
    )
    assert list(row["leads"]) == [
        column.split()[0] for column in LEADS.columns.split(",")[: len(row["leads"])]
    ]


def test_a_dead_row_has_its_bytes_headers_and_reasons_and_no_struct(rows: list[dict[str, Any]]) -> None:
    row = rows[1]
    value = lead({"/source": 5})
    assert (row["outcome"], row["payload"], row["headers"]) == ("dead", value, [])
    assert [(reason["code"], reason["field"]) for reason in row["reasons"]] == [("type_mismatch", "/source")]
    assert row["fingerprint"] == fingerprint(["type_mismatch"], value)
    assert row["dedupe_hash"] == record_hash("lead.ingest", 0, 4)
    assert row["leads"] is row["row_version"] is row["extras"] is None


def test_a_row_without_consent_keeps_nothing_but_tenant_and_place(rows: list[dict[str, Any]]) -> None:
    kept = {name: value for name, value in rows[2].items() if value is not None}
    assert kept.keys() == {
        *("outcome", "stream", "tenant_id", "dedupe_hash"),
        *("topic", "partition", "offset", "ingested_at", "refined_at", "size"),
    }
    assert kept["ingested_at"] == ARRIVED


def test_silver_rows_keep_the_order_of_their_records() -> None:
    values = [lead({"/x": 1} if n % 2 else {"/idempotency_key": str(n)}) for n in range(20)]
    found = pa.Table.from_batches(classifier(LEAD)([arrow_bronze(values)]))
    assert found["offset"].to_pylist() == list(range(20))


def test_the_payload_of_a_dead_row_is_cut() -> None:
    (row,) = outcomes(classifier(LEAD), arrow_bronze([b"x" * (LETTER_PAYLOAD_BYTES + 1)])).to_pylist()
    assert row["payload"] == b"x" * LETTER_PAYLOAD_BYTES


def test_a_batch_without_records_becomes_no_rows() -> None:
    assert list(classifier(LEAD)([arrow_bronze([])])) == []


def test_a_topic_that_no_contract_has_is_an_error() -> None:
    with pytest.raises(KeyError):
        list(classifier(LEAD)([arrow_bronze([lead()], "elsewhere")]))
