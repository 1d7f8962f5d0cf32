"""What a job writes into analytics.replays: a plan, a result."""

import json
from typing import Any

from headwater.postgres import Connection

PLAN: dict[str, Any] = {
    "letters": 3, "sent": 2, "back": 0, "passes": 1, "fails": {"rule:pattern": 1}, "duplicates": 0,
    "no_consent": 0, "filtered": 0, "skipped": {"loop_limit": 1}, "silver": {"silver.leads": 1},
    "gold": {
        "gold.session_kpis": {
            "keys": 1,
            "moved": [{"key": {"session_id": "s-1"}, "before": None, "after": {"turns": 3}}],
        },
    },
    "worked_out_again": ["gold.crm_pipeline"], "billing_hours": 2, "sinks": {"leads.postgres": 1},
    "code_version": "1.2.3", "contract_versions": {"lead.ingest": "1.0.0"},
}  # fmt: skip
_PLANNED = """
UPDATE analytics.replays SET status = 'planned', plan = %s, digest = repeat('d', 64), planned_at = now()
WHERE replay_id = %s AND status = 'requested'
"""
_ENDED = (
    "UPDATE analytics.replays SET status = %s, result = %s, error = %s, ended_at = now() WHERE replay_id = %s"
)


def planned(owner: Connection, replay_id: str, plan: dict[str, Any] = PLAN) -> None:
    """A job has planned it."""
    assert owner.execute(_PLANNED.encode(), (json.dumps(plan), replay_id)).rowcount == 1


def ended(owner: Connection, replay_id: str, status: str = "applied", error: str | None = None) -> None:
    """A job has carried it out, or not."""
    result = json.dumps({"sent": 2, "refused_again": 0}) if status == "applied" else None
    assert owner.execute(_ENDED.encode(), (status, result, error, replay_id)).rowcount == 1
