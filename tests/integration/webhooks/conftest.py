"""Fixtures of the tests of webhooks: a database, and the connector crm at the receiver."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from headwater import delta_log
from headwater.settings import Connector, Settings
from headwater.tables import table_path
from jobs.webhooks import Webhook
from local.receiver import Receiver
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS
from tests.conftest import RECEIVER_SECRET
from tests.integration.outbox_harness import Leads, as_owner, context, migrated_database, settings_of
from tests.integration.webhooks.harness import MAPPING, Make


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture
def settings(database: str, receiver: Receiver, tmp_path: Path) -> Settings:
    """A lake with an empty ops.dead_letters, and the connector crm at the receiver."""
    crm = Connector.model_validate(
        {"url": f"{receiver.url}/hook", "secret": SecretStr(RECEIVER_SECRET), "mapping": MAPPING,
         "allow_private": ("127.0.0.0/8",), "timeout_s": 2}
    )  # fmt: skip
    found = settings_of(database, lake=str(tmp_path), connectors={"crm": crm})
    delta_log.create(table_path(found, DEAD_LETTERS.full_name), LETTERS, [], {})
    return found


@pytest.fixture
def leads(settings: Settings) -> Iterator[Leads]:
    made = Leads(settings)
    with as_owner(settings) as owner:
        owner.execute("TRUNCATE leads, lead_outbox, webhook_deliveries, webhook_connectors")
    yield made
    made.close()


@pytest.fixture
def make(settings: Settings) -> Iterator[Make]:
    """Makes loops, prepared; closes them at the end."""
    made: list[Webhook] = []

    def loop(from_start: bool = False, **changes: Any) -> Webhook:
        crm = settings.connectors["crm"].model_copy(update=changes)
        there = settings.model_copy(update={"connectors": {"crm": crm}})
        made.append(Webhook(context(there, from_start), "crm"))
        made[-1].prepare()
        return made[-1]

    yield loop
    for one in made:
        one.close()
