"""A plan is done: its records are sent to their topics, rows go back to the destination that refused
them, and their letters become `replayed`.

Keyed by the letter: a record says which letter it was, of which replay, and how often that has been sent.
Safe to run again: before the first record the letters are written down, and where each topic ends; a second
attempt finds in Kafka what the first has sent, and sends the rest. A plan that is no more true is refused
before anything is sent.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any
from uuid import UUID

from headwater.errors import QualityError
from headwater.failpoints import fail_at
from headwater.kafka import replaying
from headwater.locks import commit_lock
from headwater.log import logger
from headwater.producer import Record, WaitingProducer
from jobs.queries import Context
from jobs.replay_letters import REPLAY_ID, Back, picked, settled
from jobs.replay_plan import Plan, planned
from jobs.replay_shadow import Verdict, judged
from jobs.replay_sinks import redeliver, refuse_lost
from schemas.letters import REPLAY_COUNT, REPLAY_OF
from schemas.topics import MAX_MESSAGE_BYTES
from sources.kafka_sent import SentRecords
from sources.letters.settle import sent_again
from sources.letters.wanted import Wanted
from sources.replays import Replay, Replays

NAME = "replay"
_AT_ONCE = 500
_ACKNOWLEDGED_WITHIN_S = 60.0
_log = logger(__name__)


def apply(context: Context, replays: Replays, replay_id: UUID) -> dict[str, Any]:
    """Do an approved plan; what was done. One at a time. Raises QualityError for one that is no more
    true, or was refused before."""
    with commit_lock(context.settings.lake_root, NAME):
        replay = replays.find(replay_id)
        if replay.status == "applied":
            return dict(replay.result or {})
        if replay.status != "approved":
            raise QualityError(
                f"replay {replay_id} is {replay.status}{f': {replay.error}' if replay.error else ''}"
            )
        begun = replay.letters is not None
        work = _resumed(context, replay) if begun else _begun(context, replays, replay)
        refuse_lost(context, work.back)
        _send(context, replay_id, work.verdicts)
        refused = redeliver(context, work.back)
        fail_at(NAME, "after_write")
        letters = [name for name in work.letters if name not in refused]
        posted = work.posted
        sent_again(context.settings, [name for name in letters if name not in posted])
        fail_at(NAME, "before_commit")
        result = {"sent": len(letters), "refused_again": len(refused)}
        replays.applied(replay_id, result)
    context.totals.add(rows_in=len(work.letters), rows_out=len(letters), dead=len(refused))
    _log.info("replayed", replay_id=str(replay_id), **result)
    return result


@dataclass(frozen=True)
class Work:
    """What is to be sent, what is to go back, and which letters were `sent` before."""

    verdicts: Sequence[Verdict]
    back: Sequence[Back]
    sent: Collection[str] = ()

    @property
    def posted(self) -> set[str]:
        """Those that are `replayed` already: what a connector has refused again by now is new once more."""
        return {one.letter_id for one in self.back if one.connector}

    @property
    def letters(self) -> list[str]:
        """All that are sent once this is done: no letter counts as sent that nobody sends."""
        mine = [*(one.record.letter_id for one in self.verdicts), *(one.letter_id for one in self.back)]
        return [*self.sent, *mine]


def _begun(context: Context, replays: Replays, replay: Replay) -> Work:
    """The plan as it is now, if it is the one that was approved; written down what will be sent."""
    plan: Plan = planned(context, replay.wanted, replay.patch)
    if plan.digest != replay.digest:
        why = "letters, silver, gold, contracts or code have moved since it was planned: plan it again"
        replays.refused(replay.replay_id, why)
        raise QualityError(f"replay {replay.replay_id}: {why}. Nothing was sent")
    reader = SentRecords(replaying(context.settings))
    try:
        starts = reader.ends(one.record.contract.topic for one in plan.verdicts)
    finally:
        reader.close()
    work = Work(plan.verdicts, plan.back)
    replays.begun(replay.replay_id, work.letters, starts)
    fail_at(NAME, "before_write")
    return work


def _resumed(context: Context, replay: Replay) -> Work:
    """What an earlier attempt was about to send, and what of it is in Kafka."""
    letters = replay.letters or ()
    _log.warning("resumed", replay_id=str(replay.replay_id), letters=len(letters))
    sent = _sent(context, replay)
    left = tuple(name for name in letters if name not in sent)
    if not left:
        return Work([], [], sent)
    found = picked(context.settings, Wanted(ids=left), replay.patch)
    back = [*found.back, *settled(context.settings, left)]
    return Work(judged(context, found.records)[0], back, sent)


def _sent(context: Context, replay: Replay) -> set[str]:
    mine = str(replay.replay_id).encode()
    reader = SentRecords(replaying(context.settings))
    try:
        found = [said for said in reader.headers(replay.starts or {}) if said.get(REPLAY_ID) == mine]
    finally:
        reader.close()
    return {(said.get(REPLAY_OF) or b"").decode() for said in found}


def _send(context: Context, replay_id: UUID, verdicts: Iterable[Verdict]) -> None:
    """In the order in which they came, some at a time: each time all are acknowledged."""
    producer = WaitingProducer(
        replaying(context.settings), "headwater-replay", _ACKNOWLEDGED_WITHIN_S, MAX_MESSAGE_BYTES
    )
    try:
        for topic, group in groupby(verdicts, key=lambda one: one.record.contract.topic):
            while some := list(islice(group, _AT_ONCE)):
                producer.send(topic, [_record(replay_id, one) for one in some])
                _log.info("sent_again", topic=topic, records=len(some))
                fail_at(NAME, "task")
    finally:
        producer.close()


def _record(replay_id: UUID, verdict: Verdict) -> Record:
    record = verdict.record
    own = ((REPLAY_OF, record.letter_id), (REPLAY_COUNT, str(record.count)), (REPLAY_ID, str(replay_id)))
    return Record(
        verdict.key, record.value, [*record.headers, *((name, text.encode()) for name, text in own)]
    )
