"""One column of a few rows of a local Delta table is changed, by delta-rs and without Spark.

Streams that read the table pass such a commit over. Nothing of the rows is written into the log: it outlives
what is erased.
"""

from datetime import datetime, timedelta

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties

from headwater.delta_checksum import write_checksum

# Commits from one checkpoint of the log to the next. Spark takes seconds for one, delta-rs milliseconds.
CHECKPOINT_EVERY = 50
GROUP_ROWS = 512
# Statistics hold times cut to their second, or millisecond.
_SLACK = timedelta(seconds=1)


def change(
    path: str, keys: pa.Table, column: tuple[str, str, str], time: tuple[str, datetime, datetime]
) -> bool:
    """`column` (name, old, new) of the rows whose key is among `keys`, a table of one column, and which have
    the old text; whether the log has a new checkpoint.

    `time` (name, first, last) says which files may have them. Whoever calls holds the commit lock.
    """
    (key,) = keys.column_names
    name, old, new = column
    moment, first, last = time
    same = [
        f"kept.{key} = made.{key}",
        f"kept.{name} = '{old}'",
        f"kept.{moment} >= {_timestamp(first - _SLACK)}",
        f"kept.{moment} <= {_timestamp(last + _SLACK)}",
    ]
    table = DeltaTable(path)
    # Row groups of few rows: they are held in memory, and a row may be long.
    few = WriterProperties(compression="ZSTD", max_row_group_size=GROUP_ROWS)
    merging = table.merge(keys, " AND ".join(same), "made", "kept", writer_properties=few)
    merging.when_matched_update({name: f"'{new}'"}).execute()
    write_checksum(table, path)
    if table.version() % CHECKPOINT_EVERY:
        return False
    table.create_checkpoint()
    return True


def _timestamp(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.isoformat()}'"
