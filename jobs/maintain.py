"""maintain: PostgreSQL's tables of the CRM lose the months that are kept no longer, and get those to come.

Reads nothing of the lake, which keeps all of it. Safe to run again, and to end at any point: a month goes
whole. What comes late for a month that went makes it anew, and goes with it next time.
"""

from datetime import date
from typing import Any

from headwater.clock import months_before, utc_now
from headwater.log import logger
from headwater.settings import Settings
from jobs.queries import Context
from sinks.postgres_events import keep_months

_log = logger(__name__)


def kept_from(settings: Settings) -> date | None:
    """The first day of the first month that the tables of the CRM keep; None: all are kept."""
    months = settings.retention.crm_months
    return None if months is None else months_before(utc_now().date(), months)


def maintain(context: Context) -> dict[str, Any]:
    """How many months of each table were dropped, and made. Raises what PostgreSQL's faults mean to us."""
    first = kept_from(context.settings)
    dropped, made = keep_months(context.settings, first)
    since = first.isoformat() if first else None
    _log.info("maintained", kept_from=since, dropped=dropped, made=made)
    return {"kept_from": since, "dropped": dropped, "made": made}
