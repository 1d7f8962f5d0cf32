"""Fixtures of the tests of the jobs: one broker for all, and a world for each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.audit import audit
from jobs.launch import Launch
from jobs.queries import Context, Totals
from jobs.registry import JOBS
from tests.integration.broker import Broker
from tests.integration.jobs_harness import Here, Prove, World
from tests.integration.schema_registry import SchemaRegistry


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka that no other test and no developer uses."""
    made = Broker(tmp_path_factory.mktemp("kafka"))
    try:
        made.format()
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def schema_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    """A registry that no other test and no developer uses."""
    made = SchemaRegistry(tmp_path_factory.mktemp("registry"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def world(broker: Broker, tmp_path: Path) -> Iterator[World]:
    """Empty topics, lake, database and index."""
    made = World(tmp_path / "world", broker)
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture
def twin(broker: Broker, tmp_path: Path) -> Iterator[World]:
    """A second lake, database and index on the same topics."""
    made = World(tmp_path / "twin", broker)
    try:
        made.open(topics=False)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def here(spark: SparkSession) -> Here:
    """A job of a domain, `--once`, in this process's Spark: seconds where a process takes half a minute.

    For runs that are neither killed nor asked for what a process says. A fault is raised.
    """

    def run(world: World, job: str, domain: str = "leads", **more: Any) -> Totals:
        order = Launch(job, (domain,), once=True, **more)
        context = Context(spark, world.settings, "test", from_start=order.from_start)
        JOBS[job](context, order)
        return context.totals

    return run


@pytest.fixture(scope="session")
def prove(spark: SparkSession) -> Prove:
    """`jobs audit` on a world, in this process's Spark; its counts."""

    def run(world: World) -> dict[str, int]:
        return dict(audit(Context(spark, world.settings, "test"), "leads")["lead.ingest"])

    return run
