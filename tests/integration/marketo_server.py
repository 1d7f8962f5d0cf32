"""The other side of the extractor: HTTP that behaves like Marketo's, and fails on demand.

Shapes and codes are those of Marketo's documentation. `plan` says what becomes of the next calls of a kind,
in order: {"status"}, {"code"}, {"cut"} (the connection ends in the middle), {"drip_s"}, {"raw"}.
"""

import base64
import json
import ssl
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]
CLIENT_ID, CLIENT_SECRET = "client-of-the-test", "canary-secret-of-the-client"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALLS = {
    "/identity/oauth/token": "login",
    "/rest/v1/activities/pagingtoken.json": "paging_token",
    "/rest/v1/activities/leadchanges.json": "changes",
    "/rest/v1/activities/deletedleads.json": "deletions",
    "/rest/v1/leads.json": "leads",
}
FIELDS = {"id", "email", "firstName", "lastName", "company", "leadScore", "industry", "notes"}


class MarketoServer(ThreadingHTTPServer):
    """Listens once made. Activities are a second apart, in the order in which they were made."""

    daemon_threads = True

    def __init__(self, page_size: int = 300, certificate: Path | None = None) -> None:
        """`certificate`: a file with one and its key, to speak TLS."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page_size, self.limit = page_size, (100, 20.0)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.token_life_s = 3600
        self.feeds: dict[str, list[Document]] = {"changes": [], "deletions": []}
        self.leads: dict[int, Document] = {}
        self.calls: Counter[str] = Counter()
        self.queries: dict[str, list[Document]] = defaultdict(list)
        self.over_limit = 0
        self._plan: dict[str, deque[Document]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque()
        self._logins = self._paging_generation = self._made = 0
        self._token_ends = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def guids(self) -> list[str]:
        """Of all activities that the feeds have, sorted."""
        return sorted(one["marketoGUID"] for feed in self.feeds.values() for one in feed)

    # What happens in Marketo

    def create(self, lead_id: int, **fields: Any) -> None:
        """A new lead, with a canary in its values."""
        person = {"email": f"canary.{lead_id}@example.com", "firstName": "Zoë", "lastName": "O'Canary"}
        self.leads[lead_id] = {"id": lead_id, **person, "company": "Example & Söhne", **fields}
        self._happen("changes", 12, lead_id, attributes=[{"name": "Source Type", "value": "Web form"}])

    def change(self, lead_id: int, **fields: Any) -> None:
        before = self.leads[lead_id]
        told = [{"id": 1, "name": n, "oldValue": before.get(n), "newValue": v} for n, v in fields.items()]
        before.update(fields)
        self._happen("changes", 13, lead_id, fields=told, attributes=[])

    def delete(self, lead_id: int) -> None:
        person = self.leads.pop(lead_id)
        name = f"{person['firstName']} {person['lastName']}"
        more = {"primaryAttributeValueId": lead_id, "primaryAttributeValue": name, "attributes": []}
        self._happen("deletions", 37, lead_id, **more)

    def _happen(self, feed: str, kind: int, lead_id: int, **more: Any) -> None:
        self._made += 1
        at = (NOON + timedelta(seconds=self._made)).strftime("%Y-%m-%dT%H:%M:%S+0000")
        ids = {"id": self._made, "marketoGUID": f"g{self._made}", "leadId": lead_id}
        self.feeds[feed].append({**ids, "activityDate": at, "activityTypeId": kind, **more})

    # What becomes of calls

    def plan(self, call: str, *steps: Document) -> None:
        self._plan[call].extend(steps)

    def expire_access_token(self) -> None:
        self._token_ends = 0.0

    def forget_paging_tokens(self) -> None:
        """All that were given are invalid from now on."""
        self._paging_generation += 1

    def arrive(self, call: str, query: Document) -> Document:
        """Note the call; the step of the plan that it meets."""
        with self._lock:
            self.calls[call] += 1
            self.queries[call].append(query)
            return self._plan[call].popleft() if self._plan[call] else {}

    def answer(self, call: str, query: Document, authorization: str) -> tuple[int, Document]:
        """Status and document of a call that nothing was planned for."""
        if call == "login":
            return self._login(query)
        with self._lock:
            code = self._admission(authorization)
        if code:
            return 200, refusal(code)
        return 200, getattr(self, f"_{call}")(query) if call != "deletions" else self._feed(call, query)

    def _login(self, query: Document) -> tuple[int, Document]:
        if (query.get("client_id"), query.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "unauthorized", "error_description": f"no client {query}"}
        now = time.monotonic()
        if now >= self._token_ends:
            self._logins += 1
            self._token_ends = now + self.token_life_s
        life = round(self._token_ends - now)
        return 200, {"access_token": self._access_token, "token_type": "bearer", "expires_in": life}

    @property
    def _access_token(self) -> str:
        return f"canary-token-{self._logins}:ab"

    def _admission(self, authorization: str) -> str | None:
        """A code when the call is not admitted; such a call does not count."""
        token = authorization.removeprefix("Bearer ")
        if not token:
            return "600"
        if not token.startswith("canary-token-"):
            return "601"
        now, (most, window_s) = time.monotonic(), self.limit
        if token != self._access_token or now >= self._token_ends:
            return "602"
        while self._arrivals and self._arrivals[0] <= now - window_s:
            self._arrivals.popleft()
        if len(self._arrivals) >= most:
            self.over_limit += 1
            return "606"
        self._arrivals.append(now)
        return None

    def _paging_token(self, query: Document) -> Document:
        since = datetime.strptime(query["sinceDatetime"], "%Y-%m-%dT%H:%M:%S%z")
        return {"requestId": "1#1", "success": True, "nextPageToken": self._paging(f"since {since}")}

    def _changes(self, query: Document) -> Document:
        fields = query.get("fields", "")
        if not fields:
            return refusal("1002")
        return self._feed("changes", query) if set(fields.split(",")) <= FIELDS else refusal("1006")

    def _feed(self, feed: str, query: Document) -> Document:
        generation, _, place = base64.b32decode(query["nextPageToken"]).decode().partition(" ")
        if int(generation) != self._paging_generation:
            return refusal("1003", f"Invalid paging token {query['nextPageToken']}")
        rows = self.feeds[feed]
        kind, _, at = place.partition(" ")
        if kind == "since":
            since = datetime.fromisoformat(at)
            first = sum(datetime.fromisoformat(row["activityDate"]) <= since for row in rows)
        else:
            first = int(at)
        last = min(first + self.page_size, len(rows))
        found: Document = {"requestId": "1#2", "success": True, "nextPageToken": self._paging(f"at {last}")}
        found["moreResult"] = last < len(rows)
        return found | ({"result": rows[first:last]} if last > first else {})

    def _leads(self, query: Document) -> Document:
        ids, fields = query["filterValues"].split(","), query["fields"].split(",")
        if len(ids) > 300 or query["filterType"] != "id":
            return refusal("1003")
        known = [self.leads[int(one)] for one in ids if int(one) in self.leads]
        rows = [{name: lead.get(name) for name in fields} for lead in known]
        return {"requestId": "1#3", "success": True, "result": rows}

    def _paging(self, place: str) -> str:
        return base64.b32encode(f"{self._paging_generation} {place}".encode()).decode()


def refusal(code: str, message: str = "no") -> Document:
    """As Marketo says no: with status 200."""
    return {"requestId": "1#0", "success": False, "errors": [{"code": code, "message": message}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MarketoServer

    def do_GET(self) -> None:
        self._take(urlsplit(self.path).query)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert urlsplit(self.path).query == "_method=GET"
        self._take(body)

    def _take(self, query: str) -> None:
        found = {name: values[-1] for name, values in parse_qs(query).items()}
        call = CALLS.get(urlsplit(self.path).path)
        if call is None:
            return self._say(404, b"{}", {})
        step = self.server.arrive(call, found)
        if "status" in step:
            return self._say(step["status"], b"<html>", step)
        if "code" in step:
            return self._say(200, json.dumps(refusal(step["code"], step.get("message", "no"))).encode(), step)
        status, document = self.server.answer(call, found, self.headers.get("Authorization", ""))
        self._say(status, step.get("raw") or json.dumps(document).encode(), step)

    def _say(self, status: int, body: bytes, step: Document) -> None:
        self.send_response(status)
        for name, text in step.get("headers", {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        time.sleep(step.get("drip_s", 0))
        if step.get("cut"):
            self.close_connection = True
            return
        self.wfile.write(body[half:])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the address of a login has the secret in it."""


@contextmanager
def serving(**how: Any) -> Iterator[MarketoServer]:
    """A server that answers until the end of the block."""
    with MarketoServer(**how) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
