"""The index of a table's keys against the table itself, whatever becomes of both."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headwater import delta_log, key_index
from headwater.errors import TransientError
from headwater.key_index import KeyIndex
from headwater.settings import Settings
from tests.conftest import settings_at

NAME = "silver.usage"
KEY = ["tenant_id", "event_id"]
Keys = list[tuple[str, str]]


def rows(keys: Keys) -> pa.Table:
    tenants, events = [pa.array([key[n] for key in keys], pa.string()) for n in (0, 1)]
    return pa.table(
        {"tenant_id": tenants, "event_id": events, "quantity": pa.array(range(len(keys)), pa.int64())}
    )


class Lake:
    """A lake with one table."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = settings_at(folder)
        self.path = f"{folder}/silver/usage"
        self.file = folder / "_index" / f"{NAME}.sqlite"
        delta_log.create(self.path, rows([]).schema, [], {})

    def append(self, *keys: tuple[str, str]) -> None:
        delta_log.append_rows(rows(list(keys)), self.path)

    def known(self, *keys: tuple[str, str]) -> list[bool]:
        asked = rows(list(keys)).select(["event_id", "tenant_id"])  # in any order
        return [bool(one) for one in KeyIndex(self.settings, NAME, KEY).may_have(asked).to_pylist()]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_of_an_empty_table_no_key_is_known(lake: Lake) -> None:
    assert lake.known(("acme", "a"), ("acme", "b")) == [False, False]
    assert lake.known() == []


def test_what_was_appended_since_is_known_too(lake: Lake) -> None:
    lake.append(("acme", "a"))
    assert lake.known(("acme", "a"), ("acme", "b")) == [True, False]
    lake.append(("acme", "b"), ("globex", "c"))
    assert lake.known(("acme", "b"), ("acme", "c"), ("globex", "c")) == [True, False, True]


def test_parts_of_a_key_are_told_apart(lake: Lake) -> None:
    lake.append(("a", "bc"))
    assert lake.known(("ab", "c"), ("a", "bc")) == [False, True]


def test_files_are_read_once_and_new_ones_after_they_were_put_together(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    as_it_is = delta_log.read_files
    monkeypatch.setattr(
        delta_log,
        "read_files",
        lambda path, names, key: (read.append(len(names)), as_it_is(path, names, key))[1],
    )
    for event in "abc":
        lake.append(("acme", event))
        assert lake.known(("acme", event)) == [True]
    assert read == [1, 1, 1]
    assert delta_log.compact(lake.path, 1 << 20, 2) == 3
    assert lake.known(("acme", "a"), ("acme", "d")) == [True, False]
    assert lake.known(("acme", "c")) == [True]
    assert read == [1, 1, 1, 1]


def test_a_key_that_has_gone_may_be_known_still(lake: Lake) -> None:
    lake.append(("acme", "a"), ("acme", "b"))
    assert lake.known(("acme", "a")) == [True]
    DeltaTable(lake.path).delete("event_id = 'a'")
    assert lake.known(("acme", "b"), ("acme", "c")) == [True, False]


@pytest.mark.parametrize("harm", ["gone", "not a database", "cut off", "an older form"])
def test_an_index_that_is_of_no_use_is_made_anew(lake: Lake, harm: str) -> None:
    lake.append(*[("acme", str(number)) for number in range(3000)])
    assert lake.known(("acme", "7")) == [True]
    match harm:
        case "gone":
            lake.file.unlink()
        case "not a database":
            lake.file.write_bytes(b"something else altogether" * 100)
        case "cut off":
            lake.file.write_bytes(lake.file.read_bytes()[:9000])
        case _:
            lake.file.write_bytes(lake.file.read_bytes()[:60] + b"\0\0\0\7" + lake.file.read_bytes()[64:])
    with capture_logs() as said:
        assert lake.known(("acme", "7"), ("acme", "x"), ("acme", "2999")) == [True, False, True]
    assert ["index_made_anew"] * (harm in ("not a database", "cut off")) == [line["event"] for line in said]


def test_what_another_program_holds_is_an_outage_and_the_index_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_index, "_PATIENCE_S", 0.01)
    lake.append(("acme", "a"))
    assert lake.known(("acme", "a")) == [True]
    lake.append(("acme", "b"))
    before = lake.file.read_bytes()
    with closing(sqlite3.connect(lake.file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match=r"the index of silver\.usage fails: SQLITE_BUSY"):
            lake.known(("acme", "b"))
    assert lake.file.read_bytes() == before
    assert lake.known(("acme", "b")) == [True]


def test_what_was_entered_before_a_fault_need_not_be_read_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_index, "_FILES_AT_ONCE", 2)
    for event in "abcde":
        lake.append(("acme", event))
    as_it_is, read = delta_log.read_files, list[int]()

    def until_the_disk_goes(path: str, names: list[str], key: list[str]) -> pa.Table:
        if len(read) == 2:
            raise OSError("no disk")
        read.append(len(names))
        return as_it_is(path, names, key)

    monkeypatch.setattr(delta_log, "read_files", until_the_disk_goes)
    with pytest.raises(OSError, match="no disk"):
        lake.known(("acme", "a"))
    read.clear()
    with capture_logs() as said:
        assert lake.known(*[("acme", event) for event in "abcdef"]) == [True] * 5 + [False]
    assert read == [1]
    assert said == []


@settings(max_examples=15)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["a", "b", "ß"]), st.text(max_size=3)), max_size=5), max_size=4
    )
)
def test_a_key_is_known_when_and_only_when_it_was_appended(
    tmp_path_factory: pytest.TempPathFactory, batches: list[Keys]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    there: set[tuple[str, str]] = set()
    for batch in batches:
        asked = [*batch, *sorted(there), ("c", "never")]
        assert lake.known(*asked) == [key in there for key in asked]
        lake.append(*batch)
        there.update(batch)
