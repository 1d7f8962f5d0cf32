"""archive: bronze.<domain> → Parquet files for good, a folder for each topic and hour of arrival.

Reads bronze by delta-rs and writes by Arrow: no Spark. Safe to run again because an hour with a manifest is
never touched, and one without is written anew (jobs/archive_hour.py).
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from headwater.clock import utc_now
from headwater.errors import DataLossError
from headwater.lake_files import Files
from headwater.metrics import EVENTS, PENDING
from jobs.archive_hour import Stream, write_hour
from jobs.archive_plan import Due, Window, check_order, look
from jobs.queries import Context
from jobs.runtime import Runtime
from schemas.contract import contracts, domain_contracts
from sinks.archive.base import HOUR, Store
from sinks.archive.manifest import Manifest, newest
from sinks.archive.registry import store_of
from sources.bronze import Topic, bronze_files
from sources.registry import schemas_for


@dataclass
class Done:
    """What a run has archived."""

    hours: int = 0
    files: int = 0
    bytes: int = 0

    def add(self, manifest: Manifest) -> None:
        """One more hour."""
        self.hours, self.files, self.bytes = (
            self.hours + 1,
            self.files + len(manifest.files),
            self.bytes + manifest.bytes,
        )


@dataclass
class _Place:
    """How far the archive of a topic has come, and what spares a look at bronze: until when the next hour
    goes on, and the files in which nothing was left."""

    stream: Stream
    done: Manifest | None
    over_at: datetime | None = None
    exhausted: pa.ChunkedArray | None = None


class Archive:
    """The loop archive.<domain>: a step archives the next hour of one topic that is over."""

    def __init__(self, context: Context, domain: str, stopping: threading.Event, window: Window) -> None:
        self.name = f"archive.{domain}"
        self.every_s = context.settings.archive.every_s
        self.done = Done()
        self._context, self._settings = context, context.settings
        self._domain, self._stopping, self._window = domain, stopping, window
        self._store: Store | None = None
        self._places: list[_Place] = []
        self._bronze: Files | None = None
        self._seen_at = utc_now()

    def prepare(self) -> None:
        """Find out how far each topic is archived."""
        self._store = store_of(self._settings)
        mine = domain_contracts(self._domain).values()
        schemas = schemas_for(mine, self._settings.registry)
        streams = [
            Stream(self.name, topic, contract, schemas) for contract in mine for topic in contract.sources
        ]
        ordered = sorted(streams, key=lambda stream: stream.topic)
        self._places = [_Place(stream, newest(self._store, stream.topic)) for stream in ordered]

    def step(self) -> int:
        """Archive an hour that is due: how many records. Topics take turns, on one snapshot of bronze for as
        long as it has something due."""
        if self._bronze is None:
            # In this order: of an hour that was over then, the snapshot has all.
            self._seen_at = utc_now()
            self._bronze = bronze_files(self._settings, self._domain)
        for _ in self._places:
            if self._stopping.is_set():
                return 0
            place = self._places.pop(0)
            self._places.append(place)
            if rows := self._archive(place, Topic(self._bronze, place.stream.topic)):
                return rows
        self._bronze = None
        PENDING.labels(self.name).set(0)
        return 0

    def close(self) -> None:
        """Forget the snapshot."""
        self._bronze = None

    def _archive(self, place: _Place, topic: Topic) -> int:
        stream = place.stream
        _check_topic(stream, topic, place.done)
        due = self._due(place, topic)
        if due is None or self._store is None:
            return 0
        check_order(stream.topic, due, self._window)
        if not self._window.holds(due.hour):
            return 0
        PENDING.labels(self.name).set(1)
        made = write_hour(stream, topic, due, place.done, self._store, self._settings.archive, self._stopping)
        if made is None:
            return 0
        place.done = made
        self.done.add(made)
        self._context.totals.add(rows_in=made.rows, rows_out=made.rows)
        EVENTS.labels(self.name, stream.contract.stream, "archived").inc(made.rows)
        return made.rows

    def _due(self, place: _Place, topic: Topic) -> Due | None:
        """The topic's next hour, if that is over."""
        if place.exhausted is not None and topic.paths.equals(place.exhausted):
            return None
        if place.over_at and self._seen_at < place.over_at:
            return None
        due = look(topic, place.done)
        place.exhausted = None if due else topic.paths
        if due is None:
            return None
        place.over_at = due.hour + HOUR + timedelta(seconds=self._settings.archive.settle_s)
        return due if self._seen_at >= place.over_at else None


def _check_topic(stream: Stream, topic: Topic, done: Manifest | None) -> None:
    known = done.topic_id if done else None
    if known and topic.topic_id and known != topic.topic_id:
        raise DataLossError(
            f"the archive has hours of another topic {stream.topic} (its id was {known}, is "
            f"{topic.topic_id}): its offsets mean other records. Set archive.root to an empty place"
        )


def archive(runtime: Runtime, domains: Sequence[str], window: Window) -> dict[str, int]:
    """Archive what is due of these domains in the window: how many hours, files and bytes that was."""
    works = [Archive(runtime.context, domain, runtime.stopping, window) for domain in domains]
    runtime.run(works)
    names = ("hours", "files", "bytes")
    return {name: sum(getattr(work.done, name) for work in works) for name in names}


def archived_domains(chosen: Sequence[str]) -> list[str]:
    """These domains, or all that have contracts."""
    return sorted(set(chosen) or {contract.domain for contract in contracts().values()})
