"""Imports that have failed → ops.dead_letters, stage `import`, one letter a file, without Spark on a local
lake."""

import hashlib

import pyarrow as pa

from headwater.clock import utc_now
from headwater.failpoints import fail_at
from headwater.identity import fingerprint
from headwater.metrics import DEAD
from headwater.tables import append_rows
from headwater.version import CODE_VERSION
from jobs.import_outcomes import sentence
from jobs.import_stage import QUERY
from jobs.queries import Context
from schemas.dataset import dataset
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS
from sources.import_jobs import Job
from sources.import_queue import ImportQueue
from transformations.uploads import STREAM

STAGE = "import"
_AT_ONCE = 100


def write_letters(context: Context, queue: ImportQueue) -> int:
    """Write the letters that are due: how many.

    Safe to run again, and by several at once: each commit carries its job's mark.
    """
    jobs = queue.unlettered(_AT_ONCE)
    for job in jobs:
        rows = pa.Table.from_pylist([_letter(job)], schema=LETTERS)
        mark = (f"import-letter.{job.id}", 0)
        append_rows(context.spark, rows, context.settings, DEAD_LETTERS.full_name, mark)
        context.written.update((DEAD_LETTERS.full_name,))
        fail_at(QUERY, "letter")
        DEAD.labels(STREAM, STAGE, job.error).inc()
    if jobs:
        queue.lettered([job.id for job in jobs])
    return len(jobs)


def _letter(job: Job) -> dict[str, object]:
    """`event_id` is the job's id. Its file stays in storage where uploads.keep_files says so."""
    code = job.error or "unexpected"
    return {
        "dead_letter_id": hashlib.sha256(f"{STAGE}/{job.id}".encode()).hexdigest(),
        "fingerprint": fingerprint((code,), job.sha256.encode()),
        "stream": STREAM,
        "stage": STAGE,
        "tenant_id": job.tenant_id,
        "reasons": [{"code": code, "rule": None, "field": "", "message": sentence(code)}],
        "source_topic": f"upload/{job.id}",
        "event_id": str(job.id),
        "event_time": job.created_at,
        "failed_at": utc_now(),
        "code_version": CODE_VERSION,
        "contract_version": dataset(job.dataset).version,
        "status": "new",
    }
