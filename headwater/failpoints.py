"""Places where a test may kill a job, locally only: HEADWATER_FAILPOINT=<query>:<point>[:nth].

Points, in the order a micro-batch meets them: offsets (its range is in the checkpoint, nothing read yet),
task (a task is running), before_write, after_write (tables written, ledger not), in_transaction (PostgreSQL,
not committed), before_commit (all written, the batch not yet in the checkpoint's commit log).
An import has task, before_write (staged and loaded), in_transaction (rows upserted), after_write (Delta
appended, PostgreSQL not committed), before_commit (all done), file_gone and letter (not marked).
An hour of the archive has task (some records are written), before_write (all are, none can be seen),
after_write (all can be, without a manifest) and before_commit (the manifest is there).
A rebuild has before_write (begun), in_transaction (rows of silver have changed, letters have not),
after_write (the lake is done, gold is not) and before_commit (all is done, the plan is still there).
A repair (query repair.<domain>.<system>) has before_write (compared), after_write (extra rows are gone,
nothing is written), in_transaction and before_commit (all written, not compared again).
A loop's step has after_write (sent, not marked) and before_commit (dead letters written, not marked); that of
extract.marketo has before_write (fetched, not produced) and before_commit (produced, the position not moved).
"""

import itertools
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

_armed = False
_met: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))


def arm(environment: str) -> None:
    """Let fail-points work, in the local environment and nowhere else."""
    global _armed
    _armed = environment == "local"


def fail_at(query: str, point: str) -> None:
    """Kill this process and its children, as a power cut would, when the fail-point names this place."""
    if _due(query, point):
        kill_now()


def fail_during(query: str, point: str, busy: Callable[[], bool]) -> None:
    """As `fail_at`, but from beside the work: kill as soon as `busy` says that it has begun."""
    if _due(query, point):
        threading.Thread(target=_kill_when, args=(busy,), daemon=True).start()


def kill_now() -> None:
    """SIGKILL to every child (the JVM and its Python workers among them), then to this process."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a worker whose JVM is gone ends by itself
            child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def _due(query: str, point: str) -> bool:
    wanted = os.environ.get("HEADWATER_FAILPOINT", "")
    if not wanted or not _armed:
        return False
    name, _, rest = wanted.partition(":")
    where, _, nth = rest.partition(":")
    return (name, where) == (query, point) and next(_met[wanted]) == int(nth or 1)


def _kill_when(busy: Callable[[], bool]) -> None:
    while not busy():
        time.sleep(0.002)
    kill_now()
