"""The schema registry (Confluent's API): schemas by their number for who reads records, and ours registered.

A schema's number means the same for ever, so one that was found is kept; one that was not is asked for again
after a while.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, TypeVar

import httpx2
from cachetools import TTLCache
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from headwater.errors import SetupError, TransientError
from headwater.settings import Registry
from schemas import avro
from schemas.contract import Contract, contracts

T = TypeVar("T")
COMPATIBILITY = "BACKWARD"
_TIMEOUT_S = 5.0
_ATTEMPTS_AGAIN = 3
_UNKNOWN_FOR_S = 20
_REMEMBERED = 4096
_UNPROCESSABLE, _CONFLICT = 422, 409
# What the API itself says: no such subject, version, schema, or no compatibility of the subject's own. Any
# other 404 is of something before it.
_NOT_FOUND = (40401, 40402, 40403, 40408)
# Numbers are Java's; what is no Avro begins with any.
_LARGEST_NUMBER = 2**31 - 1
_REFUSED = (401, 403)
# Its client keeps OpenSSL's word only as text.
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True)
class RegistrySchemas:
    """What `schemas.avro.avro_reader` asks: on the driver or in a worker, which gets only this."""

    registry: Registry

    def __call__(self, number: int) -> avro.Schema | None:
        return _known(self.registry).schema(number)


def schemas_for(streams: Iterable[Contract], registry: Registry) -> RegistrySchemas | None:
    """Where the schemas of these streams are; None when none is of Avro: workers then load no client, which
    takes each half a second."""
    return RegistrySchemas(registry) if any(c.format == "avro" for c in streams) else None


class _Known:
    """What one process has learned of a registry. A number that it does not know is told so for a while
    without asking: a topic may be full of it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._client = _client(registry)
        self._found: dict[int, avro.Schema] = {}
        self._unknown: TTLCache[int, None] = TTLCache(_REMEMBERED, _UNKNOWN_FOR_S)
        self._lock = threading.Lock()

    def schema(self, number: int) -> avro.Schema | None:
        with self._lock:
            if number > _LARGEST_NUMBER:
                return None
            if number not in self._found and number not in self._unknown:
                self._ask(number)
            return self._found.get(number)

    def _ask(self, number: int) -> None:
        found = None
        with _answered(self._registry):
            try:
                text = self._client.get_schema(number)
                found = _parsed(self._client, text)
            except SchemaRegistryError as fault:
                if fault.error_code not in _NOT_FOUND:
                    raise
        if found is None:
            self._unknown[number] = None
        else:
            self._found[number] = found


def register(registry: Registry) -> list[str]:
    """Register the schemas of all streams of Avro that the registry lacks, under <topic>-value, whose
    versions must then be able to read what the one before has written (BACKWARD); what was done, a line each.

    Raises SetupError for a schema that breaks this, TransientError when the registry does not answer.
    """
    client = _client(registry)
    done: list[str] = []
    for topic in _streams():
        with _answered(registry):
            done += _register(client, f"{topic}-value", avro_schema(topic))
    return done


def _streams() -> list[str]:
    return sorted(c.topic for c in contracts().values() if c.format == "avro")


def avro_schema(stream: str) -> str:
    """The text of schemas/events/<stream>.avsc: the newest version of the stream's schema."""
    return (resources.files("schemas") / "events" / f"{stream}.avsc").read_text(encoding="utf-8")


def subject_number(registry: Registry, topic: str) -> int:
    """The number of our schema for this topic, which records are framed with. Raises SetupError when it is
    not registered."""
    with _answered(registry):
        try:
            found = _client(registry).lookup_schema(f"{topic}-value", Schema(avro_schema(topic)))
        except SchemaRegistryError as fault:
            if fault.error_code not in _NOT_FOUND:
                raise
            raise SetupError(f"{topic}-value is not registered: run `python -m jobs migrate`") from None
    if found.schema_id is None:
        raise TransientError(f"the schema registry at {registry.url} gave {topic}-value no number")
    return found.schema_id


