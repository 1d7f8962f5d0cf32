"""The files of a Delta table and where they lie, without Spark: in a folder or in S3, by delta-rs and Arrow.

A lake in S3 is reached by what Spark is told of it: spark.conf's `spark.hadoop.fs.s3a.*`, else the machine's
own credentials and environment.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow import fs

from headwater.errors import SetupError, TransientError
from headwater.paths import table_path
from headwater.settings import Settings

_S3A = "spark.hadoop.fs.s3a."
_SCHEMES = ("s3", "s3a")
# Features of a table that leave its files as they are.
_HARMLESS = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
Options = dict[str, str]


@dataclass(frozen=True)
class Files:
    """A snapshot: every file with its size, partition and statistics (delta-rs's flat add actions), and how
    to open one. `path` is below `root`."""

    actions: pa.Table
    properties: dict[str, str]
    filesystem: fs.FileSystem
    root: str

    @contextmanager
    def open(self, path: str) -> Iterator[pq.ParquetFile]:
        """A file of the table, by its path in an action. TransientError when it cannot be read to its end:
        compaction and vacuum take files away, and the next snapshot knows."""
        try:
            with (
                self.filesystem.open_input_file(f"{self.root}/{path}") as source,
                pq.ParquetFile(source) as file,
            ):
                yield file
        except OSError as fault:
            raise TransientError(f"a file of {self.root} cannot be read ({type(fault).__name__})") from fault


def table_files(settings: Settings, full_name: str) -> Files | None:
    """The newest snapshot of a table; None where there is none."""
    path = table_path(settings, full_name)
    if not settings.lake_is_remote:
        return _snapshot(path, {}, fs.LocalFileSystem(), path)
    place = urlsplit(path)
    if place.scheme not in _SCHEMES:
        raise SetupError(
            f"lake {settings.lake}: without Spark a lake is read from a folder or from S3 (s3a://…)"
        )
    told = {k.removeprefix(_S3A): v for k, v in settings.spark.conf.items() if k.startswith(_S3A)}
    root = f"{place.netloc}{place.path}"
    return _snapshot(f"s3://{root}", _delta_options(told), _filesystem(told), root)


def _snapshot(uri: str, options: Options, filesystem: fs.FileSystem, root: str) -> Files | None:
    try:
        if not DeltaTable.is_deltatable(uri, options):
            return None
        table = DeltaTable(uri, storage_options=options)
        actions = pa.table(table.get_add_actions(flatten=True))
    except OSError as fault:
        raise TransientError(f"the lake at {uri} does not answer ({type(fault).__name__})") from fault
    if unread := sorted(set(table.protocol().reader_features or ()) - _HARMLESS):
        # Files alone do not say then what rows there are, and by what names.
        raise SetupError(f"{uri} uses {', '.join(unread)} of Delta: it cannot be read file by file")
    return Files(actions, dict(table.metadata().configuration), filesystem, root)


def _delta_options(told: Options) -> Options:
    found = {
        "AWS_ENDPOINT_URL": told.get("endpoint"),
        "AWS_REGION": told.get("endpoint.region"),
        "AWS_ACCESS_KEY_ID": told.get("access.key"),
        "AWS_SECRET_ACCESS_KEY": told.get("secret.key"),
        "AWS_ALLOW_HTTP": "true" if told.get("endpoint", "").startswith("http://") else None,
    }
    return {name: value for name, value in found.items() if value}


def _filesystem(told: Options) -> fs.FileSystem:
    found = {
        "endpoint_override": told.get("endpoint"),
        "region": told.get("endpoint.region"),
        "access_key": told.get("access.key"),
        "secret_key": told.get("secret.key"),
    }
    return fs.S3FileSystem(**{name: value for name, value in found.items() if value})
