"""public.validation_errors: the rows of a file that were refused, in the order of their lines."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from headwater.postgres import Connection

CLEAR = "DELETE FROM validation_errors WHERE job_id = %s"
COPY = "COPY validation_errors (job_id, line, column_name, code, message, raw_row) FROM STDIN"
MAX_MESSAGE = 500
MAX_COLUMN = 255
_REPLACEMENT = "\ufffd"  # PostgreSQL has no NUL in a text


@dataclass(frozen=True)
class RowError:
    """What is wrong with a line. `message` holds no value; `raw_row` is the row, as far as it is kept."""

    line: int
    column: str | None
    code: str
    message: str
    raw_row: str | None


def write_errors(
    connection: Connection, job_id: UUID, errors: Iterable[RowError], most: int, max_raw_row: int
) -> int:
    """Replace a job's errors by the first `most` of these: how many. Within `ImportQueue.holding`."""
    connection.execute(CLEAR, (job_id,))
    written = 0
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for error in errors:
            if written == most:
                break
            copy.write_row(
                (
                    job_id,
                    error.line,
                    _kept(error.column, MAX_COLUMN),
                    error.code,
                    _kept(error.message, MAX_MESSAGE),
                    _kept(error.raw_row, max_raw_row),
                )
            )
            written += 1
    return written


def _kept(text: str | None, most: int) -> str | None:
    """What PostgreSQL can hold of it: no NUL, no half of a surrogate pair, at most so many characters."""
    if text is None:
        return None
    whole = text[:most].replace("\0", _REPLACEMENT)
    return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
