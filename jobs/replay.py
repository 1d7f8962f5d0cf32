"""replay: dead letters → their topics again, mended by a patch if there is one.

Reads ops.dead_letters, silver and gold, writes Kafka and analytics.replays; keyed by the letter. Safe to run
again: a replay is done once, and an event that silver has is a duplicate however often it is sent.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.log import logger
from jobs.faults import translate
from jobs.queries import Context
from jobs.replay_plan import planned
from jobs.replay_print import show
from jobs.replay_send import NAME, apply
from jobs.runs import who
from schemas.patch import Patch, read_patch
from sources.letters.settle import refuse_remote
from sources.letters.wanted import Wanted
from sources.replays import Replay, Replays

_log = logger(__name__)
_AT_ONCE = 1


@dataclass(frozen=True)
class Order:
    """What the command line said: letters and a patch to plan, or the number of a plan to do."""

    wanted: Wanted
    patch: Path | None = None
    apply: UUID | None = None
    yes: bool = False
    why: str = ""

    @property
    def name(self) -> str:
        """What a run id of it is unique for."""
        return str(self.apply or json.dumps([self.wanted.given, str(self.patch), self.yes], sort_keys=True))


def replay(context: Context, order: Order) -> dict[str, Any]:
    """Plan, do what was planned, or both. What is told of it."""
    refuse_remote(context.settings)
    replays = Replays(context.settings, NAME)
    try:
        replays.check()
        found: dict[str, Any] = {}
        replay_id = order.apply
        if replay_id is None:
            replay_id, found = _plan(context, replays, order)
        if order.apply or order.yes:
            replays.approve(replay_id, who(), order.why)
            found["applied"] = apply(context, replays, replay_id)
    finally:
        replays.close()
    return {"replay_id": str(replay_id), **found}


def _plan(context: Context, replays: Replays, order: Order) -> tuple[UUID, dict[str, Any]]:
    patch = _read(order.patch) if order.patch else None
    plan, replay_id = planned(context, order.wanted, patch), uuid4()
    replays.ask(replay_id, order.wanted, patch, who(), order.why)
    replays.planned(replay_id, plan.report, plan.digest)
    show(replay_id, plan.report)
    return replay_id, {"plan": plan.report}


def _read(file: Path) -> Patch:
    try:
        return read_patch(file.read_bytes())
    except OSError as fault:
        raise SetupError(f"the patch {file} cannot be read ({fault.strerror})") from None


class Replaying:
    """A loop: plans what was asked for over HTTP, and does what was approved there."""

    def __init__(self, context: Context, domain: str) -> None:
        """Of all domains; `domain` tells the loops of several runs apart, which share the table."""
        self.name = f"replay.{domain}"
        self.every_s = context.settings.streams.triggers.deliver_s
        self._context = context
        self._replays = Replays(context.settings, self.name)
        # Those that have met an outage since all the others had their turn.
        self._behind: set[UUID] = set()

    def prepare(self) -> None:
        """Look for the table."""
        self._replays.check()

    def step(self) -> int:
        """Plan or do the oldest; how many. One that meets an outage goes behind all others: it may be an
        outage of its own, such as a topic of which a partition has no leader."""
        due = self._replays.due(_AT_ONCE, self._behind)
        if not due and self._behind:
            self._behind.clear()
            due = self._replays.due(_AT_ONCE)
        for one in due:
            self._take(one)
        return len(due)

    def close(self) -> None:
        """Give back the connection."""
        self._replays.close()

    def _take(self, one: Replay) -> None:
        """What a person must mend fails this replay, not the loop."""
        try:
            if one.status == "requested":
                plan = planned(self._context, one.wanted, one.patch)
                self._replays.planned(one.replay_id, plan.report, plan.digest)
            else:
                apply(self._context, self._replays, one.replay_id)
        except Exception as foreign:  # the next one must not wait for this one's fault
            fault = translate(foreign) or HeadwaterError(type(foreign).__name__)
            if isinstance(fault, TransientError):
                self._behind.add(one.replay_id)
                raise fault from foreign
            _log.error("replay_failed", replay_id=str(one.replay_id), why=str(fault), exc_info=foreign)
            self._replays.failed(one.replay_id, str(fault))
