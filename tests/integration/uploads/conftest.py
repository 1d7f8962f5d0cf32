"""Fixtures of the tests of uploads: a database, its queue as workers see it, and an API on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headwater.settings import Settings
from sources.import_queue import ImportQueue
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.uploads.harness import UploadApi, ask, upload_api
from tests.integration.uploads.imports import Office, settings_for

Worker = Callable[..., ImportQueue]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture
def settings(database: str) -> Settings:
    """Settings of an empty database, with three attempts."""
    ask(database, "TRUNCATE ingestion_jobs, validation_errors, ingested_data")
    found = settings_of(database)
    return found.model_copy(update={"uploads": found.uploads.model_copy(update={"attempts": 3})})


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    """Makes workers, each with a connection of its own; closes them at the end."""
    made: list[ImportQueue] = []

    def make(name: str = "worker") -> ImportQueue:
        made.append(ImportQueue(settings, name))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def office(settings: Settings, database: str, tmp_path: Path) -> Iterator[Office]:
    """Storage, a lake and a scratch folder of the test's own, on the empty database; log lines are kept."""
    with capture_logs() as lines:
        made = Office(settings_for(settings, tmp_path), database)
        made.log = lines
        yield made


@pytest.fixture(scope="module")
def api(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UploadApi]:
    """An API with the settings' own limits."""
    with upload_api(tmp_path_factory.mktemp("api"), settings_of(database)) as server:
        yield server
