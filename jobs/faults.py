"""Spark's, Kafka's and Delta's faults → ours. The text of a foreign fault is not passed on: it may quote a
row.
"""

import re

from pyspark.errors import StreamingQueryException

from headwater.errors import DataLossError, DisagreeError, HeadwaterError, SetupError, TransientError

_OUTAGE = re.compile(
    r"TimeoutException|Connection refused|DisconnectException|No route to host|UnknownHostException"
    r"|NetworkException|LeaderNotAvailable|Failed to construct kafka|BrokerNotAvailable|java\.net\."
)
_LOST = re.compile(
    r"OffsetOutOfRange|KAFKA_DATA_LOSS|Some data may have been lost|PARTITIONS_DELETED|failOnDataLoss"
)
_CHECKPOINT = re.compile(
    r"STATE_STORE_[A-Z_]+|CANNOT_LOAD_STATE_STORE|DIFFERENT_DELTA_TABLE_READ|DELTA_VERSIONS_NOT_CONTIGUOUS"
    r"|Malformed(Log|Json)|empty offset log|MALFORMED_LOG_FILE|Failed to read log file|Incomplete log file"
    # Files of a checkpoint that were cut: nothing else of ours is JSON that the JVM reads.
    r"|JsonEOFException|JsonParseException|Unexpected end-of-input"
    # Of offsets: as Kafka's source, Delta's, and Spark itself tell it.
    r"|Expected e\.g\. \{\"topicA\"|INVALID_SOURCE_OFFSET_FORMAT|sources in the checkpoint offsets"
)
_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b")
_RAISED = {kind.__name__: kind for kind in (TransientError, SetupError)}
_OURS = re.compile(rf"(?m)^headwater\.errors\.({'|'.join(_RAISED)}): ([^\n]+)")
_CODE = re.compile(r"\[([A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)*)\]")
_CLASS = re.compile(r"\b([a-z]+(?:\.[a-z0-9_]+)+\.[A-Z]\w*(?:Exception|Error))\b")


def translate(fault: BaseException | None) -> HeadwaterError | None:
    """Our fault for a foreign one; None for none, or for a query that was only told to stop."""
    if fault is None or isinstance(fault, HeadwaterError):
        return fault
    text = str(fault)
    if isinstance(fault, StreamingQueryException) and "stopping: the batch was not begun" in text:
        return None
    if ours := _OURS.search(text):
        # Raised in a worker of Spark: its text is all that is left. Our own sentences are safe to tell.
        return _RAISED[ours[1]](ours[2].strip())
    what = _name(fault, text)
    # First: a full disk cuts files, and shows as whatever reads them next.
    if _FULL.search(text):
        return TransientError(f"no space left where the lake or Spark's scratch files are ({what})")
    if _LOST.search(text):
        return DataLossError(
            f"Kafka no longer has records that the checkpoint still needs ({what}). "
            "To go on without them: ingest --accept-gap"
        )
    if _CHECKPOINT.search(text):
        return DisagreeError(what)
    if _OUTAGE.search(text):
        return TransientError(f"something outside does not answer ({what})")
    return HeadwaterError(f"unexpected fault ({what})")


def _name(fault: BaseException, text: str) -> str:
    code = _CODE.search(text)
    inner = _CLASS.findall(text)
    return code[1] if code else (inner[-1].rsplit(".", 1)[-1] if inner else type(fault).__name__)
