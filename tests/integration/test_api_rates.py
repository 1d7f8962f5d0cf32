"""How often a credential may call, counted by a real Redis."""

from pathlib import Path

import pytest

from headwater.settings import load_settings
from schemas.topics import create_topics
from tests.integration.api_server import ApiServer, running_api
from tests.integration.test_api import event, problem

IN_MEMORY = "rate_limit_in_memory"


@pytest.fixture(scope="module", autouse=True)
def _topics() -> None:
    create_topics(load_settings())


def limits(burst: int) -> dict[str, str]:
    """One a second. Redis may take its time to answer: what is counted in memory instead begins at zero."""
    return {
        "HEADWATER_API__RATE_PER_SECOND": "1",
        "HEADWATER_API__RATE_BURST": str(burst),
        "HEADWATER_API__REDIS_TIMEOUT_S": "10",
    }


def test_beyond_the_rate_the_answer_is_429_with_a_wait(tmp_path: Path) -> None:
    with running_api(tmp_path, **limits(60)) as server, server.client() as client:
        answers = [client.post("/ingest", json=event()) for _ in range(70)]
        assert IN_MEMORY not in server.logged(answers[-1])
        assert [answer.status_code for answer in answers].count(202) in range(60, 65)
        refused = next(answer for answer in answers if answer.status_code == 429)
        problem(refused, 429, "rate_limited")
        assert int(refused.headers["retry-after"]) >= 1


def test_a_restart_does_not_reset_the_rate(tmp_path: Path) -> None:
    server = ApiServer(tmp_path)
    accepted = 0
    for _ in range(2):
        server.start(**limits(300))
        with server.client() as client:
            accepted += sum(client.post("/ingest", json=event()).status_code == 202 for _ in range(200))
        assert server.stop() == 0
    assert IN_MEMORY not in server.log.read_text()
    assert accepted in range(300, 330)
