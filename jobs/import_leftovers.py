"""What imports leave behind: files of jobs that are over, files without a job, and what killed workers made.

Safe to run again, and by several workers at once: to delete what is gone is fine.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice

from headwater.errors import HeadwaterError, TransientError
from headwater.failpoints import fail_at
from headwater.log import logger
from headwater.postgres import connected, writer_conninfo
from jobs.import_stage import QUERY, sweep_staging
from jobs.queries import Context
from sinks.ingested_data import discard_orphans
from sources import scratch
from sources.import_jobs import CANCELLED, COMPLETED, COMPLETED_WITH_ERRORS, FAILED
from sources.import_queue import SESSION, ImportQueue
from sources.landing.base import Landing

# By uploads.keep_files: ends of a job after which its file goes.
_GO = {
    "none": (COMPLETED, COMPLETED_WITH_ERRORS, FAILED, CANCELLED),
    "failed": (COMPLETED, COMPLETED_WITH_ERRORS),
    "all": (),
}
_AT_ONCE = 100
# A database that was restored from a backup does not know its newest jobs: time to see to that.
JOBLESS = timedelta(days=30)
_KEYS_AT_ONCE = 1000
_log = logger(__name__)


def drop_files(context: Context, landing: Landing, queue: ImportQueue) -> bool:
    """Delete files of jobs that are over, whoever ended them, some at a time: whether all could be.

    Raises nothing for that: a file that stays harms nobody.
    """
    all_went = True
    ends = _GO[context.settings.uploads.keep_files]
    for job in queue.with_file(ends, _AT_ONCE) if ends else ():
        try:
            landing.delete(job.storage_key)
        except HeadwaterError as fault:
            _log.warning("upload_not_deleted", job_id=str(job.id), reason=str(fault))
            all_went = False
            if isinstance(fault, TransientError):
                return False
            continue
        fail_at(QUERY, "file_gone")
        queue.file_gone(job)
    return all_went


def sweep(context: Context, landing: Landing, queue: ImportQueue) -> None:
    """Remove what no attempt that is under way has made: half-done uploads, copies, staged rows; and files
    that never got a job. Raises nothing for what it may not do: workers can do without."""
    try:
        removed = _swept(context, landing, queue)
    except HeadwaterError as fault:
        _log.warning("import_leftovers_not_removed", reason=str(fault))
        return
    if removed:
        _log.info("import_leftovers_removed", count=removed)


def _swept(context: Context, landing: Landing, queue: ImportQueue) -> int:
    removed = scratch.sweep(context.settings.scratch_root) + sweep_staging(context, queue.orphans)
    conninfo = writer_conninfo(context.settings.postgres, QUERY, SESSION)
    with connected(conninfo, "staging of imports") as connection:
        removed += discard_orphans(connection, queue.orphans)
    removed += landing.sweep()  # last: a bucket may not be listed by everyone
    for keys in _by(_KEYS_AT_ONCE, landing.keys(JOBLESS)):
        for key in queue.nobodys(keys):
            landing.delete(key)
            removed += 1
    return removed


def _by(size: int, keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while some := list(islice(left, size)):
        yield some
