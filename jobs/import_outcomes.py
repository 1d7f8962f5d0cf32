"""What a fault means for the job of an import: a code, and whether another attempt is of any use."""

from typing import NamedTuple

from headwater.errors import DataLossError, QualityError, SetupError, TransientError
from schemas.rows import FILE_CODES, RefusedFileError
from sources.zip_directory import UnpackError

# Of jobs, beside those of files (schemas/rows.py) and of archives (sources/zip_directory.py).
JOB_CODES = {
    "too_many_invalid": "more rows are invalid than the dataset, or uploads.max_invalid_share, permits",
    "unstorable": "PostgreSQL does not take a row's data",
    "unfit_options": "the file cannot be read as its sender says that it is written",
    "file_missing": "the uploaded file is not in storage any more",
    "unavailable": "storage, PostgreSQL or the lake did not answer, in every attempt",
    "setup": "the worker's configuration, or a grant, was wrong in every attempt",
    "unexpected": "the import failed for a reason that nobody foresaw, in every attempt",
    "worker_lost": "the worker vanished, in every attempt",
}
# Reasons that are no fault of the file: another attempt, or another run, may do better.
WORTH_A_RETRY = ("unavailable", "setup", "unexpected", "worker_lost")
_ARCHIVE = "the archive is refused"


class Outcome(NamedTuple):
    """`final`: the same file would fail again."""

    code: str
    final: bool


class TooManyInvalidError(QualityError):
    """More rows are invalid than is permitted; nothing was written."""

    def __init__(self, read: int, invalid: int) -> None:
        super().__init__(f"{invalid} of {read} rows are invalid: {JOB_CODES['too_many_invalid']}")


class UnfitOptionsError(QualityError):
    """The file's options do not go together, or do not go with its dataset."""


def outcome(fault: Exception) -> Outcome:
    """Of an import that ended with this fault."""
    match fault:
        case RefusedFileError() | UnpackError():
            return Outcome(fault.code, final=True)
        case TooManyInvalidError():
            return Outcome("too_many_invalid", final=True)
        case UnfitOptionsError():
            return Outcome("unfit_options", final=True)
        case QualityError():
            return Outcome("unstorable", final=True)
        case DataLossError():
            return Outcome("file_missing", final=True)
        case TransientError():
            return Outcome("unavailable", final=False)
        case SetupError():
            return Outcome("setup", final=False)
    return Outcome("unexpected", final=False)


def sentence(code: str) -> str:
    """What a job's code says, without any value."""
    return JOB_CODES.get(code) or FILE_CODES.get(code) or _ARCHIVE
