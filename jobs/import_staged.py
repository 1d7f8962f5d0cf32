"""Staged rows of a file: in a Delta table, or on the driver if they are few. What an attempt asks of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from headwater.clock import utc_now
from headwater.errors import HeadwaterError
from headwater.tables import append_once, append_rows
from jobs.queries import Context
from schemas.rows import RefusedFileError
from schemas.tables import DEAD_LETTERS, UPLOADED_ROWS
from sinks.ingested_data import load, stage
from sinks.postgres_lines import CopyTarget, Sent, row_lines, send
from sources.import_jobs import Counts
from transformations.upload_tables import invalid_rows, letters_table, silver_table, valid_rows
from transformations.uploads import (
    Origin,
    by_first_reason,
    invalid,
    loadable,
    refusals,
    tally,
    to_letters,
    to_silver,
)

Invalid = dict[str, Any]  # member, line, reasons, raw


class Staged(Protocol):
    """Rows of STAGED_COLUMNS."""

    def counts(self) -> Counts:
        """What is staged: all that was read. RefusedFileError when the file proved to be broken."""
        ...

    def invalid(self, most: int) -> list[Invalid]:
        """The first invalid rows, in the order of the file."""
        ...

    def first_reasons(self) -> dict[str, int]:
        """How many invalid rows there are by their first reason."""
        ...

    def load(self, conninfo: str, name: str) -> None:
        """Valid rows → the attempt's staging table in PostgreSQL."""

    def append_silver(self, origin: Origin, application: str) -> None:
        """Valid rows → silver.uploaded_rows, once for this application."""

    def append_letters(self, origin: Origin, application: str) -> None:
        """Invalid rows → ops.dead_letters, once for this application."""


@dataclass(frozen=True)
class StagedInDelta:
    """Read anew each time."""

    context: Context
    rows: DataFrame

    def counts(self) -> Counts:
        found = self.rows.transform(tally).collect()[0]
        if found.refused:
            first = self.rows.transform(refusals).collect()[0]
            raise RefusedFileError(first.refused, first.line)
        return _checked(found.read, found.valid, found.invalid)

    def invalid(self, most: int) -> list[Invalid]:
        return [row.asDict(recursive=True) for row in invalid(self.rows, most).collect()]

    def first_reasons(self) -> dict[str, int]:
        return {row.code: row["count"] for row in self.rows.transform(by_first_reason).collect()}

    def load(self, conninfo: str, name: str) -> None:
        load(loadable(self.rows), conninfo, name)

    def append_silver(self, origin: Origin, application: str) -> None:
        self._append(self.rows.transform(to_silver(origin)), UPLOADED_ROWS.full_name, application)

    def append_letters(self, origin: Origin, application: str) -> None:
        self._append(self.rows.transform(to_letters(origin)), DEAD_LETTERS.full_name, application)

    def _append(self, rows: DataFrame, full_name: str, application: str) -> None:
        append_once(rows, self.context.settings, full_name, application, 0)


@dataclass(frozen=True)
class StagedHere:
    """In memory; appended by delta-rs on a local lake."""

    context: Context
    rows: pa.Table

    def counts(self) -> Counts:
        refused = self.rows.filter(pc.field("refused").is_valid())
        if refused.num_rows:
            raise RefusedFileError(refused["refused"][0].as_py(), refused["line"][0].as_py())
        valid, bad = (len(self.rows) - self.rows[name].null_count for name in ("content_hash", "reasons"))
        return _checked(pc.sum(self.rows["read"]).as_py() or 0, valid, bad)

    def invalid(self, most: int) -> list[Invalid]:
        return invalid_rows(self.rows)[:most]

    def first_reasons(self) -> dict[str, int]:
        return Counter(row["reasons"][0]["code"] for row in invalid_rows(self.rows))

    def load(self, conninfo: str, name: str) -> None:
        stage(conninfo, name, self._copied)

    def append_silver(self, origin: Origin, application: str) -> None:
        self._append(silver_table(self.rows, origin, utc_now()), UPLOADED_ROWS.full_name, application)

    def append_letters(self, origin: Origin, application: str) -> None:
        rows = letters_table(invalid_rows(self.rows), origin, utc_now())
        self._append(rows, DEAD_LETTERS.full_name, application)

    def _copied(self, target: CopyTarget) -> Sequence[Sent]:
        sent = send(target, row_lines(valid_rows(self.rows).to_batches()))
        return [sent] if sent else []

    def _append(self, rows: pa.Table, full_name: str, application: str) -> None:
        append_rows(self.context.spark, rows, self.context.settings, full_name, (application, 0))


def _checked(read: int, valid: int, bad: int) -> Counts:
    """No row was lost between the parsers and the staged rows, and none came from elsewhere."""
    if read != valid + bad:
        raise HeadwaterError(f"{read} rows were read; {valid} valid, {bad} invalid ones are staged")
    return Counts(read, valid, bad)
