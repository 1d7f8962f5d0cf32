"""What the API makes of a body: accepted, discarded or refused, and with which faults."""

import json
import math
import unicodedata
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import events
from api.dead_letters import MAX_PAYLOAD, refusal, says_no_consent
from api.document import decode
from api.events import Accepted, Discarded, Refused
from api.metrics import Sources
from api.publisher import Record
from headwater.identity import event_id
from schemas.contract import json_schema

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
GOOD: dict[str, Any] = {"source": "web", "payload": {"email": "ann@example.com", "consent": True}}
CANARY = "canary-7f3a"


def read(body: object, header: str | None = None, tenant: str = "acme") -> Accepted | Discarded | Refused:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return events.read(raw, tenant, header, NOW)


def published(body: object, header: str | None = None) -> dict[str, Any]:
    verdict = read(body, header)
    assert isinstance(verdict, Accepted), verdict
    event: dict[str, Any] = orjson.loads(verdict.value)
    return event


def faults(body: object, header: str | None = None) -> list[tuple[str, str]]:
    verdict = read(body, header)
    assert isinstance(verdict, Refused), verdict
    return sorted((fault.field, fault.code) for fault in verdict.faults)


def with_payload(**fields: object) -> dict[str, Any]:
    return GOOD | {"payload": GOOD["payload"] | fields}


def test_a_good_event_is_published_with_everything_that_refine_needs() -> None:
    event = published(GOOD | {"idempotency_key": "k1"})
    assert event == {
        "event_id": event_id("acme", "k1"),
        "tenant_id": "acme",
        "idempotency_key": "k1",
        "received_at": "2026-01-02T03:04:05.678Z",
        "source": "web",
        "payload": {"email": "ann@example.com", "consent": True},
        "context": {},
        "metadata": {},
    }


def test_text_is_trimmed_composed_and_null_when_empty() -> None:
    body = with_payload(first_name="  Jose\u0301 ", last_name=" \t", email=" ANN@Example.COM ")
    payload = published(body)["payload"]
    assert payload["first_name"] == "Jos\u00e9"
    assert payload["last_name"] is None
    assert payload["email"] == "ann@example.com"


def test_unknown_keys_inside_payload_context_and_metadata_are_kept_as_they_came() -> None:
    body = with_payload(team=" A ") | {"context": {"lang": "de"}, "metadata": {"n": [1, " x "]}}
    event = published(body)
    assert (event["payload"]["team"], event["context"], event["metadata"]) == (
        " A ",
        {"lang": "de"},
        {"n": [1, " x "]},
    )


def test_the_callers_address_is_not_put_into_the_context() -> None:
    assert published(GOOD)["context"] == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [("/payload", "missing_required"), ("/source", "missing_required")]),
        (GOOD | {"source": " "}, [("/source", "missing_required")]),
        (GOOD | {"source": 5}, [("/source", "type_mismatch")]),
        (GOOD | {"source": "x" * 51}, [("/source", "rule:max_length")]),
        (GOOD | {"payload": []}, [("/payload", "type_mismatch")]),
        (GOOD | {"payload": "x"}, [("/payload", "type_mismatch")]),
        (GOOD | {"context": []}, [("/context", "type_mismatch")]),
        (GOOD | {"context": {"utm": 1}}, [("/context/utm", "type_mismatch")]),
        (GOOD | {"context": {"utm": {"term": "t" * 256}}}, [("/context/utm/term", "rule:max_length")]),
        (GOOD | {"metadata": "x"}, [("/metadata", "type_mismatch")]),
        (with_payload(consent=None), [("/payload/consent", "missing_required")]),
        (with_payload(consent="true"), [("/payload/consent", "type_mismatch")]),
        (with_payload(consent=1), [("/payload/consent", "type_mismatch")]),
        (with_payload(email=None), [("/payload/email", "missing_required")]),
        (with_payload(email="ann@localhost"), [("/payload/email", "rule:pattern")]),
        (with_payload(first_name=True), [("/payload/first_name", "type_mismatch")]),
        (with_payload(first_name="n\0"), [("/payload/first_name", "nul_character")]),
        (GOOD | {"metadata": {"a": ["\0"]}}, [("/metadata/a/0", "nul_character")]),
        (GOOD | {"event_id": "x"}, [("/event_id", "rule:unknown_field")]),
        (GOOD | {"a/b~c": 1}, [("/a~1b~0c", "rule:unknown_field")]),
        (GOOD | {"tenant_id": "globex"}, [("/tenant_id", "rule:tenant_match")]),
        (GOOD | {"idempotency_key": 7}, [("/idempotency_key", "type_mismatch")]),
        (GOOD | {"idempotency_key": "k" * 256}, [("/idempotency_key", "rule:max_length")]),
        ([GOOD], [("", "type_mismatch")]),
        (b'"text"', [("", "type_mismatch")]),
    ],
)
def test_each_fault_has_its_field_and_code(body: object, expected: list[tuple[str, str]]) -> None:
    assert faults(body) == expected
    verdict = read(body)
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.code) == (422, "invalid_event")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "malformed_json"),
        (b'{"a":NaN}', "malformed_json"),
        (b'{"a":-Infinity}', "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b'{"a":"\x01"}', "malformed_json"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        ('{"a":1}'.encode("utf-16"), "invalid_utf8"),
        (b'{"metadata":{"a":"\\ud800"}}', "invalid_utf8"),
        (b"[" * 40 + b"]" * 40, "too_deep"),
        (b"[" * 50_000, "too_deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
    ],
)
def test_what_is_no_document_is_400_with_its_code(raw: bytes, code: str) -> None:
    verdict = read(raw)
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.code) == (400, code)


