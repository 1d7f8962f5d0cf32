"""Storage of uploaded files: the same promises of a folder and of a bucket, against a real S3 server."""

import hashlib
import io
import resource
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import boto3
import pytest
from pydantic import SecretStr

from headwater.errors import DataLossError, SetupError, TransientError
from headwater.settings import S3, load_settings
from sources.landing.base import Landing, Writer, checked, new_key, store
from sources.landing.local import LocalLanding
from sources.landing.registry import landing_of
from sources.landing.s3 import S3Landing
from tests.integration.uploads.s3_server import Faulty, s3_server

PART = 5 << 20
SOME_ID = UUID(int=1)
CONTENT = hashlib.shake_256(b"rows").digest(2 * PART + 12_345)
PARTS = [CONTENT[at : at + PART] for at in range(0, len(CONTENT), PART)]


@dataclass
class Place:
    """A storage, everything that is in it, and a way to make its next write fail."""

    landing: Landing
    everything: Callable[[], list[str]]
    break_second_part: Callable[[], None]
    break_end: Callable[[], None]


def key() -> str:
    return new_key(uuid4(), datetime.now(UTC).date())


def s3(port: int, bucket: str) -> S3:
    return S3(
        bucket=bucket, prefix="landing/", endpoint=f"http://127.0.0.1:{port}", region="us-east-1",
        access_key_id=SecretStr("testing"), secret_access_key=SecretStr("testing-secret"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as port:
        yield port


@pytest.fixture
def proxy(server: int) -> Iterator[Faulty]:
    made = Faulty(server)
    yield made
    made.stop()


@pytest.fixture
def bucket(proxy: Faulty) -> Place:
    name = f"b{uuid4().hex}"
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{proxy.port}", region_name="us-east-1",
        aws_access_key_id="testing", aws_secret_access_key="testing-secret",
    )  # fmt: skip
    client.create_bucket(Bucket=name)

    def everything() -> list[str]:
        found = client.list_objects_v2(Bucket=name).get("Contents", [])
        begun = client.list_multipart_uploads(Bucket=name).get("Uploads", [])
        return [entry["Key"] for entry in (*found, *begun)]

    def break_second_part() -> None:
        proxy.breaks = lambda method, path: method == "PUT" and "partNumber=2" in path

    def break_end() -> None:
        proxy.breaks = lambda method, path: method == "POST" and "uploadId=" in path

    return Place(S3Landing(s3(proxy.port, name)), everything, break_second_part, break_end)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Place]:
    root = tmp_path / "landing"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def everything() -> list[str]:
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]

    def break_second_part() -> None:
        """As a full disk would: in the midst of the part."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (PART + 1000, before[1]))

    def break_end() -> None:
        """A file where the folder of the day should be."""
        (root / datetime.now(UTC).date().isoformat()).write_bytes(b"")

    yield Place(LocalLanding(root), everything, break_second_part, break_end)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def test_a_file_comes_back_as_it_was_written_with_its_size_and_hash(place: Place) -> None:
    writer, name = Writer(place.landing, key()), key()
    writer.abort()
    writer = Writer(place.landing, name)
    for part in PARTS:
        writer.write(part)
    stored = writer.finish()
    assert (stored.key, stored.size, stored.sha256) == (
        name,
        len(CONTENT),
        hashlib.sha256(CONTENT).hexdigest(),
    )
    with place.landing.open(name) as stream:
        assert stream.read() == CONTENT


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1])
def test_a_stream_of_any_size_is_stored(place: Place, size: int) -> None:
    class Dribbling(io.BytesIO):
        """Gives less than it is asked for, as sockets do."""

        def read(self, asked: int | None = -1, /) -> bytes:
            return super().read(min(asked or 0, 700_001))

    name = key()
    stored = store(place.landing, name, Dribbling(CONTENT[:size]), PART)
    assert stored.size == size
    with place.landing.open(name) as stream:
        assert stream.read() == CONTENT[:size]


def test_nothing_is_to_be_seen_before_the_end(place: Place) -> None:
    name = key()
    writer = Writer(place.landing, name)
    writer.write(PARTS[0])
    with pytest.raises(DataLossError):
        place.landing.open(name)
    writer.write(PARTS[2])
    writer.finish()
    place.landing.open(name).close()


def test_an_aborted_file_leaves_nothing(place: Place) -> None:
    writer = Writer(place.landing, key())
    writer.write(PARTS[0])
    assert place.everything()
    writer.abort()
    writer.abort()
    assert place.everything() == []


def test_a_part_that_fails_leaves_nothing(place: Place) -> None:
    place.break_second_part()
    with pytest.raises(TransientError):
        store(place.landing, key(), io.BytesIO(CONTENT), PART)
    assert place.everything() == []


def test_an_end_that_fails_leaves_nothing_of_the_file(place: Place) -> None:
    place.break_end()
    before = place.everything()
    with pytest.raises((TransientError, SetupError)):
        store(place.landing, key(), io.BytesIO(CONTENT), PART)
    assert place.everything() == before


def test_a_file_is_read_from_anywhere_without_reading_all_of_it(place: Place) -> None:
    name = key()
    store(place.landing, name, io.BytesIO(CONTENT), PART)
    with place.landing.open(name) as stream:
        assert stream.seek(-10, io.SEEK_END) == len(CONTENT) - 10
        assert stream.read() == CONTENT[-10:]
        stream.seek(PART - 3)
        assert stream.read(6) == CONTENT[PART - 3 : PART + 3]
        stream.seek(0)
        assert stream.read(100) == CONTENT[:100]
        assert stream.tell() == 100


def test_a_zip_file_is_opened_where_it_lies(place: Place) -> None:
    held, name = io.BytesIO(), key()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.csv", "a,b\n" * 1000)
    held.seek(0)
    store(place.landing, name, held, PART)
    with place.landing.open(name) as stream, zipfile.ZipFile(stream) as archive:
        assert archive.read("a.csv") == b"a,b\n" * 1000


def test_a_deleted_file_is_gone_and_may_be_deleted_again(place: Place) -> None:
    name = key()
    store(place.landing, name, io.BytesIO(b"a,b\n"), PART)
    place.landing.delete(name)
    place.landing.delete(name)
    assert place.everything() == []
    with pytest.raises(DataLossError, match="not in storage"):
        place.landing.open(name)


def test_what_a_killed_writer_left_is_swept_and_files_stay(place: Place) -> None:
    name = key()
    store(place.landing, name, io.BytesIO(b"a,b\n"), PART)
    Writer(place.landing, key()).write(PARTS[0])
    assert place.landing.sweep(timedelta(days=20_000)) == 0  # the S3 server dates every upload 2010
    assert place.landing.sweep(timedelta(seconds=-5)) == 1
    assert len(place.everything()) == 1
    place.landing.open(name).close()


def test_keys_are_those_of_whole_files_that_came_long_ago(place: Place) -> None:
    name = key()
    store(place.landing, name, io.BytesIO(b"a,b\n"), PART)
    Writer(place.landing, key()).write(PARTS[0])
    assert list(place.landing.keys(timedelta(days=20_000))) == []
    assert list(place.landing.keys(timedelta(seconds=-5))) == [name]


@pytest.mark.parametrize(
    "bad",
    ["", "../x", "/etc/passwd", "2026-01-01/../x", f"2026-01-01/{SOME_ID}/x", f"2026-01-01/{SOME_ID}\n"],
)
def test_only_keys_that_we_made_are_taken(place: Place, bad: str) -> None:
    for action in (place.landing.begin, place.landing.open, place.landing.delete, checked):
        with pytest.raises(ValueError, match="not a key"):
            action(bad)


def test_only_the_owner_can_read_a_file_in_the_folder(folder: Place, tmp_path: Path) -> None:
    name = key()
    store(folder.landing, name, io.BytesIO(b"a,b\n"), PART)
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "landing").rglob("*")}
    assert modes == {0}


def test_a_read_that_breaks_off_is_taken_up_where_it_was(bucket: Place, proxy: Faulty) -> None:
    name, refused = key(), iter([False, True, True])
    store(bucket.landing, name, io.BytesIO(CONTENT), PART)
    with bucket.landing.open(name) as stream:
        held = stream.read(10)
        stream.seek(PART)
        proxy.breaks = lambda method, path: method == "GET" and next(refused, False)
        stream.seek(10)
        assert held + stream.read() == CONTENT


@pytest.mark.parametrize("bucket_name", [None, "nobody-made-it"])
def test_a_bucket_that_is_not_there_is_a_fault_of_the_set_up(proxy: Faulty, bucket_name: str | None) -> None:
    wrong = s3(proxy.port, "x").model_copy(update={"bucket": bucket_name})
    with pytest.raises(SetupError, match=r"uploads\.s3"):
        S3Landing(wrong).begin(key())


def test_a_server_that_is_away_is_an_outage(proxy: Faulty) -> None:
    proxy.breaks = lambda method, path: True
    with pytest.raises(TransientError):
        S3Landing(s3(proxy.port, "any")).begin(key())


def test_the_settings_choose_the_storage(tmp_path: Path) -> None:
    base = load_settings("staging")
    local = base.uploads.model_copy(update={"folder": tmp_path / "up"})
    assert isinstance(landing_of(base.model_copy(update={"uploads": local})), LocalLanding)
    remote = base.uploads.model_copy(update={"storage": "s3", "s3": s3(1, "b")})
    assert isinstance(landing_of(base.model_copy(update={"uploads": remote})), S3Landing)
    vast = remote.model_copy(update={"max_bytes": remote.part_bytes * 10_001})
    with pytest.raises(SetupError, match="max_bytes"):
        landing_of(base.model_copy(update={"uploads": vast}))
