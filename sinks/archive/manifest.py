"""_manifest.json: which files an hour consists of, and which offsets. An hour with one is done."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from headwater.errors import QualityError
from headwater.offsets import Range
from sinks.archive.base import MANIFEST, Store, hour_folder, hour_text, parse_hour, topic_folder

FORMAT = 1


@dataclass(frozen=True)
class File:
    """One file of an hour."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """An hour of a topic. `through`: the last offset of every partition that this and all earlier hours hold.

    `topic_id` is Kafka's own, where bronze knows it: with another one offsets mean other records.
    """

    domain: str
    topic: str
    hour: datetime
    rows: int
    bytes: int
    files: tuple[File, ...]
    partitions: dict[int, Range]
    through: dict[int, int]
    topic_id: str | None
    contract_version: str
    code_version: str
    written_at: str

    @property
    def folder(self) -> str:
        return hour_folder(self.topic, self.hour)


def to_bytes(manifest: Manifest) -> bytes:
    """The file's content."""
    whole = {"format": FORMAT, **asdict(manifest), "hour": hour_text(manifest.hour)}
    return (json.dumps(whole, indent=1) + "\n").encode()


def from_bytes(content: bytes, where: str) -> Manifest:
    """What the file says. QualityError, naming `where`, for anything that is no manifest."""
    try:
        found: dict[str, Any] = json.loads(content)
        if found.pop("format") != FORMAT:
            raise ValueError
        return Manifest(
            **{
                **found,
                "hour": parse_hour(found["hour"]),
                "files": tuple(File(**file) for file in found["files"]),
                "partitions": {int(p): Range(**given) for p, given in found["partitions"].items()},
                "through": {int(p): int(last) for p, last in found["through"].items()},
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise QualityError(f"{where}/{MANIFEST} is damaged") from None


def read_manifest(store: Store, folder: str) -> Manifest | None:
    """The manifest of an hour's folder; None where there is none."""
    content = store.read(f"{folder}/{MANIFEST}")
    return None if content is None else from_bytes(content, folder)


def hours(store: Store, topic: str, *, newest_first: bool = False) -> Iterator[str]:
    """The folders of a topic's hours, done or not, in their order. Looks at no more than are asked for."""
    root = topic_folder(topic)
    for day in sorted(store.folders(root), reverse=newest_first):
        for hour in sorted(store.folders(f"{root}/{day}"), reverse=newest_first):
            yield f"{root}/{day}/{hour}"


def newest(store: Store, topic: str) -> Manifest | None:
    """The topic's last hour that is done."""
    found = (read_manifest(store, folder) for folder in hours(store, topic, newest_first=True))
    return next((manifest for manifest in found if manifest), None)
