"""What a job runs: queries (a source, what to do with a batch, how often), and loops, which need no Spark."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pyspark.sql import DataFrame, SparkSession

from headwater.errors import SetupError
from headwater.files import read_text
from headwater.settings import Settings
from headwater.tables import checkpoint_path
from jobs.turns import Reader


@dataclass
class Totals:
    """What a run did so far, for the status line."""

    rows_in: int = 0
    rows_out: int = 0
    duplicate: int = 0
    dead: int = 0
    no_consent: int = 0
    erased: int = 0
    filtered: int = 0

    def add(self, **counts: int) -> None:
        """Add counts by name."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True)
class Context:
    """What every job is given."""

    spark: SparkSession
    settings: Settings
    run_id: str
    accept_batch: int | None = None
    accept_gap: bool = False
    from_start: bool = False
    totals: Totals = field(default_factory=Totals)
    # How often this run has written to each table, by its name. Many threads write: `update` is one step,
    # `+=` is two.
    written: Counter[str] = field(default_factory=Counter)

    def has_checkpoint(self, query: str) -> bool:
        """Whether the query has started before: its checkpoint has the file `metadata` with its id."""
        return self.checkpoint_id(query) is not None

    def checkpoint_id(self, query: str) -> str | None:
        """The query id in the checkpoint; None when there is none. Raises SetupError when it is damaged."""
        path = f"{checkpoint_path(self.settings, query)}/metadata"
        text = read_text(self.spark, path)
        try:
            return None if text is None else str(json.loads(text)["id"])
        except (ValueError, KeyError, TypeError):
            raise SetupError(f"{path} is damaged; see docs/operations.md, lost checkpoint") from None


class Query(Reader, Protocol):
    """One checkpoint, one destination. `write` is called at least once per batch: it bears repetition."""

    def prepare(self) -> None:
        """Create what the query needs and check what it must find; SetupError says what to mend."""

    def source(self) -> DataFrame:
        """The streaming DataFrame, made anew at each start."""
        ...

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Do one micro-batch."""


@runtime_checkable
class Loop(Protocol):
    """Work that needs no Spark, done in steps. A step may be killed at any point, and is then done again."""

    name: str
    every_s: float

    def prepare(self) -> None:
        """Create what the loop needs and check what it must find; SetupError says what to mend."""

    def step(self) -> int:
        """Do what is due, a bounded share of it: how many rows. 0: nothing is due now; ask in `every_s`."""
        ...

    def close(self) -> None:
        """Give back connections; `prepare` may follow."""
