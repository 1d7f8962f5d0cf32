"""What a fault of an import means for its job, and for whoever started it."""

import dataclasses
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from headwater.errors import (
    DataLossError,
    HeadwaterError,
    QualityError,
    SetupError,
    TransientError,
)
from jobs.import_attempt import row_errors
from jobs.import_one import check_end
from jobs.import_outcomes import JOB_CODES, TooManyInvalidError, UnfitOptionsError, outcome, sentence
from schemas.rows import FILE_CODES, RefusedFileError
from sources.import_errors import RowError
from sources.import_jobs import Job
from sources.zip_directory import UnpackError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fault", "code", "final"),
    [
        (RefusedFileError("missing_column", 1, "email"), "missing_column", True),
        (UnpackError("ratio"), "ratio", True),
        (TooManyInvalidError(10, 9), "too_many_invalid", True),
        (UnfitOptionsError("why"), "unfit_options", True),
        (QualityError("22P05"), "unstorable", True),
        (DataLossError("gone"), "file_missing", True),
        (TransientError("away"), "unavailable", False),
        (SetupError("a grant"), "setup", False),
        (HeadwaterError("other"), "unexpected", False),
        (ValueError("a bug"), "unexpected", False),
    ],
)
def test_a_fault_has_a_code_and_only_what_the_file_is_to_blame_for_is_final(
    fault: Exception, code: str, final: bool
) -> None:
    assert outcome(fault) == (code, final)


@pytest.mark.parametrize("code", [*JOB_CODES, *FILE_CODES, "ratio"])
def test_every_code_has_a_sentence_and_fits_into_its_column(code: str) -> None:
    assert sentence(code)
    assert len(code) <= 64


def job(status: str, error: str | None = None) -> Job:
    known: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Job)}
    return Job(**(known | {"id": uuid.UUID(int=1), "status": status, "error": error, "created_at": NOW}))


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        ("FAILED", "missing_column", 3),
        ("FAILED", "too_many_invalid", 3),
        ("FAILED", "ratio", 3),
        ("FAILED", "unavailable", 1),
        ("FAILED", "worker_lost", 1),
        ("CANCELLED", None, 3),
        ("PENDING", None, 1),
    ],
)
def test_a_scheduler_tries_again_what_the_file_is_not_to_blame_for(
    status: str, error: str | None, code: int
) -> None:
    with pytest.raises(HeadwaterError) as ended:
        check_end(job(status, error))
    assert ended.value.exit_code == code


@pytest.mark.parametrize("status", ["COMPLETED", "COMPLETED_WITH_ERRORS"])
def test_a_job_that_is_done_is_no_fault(status: str) -> None:
    check_end(job(status))


def test_a_rows_errors_name_its_column_and_only_the_first_has_the_row() -> None:
    reasons = [
        {"code": "type_mismatch", "rule": None, "field": "age", "message": "has another type"},
        {"code": "too_few_fields", "rule": None, "field": "", "message": "has fewer fields"},
    ]
    row = {"member": 1, "line": 7, "reasons": reasons, "raw": bytearray(b"a\xff")}
    assert list(row_errors(row, several=True)) == [
        RowError(7, "age", "type_mismatch", "file 2: has another type", "a\ufffd"),
        RowError(7, None, "too_few_fields", "file 2: has fewer fields", None),
    ]
    assert next(row_errors(row, several=False)).message == "has another type"


def test_a_refused_file_is_a_quality_fault() -> None:
    assert issubclass(TooManyInvalidError, QualityError)
