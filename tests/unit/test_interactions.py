"""The streams of the domain interactions: contracts, rules, and the row that each event becomes."""

import json
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from local.traffic import TENANTS, Event, Kind, Mix
from local.traffic_interactions import FLAWS, SHARES, interactions
from schemas.contract import Contract, domain_contracts
from schemas.tables import LINEAGE, SILVER, USAGE
from schemas.topics import declared_topics
from tests.builders import arrow_bronze, arrow_schema
from transformations.classify import Classifier, judges, outcome_columns
from transformations.verdict import Decided

CONTRACTS = {c.stream: c for c in domain_contracts("interactions").values()}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
NOW_MS = NOW_US // 1000
PARTITIONS = {
    "text.agent.turn.completed": 6,
    "agent.tool.invoked": 3,
    "text.agent.session.updated": 3,
    "frontend.user.interaction": 8,
    "frontend.session.analytics": 3,
    "frontend.widget.performance": 3,
    "billing.usage.metered": 3,
    "marketo.leads.delta": 3,
}
# The least that an event of each stream must say.
LEAST: dict[str, dict[str, Any]] = {
    "text.agent.turn.completed": {"session_id": "s", "turn_id": "t"},
    "agent.tool.invoked": {"event_id": "e", "tool_name": "search", "status": "ok"},
    "text.agent.session.updated": {"event_id": "e", "session_id": "s", "status": "idle"},
    "frontend.user.interaction": {"event_id": "e", "event_type": "click"},
    "frontend.session.analytics": {"event_id": "e", "session_id": "s"},
    "frontend.widget.performance": {"event_id": "e", "widget_id": "chat"},
    "billing.usage.metered": {"event_id": "e", "metric": "api_calls", "quantity": 1},
    "marketo.leads.delta": {
        "event_id": "e", "marketo_id": "7", "change_type": "created", "updated_at": "2026-03-01T11:00:00Z",
    },
}  # fmt: skip


def least(stream: str, **more: Any) -> dict[str, Any]:
    time = {} if stream == "marketo.leads.delta" else {"ts_ms": NOW_MS}
    return {"account_id": "acme", **time, **LEAST[stream], **more}


def decided(stream: str, *documents: dict[str, Any] | bytes) -> Decided:
    contract = CONTRACTS[stream]
    _, decide = judges((contract,), None)[contract.topic]
    assert decide is not None
    raw = [d if isinstance(d, bytes) else json.dumps(d).encode() for d in documents]
    return decide(raw, [NOW_US] * len(raw))


def row(stream: str, **more: Any) -> dict[str, Any]:
    sound, unsound = decided(stream, least(stream, **more))
    assert not unsound
    return {name: column[0] for name, column in sound.columns.items()}


def reasons(stream: str, document: dict[str, Any]) -> list[tuple[str, str]]:
    _, unsound = decided(stream, document)
    return list(unsound[0].reasons) if unsound else []


def made(total: int = 4000, seed: int = 1, **mix: float) -> list[Event]:
    return list(interactions(total, run="r-", seed=seed, mix=Mix(no_consent=0, **mix), clock=lambda: NOW))


def test_the_eight_topics_have_the_partitions_and_days_that_were_asked_for() -> None:
    assert {c.topic: c.partitions for c in CONTRACTS.values()} == PARTITIONS
    days = {name: 7 if name == "marketo.leads.delta" else 30 for name in PARTITIONS}
    assert {c.topic: c.retention_days for c in CONTRACTS.values()} == days
    assert {*PARTITIONS, "interactions.dlq"} <= {topic.name for topic in declared_topics(1)}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_every_field_but_the_tenant_has_its_column_in_silver(contract: Contract) -> None:
    fields = [field.name for field in contract.fields if field.pointer != contract.tenant_field]
    own = SILVER[contract.stream].columns.removesuffix(LINEAGE).replace("(20,6)", "").split(",")
    columns = {part.split()[0] for part in own if part.strip()}
    assert columns == {*fields, "event_date"}


@pytest.mark.parametrize("stream", CONTRACTS)
def test_the_least_that_an_event_says_is_enough(stream: str) -> None:
    sound, unsound = decided(stream, least(stream))
    assert (sound.tenants, unsound) == (["acme"], {})


@pytest.mark.parametrize(
    ("stream", "name"), [(stream, name) for stream in CONTRACTS for name in least(stream) if name]
)
def test_what_must_be_said_and_is_not_is_a_reason(stream: str, name: str) -> None:
    document = least(stream)
    del document[name]
    code = "tenant_missing" if name == "account_id" else "missing_required"
    assert reasons(stream, document) == [(code, f"/{name}")]


def test_an_event_becomes_a_row_of_its_fields() -> None:
    found = row("frontend.user.interaction", session_id="s", metadata={"b": 1, "a": [1.50]})
    assert (found["event_id"], found["session_id"], found["user_id"]) == ("e", "s", None)
    assert (found["ts_ms"], found["event_date"]) == (NOW_MS, (date(2026, 3, 1) - date(1970, 1, 1)).days)
    assert json.loads(found["metadata"]) == {"b": 1, "a": [1.5]}
    assert (found["extras"], found["warned"]) == (None, None)