def test_thirty_two_levels_are_accepted() -> None:
    nested: object = 1
    for _ in range(31):
        nested = [nested]
    assert published(GOOD | {"metadata": {"a": nested[0]}})["metadata"]  # type: ignore[index]


def test_a_number_beyond_a_double_is_a_type_mismatch_where_it_stands() -> None:
    raw = b'{"source":"web","payload":{"email":"a@b.de","consent":true},"metadata":{"n":[1,1e400]}}'
    assert faults(raw) == [("/metadata/n/1", "type_mismatch")]


def test_of_a_repeated_key_the_last_one_wins() -> None:
    raw = b'{"source":"a","source":"b","payload":{"email":"a@b.de","consent":false,"consent":true}}'
    assert published(raw)["source"] == "b"


def test_all_faults_are_reported_and_none_holds_the_value() -> None:
    body = {
        "source": CANARY * 10,
        "payload": {"email": CANARY, "consent": CANARY, "phone": CANARY * 10},
        "context": CANARY,
    }
    verdict = read(body)
    assert isinstance(verdict, Refused)
    assert len(verdict.faults) == 5
    assert CANARY not in "".join(fault.message for fault in verdict.faults)


def test_the_list_of_faults_is_bounded() -> None:
    verdict = read(GOOD | {f"k{n}": n for n in range(5000)})
    assert isinstance(verdict, Refused)
    assert len(verdict.faults) == 100


@pytest.mark.parametrize(
    "body",
    [
        {"payload": {"consent": False}},
        {"source": 1, "q": 2, "tenant_id": "globex", "payload": {"email": 3, "consent": False}},
        b'{"payload":{"consent":false,"x":"\\u0000","y":"\\ud800","z":1e400}}',
        b'{"source":"\\ud800","idempotency_key":"\\ud800","payload":{"consent":false}}',
        b'{"payload":{"consent":true},"payload":{"consent":false}}',
        {"idempotency_key": "k" * 300, "payload": {"consent": False}},
        {"metadata": {"n": 10**30}, "payload": {"consent": False, "n": 10**30}},
    ],
)
def test_consent_false_wins_over_every_other_fault(body: object) -> None:
    assert isinstance(read(body), Discarded)


def test_a_retry_has_the_same_event_id_and_another_tenant_another_one() -> None:
    first, again = read(GOOD | {"idempotency_key": "k"}), read(GOOD, header=" k ")
    other = read(GOOD | {"idempotency_key": "k"}, tenant="globex")
    assert isinstance(first, Accepted) and isinstance(again, Accepted) and isinstance(other, Accepted)
    assert first.event_id == again.event_id != other.event_id
    assert first.message_key == again.message_key == b"acme|k"


