"""The columns of a file, by name: which of the dataset's columns stands where."""

from collections.abc import Sequence

from headwater.text import nfc
from schemas.dataset import COLUMNS_LIMIT, Dataset
from schemas.rows import RefusedFileError

IGNORED = ""  # a column of the file that the dataset does not have


def matched(found: Sequence[str], dataset: Dataset, line: int = 0) -> tuple[str, ...]:
    """The dataset's name of each column of the file, in the file's order.

    Names are compared in NFC without white space at their ends, case kept. Raises RefusedFileError:
    too_many_columns, unnamed_column, repeated_column, unknown_column, missing_column.
    """
    if len(found) > COLUMNS_LIMIT:
        raise RefusedFileError("too_many_columns", line)
    names = [nfc(name).strip() for name in found]
    for place, name in enumerate(names, 1):
        if not name or "\0" in name:
            raise RefusedFileError("unnamed_column", line, f"column {place}")
        if name in names[: place - 1]:
            raise RefusedFileError("repeated_column", line, f"column {place}")
    if dataset.generic:
        return tuple(names)
    known = {column.name for column in dataset.columns}
    for place, name in enumerate(names, 1):
        if name not in known and dataset.extra_columns == "refuse":
            raise RefusedFileError("unknown_column", line, f"column {place}")
    for column in dataset.columns:
        if column.required and column.name not in names:
            raise RefusedFileError("missing_column", line, column.name)
    return tuple(name if name in known else IGNORED for name in names)
