"""Dead letters of a lake in S3: read, and an API that goes on while it is away. A real S3 server."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
import pytest

from headwater.errors import SetupError
from headwater.settings import Settings
from sources.letters.apart import apart
from sources.letters.groups import groups
from sources.letters.newest import newest
from sources.letters.one import find
from sources.letters.wanted import Wanted
from tests.integration.api_server import START_S, running_api
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.uploads.s3_server import s3_server
from tests.letters import PAYLOAD, identity, lake_settings, letter, make_lake

KEY, SECRET, REGION = "testing", "testing-secret", "us-east-1"


def told(port: int) -> dict[str, str]:
    """What spark.conf says of the store."""
    return {
        "spark.hadoop.fs.s3a.endpoint": f"http://127.0.0.1:{port}",
        "spark.hadoop.fs.s3a.endpoint.region": REGION,
        "spark.hadoop.fs.s3a.access.key": KEY,
        "spark.hadoop.fs.s3a.secret.key": SECRET,
    }


def in_s3(settings: Settings, bucket: str, port: int) -> Settings:
    spark = settings.spark.model_copy(update={"conf": told(port)})
    return settings.model_copy(update={"lake": f"s3a://{bucket}/lake", "spark": spark})


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Settings]:
    """A lake whose files were written to a folder, and lie in a bucket."""
    local = lake_settings(tmp_path / "lake")
    make_lake(local, letter(0, "empty"), letter(1))
    with s3_server(tmp_path / "log") as port:
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name=REGION,
            aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        )  # fmt: skip
        name = f"b{uuid4().hex}"
        client.create_bucket(Bucket=name)
        for path in (tmp_path / "lake").rglob("*"):
            if path.is_file():
                client.upload_file(str(path), name, str(path.relative_to(tmp_path)))
        yield in_s3(local, name, port)


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes every connection and never answers."""
    server, taken = socket.create_server(("127.0.0.1", 0)), []

    def take() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in taken:
            connection.close()


def test_letters_in_s3_are_read_here_and_by_a_process_of_their_own(
    remote: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Most of the time goes into the start of the process.
    monkeypatch.setattr("sources.letters.apart.TIMEOUT_S", START_S)
    page = newest(remote, Wanted(), 5)
    assert [one["source_offset"] for one in page] == [1, 0]
    assert apart(newest, remote, Wanted(), 5) == page
    assert [g.key for g in groups(remote, Wanted(), ["reason"], 5)] == [("empty",), ("rule:pattern",)]
    found = find(remote, identity(1))
    assert found and found.letter["payload"] == PAYLOAD


def test_what_is_refused_apart_is_refused_as_here(remote: Settings) -> None:
    with pytest.raises(SetupError, match="a folder or from S3"):
        apart(newest, remote.model_copy(update={"lake": "hdfs://name/lake"}), Wanted(), 5)


def test_while_s3_is_silent_the_api_answers_all_else(tmp_path: Path) -> None:
    with migrated_database() as name, silent() as port:
        environment = {
            "HEADWATER_POSTGRES__API_DSN": settings_of(name).postgres.api_dsn,
            "HEADWATER_LAKE": "s3a://bucket/lake",
            "HEADWATER_SPARK__CONF": json.dumps(told(port)),
        }
        with running_api(tmp_path, **environment) as server, server.client() as client:
            answers: list[httpx.Response] = []
            asking = threading.Thread(
                target=lambda: answers.append(client.get("/api/v1/dead-letters", timeout=60))
            )
            asking.start()
            slowest, end = 0.0, time.monotonic() + 5
            while time.monotonic() < end:
                began = time.monotonic()
                assert client.get("/health/live").status_code == 200
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.02)
            assert slowest < 2 and not answers
            asking.join()
            assert (answers[0].status_code, answers[0].json()["code"]) == (503, "lake_unavailable")
            assert server.stop() == 0
