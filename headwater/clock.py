"""The only place that reads the wall clock in Python. Always UTC."""

from datetime import UTC, datetime

# The pattern by which Spark writes a time as ISO 8601 with microseconds, in UTC with Z.
ISO_MICROSECONDS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"


def utc_now() -> datetime:
    """The time now, with its zone."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 with milliseconds and Z, as events carry it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
