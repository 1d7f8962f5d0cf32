"""Two tenants of one API, each with every scope; what the first of them has; every route that there is."""

import base64
import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from uuid import UUID

import httpx
from fastapi.routing import APIRoute

import api.routes
from headwater.settings import Settings
from sinks.postgres_events import LogSink
from sources.import_errors import RowError, write_errors
from sources.import_jobs import COMPLETED_WITH_ERRORS, Counts
from sources.import_queue import ImportQueue
from tests.integration.api_server import ISSUER, ApiServer, key_entry, mint
from tests.integration.crm_log import records
from tests.integration.uploads.harness import UploadApi
from tests.integration.uploads.page_harness import Browser
from tests.letters import lake_settings, letter, make_lake

SCOPES = (
    "ingest:write", "upload:write", "jobs:read", "crm:read", "crm:control", "dlq:read", "dlq:replay",
    "pii:read", "privacy:erase", "quality:read",
)  # fmt: skip
CRM = "/api/v1/crm-ingestion"
LETTERS = "/api/v1/dead-letters"
REPLAYS = f"{LETTERS}/replays"
# Numbers that nothing else in an answer is.
COUNTS = Counts(731_842_009, 731_842_001, 731_842_002, 731_842_003, 731_842_004, 731_842_005)


class TwoTenants(UploadApi):
    """Keys of two tenants: `key` is the owner's, `other_key` the other's."""

    def _keys(self) -> str:
        self.other = f"o{secrets.token_hex(6)}"
        given = {f"owner{self.tenant}": self.tenant, f"other{self.other}": self.other}
        found = {name: secrets.token_hex(16) for name in given}
        entries = [key_entry(name, found[name], tenant, SCOPES) for name, tenant in given.items()]
        (self.folder / "keys.json").write_text(json.dumps(entries))
        key, self.other_key = (f"hw_{name}_{secret}" for name, secret in found.items())
        return key


@contextmanager
def two_tenants(folder: Path, settings: Settings) -> Iterator[TwoTenants]:
    """A server on the settings' database, with storage of its own."""
    server = TwoTenants(folder)
    server.start(
        HEADWATER_POSTGRES__API_DSN=settings.postgres.api_dsn,
        HEADWATER_UPLOADS__FOLDER=str(folder / "uploads"),
        HEADWATER_LAKE=str(folder / "lake"),
    )
    try:
        yield server
    finally:
        if server.process and server.process.poll() is None:
            server.stop()


def bearer(api: ApiServer, tenant: str, subject: str) -> dict[str, str]:
    """Headers of a token with every scope."""
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": "headwater-api", "sub": subject, "tenant_id": tenant,
        "scope": " ".join(SCOPES), "iat": now, "exp": now + 300,
    }  # fmt: skip
    return {"Authorization": f"Bearer {mint(api.signing_key, claims)}"}


def every_route() -> set[tuple[str, str]]:
    """Method and path of each route of the API's, whether the OpenAPI document has it or not."""
    routers = [import_module(f"api.routes.{m.name}").router for m in iter_modules(api.routes.__path__)]
    routes = [route for router in routers for route in router.routes]
    assert all(isinstance(route, APIRoute) for route in routes)
    return {(method, route.path) for route in routes for method in route.methods}


@dataclass(frozen=True)
class Belongings:
    """What the owner has. `marks` are texts that nobody else may ever be shown; `kept_to_itself` are those
    of them that the routes for jobs do not show to the owner, either."""

    tenant: str
    done: str
    waiting: str
    upload: dict[str, str]  # the query with which `content` was sent for `done`
    content: bytes
    place: str  # the cursor behind one of its jobs
    record: dict[str, Any]  # a record of the CRM's log
    event: dict[str, Any]
    idempotency_key: str
    letters: tuple[str, str]  # ids of dead letters: one of its own, and one that is nobody's
    letter_place: str  # the cursor behind the first of them
    fingerprint: str
    replay: str  # asked for, of the first of the letters
    replay_place: str  # the cursor behind it
    session: str
    form_token: str
    marks: set[str]
    kept_to_itself: set[str]

    def shown_in(self, answer: httpx.Response) -> set[str]:
        """Marks in the body or in a header, however they are written."""
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.multi_items())
        text = f"{head}\n{answer.text}".lower()
        return {mark for mark in self.marks if mark.lower() in text}


