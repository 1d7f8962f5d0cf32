"""Which keys a table of a local lake may hold: asked in each batch, however much the table holds.

<lake>/_index/<table>.sqlite has a 64-bit hash of every key, and the names of the table's files that these are
of. It is made from the table alone: what is missing is read when it is asked, and it may be deleted at any
time. A key that is not in it is not in the table; one that is may have gone since, or be another one with the
same hash. No key can be told from its hash.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa

from headwater import delta_log
from headwater.errors import TransientError
from headwater.log import logger
from headwater.paths import table_path
from headwater.settings import Settings

# Changed with how keys are hashed: an older index is made anew.
_FORM = 1
# Of another program, or harmed.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PATIENCE_S = 30.0
_FILES_AT_ONCE = 200
_ASKED_AT_ONCE = 500
_TABLES = """CREATE TABLE files (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE keys (hash INTEGER PRIMARY KEY);"""
_log = logger(__name__)


class KeyIndex:
    """Of one table and the columns that are its key. One at a time may ask: it holds the lock of who writes
    the table."""

    def __init__(self, settings: Settings, full_name: str, key: Sequence[str]) -> None:
        self._name = full_name
        self._path = table_path(settings, full_name)
        self._key = list(key)
        self._file = Path(settings.lake_root, "_index", f"{full_name}.sqlite")

    def may_have(self, keys: pa.Table) -> pa.Array:
        """For each row of `keys`, whether the table may hold it. Columns: the key's, without nulls.

        Raises TransientError where the index cannot be read or written, as on a full disk.
        """
        try:
            return self._asked(keys)
        except sqlite3.Error as fault:
            if _code(fault) not in _DAMAGED:
                raise TransientError(f"the index of {self._name} fails: {fault.sqlite_errorname}") from None
            _log.warning("index_made_anew", table=self._name, why=fault.sqlite_errorname)
            self._forget()
            return self._asked(keys)

    def _asked(self, keys: pa.Table) -> pa.Array:
        with closing(self._opened()) as index:
            self._catch_up(index)
            hashes = list(_hashes(keys.select(self._key)))
            known = set(_known(index, hashes))
        return pa.array([one in known for one in hashes], pa.bool_())

    def _opened(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        index = sqlite3.connect(self._file, timeout=_PATIENCE_S)
        if index.execute("PRAGMA user_version").fetchone()[0] != _FORM:
            index.executescript("DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS keys")
            index.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_FORM}; COMMIT")
        return index

    def _forget(self) -> None:
        for suffix in ("", "-journal"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)

    def _catch_up(self, index: sqlite3.Connection) -> None:
        """Enter the keys of files that the index does not know."""
        there = delta_log.files(self._path)
        known = {name for (name,) in index.execute("SELECT name FROM files")}
        missing = [name for name in there if name not in known]
        for done in range(0, len(missing), _FILES_AT_ONCE):
            if len(missing) > _FILES_AT_ONCE:
                _log.info("indexing", table=self._name, files=len(missing), done=done)
            names = missing[done : done + _FILES_AT_ONCE]
            rows = delta_log.read_files(self._path, names, self._key)
            with index:  # the files with their keys, or neither
                hashes = ((one,) for one in sorted(_hashes(rows)))
                index.executemany("INSERT OR IGNORE INTO keys VALUES (?)", hashes)
                index.executemany("INSERT OR IGNORE INTO files VALUES (?)", ((name,) for name in names))
        if gone := known.difference(there):
            with index:
                index.executemany("DELETE FROM files WHERE name = ?", ((name,) for name in gone))


def _code(fault: sqlite3.Error) -> int:
    """SQLite's primary result code, the low byte."""
    return fault.sqlite_errorcode & 0xFF


def _hashes(rows: pa.Table) -> Iterator[int]:
    """Of each row; signed, as SQLite keeps whole numbers."""
    for parts in zip(*[column.to_pylist() for column in rows.columns], strict=True):
        text = "\0".join(map(str, parts)).encode()
        yield int.from_bytes(blake2b(text, digest_size=8).digest(), signed=True)


def _known(index: sqlite3.Connection, hashes: Sequence[int]) -> Iterator[int]:
    for first in range(0, len(hashes), _ASKED_AT_ONCE):
        some = hashes[first : first + _ASKED_AT_ONCE]
        marks = ",".join("?" * len(some))
        for (found,) in index.execute(f"SELECT hash FROM keys WHERE hash IN ({marks})", some):  # noqa: S608 - marks
            yield found
