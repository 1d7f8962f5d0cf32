"""Sample leads as producers send them to Kafka, for what measures refine."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from headwater.clock import utc_now
from local.traffic import Event, Mix, Way, traffic

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


def leads(
    total: int, broken: float, *, ascii_only: bool = False, clock: Callable[[], datetime] = utc_now
) -> Iterator[Event]:
    """So many events, a share of them broken. Letters beyond ASCII, which nearly all have, become x
    where `ascii_only`."""
    events = traffic(Way.KAFKA, total, run="perf", seed=1, mix=Mix(broken=broken), clock=clock)
    return (replace(e, body=_BEYOND_ASCII.sub(b"x", e.body)) for e in events) if ascii_only else events
