"""What is posted: the mapping, the signature, the headers, and the settings behind them."""

import json
from typing import Any

import pytest

from headwater.errors import SetupError
from headwater.settings import Connector, Constant, load_settings
from jobs.loops import enabled_loops, loops
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS
from sinks.webhook.payload import COLUMNS, body, check_mapping, headers, signature

SECRET = "geheim-of-the-test"
ROW = dict.fromkeys(COLUMNS) | {"id": "1", "email": "ä@example.com", "consent": True, "metadata": {"a": [1]}}
KINDS = {
    "string": "STRING", "int32": "INT", "int64": "BIGINT", "binary": "BINARY",
    "timestamp[us, tz=UTC]": "TIMESTAMP",
}  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "document"),
    [
        ({"email": "email", "who": "id"}, {"email": "ä@example.com", "who": "1"}),
        ({"a.b.c": "id", "a.b.d": "consent", "a.e": "metadata"},
         {"a": {"b": {"c": "1", "d": True}, "e": {"a": [1]}}}),
        ({"event": Constant(constant="lead.captured"), "v": Constant(constant=2)},
         {"event": "lead.captured", "v": 2}),
        ({"id": "id", "phone": "phone", "x.phone": "phone"}, {"id": "1"}),
    ],
)  # fmt: skip
def test_a_mapping_makes_the_document_without_nulls(rules: dict[str, Any], document: dict[str, Any]) -> None:
    assert json.loads(body(rules, ROW)) == document


def test_metadata_with_an_integer_of_any_size_is_posted_as_it_is() -> None:
    huge = 10**40 + 1
    assert json.loads(body({"free": "metadata"}, ROW | {"metadata": {"n": huge}})) == {"free": {"n": huge}}


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"a": "shoe_size"}, "no column shoe_size"),
        ({"a": "id", "a.b": "email"}, "inside of another"),
        ({"a..b": "id"}, "empty"),
        ({"": "id"}, "empty"),
    ],
)
def test_a_wrong_mapping_is_named(rules: dict[str, str], why: str) -> None:
    with pytest.raises(SetupError, match=rf"connectors\.crm\.mapping.*{why}"):
        check_mapping("crm", rules)


def test_the_signature_is_the_hmac_of_timestamp_dot_body() -> None:
    # echo -n '1772366400.{"a":1}' | openssl dgst -sha256 -hmac geheim-of-the-test
    wanted = "v1=f37dd7cd4419287e051bada4f9ea55d7e86a213475378da210584184b7c5b3ec"
    assert signature(SECRET, 1772366400, b'{"a":1}') == wanted
    assert headers("crm", "e-1", SECRET, 1772366400, b'{"a":1}') == {
        "Content-Type": "application/json",
        "Idempotency-Key": "crm:e-1",
        "X-Headwater-Timestamp": "1772366400",
        "X-Headwater-Signature": wanted,
    }


@pytest.mark.parametrize("name", ["crm", "marketing", "assistant"])
def test_the_connectors_of_base_yaml_are_there_and_off(name: str) -> None:
    settings = load_settings("staging")
    connector = settings.connectors[name]
    check_mapping(name, connector.mapping)
    assert connector.url is None
    assert f"webhook-{name}" in loops(settings, "leads")
    assert len(enabled_loops(settings, "leads")) == 1


def test_a_connector_is_set_by_variables_and_its_secret_by_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    monkeypatch.setenv("HEADWATER_CONNECTORS__CRM__URL", "https://crm.example/in")
    monkeypatch.setenv("HEADWATER_CONNECTORS__CRM__SECRET_FILE", str(tmp_path / "secret"))
    load_settings.cache_clear()
    try:
        settings = load_settings("staging")
    finally:
        load_settings.cache_clear()
    found = settings.connectors["crm"]
    assert found.secret and found.secret.get_secret_value() == SECRET
    assert (found.url, found.mapping["email"]) == ("https://crm.example/in", "email")
    assert SECRET not in repr(settings) + settings.model_dump_json()
    assert len(enabled_loops(settings, "leads")) == 2


@pytest.mark.parametrize("name", ["CRM", "a b", "../x", "x" * 40])
def test_a_connectors_name_is_a_plain_word(name: str) -> None:
    with pytest.raises(ValueError, match="connectors"):
        base = load_settings("staging")
        type(base).model_validate({"env": "staging", "connectors": {name: {"mapping": {"a": "id"}}}})


def test_a_connector_needs_a_mapping() -> None:
    with pytest.raises(ValueError, match="mapping"):
        Connector.model_validate({"url": "https://x.example", "mapping": {}})


def test_letters_have_the_columns_of_ops_dead_letters() -> None:
    depth, columns = 0, [""]
    for letter in DEAD_LETTERS.columns:
        depth += (letter == "<") - (letter == ">")
        columns = [*columns, ""] if letter == "," and not depth else [*columns[:-1], columns[-1] + letter]
    wanted = dict(column.split(maxsplit=1) for column in columns)
    assert list(LETTERS.names) == list(wanted)
    plain = {field.name: KINDS[str(field.type)] for field in LETTERS if str(field.type) in KINDS}
    assert plain == {name: kind for name, kind in wanted.items() if name in plain}
    assert set(wanted) - set(plain) == {"reasons", "headers", "failed_sinks"}
