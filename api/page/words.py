"""What the page says: states in plain words, and of each refusal what happened and what helps."""

from dataclasses import dataclass

from api.page.areas import OPS, UPLOADS, Area
from api.page.ops_words import OPS_REFUSALS
from api.problems import TITLES, Problem
from headwater.settings import Settings
from schemas.rows import FILE_CODES
from sources.import_jobs import (
    CANCELLED,
    COMPLETED,
    COMPLETED_WITH_ERRORS,
    FAILED,
    PENDING,
    PROCESSING,
)
from sources.zip_directory import ARCHIVE_CODES

# In the order in which the page offers them.
STATES = {
    PENDING: "Waiting",
    PROCESSING: "Importing",
    COMPLETED: "Imported",
    COMPLETED_WITH_ERRORS: "Imported, rows refused",
    FAILED: "Failed",
    CANCELLED: "Cancelled",
}
NOTHING_IN_STATE = {
    PENDING: "No file is waiting. Each new one waits here until a worker takes it.",
    PROCESSING: "No file is being imported right now.",
    COMPLETED: "No file has been imported without a refused row yet.",
    COMPLETED_WITH_ERRORS: "No import has refused rows. When one has, they can be downloaded and mended.",
    FAILED: "No import has failed.",
    CANCELLED: "No import has been cancelled.",
}
_UNITS = ("kB", "MB", "GB", "TB")
_AGAIN = "Mend the file and send it again."
# Code of a refusal → what happened, what helps. {limit}, {name} and {wait} are filled in.
_REFUSALS = {
    "unauthorized": (
        "This key is not known",
        "Check that all of it was copied: hw_, an id, _ and a secret. A key that was revoked works no more; "
        "ask whoever runs Headwater for a new one.",
    ),
    "signed_out": (
        "You are signed out",
        "Sign in and try again. A session ends after an hour without use, and with its key.",
    ),
    "forbidden": (
        "This key does not allow that",
        "Sending and cancelling need the scope upload:write, looking at imports jobs:read, "
        "at reports of data quality quality:read. "
        "Ask whoever runs Headwater for a key that has it.",
    ),
    "form_expired": (
        "This form is out of date",
        "It belongs to another sign-in. Open the page again and send it from there.",
    ),
    "rate_limited": ("Too many requests with this key", "Wait {wait} s, then try again."),
    "busy": ("Too much is under way", "Wait {wait} s, then try again; or send fewer files at once."),
    "too_large": ("The file is too large", "A file may have {limit}. Split it, or pack it with gzip or zip."),
    "unsupported_type": (
        "This is no file that is read here",
        "Send CSV, JSON, NDJSON, Parquet, or gzip or zip of text. Spreadsheets: save them as CSV first.",
    ),
    "unsupported_encoding": ("The browser packed the file on its way", "Send the file as it is."),
    "archive_refused": ("The archive cannot be taken", "Pack only text files, without folders or passwords."),
    "cut_off": ("The file is damaged or cut off", "Make it once more and send it again."),
    "empty": ("The file is empty", "Choose one that has rows."),
    "no_file": ("No file was chosen", "Choose a file, then send."),
    "one_file": ("More than one file came at once", "Send one file at a time."),
    "malformed_form": ("The form cannot be read", "Open the page again and send it from there."),
    "body_timeout": (
        "The file came too slowly",
        "Check the connection, then send it again.",
    ),
    "invalid_parameter": ("Something in the form is not right", "Go back, mend it and send again."),
    "postgres_unavailable": (
        "PostgreSQL cannot be reached",
        "Until it is back no import can be queued or looked up. Nothing was changed. Try again in a moment.",
    ),
    "storage_unavailable": (
        "The storage for files cannot be reached",
        "The file was not kept. Try again in a moment; if it stays so, tell the operator.",
    ),
    "sessions_unavailable": (
        "Redis cannot be reached",
        "It holds the sign-ins. Imports go on meanwhile. Try again in a moment.",
    ),
    "kafka_unavailable": (
        "Kafka cannot be reached",
        "Nothing was taken. Try again in a moment.",
    ),
    "no_report": ("There is no such report", "`jobs report --all` writes one; old ones go after a while."),
    "not_found": ("There is no such import", "It may belong to another tenant. All of yours are listed."),
    "job_ended": ("This import has ended already", "There is nothing left to cancel."),
}
_DETAILED = frozenset({"invalid_parameter", "archive_refused", "invalid_order"})
# Of a job, beside those of files and archives: why it failed or is tried again, and what helps then.
_FAILURES = {
    "worker_lost": ("Its workers vanished.", "Send it again; if that fails too, tell the operator."),
    "too_many_invalid": ("Too large a share of its rows was refused, so nothing was imported.", _AGAIN),
    "unstorable": ("A row holds data that PostgreSQL does not take.", _AGAIN),
    "unfit_options": ("It cannot be read the way that was stated.", "Send it again and state another."),
    "file_missing": ("The file is not in storage any more.", "Send it again."),
    "unavailable": ("Storage, PostgreSQL or the lake did not answer.", "Send it again later."),
    "setup": ("The worker is not set up rightly.", "Tell the operator, then send it again."),
    "unexpected": ("Nobody foresaw the reason.", "Tell the operator this code and the import's id."),
}


@dataclass(frozen=True)
class Refusal:
    """A problem in words. `details` are the faults that it lists, where the title does not tell already."""

    title: str
    remedy: str
    details: tuple[str, ...]


def refusal_of(problem: Problem, settings: Settings, area: Area = UPLOADS) -> Refusal:
    """What happened, and what helps."""
    known = _REFUSALS | (OPS_REFUSALS if area is OPS else {})
    title, remedy = known.get(problem.code, (TITLES.get(problem.status, "Something went wrong"), ""))
    wait = (problem.headers or {}).get("Retry-After", "5")
    filled = remedy.format(wait=wait, limit=size_text(settings.uploads.max_bytes))
    told = problem.errors if problem.code in _DETAILED else ()
    details = (f"{fault.field} {fault.message}".strip() for fault in told)
    return Refusal(title, filled or "Try again; if it stays so, tell the operator.", tuple(details))


@dataclass(frozen=True)
class Failure:
    """Why a job failed or is tried again; what helps once it has failed."""

    cause: str
    remedy: str


def failure_of(code: str) -> Failure:
    """In words, as far as the code is known."""
    if code in FILE_CODES:
        sentence = FILE_CODES[code]
        return Failure(f"{sentence[0].upper()}{sentence[1:]}.", _AGAIN)
    if code in ARCHIVE_CODES:
        return Failure(f"The archive {ARCHIVE_CODES[code]}.", _AGAIN)
    return Failure(*_FAILURES.get(code, ("", "Tell the operator this code if it stays so.")))


def size_text(size: int) -> str:
    """Bytes for people: 512 bytes, 1.5 MB, 10 GB; a unit is 1,024 of the one before."""
    if size < 1024:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    step = min(len(_UNITS), (size.bit_length() - 1) // 10)
    value = size / 1024**step
    digits = 0 if value >= 10 or value == int(value) else 1
    return f"{value:.{digits}f} {_UNITS[step - 1]}"
