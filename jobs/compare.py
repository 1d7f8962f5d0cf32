"""One table of the lake against one destination: which keys are missing, extra, older or different there."""

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice, zip_longest
from typing import Any

from headwater.log import logger
from jobs.chosen import Chosen
from jobs.expected import digests, versions
from jobs.queries import Context
from jobs.sides import Found, Side, digest
from sinks.base import Seen

KINDS = ("missing", "extra", "older", "different")
_DIGEST_BYTES = 32
_TELL_EVERY_S = 10.0
_log = logger(__name__)


@dataclass(frozen=True)
class Compared:
    """What was found, by the digest of the key. `older` rows have a lower version than the lake's newest;
    `different` ones have other content at the same version, or one that the lake does not have. `places` are
    those in Kafka of some rows of the lake."""

    silver: int
    found: int
    missing: Collection[bytes]
    extra: Mapping[bytes, Seen] = field(default_factory=dict)
    older: Mapping[bytes, Seen] = field(default_factory=dict)
    different: Mapping[bytes, Seen] = field(default_factory=dict)
    places: Mapping[bytes, str] = field(default_factory=dict)

    def of(self, kind: str) -> Collection[bytes]:
        """The keys of one of KINDS."""
        keys: Collection[bytes] = getattr(self, kind)
        return keys

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind: len(self.of(kind)) for kind in KINDS}

    @property
    def keys(self) -> frozenset[bytes]:
        """All keys that are not as they should be."""
        return frozenset(chain.from_iterable(map(self.of, KINDS)))

    def examples(self, show: int) -> dict[str, list[str]]:
        """Of each kind some, `show` in all: the place in Kafka of the lake's row; of an extra one, which has
        none, the digest of its key. No key is told: it may be a person's address."""
        listed = [[(kind, key) for key in sorted(self.of(kind))[:show]] for kind in KINDS]
        in_turn = (one for turn in zip_longest(*listed) for one in turn if one)
        told: dict[str, list[str]] = {}
        for kind, key in islice(in_turn, show):
            told.setdefault(kind, []).append(self.places.get(key) or f"key {_named(key)}")
        return told


def compare(context: Context, system: str, side: Side, chosen: Chosen, show: int = 0) -> Compared:
    """Read the lake, then the destination. `show`: so many missing rows get their places told, and all that
    are older or different."""
    expected = digests(context, system, side, chosen)
    silver = len(expected)
    rows = _told(side.rows(context.settings, chosen), side.name, silver)
    compared = against(expected, (row for row in rows if chosen.keys is None or row.key in chosen.keys))
    some = sorted(compared.missing)[:show]
    due = versions(context, system, side, [*compared.different, *some])
    return _by_age(replace(compared, silver=silver), due)


def against(expected: dict[bytes, bytes], rows: Iterable[Found]) -> Compared:
    """Hold rows against the digests that are expected, which are used up. What is older is among the
    different ones still."""
    extra: dict[bytes, Seen] = {}
    different: dict[bytes, Seen] = {}
    silver, found = len(expected), 0
    for row in rows:
        wanted = expected.pop(row.key, None)
        found += wanted is not None or not row.fading
        seen = Seen(row.key, row.version, row.token)
        if wanted is None:
            if not row.fading:
                extra[row.key] = seen
        elif wanted != digest(row.strict, row.loose):
            different[row.key] = seen
    return Compared(silver, found, expected.keys(), extra, different=different)


def _by_age(compared: Compared, due: Mapping[bytes, tuple[Any, str]]) -> Compared:
    older: dict[bytes, Seen] = {}
    different: dict[bytes, Seen] = {}
    for key, seen in compared.different.items():
        version, _ = due.get(key, (None, ""))
        known = replace(seen, due=version)
        (older if version is not None and seen.version < version else different)[key] = known
    places = {key: place for key, (_, place) in due.items()}
    return replace(compared, older=older, different=different, places=places)


def _told(rows: Iterator[Found], name: str, of: int) -> Iterator[Found]:
    """The rows; now and then a line says how many there were."""
    began = told = time.monotonic()
    for number, row in enumerate(rows, 1):
        yield row
        now = time.monotonic()
        if now - told >= _TELL_EVERY_S:
            told = now
            _log.info("comparing", system=name, rows=number, of=of, rows_per_s=round(number / (now - began)))


def _named(key: bytes) -> str:
    """The digest in hexadecimal; of a key that is no digest, for it came from outside, one is made."""
    return key.hex() if len(key) == _DIGEST_BYTES else hashlib.sha256(key).hexdigest()
