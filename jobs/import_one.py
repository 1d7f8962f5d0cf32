"""A file of this machine → storage and a job for it, as POST /upload does it: for schedulers.

Safe to run again: under the same run id the same file is the same job, until that has failed.
"""

import os
import re
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

from headwater.clock import utc_now
from headwater.errors import HeadwaterError, QualityError, SetupError
from headwater.identity import NAMESPACE
from headwater.settings import Settings
from jobs.import_files import ImportFiles
from jobs.import_outcomes import WORTH_A_RETRY, sentence
from jobs.queries import Context
from jobs.runtime import Runtime
from sources import sniff
from sources.import_jobs import CANCELLED, DATASET, FAILED, Counts, Job, NewJob
from sources.import_queue import ImportQueue
from sources.landing.base import Landing, Stored, new_key, store
from sources.landing.registry import landing_of
from sources.unpack import Limits, inspect
from sources.zip_directory import UnpackError

TENANT = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


def import_one(context: Context, runtime: Runtime, order: Any) -> dict[str, Any]:
    """Import the file that the command line names; what became of its job. Raises what the job failed for."""
    settings = context.settings
    tenant = order.tenant or settings.uploads.tenant
    if not (order.dataset and re.fullmatch(DATASET, order.dataset)):
        raise SetupError("--file needs --dataset: a-z, then a-z 0-9 _ . -, at most 63 in all")
    if not (tenant and re.fullmatch(TENANT, tenant)):
        raise SetupError(
            "--file needs --tenant, or uploads.tenant: letters, digits, _ . -, at most 64 in all"
        )
    queue = ImportQueue(settings, "import-file")
    try:
        path, landing = Path(order.file), landing_of(settings)
        job = _entered(settings, queue, landing, path, order.dataset, tenant, context.run_id)
        noop = job.ended
        if not noop:
            runtime.run([ImportFiles(context, runtime.stopping, only=job.id)])
            job = queue.job(job.id) or job
    finally:
        queue.close()
    check_end(job)
    found = {name: getattr(job, name) for name in vars(Counts())}
    told = {"import": {"job_id": str(job.id), "status": job.status, **found}}
    return told | {"status": "noop"} if noop else told


def _entered(
    settings: Settings,
    queue: ImportQueue,
    landing: Landing,
    path: Path,
    dataset: str,
    tenant: str,
    run_id: str,
) -> Job:
    """The job of the file: one that COMPLETED it before, the open one of this run, or a new one.

    Raises SetupError when the file is not there, QualityError when it is none that is read.
    """
    kind = _kind(path, settings)
    job_id, known = _job_id(queue, f"{tenant}\0{dataset}\0{_text(path.resolve())}\0{run_id}")
    if known is not None:
        return known
    stored = _stored(landing, path, settings.uploads.part_bytes)
    new = NewJob(
        job_id, tenant, dataset, stored.key, _text(path.name)[: settings.uploads.max_name_length], kind, {},
        stored.size, stored.sha256,
    )  # fmt: skip
    before = queue.same_file(new)
    if before is not None:
        landing.delete(stored.key)
        return before
    queue.enter(new)
    job = queue.job(job_id)
    if job is None:
        raise HeadwaterError(f"job {job_id} was entered, and is gone")
    return job


def _text(path: Path | str) -> str:
    """A name may have any bytes; those that are no UTF-8 are written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_end(job: Job) -> None:
    """Raises QualityError for a file that is refused, HeadwaterError for a job that another run may do."""
    if job.status == FAILED:
        told = f"job {job.id} failed: {job.error}: {sentence(job.error or 'unexpected')}"
        raise HeadwaterError(told) if job.error in WORTH_A_RETRY else QualityError(told)
    if job.status == CANCELLED:
        raise QualityError(f"job {job.id} was cancelled")
    if not job.ended:
        raise HeadwaterError(f"job {job.id} is not done: this worker was told to stop")


def _job_id(queue: ImportQueue, run: str) -> tuple[UUID, Job | None]:
    """The id of this run's job, and the job if it is there and has not ended badly."""
    for number in count():
        found = uuid5(NAMESPACE, f"import\0{run}\0{number}")
        job = queue.job(found)
        if job is None or job.status not in (FAILED, CANCELLED):
            return found, job
    raise AssertionError("count ends never")


def _kind(path: Path, settings: Settings) -> str:
    """What the file is, by its bytes, as an upload is looked at."""
    try:
        size = path.stat().st_size
        if size > settings.uploads.max_bytes:
            raise QualityError("the file is larger than uploads.max_bytes")
        with path.open("rb") as file:
            kind = sniff.sniff(file.read(sniff.HEAD_BYTES))
            file.seek(max(0, size - 4))
            tail = file.read()
            if kind is None or not sniff.ends_as(kind, tail):
                raise QualityError("the file is empty, or none of CSV, JSON, NDJSON, Parquet, gzip, zip")
            if kind == sniff.ZIP:
                inspect(file, Limits.of(settings.uploads))
    except OSError as fault:
        raise SetupError(f"--file cannot be read ({fault.strerror})") from fault
    except UnpackError as fault:
        raise QualityError(f"{fault.code}: {fault.message}") from None
    return kind


def _stored(landing: Landing, path: Path, part_bytes: int) -> Stored:
    """Copied into storage, for every worker. Under a new key: an earlier copy may be half done."""
    with path.open("rb") as source:
        return store(landing, new_key(uuid4(), utc_now().date()), source, part_bytes)
