"""The schema registry's client against a real Apicurio: what is registered, refused, found and not found."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient

from headwater.errors import SetupError, TransientError
from schemas.avro import avro_reader, framed, parsed
from sources import registry as ours
from sources.registry import RegistrySchemas, avro_schema, register, subject_number
from tests.integration.schema_registry import SchemaRegistry

JSON = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'
TOPICS = ("crm.contacts", "crm.events", "crm.leads", "crm.opportunities")


@pytest.fixture
def client(schema_registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    """A client of our own beside the one under test, and a registry with our schemas."""
    register(schema_registry.settings)
    with SchemaRegistryClient({"url": schema_registry.settings.url}) as made:
        yield made


def test_our_schemas_are_registered_once_and_guarded(
    schema_registry: SchemaRegistry, client: SchemaRegistryClient
) -> None:
    assert register(schema_registry.settings) == []
    assert set(client.get_subjects()) >= {f"{topic}-value" for topic in TOPICS}
    for topic in TOPICS:
        assert client.get_compatibility(f"{topic}-value") == "BACKWARD"
        assert subject_number(schema_registry.settings, topic) > 0


def _changed(topic: str, **field: Any) -> str:
    schema = json.loads(avro_schema(topic))
    schema["fields"].append(field)
    return json.dumps(schema)


def test_a_version_that_cannot_read_the_one_before_is_refused_and_named(
    schema_registry: SchemaRegistry, client: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = client.get_versions("crm.events-value")
    without_default = _changed("crm.events", name="region", type="string")
    monkeypatch.setattr(ours, "avro_schema", lambda topic: without_default if topic == "crm.events" else "")
    monkeypatch.setattr(ours, "_streams", lambda: ["crm.events"])
    with pytest.raises(
        SetupError, match=r"crm\.events-value cannot read what version \d+ wrote: give a new field"
    ):
        register(schema_registry.settings)
    assert client.get_versions("crm.events-value") == before


def test_a_version_with_a_default_is_registered_and_both_are_read(
    schema_registry: SchemaRegistry, client: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = subject_number(schema_registry.settings, "crm.contacts")
    text = _changed("crm.contacts", name="region", type="string", default="")
    monkeypatch.setattr(ours, "avro_schema", lambda _topic: text)
    monkeypatch.setattr(ours, "_streams", lambda: ["crm.contacts"])
    (told,) = register(schema_registry.settings)
    assert told.startswith("schema crm.contacts-value registered as version 2 (number ")
    new = subject_number(schema_registry.settings, "crm.contacts")
    schema_of = RegistrySchemas(schema_registry.settings)
    assert new != old
    assert [field["name"] for field in (schema_of(new) or {})["fields"]][-1] == "region"
    assert "region" not in json.dumps(schema_of(old))


def test_a_schema_of_several_subjects_is_read_with_those_that_it_refers_to(
    schema_registry: SchemaRegistry, client: SchemaRegistryClient
) -> None:
    money = '{"type": "record", "name": "test.Money", "fields": [{"name": "cents", "type": "long"}]}'
    client.register_schema("money-value", Schema(money))
    text = '{"type": "record", "name": "test.Bill", "fields": [{"name": "total", "type": "test.Money"}]}'
    reference = SchemaReference(name="test.Money", subject="money-value", version=1)
    number = client.register_schema("bill-value", Schema(text, "AVRO", [reference]))
    raw = framed(number, parsed(text, [money]), {"total": {"cents": 5}})
    assert avro_reader(RegistrySchemas(schema_registry.settings))(raw) == ({"total": {"cents": 5}}, None)


def test_a_number_that_the_registry_lacks_or_that_is_no_avro_is_none(
    schema_registry: SchemaRegistry, client: SchemaRegistryClient
) -> None:
    number = client.register_schema("json-value", Schema(JSON, "JSON"))
    schema_of = RegistrySchemas(schema_registry.settings)
    assert (schema_of(number), schema_of(2**31 - 1), schema_of(0)) == (None, None, None)


def test_a_registry_that_is_away_is_an_outage_but_for_what_is_known(
    schema_registry: SchemaRegistry, client: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, other = (subject_number(schema_registry.settings, topic) for topic in ("crm.leads", "crm.events"))
    schema_of = RegistrySchemas(schema_registry.settings.model_copy(update={"username": "someone"}))
    assert schema_of(known)
    monkeypatch.setattr(ours, "_ATTEMPTS_AGAIN", 0)
    schema_registry.door.close()
    try:
        assert schema_of(known)
        with pytest.raises(TransientError, match="does not answer"):
            register(schema_registry.settings)
        with pytest.raises(TransientError, match="does not answer"):
            schema_of(other)
    finally:
        schema_registry.door.open()
    assert schema_of(other)
