"""What a storage of the archive can do: whole files, and a manifest that is there or not.

    topic=<topic>/date=YYYY-MM-DD/hour=HH/part-NNNNN.parquet
                                         /_manifest.json

Names are those of the path below the archive's root, with slashes.
"""

from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Protocol

from headwater.clock import iso
from headwater.errors import SetupError

HOUR = timedelta(hours=1)
MANIFEST = "_manifest.json"
# Written at once. S3 takes no smaller part, but for the last.
PART_BYTES = 10 << 20


class Parts(Protocol):
    """One file on its way in. Its parts come in order; each but the last has PART_BYTES."""

    def put(self, part: bytes | memoryview) -> None:
        """Write the next part."""

    def seal(self) -> None:
        """All parts have come: hold nothing that is scarce until `complete`, which may be much later."""

    def complete(self) -> None:
        """Make the file appear under its name, whole and durable."""

    def discard(self) -> None:
        """Leave nothing. Never raises for an outage."""


class Store(Protocol):
    """A storage. Outages are TransientError, a wrong set-up is SetupError."""

    def folders(self, under: str) -> list[str]:
        """The names of the folders in a folder; none where it is not there."""
        ...

    def files(self, folder: str) -> dict[str, int]:
        """The names of the files in a folder, with their bytes; none where it is not there."""
        ...

    def begin(self, name: str) -> Parts:
        """A new file, or one that takes the place of what is there."""
        ...

    def open(self, name: str) -> BinaryIO:
        """The file from its start, seekable. DataLossError when it is not there."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file; None when it is not there."""
        ...

    def put_new(self, name: str, content: bytes) -> bool:
        """Make a small file appear at once, unless one is there: whether it is ours that is there."""
        ...

    def clear(self, folder: str) -> int:
        """Remove every file of the folder, half-written ones too: how many."""
        ...


def topic_folder(topic: str) -> str:
    """topic=<topic>."""
    return f"topic={topic}"


def hour_folder(topic: str, hour: datetime) -> str:
    """The folder of a topic's hour; `hour` is its beginning."""
    return f"{topic_folder(topic)}/date={hour:%Y-%m-%d}/hour={hour:%H}"


def part_name(number: int) -> str:
    """part-NNNNN.parquet, from 0."""
    return f"part-{number:05d}.parquet"


def parse_hour(text: str) -> datetime:
    """The beginning of an hour: ISO 8601, in UTC unless it says otherwise. SetupError for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SetupError(f"{text!r} is no hour: give it as 2026-03-01T10") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if (moment.minute, moment.second, moment.microsecond) != (0, 0, 0):
        raise SetupError(f"{text!r} is in the midst of an hour: give its beginning, as {moment:%Y-%m-%dT%H}")
    return moment


def hour_text(hour: datetime) -> str:
    """As logs, messages and manifests name an hour."""
    return iso(hour)
