"""What every sink does, in the order a micro-batch asks for it: setup once, then write per batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Rejected:
    """One row that the destination refuses for ever. `code` is SQLSTATE or HTTP status, never a text."""

    source_topic: str
    source_partition: int
    source_offset: int
    tenant_id: str
    code: str
    rule: str | None


@dataclass(frozen=True)
class Written:
    """What one batch did: rows new, replaced and already there (or newer), and the ones refused."""

    inserted: int
    updated: int
    unchanged: int
    rejected: tuple[Rejected, ...] = field(default=())

    @property
    def rows(self) -> int:
        return self.inserted + self.updated + self.unchanged


@dataclass(frozen=True, slots=True)
class Seen:
    """A row of a destination as it was found there.

    `key` is the SHA-256 of its key's parts with NUL between, `version` what older ones are told by, `token`
    what the destination knows this very state by, if not by these two. `due` is the version that the lake
    has of the row; None: it has none.
    """

    key: bytes
    version: Any
    token: Any = None
    due: Any = None


class Sink(Protocol):
    """A destination of one silver or gold table.

    `write` may be called again with the same rows, in any order with older or newer ones: the row with the
    highest row_version per key stays. It raises TransientError for outages and SetupError for what a person
    must mend; a row that the destination refuses comes back in `Written.rejected`.
    """

    name: str

    def setup(self) -> None:
        """Check once that the destination is there and shaped as expected."""

    def write(self, batch: DataFrame) -> Written:
        """Upsert the rows by key, newest row_version wins."""
        ...

    def reset(self) -> None:
        """Empty the destination's table before a rebuild from the first row."""


class HereSink(Sink, Protocol):
    """A destination that takes rows which are on the driver, too: few, and without a job of Spark's."""

    def write(self, batch: DataFrame | pa.Table) -> Written:
        """Upsert the rows by key, newest row_version wins."""
        ...


class KeyedSink(Sink, Protocol):
    """A destination of gold, of which rows may go."""

    def remove(self, batch: DataFrame) -> int:
        """Take away the rows with these keys, unless they are newer; how many went."""
        ...


class MendingSink(Sink, Protocol):
    """A destination whose rows can be put right one by one, while others write to it."""

    def mend(self, batch: DataFrame, wrong: Sequence[Seen]) -> Written:
        """As `write`; the rows of the batch that are there as `wrong` says give way, though not older."""
        ...

    def withdraw(self, extra: Sequence[Seen]) -> int:
        """Take away these rows, unless they have changed since they were found; how many went."""
        ...
