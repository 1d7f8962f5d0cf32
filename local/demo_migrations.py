"""Whether the demo has to migrate: what `jobs migrate` depends on, as one digest."""

import hashlib

from headwater.settings import Settings
from local.places import ROOT


def digest(settings: Settings) -> str:
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
