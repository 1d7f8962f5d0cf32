"""Files of storage as files to read: unpacked, in their order, and gone afterwards."""

import gzip
import io
import os
import stat
import time
import uuid
import zipfile
from datetime import date, timedelta
from pathlib import Path

import pytest

from headwater.errors import DataLossError, HeadwaterError, SetupError, TransientError
from sources.landing.base import new_key, store
from sources.landing.local import LocalLanding
from sources.scratch import explained, readable, scratch_folder, sweep
from sources.sniff import CSV, GZIP, ZIP
from sources.unpack import Limits

LIMITS = Limits(1 << 20, 200, 10, 100)
ROWS = b"a,b\n1,2\n"


@pytest.fixture
def landing(tmp_path: Path) -> LocalLanding:
    return LocalLanding(tmp_path / "uploads")


def landed(landing: LocalLanding, content: bytes) -> str:
    return store(landing, new_key(uuid.uuid4(), date(2026, 3, 1)), io.BytesIO(content), 1 << 20).key


def nothing() -> None:
    """Nobody wants the import to end."""


def zipped(*members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number, content in enumerate(members):
            archive.writestr(f"m{number}.csv", content)
    return made.getvalue()


def test_a_plain_file_is_read_where_it_lies(landing: LocalLanding, tmp_path: Path) -> None:
    (found,) = readable(landing, landed(landing, ROWS), CSV, LIMITS, tmp_path / "none", nothing)
    assert (found.path.read_bytes(), found.format) == (ROWS, CSV)


@pytest.mark.parametrize(
    ("kind", "packed", "contents"),
    [(GZIP, gzip.compress(ROWS), [ROWS]), (ZIP, zipped(ROWS, b'{"a": 1}'), [ROWS, b'{"a": 1}'])],
)
def test_an_archive_is_unpacked_in_its_order_under_names_of_ours(
    landing: LocalLanding, tmp_path: Path, kind: str, packed: bytes, contents: list[bytes]
) -> None:
    with scratch_folder(tmp_path / "scratch", "import_1") as folder:
        found = readable(landing, landed(landing, packed), kind, LIMITS, folder, nothing)
        assert [file.path.read_bytes() for file in found] == contents
        assert {file.path.parent for file in found} == {folder}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list((tmp_path / "scratch").iterdir()) == []


def test_unpacking_ends_when_the_import_is_to_end_and_leaves_nothing(
    landing: LocalLanding, tmp_path: Path
) -> None:
    def stop() -> None:
        raise HeadwaterError("stop")

    key = landed(landing, gzip.compress(ROWS))
    with pytest.raises(HeadwaterError, match="stop"), scratch_folder(tmp_path / "s", "one") as folder:
        readable(landing, key, GZIP, LIMITS, folder, stop)
    assert list((tmp_path / "s").iterdir()) == []


def test_a_folder_that_a_killed_worker_left_is_emptied_for_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.csv").write_bytes(ROWS)
    with scratch_folder(tmp_path, "one") as folder:
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", [CSV, GZIP])
def test_a_file_that_is_not_in_storage_is_a_loss(landing: LocalLanding, tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataLossError):
        readable(landing, new_key(uuid.uuid4(), date(2026, 3, 1)), kind, LIMITS, tmp_path, nothing)


def test_what_was_left_a_day_ago_is_swept_and_newer_folders_stay(tmp_path: Path) -> None:
    old, new = (f"import_{uuid.uuid4().hex}_{number}" for number in (1, 12))
    for name, hours in ((old, 25), (new, 1), ("of somebody else", 25)):
        (tmp_path / name).mkdir()
        then = time.time() - hours * 3600
        os.utime(tmp_path / name, (then, then))
    assert sweep(tmp_path, timedelta(days=1)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {new, "of somebody else"}
    assert sweep(tmp_path / "not there") == 0


@pytest.mark.parametrize(
    ("number", "kind"), [(28, TransientError), (5, TransientError), (13, SetupError), (20, SetupError)]
)
def test_a_full_disk_may_mend_itself_and_rights_do_not(number: int, kind: type[HeadwaterError]) -> None:
    assert type(explained(OSError(number, "x"))) is kind
