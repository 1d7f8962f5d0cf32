"""The CRM is stopped, killed, started and given a record again, by its API, while a job runs it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.traffic import Mix
from local.traffic_crm import TOPICS, crm
from sources.registry import subject_number
from tests.integration.api_server import ApiServer, running_api
from tests.integration.broker import eventually
from tests.integration.jobs_harness import Job, World
from tests.integration.outbox_harness import settings_of
from tests.integration.schema_registry import SchemaRegistry
from tests.integration.test_api_crm import token
from tests.integration.test_crm import WAIT_S, asked, in_log, sent

FOLLOWS_S = 5.0
# A batch that is under way when the word comes is finished: so long, on a machine with other work.
ENDS_S = 60.0
QUERIES = {"ingest.crm", "refine.crm", "build.crm", "deliver.crm.postgres", "deliver.crm.log",
           "deliver.crm.dlq", "deliver.crm.enqueued", "compact.crm"}  # fmt: skip


@pytest.fixture
def api(world: World, tmp_path: Path) -> Iterator[ApiServer]:
    folder = tmp_path / "api"
    folder.mkdir()
    variables = {
        "HEADWATER_POSTGRES__API_DSN": settings_of(world.name).postgres.api_dsn,
        "HEADWATER_KAFKA__BOOTSTRAP": world.broker.bootstrap,
    }
    with running_api(folder, **variables) as server:
        yield server


TOLD = "SELECT count(*) FROM analytics.query_states WHERE updated_at > %s"


def ask(api: ApiServer, name: str, tenant: str | None = None, **body: Any) -> dict[str, Any]:
    path = f"{api.url}/api/v1/crm-ingestion/{name}"
    headers = token(api, "crm:read crm:control", tenant=tenant)
    looks = name in ("status", "metrics")
    answer = httpx.get(path, headers=headers) if looks else httpx.post(path, headers=headers, json=body)
    assert answer.status_code == (200 if looks else 202), answer.text
    return dict(answer.json())


def is_now(api: ApiServer, actual: str) -> bool:
    found = ask(api, "status")
    return found["actual"] == actual and {query["name"] for query in found["queries"]} == QUERIES


def running(world: World) -> Job:
    """A job that has said what each of its queries does."""
    ((since,),) = asked(world, "SELECT now()")
    job = world.start("run", "--domain", "crm")
    eventually(lambda: asked(world, TOLD, since) == [(len(QUERIES),)], "every query is told of", WAIT_S)
    return job


def none_begins(world: World, before: int) -> None:
    """For a while, no batch."""
    end = time.monotonic() + FOLLOWS_S
    while time.monotonic() < end:
        assert batches(world) == before
        time.sleep(0.2)


def batches(world: World) -> int:
    """How many batches have begun: each has written down what it takes."""
    folder = world.lake / "_checkpoints"
    return sum(len(list((folder / name / "offsets").glob("[0-9]*"))) for name in QUERIES)


def test_a_stopped_crm_begins_no_batch_also_after_a_kill_and_catches_up_once_it_is_started(
    world: World, api: ApiServer, schema_registry: SchemaRegistry
) -> None:
    world.env["HEADWATER_REGISTRY__URL"] = schema_registry.settings.url
    world.settings = world.settings.model_copy(update={"registry": schema_registry.settings})
    world.done("migrate")
    numbers = {topic: subject_number(schema_registry.settings, topic) for topic in TOPICS}
    mix = Mix(duplicate=0, broken=0, no_consent=0)
    events = [sent(event) for event in crm(60, numbers, run="c-", seed=5, mix=mix)]
    job = running(world)
    world.send(events[:30])
    eventually(lambda: len(in_log(world)) == 30, "the first events are in the log", WAIT_S)

    # Stopped: what comes stays in Kafka.
    assert ask(api, "stop") == {"desired": "stopped"}
    eventually(lambda: is_now(api, "stopped"), "all queries have stopped", ENDS_S)
    before = batches(world)
    world.send(events[30:])
    none_begins(world, before)
    assert len(world.places("bronze.crm")) == 30

    # Killed and begun anew: still stopped.
    job.kill()
    job = running(world)
    none_begins(world, before)
    assert (ask(api, "status")["desired"], is_now(api, "stopped")) == ("stopped", True)

    # Started: they arrive.
    ask(api, "start")
    eventually(lambda: len(in_log(world)) == 60, "the other events arrive", WAIT_S)
    eventually(lambda: is_now(api, "running"), "all queries run", ENDS_S)

    # A record comes again, says where it was, and is skipped.
    (topic, partition, offset), mine = next(iter(world.sent.items()))
    ask(api, "enqueue", mine.tenant, topic=topic, partition=partition, offset=offset)
    eventually(lambda: len(in_log(world)) == 61, "the record is in the log again", WAIT_S)
    (again,) = in_log(world).keys() - world.sent.keys()
    assert (again[0], in_log(world)[again]) == (topic, "skipped")
    bronze = world.table("bronze.crm", ["topic", "partition", "offset", "headers"])
    (told,) = [row for row in bronze if (row["topic"], row["partition"], row["offset"]) == again]
    said = [header for header in told["headers"] if header["key"] == "replay_of"]
    assert said == [{"key": "replay_of", "value": f"{topic}-{partition}-{offset}".encode()}]
    assert ask(api, "metrics", mine.tenant)["queue_depth"] == 0
    job.terminate()
    assert job.wait().code == 0
    eventually(lambda: is_now(api, "stopped"), "a job that ended says so")