def test_without_a_key_it_comes_from_the_normalised_content_whatever_the_order() -> None:
    one = read(with_payload(first_name=" Ann ", last_name=""))
    two = read({"payload": {"first_name": "Ann", **GOOD["payload"]}, "source": "web", "metadata": {"n": 1}})
    three = read(with_payload(first_name="Anne"))
    assert isinstance(one, Accepted) and isinstance(two, Accepted) and isinstance(three, Accepted)
    assert one.idempotency_key == two.idempotency_key != three.idempotency_key
    assert len(one.idempotency_key) == 64


@pytest.mark.parametrize(
    ("body_key", "header", "code"),
    [
        ("a", "b", "rule:idempotency_key_match"),
        (None, "k" * 256, "rule:max_length"),
        (None, "\u00e9", "rule:pattern"),
    ],
)
def test_keys_that_disagree_or_do_not_fit_are_refused(body_key: str | None, header: str, code: str) -> None:
    assert faults(GOOD | {"idempotency_key": body_key}, header) == [("/idempotency_key", code)]


def test_what_is_published_fulfils_the_contracts_json_schema() -> None:
    import jsonschema_rs

    event = published(with_payload(last_name="", phone="+49 30 1") | {"context": None, "metadata": None})
    assert list(jsonschema_rs.validator_for(json_schema(events.contract())).iter_errors(event)) == []


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    for clean in (events.clean, events.clean_email):
        once = clean(text)
        assert once is None or (clean(once) == once and unicodedata.is_normalized("NFC", once))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "source": JSON | st.just("web"),
        "payload": JSON
        | st.fixed_dictionaries({"email": st.emails() | JSON, "consent": st.booleans() | JSON}),
        "context": JSON,
        "metadata": JSON,
        "idempotency_key": JSON,
    },
)


@given(BODIES)
def test_any_json_gets_a_verdict_and_what_is_accepted_is_accepted_again(body: dict[str, Any]) -> None:
    verdict = read(body)
    if isinstance(verdict, Accepted):
        event = orjson.loads(verdict.value)
        again = {name: event[name] for name in ("source", "payload", "context", "metadata")}
        repeated = read(again | {"idempotency_key": verdict.idempotency_key})
        assert isinstance(repeated, Accepted)
        assert repeated.value == verdict.value
    elif isinstance(verdict, Refused):
        assert orjson.loads(headers_of(refusal(b"x", "acme", verdict))["reasons"])


@given(st.binary(max_size=200))
def test_any_bytes_get_a_verdict(raw: bytes) -> None:
    value, found = decode(raw)
    assert found or value is not None or raw.strip() == b"null"
    read(raw)


@given(JSON)
def test_the_strict_reader_agrees_with_the_standard_library(value: object) -> None:
    text = json.dumps(value)
    decoded, found = decode(text.encode())
    if not found and _ordinary(value):
        assert decoded == value


def _ordinary(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_ordinary, value.values()))
    if isinstance(value, list):
        return all(map(_ordinary, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return not isinstance(value, float) or math.isfinite(value)


def test_a_refusal_is_the_body_with_whose_it_is_and_every_reason_in_its_headers() -> None:
    verdict = read(b'{"source":"web","payload":{"email":"x","consent":true}}')
    assert isinstance(verdict, Refused)
    record = refusal(b"raw" * 40_000, "acme", verdict)
    assert (record.topic, record.value) == ("lead.refused", (b"raw" * 40_000)[:MAX_PAYLOAD])
    assert headers_of(record) == {
        "tenant_id": b"acme",
        "reasons": b'[["rule:pattern","/payload/email"]]',
        "length": b"120000",
    }


def headers_of(record: Record) -> dict[str, Any]:
    return dict(record.headers)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"payload":{"consent": false',
        b'{"consent":"No"',
        b'NaN "consent" : 0',
        '"consent":false'.encode("utf-16"),
    ],
)
def test_a_text_that_denies_consent_is_recognised_unparsed(raw: bytes) -> None:
    assert says_no_consent(raw)


def test_source_labels_are_bounded() -> None:
    sources = Sources(most=2)
    given = ("a", " b ", "c", "a", None, "", "x" * 51, "\0", "ann@example.com")
    labels = [sources.label(name, accepted=True) for name in given]
    assert labels == ["a", "b", "other", "a", *["unknown"] * 5]


def test_a_refused_event_names_no_new_source() -> None:
    sources = Sources()
    assert sources.label("Ann Smith", accepted=False) == "other"
    assert sources.label("web", accepted=True) == sources.label("web", accepted=False) == "web"
