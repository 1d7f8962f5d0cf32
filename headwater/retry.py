"""Retries with capped exponential backoff and jitter, for outages only."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from headwater.errors import TransientError
from headwater.log import logger

T = TypeVar("T")
_log = logger(__name__)
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


def retrying(action: Callable[[], T], what: str, patience_s: float) -> T:
    """Run `action` until it does not raise TransientError; after `patience_s` seconds raise the last one."""
    attempts = Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=stop_after_delay(patience_s),
        before_sleep=lambda state: _log.warning("retry", what=what, attempt=state.attempt_number),
        reraise=True,
    )
    return attempts(action)
