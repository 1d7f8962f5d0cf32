"""What the operators' page says where it means something else than the page for uploads."""

OPS_REFUSALS = {
    "forbidden": (
        "This key does not allow that",
        "Health and flow need the scope jobs:read, dead letters dlq:read, sending and discarding dlq:replay, "
        "quality quality:read. Ask whoever runs Headwater for a key that has it.",
    ),
    "busy": ("Too much is under way", "Wait {wait} s, then try again."),
    "not_found": ("There is no such thing", "It may belong to another tenant, or be gone."),
    "invalid_order": ("Something in the form is not right", "Go back, mend it and send again."),
    "lake_unavailable": (
        "The lake cannot be read",
        "Try again in a moment; if it stays so, look whether its storage answers.",
    ),
    "lake_is_remote": (
        "Letters are discarded on a local lake only",
        "Elsewhere two writers would not see each other. Leave them, or send them again.",
    ),
    "postgres_unavailable": (
        "PostgreSQL cannot be reached",
        "It holds the trail, without which nothing of a dead letter is shown or done. Try again in a moment.",
    ),
    "too_many_open": ("Too many replays are open", "Wait until jobs have planned or sent some of them."),
    "not_planned": ("No job has planned this replay yet", "Wait for its plan, look at it, then apply it."),
    "replay_refused": ("This replay was refused", "What its plan depends on has changed. Ask for it again."),
    "replay_failed": ("This replay failed", "Its page says why. Mend that, then ask for it again."),
    "too_large": ("The form is too large", "A patch may have 32 KiB."),
}

# A query's state in plain words, and how much it matters: as the classes of the style have it.
QUERY_STATES = {
    "running": ("Running", "completed"),
    "starting": ("Starting", "processing"),
    "stopping": ("Stopping", "processing"),
    "restarting": ("Starting again after a fault", "completed_with_errors"),
    "stopped": ("Stopped", "pending"),
    "failed": ("Failed", "failed"),
    "lost": ("Not running", "failed"),
}
REPLAY_STATES = {
    "requested": ("Waiting for its plan", "pending"),
    "planned": ("Planned", "processing"),
    "approved": ("Waiting to be sent", "processing"),
    "applied": ("Sent", "completed"),
    "refused": ("Refused", "failed"),
    "failed": ("Failed", "failed"),
}
OUTCOMES = {
    "silver": "Silver",
    "duplicate": "Duplicate",
    "dead": "Dead",
    "no_consent": "No consent",
    "filtered": "Filtered",
    "erased": "Erased",
}
SPANS = {"1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days"}
# Counts of a plan, in the order in which they are told.
PLAN = {
    "letters": "Letters",
    "sent": "Would be sent",
    "passes": "Would pass",
    "duplicates": "Duplicates",
    "no_consent": "No consent",
    "filtered": "Filtered",
    "billing_hours": "Hours of billing",
}
FILTERS = {
    "stream": "Stream",
    "stage": "Stage",
    "reason": "Reason",
    "fingerprint": "Fingerprint",
    "contract_version": "Contract version",
    "status": "State",
    "since": "Failed since",
    "until": "Failed before",
    "ids": "Letters",
}
