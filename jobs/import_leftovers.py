"""What imports leave behind: files of jobs that are over, files without a job, what killed workers made, and
small files of tables.

Safe to run again, and by several workers at once: to delete what is gone is fine.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from headwater.errors import HeadwaterError
from headwater.failpoints import fail_at
from headwater.log import logger
from headwater.postgres import connected, writer_conninfo
from headwater.settings import Settings
from headwater.tables import compact
from jobs.import_stage import QUERY, sweep_staging
from jobs.queries import Context
from schemas.tables import DEAD_LETTERS, UPLOADED_ROWS
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
_KEYS_AT_ONCE = 1000
_log = logger(__name__)


def drop_files(context: Context, landing: Landing, queue: ImportQueue) -> None:
    """Delete files of jobs that are over, whoever ended them, some at a time.

    Raises nothing when storage is away: a file that stays for an outage harms nobody.
    """
    ends = _GO[context.settings.uploads.keep_files]
    for job in queue.with_file(ends, _AT_ONCE) if ends else ():
        try:
            landing.delete(job.storage_key)
        except HeadwaterError as fault:
            _log.warning("upload_not_deleted", job_id=str(job.id), reason=str(fault))
            return
        fail_at(QUERY, "file_gone")
        queue.file_gone(job)


def sweep(context: Context, landing: Landing, queue: ImportQueue) -> None:
    """Remove what no attempt that is under way has made: half-done uploads, copies, staged rows; and files
    that never got a job."""
    removed = landing.sweep() + scratch.sweep(context.settings.scratch_root)
    removed += sweep_staging(context, queue.orphans)
    conninfo = writer_conninfo(context.settings.postgres, QUERY, SESSION)
    with connected(conninfo, "staging of imports") as connection:
        removed += discard_orphans(connection, queue.orphans)
    for keys in _by(_KEYS_AT_ONCE, landing.keys()):
        for key in queue.nobodys(keys):
            landing.delete(key)
            removed += 1
    if removed:
        _log.info("import_leftovers_removed", count=removed)


def compact_tables(settings: Settings, at_least: int) -> None:
    """Each job appends a file to each table, and each append looks at all that are there."""
    for table in (UPLOADED_ROWS, DEAD_LETTERS):
        if removed := compact(settings, table.full_name, at_least):
            _log.info("compacted", table=table.full_name, files=removed)


def _by(size: int, keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while some := list(islice(left, size)):
        yield some
