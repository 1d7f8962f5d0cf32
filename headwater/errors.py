"""Every fault that Headwater raises on purpose, and the exit code a job ends with.

HeadwaterError          1  failed, worth a retry
├── TransientError      1  an outage: retried with capped backoff, never a dead letter
├── SetupError          2  configuration, contract or grant is wrong: stop, say what to mend
│   ├── DataLossError   2  the source no longer has, or never had, what we remember
│   └── DisagreeError   2  a checkpoint does not belong to its tables, or cannot be read
├── QualityError        3  a quality gate or the breaker stopped the work
│   └── RefusedFileError 3 an uploaded file that cannot be read as rows (schemas/rows.py)
├── LockedError         4  another instance holds the lock
└── LostError           1  the work is somebody else's by now

Bad input is not here: it is data, and becomes a dead letter.
"""


class HeadwaterError(Exception):
    """A fault with a sentence for the operator; `exit_code` is what the process ends with."""

    exit_code = 1


class TransientError(HeadwaterError):
    """An outage of something outside. Trying again is right."""


class SetupError(HeadwaterError):
    """Something must be mended by a person. Trying again is useless."""

    exit_code = 2


class DataLossError(SetupError):
    """Records that were promised are not where they were, for example a topic made again."""


class DisagreeError(SetupError):
    """A checkpoint is damaged, or is not that of what its query has written."""

    def __init__(self, what: str) -> None:
        super().__init__(f"checkpoint and table disagree ({what}); see docs/operations.md, lost checkpoint")


class QualityError(HeadwaterError):
    """A gate refused the data as a whole."""

    exit_code = 3


class LockedError(HeadwaterError):
    """Another running instance holds the lock of this job and domain."""

    exit_code = 4


class LostError(HeadwaterError):
    """A lease ran out, and others have taken the work: leave it to them."""