def test_a_field_that_the_contract_does_not_know_is_kept_aside() -> None:
    assert json.loads(row("agent.tool.invoked", region="eu")["extras"]) == {"/region": "eu"}


@pytest.mark.parametrize(
    ("said", "kept"), [({}, "text"), ({"channel": " "}, "text"), ({"channel": "voice"}, "voice")]
)
def test_a_conversation_without_a_channel_is_one_by_text(said: dict[str, Any], kept: str) -> None:
    assert row("text.agent.turn.completed", **said)["channel"] == kept
    assert row("text.agent.session.updated", **said)["channel"] == kept


@pytest.mark.parametrize(
    ("quantity", "code"),
    [
        ("0", None),
        ("12.5", None),
        ("0.000001", None),
        ("1.0000000000", None),
        ("1e9", None),
        ("1e-7", "rule:multiple_of"),
        ("0.0000015", "rule:multiple_of"),
        ("1000000000.000001", "rule:maximum"),
        ("-0.1", "rule:minimum"),
        ('"12"', "type_mismatch"),
    ],
)
def test_a_quantity_is_kept_as_it_was_written_or_refused(quantity: str, code: str | None) -> None:
    document = json.dumps(least("billing.usage.metered", quantity="@")).replace('"@"', quantity)
    sound, unsound = decided("billing.usage.metered", document.encode())
    if code:
        assert list(unsound[0].reasons) == [(code, "/quantity")]
    else:
        assert sound.columns["quantity"] == [Decimal(quantity)]


def test_a_quantity_is_a_decimal_of_the_table() -> None:
    assert "quantity DECIMAL(20,6)" in USAGE.columns


def test_the_same_turn_is_the_same_event_whoever_tells_of_it() -> None:
    stream = "text.agent.turn.completed"
    sound, _ = decided(
        stream, least(stream, event_id="1"), least(stream, event_id="2"), least(stream, turn_id="u")
    )
    first, second, third = sound.identities
    assert first == second != third


def test_the_same_id_of_two_tenants_is_two_events() -> None:
    stream = "billing.usage.metered"
    sound, _ = decided(stream, least(stream), least(stream, account_id="globex"))
    assert len(set(sound.identities)) == 2


def test_every_sample_event_has_a_row_in_the_types_of_its_table() -> None:
    events = [event for event in made(1500) if event.kind is Kind.VALID]
    records: dict[str, list[bytes | None]] = {}
    for event in events:
        records.setdefault(event.topic, []).append(event.body)
    batches = [arrow_bronze(values, topic) for topic, values in records.items()]
    work = Classifier(
        tuple(CONTRACTS.values()), None, arrow_schema(outcome_columns(tuple(CONTRACTS.values()), []))
    )
    found = pa.Table.from_batches(work(batches))
    assert found.num_rows == len(events)
    assert Counter(found["outcome"].to_pylist()) == {"silver": len(events)}
    (usage,) = {c.stream for c in CONTRACTS.values() if SILVER[c.stream] is USAGE}
    kept = found.filter(pc.equal(found["stream"], usage)).column("usage").combine_chunks()
    said = [json.loads(e.body, parse_float=Decimal)["quantity"] for e in events if e.topic == usage]
    assert sorted(kept.field("quantity").to_pylist()) == sorted(map(Decimal, said))


def test_sample_traffic_has_every_topic_and_exact_counts() -> None:
    events = made(duplicate=0.1, broken=0.1)
    assert Counter(event.kind for event in events) == {
        Kind.VALID: 3200,
        Kind.DUPLICATE: 400,
        Kind.BROKEN: 400,
    }
    shares = Counter(event.topic for event in events)
    assert shares.keys() == SHARES.keys()
    assert min(shares.values()) > 0.02 * len(events)
    assert {event.flaw for event in events if event.flaw} == FLAWS.keys()
    assert {event.tenant for event in events} == set(TENANTS)


def test_sample_traffic_repeats_itself_and_names_each_event_once() -> None:
    assert made(500) == made(500)
    keys = [(e.topic, e.key) for e in made(duplicate=0.1) if e.kind is not Kind.DUPLICATE]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("r-") for _, key in keys)


def test_sample_quantities_have_the_six_places_that_the_contract_allows() -> None:
    events = [e for e in made(30_000) if e.topic == "billing.usage.metered" and e.kind is Kind.VALID]
    quantities = [json.loads(event.body)["quantity"] for event in events]
    assert all(Decimal(str(quantity)).as_tuple().exponent >= -6 for quantity in quantities)


def test_each_sample_event_becomes_what_it_is_meant_to() -> None:
    for event in made(1500, duplicate=0.1, broken=0.3):
        sound, unsound = decided(event.topic, event.body)
        if event.kind is Kind.BROKEN:
            assert unsound[0].reasons[0][0] == event.code, event.flaw
        else:
            assert (sound.tenants, unsound) == ([event.tenant], {})
