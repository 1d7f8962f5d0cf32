"""An API that takes uploads, and jobs in a database of the test's own; no Kafka and no Spark in it."""

import hashlib
import json
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from headwater.settings import Settings
from local.postgres import dsn
from sources.import_jobs import NewJob
from sources.landing.base import new_key
from tests.integration.api_server import ApiServer, key_entry
from tests.integration.broker import eventually

ROLES = {
    "owner": "postgres-owner",
    "writer": "postgres-writer",
    "api": "postgres-api",
    "reader": "postgres-reader",
}
ROWS = b"id,name\n1,Ada\n2,Grace\n"


class UploadApi(ApiServer):
    """Keys: `key` may upload and look, `watcher_key` only looks, `stranger_key` is of another tenant."""

    def _keys(self) -> str:
        given = {
            "uploader": (self.tenant, ("upload:write", "jobs:read")),
            "watcher": (self.tenant, ("jobs:read",)),
            "stranger": (f"{self.tenant}x", ("upload:write", "jobs:read")),
        }
        entries, keys = [], {}
        for name, (tenant, scopes) in given.items():
            secret = secrets.token_hex(16)
            entries.append(key_entry(name, secret, tenant, scopes))
            keys[name] = f"hw_{name}_{secret}"
        (self.folder / "keys.json").write_text(json.dumps(entries))
        self.watcher_key, self.stranger_key = keys["watcher"], keys["stranger"]
        return keys["uploader"]

    @contextmanager
    def key_of(self, scopes: tuple[str, ...], name: str = "guest") -> Iterator[str]:
        """A key with these scopes, instead of any of that name; known while the block lasts."""
        secret = secrets.token_hex(16)
        key = f"hw_{name}_{secret}"
        before = self._entries()
        entry = key_entry(name, secret, self.tenant, scopes)
        self._keep([*(known for known in before if known["id"] != name), entry])
        try:
            eventually(lambda: self._knows(key), "the key to be known")
            yield key
        finally:
            self._keep(before)

    def grant(self, key: str, scopes: tuple[str, ...]) -> None:
        """From now on the key has these scopes."""
        name = key.split("_")[1]
        entries = self._entries()
        self._keep([e | {"scopes": list(scopes)} if e["id"] == name else e for e in entries])

    def revoke(self, key: str) -> None:
        """The key is no more."""
        name = key.split("_")[1]
        self._keep([entry for entry in self._entries() if entry["id"] != name])

    def _entries(self) -> list[dict[str, Any]]:
        return list(json.loads((self.folder / "keys.json").read_text()))

    def _keep(self, entries: list[dict[str, Any]]) -> None:
        draft = self.folder / "keys.new"
        draft.write_text(json.dumps(entries))
        draft.replace(self.folder / "keys.json")

    def _knows(self, key: str) -> bool:
        return httpx.get(f"{self.url}/jobs", headers={"X-API-Key": key}).status_code != 401

    @property
    def landed(self) -> list[Path]:
        """Every file in storage, unfinished ones too."""
        return [path for path in (self.folder / "uploads").rglob("*") if path.is_file()]

    def upload(self, content: bytes, dataset: str = "people", **query: str) -> httpx.Response:
        """Send a file as the body."""
        with self.client() as client:
            return client.post("/upload", params={"dataset": dataset} | query, content=content)


@contextmanager
def upload_api(folder: Path, settings: Settings, **variables: str) -> Iterator[UploadApi]:
    """A server on the settings' database, with storage of its own."""
    server = UploadApi(folder)
    more = {
        "HEADWATER_POSTGRES__API_DSN": settings.postgres.api_dsn,
        "HEADWATER_UPLOADS__FOLDER": str(folder / "uploads"),
    }
    server.start(**(more | variables))
    try:
        yield server
    finally:
        if server.process and server.process.poll() is None:
            server.stop()


def new_job(**changes: Any) -> NewJob:
    """A job for a file that nobody looks for."""
    job_id = uuid.uuid4()
    base: dict[str, Any] = {
        "id": job_id, "tenant_id": "acme", "dataset": "people",
        "storage_key": new_key(job_id, datetime.now(UTC).date()), "file_label": "people.csv", "format": "csv",
        "options": {}, "bytes": len(ROWS), "sha256": hashlib.sha256(ROWS).hexdigest(),
    }  # fmt: skip
    return NewJob(**(base | changes))


def ask(database: str, query: str, *values: Any, role: str = "owner") -> list[tuple[Any, ...]]:
    """Rows of a query of the test's own, in a transaction that is committed."""
    with psycopg.connect(dsn(f"headwater_{role}", ROLES[role], database)) as connection:
        cursor = connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []
