"""A claimed import is kept by a heartbeat from a thread of its own, and given up when somebody wants that.

Three things end it: the lease was lost to others, somebody asked for the job's end, this worker is to stop.
The thread then interrupts Spark again and again, and the next `check` raises.
"""

import threading
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType

from headwater.errors import HeadwaterError, TransientError
from headwater.log import logger
from sources.import_jobs import Counts
from sources.import_queue import Beat, Claim, ImportQueue

_log = logger(__name__)
_POLL_S = 0.25


class Why(Enum):
    """Why an import is broken off."""

    LOST = "lost"  # others have it: write nothing, tell nobody
    CANCELLED = "cancelled"
    STOPPING = "stopping"  # give it back


class BrokenOffError(HeadwaterError):
    """The import is to end here; `why` says what is to become of the job."""

    def __init__(self, why: Why) -> None:
        super().__init__(f"the import was broken off: {why.value}")
        self.why = why


class Lease:
    """A context in which the job stays ours. `queue` has a connection of its own: the thread's, then ours."""

    def __init__(
        self,
        queue: ImportQueue,
        claim: Claim,
        lease_s: float,
        counts: Callable[[], Counts],
        stopping: threading.Event,
        interrupt: Callable[[], None],
    ) -> None:
        self._queue, self._claim = queue, claim
        self._lease_s, self._counts = lease_s, counts
        self._stopping, self._interrupt = stopping, interrupt
        self.why: Why | None = None
        self._let_finish = threading.Event()
        self._closed = threading.Event()
        self._kept_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"lease {claim.job.id}", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What an interruption broke off ends as that, whatever fault it ended with."""
        self.still()
        self._queue.close()
        if fault is not None and self.why is not None and not self._let_finish.is_set():
            raise BrokenOffError(self.why) from fault

    def check(self) -> None:
        """Raise BrokenOffError when the import is to end."""
        if self.why is not None:
            raise BrokenOffError(self.why)

    def let_finish(self) -> None:
        """From here on the job is held by a transaction: nothing interrupts it any more. Checks first."""
        self._let_finish.set()
        self.check()

    def no_way_back(self) -> None:
        """The job may have rows in Delta from here on: it can only be done. Beats no more. Checks first."""
        self.still()
        self.check()
        self._queue.appending(self._claim)

    def still(self) -> None:
        """Beat no more: the transaction that holds the job is what keeps it."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(_POLL_S):
            self._look()
            if self.why is not None and not self._let_finish.is_set():
                self._interrupt()

    def _look(self) -> None:
        since = time.monotonic() - self._kept_at
        if self.why is None and since >= self._lease_s / 3:
            self._beat(since)
        if self.why is None and self._stopping.is_set() and not self._let_finish.is_set():
            self.why = Why.STOPPING

    def _beat(self, since: float) -> None:
        try:
            found = self._queue.beat(self._claim, self._counts())
        except TransientError as fault:
            _log.warning("import_not_kept", job_id=str(self._claim.job.id), why=str(fault))
            if since >= self._lease_s:  # others may have taken it by now, and we would not hear of it
                self.why = Why.LOST
            return
        except HeadwaterError as fault:
            _log.error("import_not_kept", job_id=str(self._claim.job.id), why=str(fault))
            self.why = Why.LOST
            return
        self._kept_at = time.monotonic()
        if found is Beat.LOST:
            self.why = Why.LOST
        elif found is Beat.CANCEL and not self._let_finish.is_set():
            self.why = Why.CANCELLED
