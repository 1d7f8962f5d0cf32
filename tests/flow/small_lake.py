"""A small lake of interactions, made by the jobs themselves from bronze rows, without Kafka.

February 2025 is closed when the second part comes: some of that is usage of February, so that there are
adjustments.
"""

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import islice

from pyspark.sql import SparkSession

from headwater.settings import Settings
from headwater.tables import append_rows, ensure_table
from jobs.build import BUILT, Build
from jobs.close_period import close_period
from jobs.queries import Context
from jobs.refine import Refine
from jobs.runtime import Runtime
from local.bronze import bronze_rows
from local.traffic import Event, Mix
from local.traffic_interactions import interactions
from schemas.tables import bronze

CLOSED = date(2025, 2, 1)
EVENTS, LATER = 1500, 60
_DOMAIN = "interactions"
_USAGE = "billing.usage.metered"
_NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
_MINUTES = 3000


def make_small_lake(spark: SparkSession, settings: Settings) -> None:
    """Bronze, silver, gold and ops of two days around a month's end."""
    rng = random.Random(11)  # noqa: S311 - sample data
    mix = Mix(no_consent=0)

    def clock() -> datetime:
        return _NOON - timedelta(minutes=rng.randrange(_MINUTES))

    first = list(interactions(EVENTS, run="a-", seed=5, mix=mix, clock=clock))
    more = interactions(LATER * 20, run="b-", seed=6, mix=mix, clock=clock)
    later = list(islice((event for event in more if event.topic == _USAGE), LATER))
    context = Context(spark, settings, "small-lake")
    _arrive(context, first, 0)
    for name in sorted(BUILT):
        Build(context, name).prepare()  # without a checkpoint it counts all there is
    close_period(context, CLOSED)
    _arrive(context, later, EVENTS)
    Build(context, "usage").prepare()


def _arrive(context: Context, events: list[Event], offset: int) -> None:
    by_topic: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_topic[event.topic].append(event)
    table = bronze(_DOMAIN)
    ensure_table(context.spark, context.settings, table)
    for mine in by_topic.values():
        append_rows(context.spark, bronze_rows(mine, 0, offset), context.settings, table.full_name)
    Runtime(context, once=True).run([Refine(context, _DOMAIN)])
