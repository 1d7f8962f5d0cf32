"""POST /upload into a bucket: the same promises, kept by a multipart upload."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from headwater.settings import Settings
from tests.integration.broker import eventually
from tests.integration.uploads.harness import ROWS, UploadApi, ask, upload_api
from tests.integration.uploads.s3_server import s3_server

BUCKET = "uploads-of-the-test"
CONTENT = b"id,name\n" + b"1,some text that makes up a row\n" * 800_000  # three parts


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Any]:
    """A client of the S3 server, with the bucket made."""
    with s3_server(tmp_path / "s3.log") as port:
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing-secret",
        )  # fmt: skip
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def api(bucket: Any, settings: Settings, tmp_path: Path) -> Iterator[UploadApi]:
    place = {
        "STORAGE": "s3",
        "S3__BUCKET": BUCKET,
        "S3__ENDPOINT": bucket.meta.endpoint_url,
        "S3__REGION": "us-east-1",
        "S3__ACCESS_KEY_ID": "testing",
        "S3__SECRET_ACCESS_KEY": "testing-secret",
    }
    variables = {f"HEADWATER_UPLOADS__{name}": value for name, value in place.items()}
    with upload_api(tmp_path, settings, **variables) as server:
        yield server


def stored(bucket: Any) -> list[str]:
    """Objects, and uploads that were begun and not ended."""
    objects = bucket.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    begun = bucket.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return [entry["Key"] for entry in (*objects, *begun)]


def test_a_file_of_several_parts_is_one_object_and_its_job_waits(
    api: UploadApi, bucket: Any, database: str
) -> None:
    answer = api.upload(CONTENT)
    assert answer.status_code == 202
    [(key, digest)] = ask(database, "SELECT storage_key, sha256 FROM ingestion_jobs")
    found = bucket.get_object(Bucket=BUCKET, Key=f"uploads/{key}")["Body"].read()
    assert (found == CONTENT, digest) == (True, hashlib.sha256(CONTENT).hexdigest())
    assert stored(bucket) == [f"uploads/{key}"]


def test_what_is_refused_or_broken_off_leaves_nothing_in_the_bucket(
    api: UploadApi, bucket: Any, database: str
) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT
        assert eventually(lambda: len(stored(bucket)) == 1, "begun")
        raise ConnectionAbortedError

    with api.client() as client, pytest.raises(ConnectionAbortedError):
        client.post("/upload?dataset=people", content=broken())
    assert eventually(lambda: stored(bucket) == [], "aborted")
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as made:
        made.writestr("../evil.csv", ROWS)
    refused: httpx.Response = api.upload(held.getvalue())
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "member_name")
    assert stored(bucket) == []
    assert ask(database, "SELECT count(*) FROM ingestion_jobs") == [(0,)]
