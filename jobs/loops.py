"""Which loops a domain has, by the system that they deliver to. Adding one is a file and a line here."""

from collections.abc import Callable

from headwater.settings import Settings
from jobs.captured import Captured
from jobs.queries import Context, Loop


def loops(settings: Settings, domain: str) -> dict[str, Callable[[Context], Loop]]:
    """System → the loop deliver.<domain>.<system>. They read the outbox of PostgreSQL's leads."""
    if domain != "leads":
        return {}
    return {"captured": Captured}