def belongings(api: TwoTenants, settings: Settings, browser: Browser) -> Belongings:
    """Give the owner an import with refused rows, one that waits, records of the CRM, one of them enqueued,
    an event, a refused body, a replay that is asked for and a session of the page (`browser`)."""
    token = secrets.token_hex(8)
    # Each text has one purpose, so that a failure says what got out.
    label, email, cell = f"label-{token}.csv", f"email-{token}@example.com", f"cell-{token}"
    content, upload = f"id,name\n1,{cell}\n".encode(), {"dataset": f"done-{token}", "name": label}
    record = {"topic": "crm.leads", "partition": 0, "offset": 0}
    event = {"source": "web", "payload": {"email": email, "consent": True}}
    key = f"idem-{token}"
    _logged(settings, api)
    letters, bytes_ = _refused(api, token)
    with api.client() as client:
        done = job_of(client.post("/upload", params=upload, content=content))
        imported(settings, done, cell)
        waiting = job_of(client.post("/upload", params={"dataset": f"waits-{token}"}, content=content * 2))
        place = client.get("/jobs", params={"limit": 1}).json()["next_cursor"]
        sums = {job["sha256"] for job in client.get("/jobs").json()["jobs"]}
        enqueued = client.post(f"{CRM}/enqueue", json=record).json()["job_id"]
        taken = client.post("/ingest", json=event, headers={"Idempotency-Key": key}).json()
        assert client.post("/ingest", json=event | {"source": cell * 9}).status_code == 422
        again = {"ids": letters[:1], "why": f"why-{token}", "patch": _patch(f"patched-{token}")}
        replay = client.post(REPLAYS, json=again).json()["replay_id"]
    assert browser.sign_in(api.key).status_code == 303
    session, form_token = str(browser.session), browser.token()
    hidden = {enqueued, taken["event_id"], email, key, session, form_token}
    refused = {*letters[::2], bytes_, f"topic-{token}", f"code-{token}"}
    numbers = {form.format(n) for n in vars(COUNTS).values() for form in ("{}", "{:,}")}
    asked = {replay, f"why-{token}", f"patched-{token}"}
    shown = {done, waiting, place, label, cell, f"done-{token}", f"waits-{token}", *sums, *numbers, *refused}
    return Belongings(
        tenant=api.tenant,
        done=done,
        waiting=waiting,
        upload=upload,
        content=content,
        place=place,
        record=record,
        event=event,
        idempotency_key=key,
        letters=letters[:2],
        letter_place=f"{4_000_000_000_000_000}-{letters[0]}",
        fingerprint=letters[2],
        replay=replay,
        replay_place=f"4000000000000000-{replay}",
        session=session,
        form_token=form_token,
        marks={letters[1], api.tenant, *api.key.split("_")[1:]} | shown | asked | hidden,
        kept_to_itself=hidden | {letters[1]},
    )


def job_of(answer: httpx.Response) -> str:
    """The id of a job that is queued."""
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def imported(settings: Settings, job: str, text: str, rows: int = 1) -> None:
    """Do the job as a worker does, with that many refused rows."""
    errors = [
        RowError(line, f"column-{text}", "rule:pattern", f"message-{text}", f"{line},{text}")
        for line in range(2, rows + 2)
    ]
    queue = ImportQueue(settings, "worker")
    try:
        claim = queue.claim(UUID(job))
        assert claim
        with queue.holding(claim) as connection:
            write_errors(connection, claim.job.id, errors, 10_000, 2000)
        queue.finish(claim, COMPLETED_WITH_ERRORS, COUNTS, {})
    finally:
        queue.close()


def _logged(settings: Settings, api: TwoTenants) -> None:
    """Five records of the owner's, and one that is nobody's."""
    sink = LogSink(settings, "test")
    sink.setup()
    sink.reset()
    ends = ("processed", "processed", "skipped", "failed", "failed")
    rows: list[dict[str, Any]] = [{"tenant_id": api.tenant, "processing_status": end} for end in ends]
    sink.write(records(*rows, {"tenant_id": None}))


def _patch(value: str) -> list[dict[str, str]]:
    return [{"op": "add", "path": "/source", "value": value}]


def _refused(api: TwoTenants, token: str) -> tuple[tuple[str, str, str], str]:
    """Dead letters: the ids of one of the owner's and of nobody's, the fingerprint; the payload's base64."""
    mine, nobodys, fingerprint = (secrets.token_hex(32) for _ in range(3))
    payload = f"payload-{token}".encode()
    same = {"fingerprint": fingerprint, "payload": payload, "source_topic": f"topic-{token}"}
    codes = (f"code-{token}",)
    make_lake(
        lake_settings(api.folder / "lake"),
        letter(0, *codes, dead_letter_id=mine, tenant_id=api.tenant, **same),
        letter(1, *codes, dead_letter_id=nobodys, tenant_id=None, **same),
    )
    return (mine, nobodys, fingerprint), base64.b64encode(payload).decode()


def without_request(answer: httpx.Response) -> tuple[int, str, Iterable[str]]:
    """Status, body and names of headers, without what is another at each request."""
    body = re.sub(re.escape(answer.headers["x-request-id"]), "", answer.text)
    body = re.sub(r'name="csrf" value="[0-9a-f]+"', "", body)
    return answer.status_code, body, sorted(answer.headers.keys())
