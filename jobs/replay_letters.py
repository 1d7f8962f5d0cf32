"""ops.dead_letters → the records that are sent again, mended by a patch if there is one, the rows that go
back to the destination that refused them, and why some do neither.

Nothing is sent here, and nothing is changed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headwater.errors import SetupError
from headwater.kafka import replaying
from headwater.settings import Settings
from schemas.contract import Contract, contracts
from schemas.letters import REPLAY_COUNT, REPLAY_OF
from schemas.patch import Patch, PatchError
from schemas.tables import LETTER_PAYLOAD_BYTES
from sources.kafka_record import RecordReader
from sources.letters.settle import unknown
from sources.letters.table import Snapshot
from sources.letters.wanted import NEW, REPLAYED, Wanted
from transformations.dead_letters import STAGES

# Of one replay: all of it is on the driver.
MAX_LETTERS = 10_000
MAX_BYTES = 256 << 20
# So often a letter, and what became of it, is sent again: what fails then is wrong for another reason.
MAX_TIMES = 5
REPLAY_ID = "replay_id"
_OWN = {REPLAY_OF, REPLAY_COUNT, REPLAY_ID}
SINK = "sink:"
CONNECTOR = "webhook-"
_NAMES = (
    *("dead_letter_id", "stream", "stage", "tenant_id", "event_id", "payload", "headers", "replay_count"),
    *("source_topic", "source_partition", "source_offset"),
)
_WITHIN_S = 10.0


@dataclass(frozen=True)
class Again:
    """A record as it is sent again; `count`: how often that has been, this time included."""

    letter_id: str
    contract: Contract
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]
    count: int


@dataclass(frozen=True)
class Back:
    """A row that a destination has refused, by the place of its record; `system` is to get it once more.

    Of a connector it is the event that is posted again.
    """

    letter_id: str
    contract: Contract
    system: str
    tenant_id: str | None
    event_id: str | None
    place: tuple[str, int, int]

    @property
    def destination(self) -> str:
        return f"{self.contract.domain}.{self.system}"

    @property
    def connector(self) -> str | None:
        """The connector's name, if it is one."""
        return self.system.removeprefix(CONNECTOR) if self.system.startswith(CONNECTOR) else None


@dataclass(frozen=True)
class Picked:
    """What is sent to topics, in the order in which it came, what goes back to a destination, and how many
    letters stay, by reason."""

    records: list[Again]
    back: list[Back]
    skipped: Counter[str]

    @property
    def letters(self) -> int:
        return len(self.records) + len(self.back) + self.skipped.total()


def picked(settings: Settings, wanted: Wanted, patch: Patch | None) -> Picked:
    """The new letters that are wanted. Raises SetupError for an unknown id, and where they are too many.

    Another tenant's id is unknown, too: that there is such a letter is told to nobody else.
    """
    if wanted.status not in (None, NEW):
        raise SetupError(f"only new letters are sent again, not those that are {wanted.status}")
    if lost := unknown(settings, wanted.ids, wanted.tenant) if wanted.ids else []:
        raise SetupError(f"no dead letter has the id {', '.join(lost[:5])}")
    reader = RecordReader(replaying(settings), "headwater-replay", _WITHIN_S)
    found, size = Picked([], [], Counter()), 0
    try:
        for letter in _letters(settings, replace(wanted, status=NEW)):
            made = _again(letter, patch, reader)
            if isinstance(made, Again):
                found.records.append(made)
                # Patched, or whole where its letter is cut, it may be larger than the letter.
                size += len(made.value)
                _refuse_more(len(found.records), size)
            elif isinstance(made, Back):
                found.back.append(made)
            else:
                found.skipped[made] += 1
    finally:
        reader.close()
    return found


def settled(settings: Settings, ids: Sequence[str]) -> list[Back]:
    """Those of the letters that are `replayed`, and were to go back to a connector."""
    rows = _letters(settings, Wanted(ids=tuple(ids), status=REPLAYED))
    named = [row for row in rows if row["stage"].startswith(f"{SINK}{CONNECTOR}")]
    made = [_back(row, contracts()[row["stream"]]) for row in named]
    return [one for one in made if isinstance(one, Back)]


def _letters(settings: Settings, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """In the order of their places: what came first is sent first."""
    found: list[dict[str, Any]] = []
    size = 0
    for rows in Snapshot(settings).scan(wanted, _NAMES):
        found += rows.to_pylist()
        size += rows["payload"].nbytes
        _refuse_more(len(found), size)
    place = ("source_topic", "source_partition", "source_offset")
    return iter(sorted(found, key=lambda one: tuple((one[part] is None, one[part]) for part in place)))


def _refuse_more(letters: int, size: int) -> None:
    if letters > MAX_LETTERS or size > MAX_BYTES:
        raise SetupError(
            f"more than {MAX_LETTERS} letters, or {MAX_BYTES >> 20} MiB of them, are not sent again at once: "
            "narrow the filter, for example by --since and --until"
        )


def _again(letter: dict[str, Any], patch: Patch | None, reader: RecordReader) -> Again | Back | str:
    """The record, or the row that goes back, or why there is neither."""
    contract = contracts().get(letter["stream"])
    count = (letter["replay_count"] or 0) + 1
    if contract is not None and letter["stage"].startswith(SINK):
        return "patch_is_for_events" if patch else _back(letter, contract)
    if contract is None or letter["stage"] not in STAGES or letter["source_topic"] != contract.topic:
        return f"stage_{letter['stage'].partition(':')[0]}"
    if count > MAX_TIMES:
        return "loop_limit"
    value = letter["payload"]
    if value is not None and len(value) >= LETTER_PAYLOAD_BYTES:
        whole = reader.read(letter["source_topic"], letter["source_partition"], letter["source_offset"])
        value = whole.value() if whole is not None else None
    if value is None:
        return "payload_gone"
    try:
        value = patch.applied(value) if patch else value
    except PatchError as fault:
        return fault.reason
    kept = tuple((h["key"], h["value"]) for h in letter["headers"] or () if h["key"] not in _OWN)
    return Again(letter["dead_letter_id"], contract, value, kept, count)


def _back(letter: dict[str, Any], contract: Contract) -> Back | str:
    place = (letter["source_topic"], letter["source_partition"], letter["source_offset"])
    system = letter["stage"].removeprefix(SINK)
    if None in place and letter["event_id"] is None:
        return "place_unknown"
    return Back(letter["dead_letter_id"], contract, system, letter["tenant_id"], letter["event_id"], place)
