"""POST /ingest and POST /ingest/batch: body → judged → lead.ingest; 202 only for what Kafka acknowledged."""

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.body import read_body
from api.events import Accepted, Discarded, Refused, contract, read
from api.metrics import DISCARDED, EVENTS, UNAVAILABLE
from api.models import BatchModel, SubmissionModel
from api.openapi import BATCH, EVENT, REFUSALS
from api.problems import Fault, Problem, unavailable
from api.publisher import RETRY_AFTER_S, Record, UnavailableError
from api.security import INGEST_WRITE, Principal
from api.services import Services, services
from headwater.clock import utc_now

JSON = "application/json"
NDJSON = "application/x-ndjson"
_LINES_AT_ONCE = 50  # judged before others get a turn on the loop
_FAULTS_TOLD = 1000  # in the answer to a batch; beyond them each rejected line tells its first
Verdict = Accepted | Discarded | Refused
router = APIRouter(tags=["ingest"])


@router.post(
    "/ingest", status_code=202, response_model=SubmissionModel, responses=REFUSALS, openapi_extra=EVENT
)
async def ingest(request: Request) -> Response:
    """Take one event."""
    room = services(request)
    caller = await room.admit(request, INGEST_WRITE)
    limit = room.settings.api.max_body_bytes
    with room.bodies.taken(caller.credential, limit):
        raw = await read_body(request, JSON, limit)
        return await _take(room, caller, request, raw)


async def _take(room: Services, caller: Principal, request: Request, raw: bytes) -> Response:
    verdict = read(raw, caller.tenant_id, _header_key(request), utc_now())
    if isinstance(verdict, Refused):
        _note_refused(room, caller, raw, verdict)
        raise Problem(verdict.status, verdict.code, verdict.faults)
    request.scope["state"]["event_id"] = verdict.event_id
    answer = {
        "status": "accepted",
        "event_id": verdict.event_id,
        "idempotency_key": verdict.idempotency_key,
        "received_at": verdict.received_at,
    }
    if isinstance(verdict, Discarded):
        DISCARDED.inc()
        return _accepted(answer | {"status": "discarded", "reason": "no_consent"})
    await _publish(room, [verdict])
    return _accepted(answer)


@router.post(
    "/ingest/batch", status_code=202, response_model=BatchModel, responses=REFUSALS, openapi_extra=BATCH
)
async def ingest_batch(request: Request) -> Response:
    """Take one event a line. A key comes from the line itself; the header names only single events."""
    room = services(request)
    caller = await room.admit(request, INGEST_WRITE)
    limit = room.settings.api.max_batch_bytes
    with room.bodies.taken(caller.credential, limit):
        raw = await read_body(request, NDJSON, limit)
        return await _take_batch(room, caller, raw)


async def _take_batch(room: Services, caller: Principal, raw: bytes) -> Response:
    lines = _lines(raw, room.settings.api.max_batch_lines)
    verdicts: list[Verdict] = []
    for count, (_, line) in enumerate(lines):
        if count % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        verdicts.append(_judge_line(line, caller.tenant_id, room.settings.api.max_body_bytes))
    await _publish(room, [verdict for verdict in verdicts if isinstance(verdict, Accepted)])
    results, left = [], _FAULTS_TOLD
    for (number, line), verdict in zip(lines, verdicts, strict=True):
        if isinstance(verdict, Refused):
            _note_refused(room, caller, line, verdict)
        results.append(_line_result(number, verdict, max(1, left)))
        left -= len(results[-1].get("errors", ()))
    DISCARDED.inc(sum(isinstance(verdict, Discarded) for verdict in verdicts))
    counts = {
        status: sum(result["status"] == status for result in results)
        for status in ("accepted", "discarded", "rejected")
    }
    return _accepted(counts | {"results": results})


async def _publish(room: Services, events: list[Accepted]) -> None:
    topic = contract().topic
    try:
        await room.publisher.publish([Record(topic, event.message_key, event.value) for event in events])
    except UnavailableError:
        UNAVAILABLE.inc()
        raise unavailable("kafka_unavailable", RETRY_AFTER_S) from None
    for event in events:
        room.sources.count_accepted(event.source)


def _judge_line(line: bytes, tenant_id: str, limit: int) -> Verdict:
    if len(line) > limit:
        return Refused((Fault("", "too_large", f"is larger than {limit} bytes"),), None)
    return read(line, tenant_id, None, utc_now())


def _lines(raw: bytes, most: int) -> list[tuple[int, bytes]]:
    """Numbered lines that are not blank. Raises Problem 400 for none, 413 for too many, blank or not."""
    if raw.count(b"\n") > 2 * most:
        raise _too_many(most)
    lines = [(n, line) for n, line in enumerate(raw.split(b"\n"), start=1) if line.strip()]
    if not lines:
        raise Problem(400, "empty", (Fault("", "empty", "is empty"),))
    if len(lines) > most:
        raise _too_many(most)
    return lines


def _too_many(most: int) -> Problem:
    return Problem(413, "too_many_lines", (Fault("", "too_large", f"has more than {most} lines"),))


def _line_result(number: int, verdict: Verdict, most: int) -> dict[str, Any]:
    if isinstance(verdict, Refused):
        errors = [fault.as_dict() for fault in verdict.faults[:most]]
        return {"line": number, "status": "rejected", "code": verdict.code, "errors": errors}
    status = "accepted" if isinstance(verdict, Accepted) else "discarded"
    return {"line": number, "status": status, "event_id": verdict.event_id}


def _note_refused(room: Services, caller: Principal, raw: bytes, refused: Refused) -> None:
    EVENTS.labels(room.sources.label(refused.source, accepted=False), "invalid").inc()
    room.dead_letters.offer(raw, caller.tenant_id, refused)


def _header_key(request: Request) -> str | None:
    """All Idempotency-Key headers as one text, None without any; doubled ones differ from any single one."""
    given = request.headers.getlist("idempotency-key")
    return ", ".join(given) if given else None


def _accepted(answer: dict[str, Any]) -> Response:
    return _Accepted(orjson.dumps(answer))


class _Accepted(Response):
    """202 with that JSON, its head made without looking for what others may need."""

    def __init__(self, body: bytes) -> None:
        self.status_code, self.body, self.background = 202, body, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", JSON.encode())]
