"""Which loops a domain has, by the system that they deliver to. Adding one is a file and a line here."""

from collections.abc import Callable
from functools import partial

from headwater.settings import Settings
from jobs.captured import Captured
from jobs.enqueued import Enqueued
from jobs.queries import Context, Loop
from jobs.webhooks import Webhook


def loops(settings: Settings, domain: str) -> dict[str, Callable[[Context], Loop]]:
    """System → the loop deliver.<domain>.<system>. They read PostgreSQL: the outbox of leads, or the queue of
    the CRM's records that are to be sent again.

    Connectors without a url are among them: starting such a loop says what to set.
    """
    if domain == "crm":
        return {"enqueued": Enqueued}
    if domain != "leads":
        return {}
    webhooks = {f"webhook-{name}": partial(Webhook, connector=name) for name in settings.connectors}
    return {"captured": Captured, **webhooks}


def enabled_loops(settings: Settings, domain: str) -> list[Callable[[Context], Loop]]:
    """Those that `jobs run` runs: all but connectors without a url."""
    return list(enabled(settings, domain).values())


def enabled(settings: Settings, domain: str) -> dict[str, Callable[[Context], Loop]]:
    """The same by their systems."""
    off = {f"webhook-{name}" for name, connector in settings.connectors.items() if not connector.url}
    return {system: make for system, make in loops(settings, domain).items() if system not in off}
