"""`jobs migrate` for the demo, unless nothing that it depends on has changed since the last time."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater.settings import Settings
from local.demo_processes import Child
from local.places import ROOT, data, make_folder


def migrate(settings: Settings, tell: Callable[[str], None], wait: Callable[[Child], None]) -> None:
    """Run it if need be; `wait` returns when the process has ended. HeadwaterError if it failed."""
    stamp = make_folder(data("demo")) / "migrated"
    wanted = _digest(settings)
    tables = Path(settings.lake_root, "ops", "ledger").is_dir()
    if tables and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        tell("migrations: nothing has changed since the last demo")
        return
    tell("migrating: topics, Delta tables, PostgreSQL, Elasticsearch")
    job = Child("migrate", "jobs", "migrate")
    try:
        wait(job)
    finally:
        job.kill()
    if job.exit_code:
        raise HeadwaterError(f"jobs migrate ended with exit code {job.exit_code}; {job.tail()}")
    stamp.write_text(wanted, encoding="utf-8")


def _digest(settings: Settings) -> str:
    """Of all that `jobs migrate` depends on."""
    sources = [
        *sorted((ROOT / "schemas").rglob("*.*")),
        ROOT / "jobs" / "migrate.py",
        ROOT / "headwater" / "tables.py",
        ROOT / "headwater" / "delta_log.py",
    ]
    content = [path.read_bytes() for path in sources if path.suffix != ".pyc" and path.is_file()]
    servers = (settings.postgres.owner_dsn, settings.elasticsearch.url, settings.kafka.bootstrap)
    where = [text.encode() for text in (settings.lake_root, *servers)]
    return hashlib.sha256(b"\0".join([*content, *where])).hexdigest()
