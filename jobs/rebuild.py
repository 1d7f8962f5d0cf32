"""rebuild: what bronze has of a stream is decided again by today's code and contract.

Reads bronze, writes silver, ops.dead_letters, ops.filtered, ops.ledger, gold and the destinations; keyed by
the record's place. Streams run on. Safe to run again: what will be done is written down first, in
rebuilds.<number>, and every step of it may be done twice (jobs/rebuild_apply.py).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from pyspark.sql import DataFrame

from headwater.errors import QualityError, SetupError
from headwater.failpoints import fail_at
from headwater.files import local_folders
from headwater.locks import commit_lock, instance_lock
from headwater.log import logger
from headwater.tables import exists, forget_table, properties, read_table, set_property, was_appended
from headwater.version import CODE_VERSION
from jobs import rebuild_apply
from jobs.queries import Context
from jobs.rebuild_plan import planned, table_of
from jobs.rebuild_print import show
from jobs.rebuild_shadow import Span, contract_of
from jobs.rebuild_sinks import put_right
from jobs.runs import record_decision, who
from schemas.contract import Contract
from schemas.tables import JOB_RUNS
from sources.letters.settle import refuse_remote

_KEPT = "headwater.rebuild"
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
    """What is known of a plan, as a property of its table. `judge` tells code and contract, `begun` whether
    it is being done."""

    stream: str
    since: str
    until: str
    judge: str
    begun: bool = False

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
    for number, kept in _plans(context):
        if kept.stream == span.stream and kept.begun:
            raise SetupError(f"rebuild {number} of {span.stream} was cut off: end it by --apply {number}")
        if kept.stream == span.stream:
            forget_table(context.spark, context.settings, table_of(contract, number).full_name)
    rebuild_id = uuid4()
    report = planned(context, rebuild_id, span)
    kept = Kept(span.stream, span.since.isoformat(), span.until.isoformat(), _judge(contract))
    _keep(context, contract, rebuild_id, kept)
    show(rebuild_id, report)
    return rebuild_id, report


def _plans(context: Context) -> Iterator[tuple[UUID, Kept]]:
    for name in local_folders(f"{context.settings.lake_root}/rebuilds"):
        kept = _kept(context, UUID(hex=name))
        if kept:
            yield UUID(hex=name), kept


def _kept(context: Context, rebuild_id: UUID) -> Kept | None:
    """None where there is no such plan, or one that was cut off before it was told."""
    full_name = f"rebuilds.{rebuild_id.hex}"
    if not exists(context.spark, context.settings, full_name):
        return None
    text = properties(context.spark, context.settings, full_name).get(_KEPT)
    return Kept(**json.loads(text)) if text else None


def _keep(context: Context, contract: Contract, rebuild_id: UUID, kept: Kept) -> None:
    full_name = table_of(contract, rebuild_id).full_name
    set_property(context.spark, context.settings, full_name, _KEPT, kept.text)


def _judge(contract: Contract) -> str:
    """The same for the same code, contract, and rules and filters of tenants."""
    return hashlib.sha256(f"{CODE_VERSION} {contract}".encode()).hexdigest()


def _apply(context: Context, rebuild_id: UUID, why: str) -> dict[str, Any]:
    """Raises QualityError for a plan that is no more true, before anything is changed."""
    settings, kept = context.settings, _kept(context, rebuild_id)
    ended = (rebuild_id.hex, 1)
    if kept is None:
        if exists(context.spark, settings, JOB_RUNS.full_name) and was_appended(
            settings, JOB_RUNS.full_name, *ended
        ):
            return {"done": "before"}
        raise SetupError(f"there is no plan {rebuild_id}: it was replaced by another, or never made")
    contract = contract_of(context, kept.stream)
    table = table_of(contract, rebuild_id).full_name
    decided = read_table(context.spark, settings, table).persist()
    try:
        with commit_lock(settings.lake_root, f"refine.{contract.domain}"):
            if not kept.begun:
                _begin(context, contract, rebuild_id, kept, decided, why)
            rebuild_apply.change_lake(context, contract, rebuild_id, decided)
        rebuild_apply.count_again(context, contract, decided)
        moves = {f"{was} → {now}": count for (was, now), count in rebuild_apply.counted(decided).items()}
        done = {"records": moves, "destinations": put_right(context, contract, decided)}
    finally:
        decided.unpersist()
    what = f"rebuild {rebuild_id} of {kept.stream} is done: {moves}"
    record_decision(context, f"{rebuild_apply.NAME}.{contract.domain}", what, ended)
    fail_at(rebuild_apply.NAME, "before_commit")
    forget_table(context.spark, settings, table)
    _log.info("rebuilt", rebuild_id=str(rebuild_id), **done)
    return done


def _begin(
    context: Context, contract: Contract, rebuild_id: UUID, kept: Kept, decided: DataFrame, why: str
) -> None:
    """It is still as it was told, and from here on it is done, whoever is killed."""
    if kept.judge != _judge(contract):
        raise QualityError(
            "contract, rules of tenants or code are others than when it was planned: plan it again"
        )
    rebuild_apply.check(context, contract, decided)
    what = f"{who()} rebuilds {kept.stream} of {kept.since} to {kept.until} ({rebuild_id}): {why}"
    record_decision(context, f"{rebuild_apply.NAME}.{contract.domain}", what, (rebuild_id.hex, 0))
    _keep(context, contract, rebuild_id, Kept(**{**vars(kept), "begun": True}))
