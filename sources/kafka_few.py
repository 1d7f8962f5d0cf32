"""A micro-batch of a few short records of Kafka, brought to the driver: so it is written without Spark.

How many records a batch may have is known before it is read, from the ends of the batches in the query's
checkpoint. How long they are is not: one that is too long for so many comes without its bytes, and the batch
is left to Spark.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from headwater.checkpoint import ends

FEW_RECORDS = 5_000
# Key, value and headers of all of them.
FEW_BYTES = 64 << 20
_HEADERS = (
    "aggregate(headers, 0, (sum, header) ->"
    " sum + octet_length(header.key) + coalesce(octet_length(header.value), 0))"
)
_SIZE = f"coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + coalesce({_HEADERS}, 0)"
_IS_LONG = "is_long"
_BYTES = ("key", "value", "headers")


def few_records(batch: DataFrame, checkpoint: str, batch_id: int) -> pa.Table | None:
    """The rows of a micro-batch; None: they are not few, or not short.

    `batch` has key, value, headers and other columns, which are short; `checkpoint` is a folder.
    """
    most = spanned(checkpoint, batch_id)
    if most > FEW_RECORDS:
        return None
    held = [f"IF({_IS_LONG}, NULL, {name}) AS {name}" for name in _BYTES]
    columns = [name for name in batch.columns if name not in _BYTES]
    sized = batch.selectExpr("*", f"{_SIZE} > {FEW_BYTES // max(most, 1)} AS {_IS_LONG}")
    rows = sized.selectExpr(*held, *columns, _IS_LONG).toArrow()
    return None if pc.any(rows[_IS_LONG]).as_py() else rows.drop_columns([_IS_LONG])


def spanned(checkpoint: str, batch_id: int) -> int:
    """The most records that a batch can have: the offsets between its ends and those of the batch before it,
    or all that there have ever been in a partition that this one did not know."""
    begins = _ends(checkpoint, batch_id - 1) if batch_id else {}
    return sum(end - begins.get(place, 0) for place, end in _ends(checkpoint, batch_id).items())


def _ends(checkpoint: str, batch_id: int) -> dict[tuple[str, str], int]:
    (topics,) = ends(Path(checkpoint), batch_id)
    return {(topic, part): end for topic, parts in topics.items() for part, end in parts.items()}
