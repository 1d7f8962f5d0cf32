"""Payloads for eyes that may not see persons."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Field, contracts
from schemas.masked import masked

LEADS = contracts()["lead.ingest"]
# What nobody may see is written in Greek, and nothing else is.
GREEK = "βγδεζηθκλμνξπρτφχψω"
SECRETS = st.text(GREEK, min_size=1, max_size=12)
NAMES = st.text("abcxyz_", min_size=1, max_size=8)


def hidden(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, max_size=3) | st.dictionaries(NAMES | SECRETS, children, max_size=3)


SECRET_VALUES = st.recursive(SECRETS | st.none() | st.booleans(), hidden, max_leaves=8)


def events(fields: tuple[Field, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of these fields, secret where they are personal, and with fields nobody knows."""
    known = st.fixed_dictionaries({}, optional={field.name: values(field) for field in fields})
    unknown = st.dictionaries(NAMES.map("new_{}".format) | SECRETS, SECRET_VALUES, max_size=3)
    return st.tuples(unknown, known).map(lambda both: both[0] | both[1])


def values(field: Field) -> st.SearchStrategy[Any]:
    if field.personal or (field.kind == "object" and not field.children):
        return SECRET_VALUES
    if field.children:
        return events(field.children) | SECRET_VALUES.filter(lambda value: not isinstance(value, str))
    return NAMES | st.integers() | st.lists(SECRETS, max_size=2)


@given(st.sampled_from([c for c in contracts().values() if c.format == "json"]).flatmap(
    lambda contract: st.tuples(st.just(contract), events(contract.fields) | SECRET_VALUES)
))  # fmt: skip
def test_no_text_of_a_personal_or_unknown_field_survives(given_: tuple[Any, Any]) -> None:
    contract, event = given_
    found = json.dumps(masked(json.dumps(event, ensure_ascii=False).encode(), contract), ensure_ascii=False)
    assert not {letter for letter in found if letter in GREEK}


def test_structure_and_what_is_not_personal_stay() -> None:
    payload = {
        "source": "web", "received_at": "2026-03-01", "tenant_id": None,
        "payload": {"email": "ada@example.com", "phone": 441234, "consent": True, "submission_type": "demo"},
        "metadata": {"note": "call her", "tags": ["a", 1, None, False], "ada@example.com": {}},
        "more": 1.5,
    }  # fmt: skip
    raw = json.dumps(payload).encode()
    found = masked(raw, LEADS)
    assert (found["size"], found["sha256"]) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert found["json"] == {
        "source": "web", "received_at": "2026-03-01", "tenant_id": None,
        "payload": {"email": "text(15)", "phone": "number", "consent": True, "submission_type": "demo"},
        "metadata": {"note": "text(8)", "tags": ["text(1)", "number", None, "boolean"], "key(15)": {}},
        "more": "number",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "stream"),
    [
        (b'{"source": "web", "payload": {"em', "lead.ingest"),
        (b"\x00\x00\x00\x00\x07ada", "crm.leads"),
        (b'{"data": "Avro that looks like JSON"}', "crm.leads"),
        (b"\xff\xfe", "lead.ingest"),
        (b"", "lead.ingest"),
        (b"id,name\n1,Ada\n", None),
    ],
    ids=["cut", "avro", "avro-like-json", "not-utf8", "empty", "csv"],
)
def test_what_is_no_json_is_a_size_and_a_digest(payload: bytes, stream: str | None) -> None:
    found = masked(payload, contracts()[stream] if stream else None)
    assert found == {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}


def test_without_a_contract_every_field_is_unknown() -> None:
    assert masked(b'{"id": "7", "source": "web"}', None)["json"] == {"id": "text(1)", "source": "text(3)"}


def test_what_nobody_would_nest_so_deep_is_cut_short() -> None:
    deep = b'{"metadata":' + b"[" * 500 + b'"someone"' + b"]" * 500 + b"}"
    found = json.dumps(masked(deep, LEADS))
    assert "list(1)" in found and "someone" not in found


def test_odd_keys_of_one_length_stay_apart() -> None:
    assert masked(b'{"a@x": 1, "b@x": "b"}', LEADS)["json"] == {"key(3)": "number", "key(3)#2": "text(1)"}
