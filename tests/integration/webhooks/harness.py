"""What the tests of webhooks do with a loop and its tables."""

from collections.abc import Callable
from typing import Any

from headwater import delta_log
from headwater.settings import Settings
from headwater.tables import table_path
from jobs.webhooks import Webhook
from schemas.tables import DEAD_LETTERS
from tests.integration.outbox_harness import Leads

Make = Callable[..., Webhook]
MAPPING = {"email": "email", "key": "idempotency_key", "version": "row_version"}
STATE = "SELECT status, attempts, last_status, last_error FROM webhook_deliveries ORDER BY id"


def run(loop: Webhook) -> None:
    """Until nothing is due."""
    while loop.step():
        pass


def due_now(leads: Leads) -> None:
    """No wait, and no lease, lasts any longer."""
    leads.connection.execute("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE status = 'pending'")


def letters(settings: Settings) -> list[dict[str, Any]]:
    """The connector's dead letters."""
    path = table_path(settings, DEAD_LETTERS.full_name)
    names = ["dead_letter_id", "reasons", "source_offset", "event_id", "payload", "status", "failed_sinks"]
    return list(delta_log.read(path, names, ("stage", "sink:webhook-crm")).to_pylist())
