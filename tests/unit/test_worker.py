"""headwater.worker: what every task of Spark would do again."""

import gc
import importlib
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from headwater.worker import forget_archives, keep_for_good


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zip of two modules, first on the path of modules."""
    made = tmp_path / "modules.zip"
    with ZipFile(made, "w") as into:
        into.writestr("in_archive_one.py", "value = 1")
        into.writestr("in_archive_two.py", "value = 2")
    monkeypatch.syspath_prepend(str(made))
    return made


def test_a_forgotten_archive_is_not_read_again_and_still_gives_its_modules(archive: Path) -> None:
    assert importlib.import_module("in_archive_one").value == 1
    assert str(archive) in sys.path_importer_cache

    forget_archives()

    assert str(archive) not in sys.path_importer_cache
    importlib.invalidate_caches()
    assert str(archive) not in sys.path_importer_cache
    assert importlib.import_module("in_archive_two").value == 2


def test_folders_are_remembered() -> None:
    folders = {place for place in sys.path_importer_cache if Path(place).is_dir()}
    forget_archives()
    assert folders and folders <= set(sys.path_importer_cache)


def test_what_is_kept_for_good_is_not_visited_by_the_collector() -> None:
    made: list[object] = [[]]
    keep_for_good()
    try:
        assert not any(seen is made for seen in gc.get_objects())
    finally:
        gc.unfreeze()
