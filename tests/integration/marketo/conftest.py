"""Fixtures of the tests of the extractor: a server like Marketo's, an account and a topic of their own."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from headwater.settings import Settings, load_settings
from jobs.extract_marketo import ExtractMarketo
from sources.marketo.client import Client
from sources.marketo.pace import Pace
from tests.integration.broker import topic_of_its_own
from tests.integration.marketo.harness import Events, Make
from tests.integration.marketo_server import CLIENT_ID, CLIENT_SECRET, NOON, MarketoServer, serving
from tests.integration.outbox_harness import context, migrated_database, settings_of
from tests.integration.outgoing import records


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture(scope="module")
def topic() -> Iterator[str]:
    with topic_of_its_own(load_settings("local").kafka.bootstrap, "marketo") as name:
        yield name


@pytest.fixture
def server() -> Iterator[MarketoServer]:
    with serving(page_size=4) as made:
        yield made


@pytest.fixture
def settings(database: str, server: MarketoServer) -> Settings:
    """An account of the test's own at the server, from noon on."""
    base = settings_of(database)
    changes = {
        "base_url": server.url, "client_id": CLIENT_ID, "client_secret": SecretStr(CLIENT_SECRET),
        "account_id": f"acme-{uuid.uuid4().hex[:8]}", "since": NOON, "timeout_s": 5.0,
        "plain_hosts": ("127.0.0.1",),
    }  # fmt: skip
    return base.model_copy(update={"marketo": base.marketo.model_copy(update=changes)})


@pytest.fixture
def make(settings: Settings, topic: str) -> Iterator[Make]:
    """Makes extractors, prepared; closes them at the end. Changes are of the section marketo."""
    made: list[ExtractMarketo] = []

    def extractor(from_start: bool = False, pace: Pace | None = None, **changes: Any) -> ExtractMarketo:
        section = settings.marketo.model_copy(update=changes)
        there = settings.model_copy(update={"marketo": section})
        made.append(ExtractMarketo(context(there, from_start), topic, Client(section, pace)))
        made[-1].prepare()
        return made[-1]

    yield extractor
    for one in made:
        one.close()


@pytest.fixture
def events(settings: Settings, topic: str) -> Events:
    """Reads the account's events (also those of an account whose name begins so), by time and id."""

    def read() -> list[dict[str, Any]]:
        whose = settings.marketo.account_id or ""
        found = [(key, one) for key, one in records(settings.kafka, topic) if key.startswith(whose)]
        assert [key for key, _ in found] == [f"{one['account_id']}|{one['event_id']}" for _, one in found]
        return sorted((one for _, one in found), key=lambda one: (one["updated_at"], one["event_id"]))

    return read
