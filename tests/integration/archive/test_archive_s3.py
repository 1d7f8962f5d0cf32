"""The archive in S3: the same promises against a real S3 server; and a lake that lies there, too."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from headwater.archive_settings import S3Access
from headwater.errors import DataLossError, QualityError, SetupError, TransientError
from sinks.archive.registry import store_of
from tests.integration.archive.harness import HOUR, TEN, TOPIC, Lake, lead, noise
from tests.integration.uploads.s3_server import Faulty, s3_server

KEY, SECRET, REGION = "testing", "testing-secret", "us-east-1"
FOLDER = "deep/er/topic=lead.ingest/date=2026-03-01/hour=10"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as port:
        yield port


@pytest.fixture
def proxy(server: int) -> Iterator[Faulty]:
    made = Faulty(server)
    yield made
    made.stop()


@dataclass
class Bucket:
    """A bucket of the test's own, looked at without the code under test."""

    port: int
    name: str
    client: Any

    def everything(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        keys = [entry["Key"] for entry in found]
        return {key: self.client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}

    def begun(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [entry["Key"] for entry in found]


@pytest.fixture
def bucket(proxy: Faulty, lake: Lake) -> Bucket:
    """The lake's archive goes there."""
    endpoint, name = f"http://127.0.0.1:{proxy.port}", f"b{uuid4().hex}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    client.create_bucket(Bucket=name)
    access = S3Access(
        endpoint=endpoint, region=REGION, access_key_id=SecretStr(KEY), secret_access_key=SecretStr(SECRET)
    )
    lake.configure(root=f"s3a://{name}/deep/er", s3=access, file_bytes=1 << 20)
    return Bucket(proxy.port, name, client)


def rows(bucket: Bucket) -> list[int]:
    """Offsets of the hour at ten, in the order of its manifest."""
    there = bucket.everything()
    files = json.loads(there[f"{FOLDER}/_manifest.json"])["files"]
    read = [pq.read_table(io.BytesIO(there[f"{FOLDER}/{file['name']}"])) for file in files]
    return [offset for table in read for offset in table["offset"].to_pylist()]


def test_hours_are_written_once_and_verified(bucket: Bucket, lake: Lake) -> None:
    lake.arrive(TEN, noise(0, 2_000))
    lake.arrive(TEN + HOUR, [lead(1)])
    assert lake.archive() == [2_000, 1]
    assert rows(bucket) == list(range(2_000))
    before = bucket.everything()
    assert (lake.archive(), bucket.everything(), bucket.begun()) == ([], before, [])
    assert lake.verify()["files"] == len(before) - 2


@pytest.mark.parametrize("point", ["task", "after_write"])
def test_a_killed_run_is_made_good_by_the_next(bucket: Bucket, lake: Lake, point: str) -> None:
    lake.arrive(TEN, noise(0, 2_000))
    killed = lake.start(
        "--once",
        HEADWATER_FAILPOINT=f"archive.leads:{point}",
        HEADWATER_ARCHIVE__S3__ENDPOINT=f"http://127.0.0.1:{bucket.port}",
        HEADWATER_ARCHIVE__S3__REGION=REGION,
        HEADWATER_ARCHIVE__S3__ACCESS_KEY_ID=KEY,
        HEADWATER_ARCHIVE__S3__SECRET_ACCESS_KEY=SECRET,
    ).wait()
    assert killed.code == -9, killed.why
    assert bucket.begun() or bucket.everything()
    assert [name for name in bucket.everything() if name.endswith(".json")] == []
    assert lake.archive() == [2_000]
    assert rows(bucket) == list(range(2_000))
    assert bucket.begun() == []
    assert lake.verify()["rows"] == 2_000


@pytest.mark.parametrize("what", ["partNumber=1", "part-00000.parquet?uploadId", "_manifest.json"])
def test_an_outage_is_a_transient_fault_and_the_next_attempt_is_whole(
    bucket: Bucket, lake: Lake, proxy: Faulty, what: str
) -> None:
    lake.arrive(TEN, noise(0, 2_000))
    proxy.breaks = lambda method, path: method in ("PUT", "POST") and what in path
    with pytest.raises(TransientError):
        lake.archive()
    assert f"{FOLDER}/_manifest.json" not in bucket.everything()
    proxy.breaks = lambda method, path: False
    assert lake.archive() == [2_000]
    assert (rows(bucket), bucket.begun()) == (list(range(2_000)), [])


def test_a_manifest_is_put_where_none_is_and_nowhere_else(bucket: Bucket, lake: Lake) -> None:
    store = store_of(lake.settings)
    answers = [store.put_new("a/_manifest.json", content) for content in (b"one", b"one", b"two")]
    assert (answers, bucket.everything()) == ([True, True, False], {"deep/er/a/_manifest.json": b"one"})


def test_damage_in_the_bucket_is_found(bucket: Bucket, lake: Lake) -> None:
    lake.arrive(TEN, noise(0, 100))
    lake.archive()
    name = f"{FOLDER}/part-00000.parquet"
    content = bytearray(bucket.everything()[name])
    content[500] ^= 1
    bucket.client.put_object(Bucket=bucket.name, Key=name, Body=bytes(content))
    with pytest.raises(QualityError, match=r"part-00000\.parquet has another SHA-256"):
        lake.verify()


def test_folders_and_files_are_told_apart_and_missing_ones_are_none(bucket: Bucket, lake: Lake) -> None:
    store = store_of(lake.settings)
    for name in ("a/b/one", "a/c/two", "a/three"):
        store.put_new(name, b"x" * len(name))
    assert (sorted(store.folders("a")), store.files("a"), store.folders("d")) == (
        ["b", "c"],
        {"three": 7},
        [],
    )
    assert store.read("a/four") is None
    with pytest.raises(DataLossError, match="a/four"):
        store.open("a/four")
    assert (store.clear("a/b"), store.files("a/b")) == (1, {})


def test_a_bucket_that_is_not_there_is_a_fault_of_the_set_up(bucket: Bucket, lake: Lake) -> None:
    lake.arrive(TEN, [lead(1)])
    lake.configure(root="s3a://nobody-made-it")
    with pytest.raises(SetupError, match=r"archive\.s3"):
        lake.archive()


def test_a_lake_in_s3_is_archived_too(bucket: Bucket, lake: Lake, server: int, tmp_path: Path) -> None:
    """Its files are those that were written to a folder; only the job reads them in the bucket."""
    lake.arrive(TEN, noise(0, 2_000))
    lake.arrive(TEN, noise(2_000, 10), partition=3)
    for path in (tmp_path / "lake").rglob("*"):
        if path.is_file():
            bucket.client.upload_file(str(path), bucket.name, str(path.relative_to(tmp_path)))
    told = {
        # Not by the proxy: delta-rs lets no thread of this process run while it waits.
        "spark.hadoop.fs.s3a.endpoint": f"http://127.0.0.1:{server}",
        "spark.hadoop.fs.s3a.endpoint.region": REGION,
        "spark.hadoop.fs.s3a.access.key": KEY,
        "spark.hadoop.fs.s3a.secret.key": SECRET,
    }
    spark = lake.settings.spark.model_copy(update={"conf": told})
    lake.settings = lake.settings.model_copy(update={"lake": f"s3a://{bucket.name}/lake", "spark": spark})
    assert lake.archive() == [2_010]
    manifest = json.loads(bucket.everything()[f"{FOLDER}/_manifest.json"])
    assert (manifest["topic"], manifest["through"]) == (TOPIC, {"0": 1_999, "3": 9})
    assert rows(bucket) == [*range(2_000), *range(10)]


def test_a_lake_that_neither_a_folder_nor_s3_holds_is_refused(lake: Lake) -> None:
    lake.settings = lake.settings.model_copy(update={"lake": "hdfs://namenode/lake"})
    with pytest.raises(SetupError, match="folder or from S3"):
        lake.archive()
