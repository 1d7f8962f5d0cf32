"""rebuild: what bronze has of a stream is decided again by today's code and contract.

Reads bronze, writes silver, ops.dead_letters, ops.filtered, ops.ledger, gold and the destinations; keyed by
the record's place. Streams run on. Safe to run again: what will be done is written down first, in
rebuilds.<number>, and every step of it may be done twice (jobs/rebuild_apply.py).
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from pyspark.sql import DataFrame

from headwater.delta_history import last_append
from headwater.errors import QualityError, SetupError
from headwater.failpoints import fail_at
from headwater.files import local_folders
from headwater.ledger import high_water, rebuilding
from headwater.locks import commit_lock, instance_lock
from headwater.log import logger
from headwater.tables import (
    exists,
    forget_table,
    properties,
    read_table,
    set_property,
    table_path,
    was_appended,
)
from headwater.version import CODE_VERSION
from jobs import rebuild_apply
from jobs.queries import Context
from jobs.rebuild_plan import planned
from jobs.rebuild_print import show
from jobs.rebuild_shadow import Span, came_since, contract_of
from jobs.rebuild_sinks import put_right
from jobs.runs import record_decision, who
from schemas.contract import Contract
from schemas.tables import JOB_RUNS, SILVER
from sources.letters.settle import refuse_remote

_KEPT = "headwater.rebuild"
# A plan's folder below <lake>/rebuilds.
_NUMBER = re.compile(r"[0-9a-f]{32}")
# Of the marks in ops.job_runs.
_BEGUN, _DONE = 0, 1
_log = logger(__name__)


@dataclass(frozen=True)
class Order:
    """What the command line said: records to plan a rebuild of, or the number of a plan to do."""

    span: Span | None = None
    apply: UUID | None = None
    yes: bool = False
    why: str = ""

    @property
    def name(self) -> str:
        """What a run id of it is unique for."""
        said = self.span and f"{self.span.stream}.{self.span.since.isoformat()}.{self.span.until.isoformat()}"
        return f"{self.apply or said}{'.yes' if self.yes else ''}"


@dataclass(frozen=True)
class Kept:
    """What is known of a plan, as a property of its table. `judge` tells code and contract, `ends` how far
    refine had come, `begun` whether it is being done, and `last` the newest append to silver before that."""

    stream: str
    since: str
    until: str
    judge: str
    ends: dict[str, int]
    begun: bool = False
    last: int = 0

    @property
    def text(self) -> str:
        return json.dumps(vars(self))


def rebuild(context: Context, order: Order) -> dict[str, Any]:
    """Plan, do what was planned, or both. What is told of it. One at a time."""
    refuse_remote(context.settings)
    found: dict[str, Any] = {}
    rebuild_id = order.apply
    with instance_lock(context.settings.lake_root, rebuild_apply.NAME):
        if order.span:
            rebuild_id, found["plan"] = _plan(context, order.span)
        if rebuild_id and (order.apply or order.yes):
            found["applied"] = _apply(context, rebuild_id, order.why)
    return {"rebuild_id": str(rebuild_id), **found}


def _plan(context: Context, span: Span) -> tuple[UUID, dict[str, Any]]:
    """It takes the place of one of the stream that nobody has done. Raises SetupError while one is being."""
    contract = contract_of(context, span.stream)
    for rebuild_id in _numbers(context):
        kept = _kept(context, rebuild_id)
        begun = kept is not None and kept.stream == span.stream and _is_begun(context, rebuild_id, kept)
        if begun and not _is_done(context, rebuild_id):
            raise SetupError(
                f"rebuild {rebuild_id} of {span.stream} was cut off: end it by --apply {rebuild_id}"
            )
        if kept is None or kept.stream == span.stream or _is_done(context, rebuild_id):
            _forget(context, rebuild_id)
    ends = high_water(context.spark, context.settings, f"refine.{contract.domain}")
    rebuild_id = uuid4()
    report = planned(context, rebuild_id, span)
    kept = Kept(span.stream, span.since.isoformat(), span.until.isoformat(), _judge(contract), ends)
    _keep(context, rebuild_id, kept)
    show(rebuild_id, report)
    return rebuild_id, report


def _numbers(context: Context) -> list[UUID]:
    """Of all plans that are kept; what else lies beside them is none of ours."""
    names = local_folders(f"{context.settings.lake_root}/rebuilds")
    return [UUID(hex=name) for name in names if _NUMBER.fullmatch(name)]


def _full_name(rebuild_id: UUID) -> str:
    return f"rebuilds.{rebuild_id.hex}"


def _silver_path(context: Context, contract: Contract) -> str:
    return table_path(context.settings, SILVER[contract.stream].full_name)


def _forget(context: Context, rebuild_id: UUID) -> None:
    forget_table(context.spark, context.settings, _full_name(rebuild_id))


def _kept(context: Context, rebuild_id: UUID) -> Kept | None:
    """None where there is no such plan, or one that was cut off before it was told."""
    full_name = _full_name(rebuild_id)
    if not exists(context.spark, context.settings, full_name):
        return None
    text = properties(context.spark, context.settings, full_name).get(_KEPT)
    return Kept(**json.loads(text)) if text else None


def _is_begun(context: Context, rebuild_id: UUID, kept: Kept) -> bool:
    return kept.begun or rebuild_apply.was_begun(context, contract_of(context, kept.stream), rebuild_id)


def _is_done(context: Context, rebuild_id: UUID) -> bool:
    settings, runs = context.settings, JOB_RUNS.full_name
    return exists(context.spark, settings, runs) and was_appended(settings, runs, rebuild_id.hex, _DONE)


def _keep(context: Context, rebuild_id: UUID, kept: Kept) -> None:
    set_property(context.spark, context.settings, _full_name(rebuild_id), _KEPT, kept.text)


def _judge(contract: Contract) -> str:
    """The same for the same code, contract, and rules and filters of tenants."""
    return hashlib.sha256(f"{CODE_VERSION} {contract}".encode()).hexdigest()


def _apply(context: Context, rebuild_id: UUID, why: str) -> dict[str, Any]:
    """Raises QualityError for a plan that is no more true, before anything is changed."""
    settings = context.settings
    if _is_done(context, rebuild_id):
        _forget(context, rebuild_id)
        return {"done": "before"}
    kept = _kept(context, rebuild_id)
    if kept is None:
        raise SetupError(f"there is no plan {rebuild_id}: it was replaced by another, or never made")
    contract = contract_of(context, kept.stream)
    decided = read_table(context.spark, settings, _full_name(rebuild_id)).persist()
    try:
        with commit_lock(settings.lake_root, f"refine.{contract.domain}"):
            resumed = _is_begun(context, rebuild_id, kept)
            if not kept.begun:
                kept = replace(kept, begun=True, last=last_append(_silver_path(context, contract)))
            if not resumed:
                _begin(context, contract, rebuild_id, kept, decided, why)
            _keep(context, rebuild_id, kept)
            rebuild_apply.change_lake(context, contract, rebuild_id, decided)
            copies = came_since(context, contract, decided, kept.ends) if resumed else 0
        rebuild_apply.count_again(context, contract, decided)
        moves = {f"{was} → {now}": count for (was, now), count in rebuild_apply.counted(decided).items()}
        done: dict[str, Any] = {"records": moves}
        done["destinations"] = put_right(context, contract, decided, kept.last)
    finally:
        decided.unpersist()
    if copies:
        # They came while it was cut off, and were duplicates then.
        _log.warning("copies_came_meanwhile", stream=kept.stream, records=copies, remedy="rebuild them, too")
        done["copies"] = copies
    what = f"rebuild {rebuild_id} of {kept.stream} is done: {moves}"
    record_decision(context, rebuilding(contract.domain), what, (rebuild_id.hex, _DONE))
    fail_at(rebuild_apply.NAME, "before_commit")
    _forget(context, rebuild_id)
    _log.info("rebuilt", rebuild_id=str(rebuild_id), **done)
    return done


def _begin(
    context: Context, contract: Contract, rebuild_id: UUID, kept: Kept, decided: DataFrame, why: str
) -> None:
    """It is still as it was told, and from here on it is done, whoever is killed."""
    if kept.judge != _judge(contract):
        raise QualityError(
            "contract, rules of tenants or code have changed since it was planned: plan it again"
        )
    rebuild_apply.check(context, contract, decided, kept.ends)
    what = f"{who()} rebuilds {kept.stream} of {kept.since} to {kept.until} ({rebuild_id}): {why}"
    record_decision(context, rebuilding(contract.domain), what, (rebuild_id.hex, _BEGUN))
    rebuild_apply.begin(context, contract, rebuild_id, decided)