def _register(client: SchemaRegistryClient, subject: str, text: str) -> list[str]:
    schema = Schema(text)
    versions = _or_none(lambda: client.get_versions(subject)) or []
    known = _or_none(lambda: client.lookup_schema(subject, schema)) if versions else None
    if known:
        _guard(client, subject)
        return []
    if versions and not client.test_compatibility(subject, schema):
        raise SetupError(
            f"schema {subject} cannot read what version {versions[-1]} wrote: give a new field a default, "
            "keep the type of an old one, or write to a new topic"
        )
    try:
        made = client.register_schema_full_response(subject, schema)
    except SchemaRegistryError as fault:
        if fault.http_status_code not in (_CONFLICT, _UNPROCESSABLE):
            raise
        raise SetupError(
            f"the registry refuses the schema {subject} (HTTP {fault.http_status_code})"
        ) from None
    _guard(client, subject)
    return [f"schema {subject} registered as version {len(versions) + 1} (number {made.schema_id})"]


def _guard(client: SchemaRegistryClient, subject: str) -> None:
    """The registry refuses what is not compatible: at least as strictly as we do."""
    if _or_none(lambda: client.get_compatibility(subject)) in (None, "NONE"):
        client.set_compatibility(subject, COMPATIBILITY)


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except SchemaRegistryError as fault:
        if fault.error_code in _NOT_FOUND:
            return None
        raise


def _parsed(client: SchemaRegistryClient, found: Schema) -> avro.Schema | None:
    if found.schema_str is None:
        raise ValueError("an answer without a schema")
    if (found.schema_type or "AVRO") != "AVRO":
        return None
    return avro.parsed(found.schema_str, list(_references(client, found)))


def _references(client: SchemaRegistryClient, schema: Schema) -> Iterator[str]:
    """The texts of the schemas that this one refers to, each behind those that it needs itself."""
    for reference in schema.references or []:
        other = client.get_version(reference.subject or "", reference.version or "latest").schema
        yield from _references(client, other)
        yield other.schema_str or ""


@contextmanager
def _answered(registry: Registry) -> Iterator[None]:
    """Faults of the registry as ours. Its own texts are not passed on: they may hold what was sent."""
    try:
        yield
    except SchemaRegistryError as fault:
        if fault.http_status_code in _REFUSED:
            raise SetupError(
                f"the schema registry at {registry.url} refuses us (HTTP {fault.http_status_code}): check "
                "registry.username and registry.password"
            ) from None
        raise TransientError(
            f"the schema registry at {registry.url} answers with HTTP {fault.http_status_code}"
        ) from None
    except (httpx2.HTTPError, OSError, ValueError, TypeError, AttributeError, LookupError) as fault:
        if _UNTRUSTED in str(fault):
            raise SetupError(
                f"the certificate of the schema registry at {registry.url} cannot be verified, or is another "
                "host's: check registry.url and registry.ca_file"
            ) from None
        raise TransientError(
            f"the schema registry at {registry.url} does not answer ({type(fault).__name__})"
        ) from None


@lru_cache(maxsize=8)
def _known(registry: Registry) -> _Known:
    return _Known(registry)


def _client(registry: Registry) -> SchemaRegistryClient:
    conf: dict[str, Any] = {"url": registry.url, "timeout": _TIMEOUT_S, "max.retries": _ATTEMPTS_AGAIN}
    if registry.username:
        password = registry.password.get_secret_value() if registry.password else ""
        conf["basic.auth.user.info"] = f"{registry.username}:{password}"
    if registry.ca_file:
        conf["ssl.ca.location"] = str(registry.ca_file)
    try:
        return SchemaRegistryClient(conf)
    except (ValueError, OSError) as fault:
        raise SetupError(
            f"registry.url or registry.ca_file cannot be used ({type(fault).__name__}): {registry.url}"
        ) from None
