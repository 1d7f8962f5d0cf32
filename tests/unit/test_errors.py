"""The tree of faults, and what becomes of the faults of others."""

import pytest
from pyspark.errors import StreamingQueryException

from headwater import errors
from headwater.errors import (
    DataLossError,
    DisagreeError,
    HeadwaterError,
    LockedError,
    QualityError,
    SetupError,
    TransientError,
)
from jobs.faults import translate

CANARY = "ada.lovelace@example.com"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (HeadwaterError, 1),
        (TransientError, 1),
        (SetupError, 2),
        (DataLossError, 2),
        (DisagreeError, 2),
        (QualityError, 3),
        (LockedError, 4),
    ],
)
def test_each_fault_ends_the_process_with_its_code(fault: type[HeadwaterError], code: int) -> None:
    assert fault("why").exit_code == code


def test_every_fault_is_drawn_in_the_tree_at_the_top_of_its_file() -> None:
    named = [name for name, found in vars(errors).items() if isinstance(found, type)]
    assert [name for name in named if name not in (errors.__doc__ or "")] == []


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("org.apache.kafka.common.errors.TimeoutException: Timed out", TransientError),
        ("java.net.ConnectException: Connection refused", TransientError),
        ("java.io.IOException: No space left on device", TransientError),
        ("OSError: Generic LocalFileSystem error: (os error 28)", TransientError),
        ("[KAFKA_DATA_LOSS.X] gone", DataLossError),
        ("org.apache.kafka.clients.consumer.OffsetOutOfRangeException: x", DataLossError),
        ("[STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY] x", DisagreeError),
        ("[CANNOT_LOAD_STATE_STORE.UNCATEGORIZED] x", DisagreeError),
        ("[DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE] x", DisagreeError),
        ("com.fasterxml.jackson.core.io.JsonEOFException: Unexpected end-of-input", DisagreeError),
        ("[STREAM_FAILED] Unexpected end-of-input in field name", DisagreeError),
        ("[MALFORMED_LOG_FILE] Log file was malformed", DisagreeError),
        ("java.lang.IllegalStateException: Incomplete log file", DisagreeError),
        ('java.lang.IllegalArgumentException: Expected e.g. {"topicA":{"0":23}}, got x', DisagreeError),
        ("[DELTA_INVALID_SOURCE_OFFSET_FORMAT] x", DisagreeError),
        ("assertion failed: There are [0] sources in the checkpoint offsets and now", DisagreeError),
        ("java.lang.IllegalStateException: who knows", HeadwaterError),
    ],
)
def test_a_foreign_fault_is_sorted_by_what_it_says(text: str, ours: type[HeadwaterError]) -> None:
    assert type(translate(RuntimeError(f"{text} at {CANARY}"))) is ours


@pytest.mark.parametrize(
    "text",
    [
        f"duplicate key value ({CANARY})",
        f"[CAST_INVALID_INPUT] the value '{CANARY}' cannot be cast",
        f"java.lang.RuntimeException: row [{CANARY}]",
        f"java.net.ConnectException: {CANARY}",
        f"KAFKA_DATA_LOSS {CANARY}",
        f"STATE_STORE_X {CANARY}",
    ],
)
def test_the_text_of_a_foreign_fault_is_never_passed_on(text: str) -> None:
    assert CANARY not in str(translate(ValueError(text)))


def test_our_own_fault_is_passed_on_as_it_is() -> None:
    ours = SetupError("mend it")
    assert translate(ours) is ours


def test_no_fault_and_a_query_that_was_told_to_stop_are_no_fault() -> None:
    assert translate(None) is None
    assert translate(StreamingQueryException("x: stopping: the batch was not begun")) is None


@pytest.mark.parametrize("kind", [SetupError, TransientError])
def test_our_own_fault_in_a_worker_is_told_as_it_was_raised_there(kind: type[HeadwaterError]) -> None:
    raised = f"headwater.errors.{kind.__name__}: mend this"
    text = (
        f"An exception was thrown:\nTraceback (most recent call last):\n  File x\n{raised}\n\n\tat org.apache"
    )
    found = translate(StreamingQueryException(text))
    assert (type(found), str(found)) == (kind, "mend this")


def test_a_value_that_looks_like_a_fault_of_ours_is_not_told() -> None:
    quoted = f"[CAST_INVALID_INPUT] The value 'headwater.errors.SetupError: {CANARY}' cannot be cast"
    assert CANARY not in str(translate(StreamingQueryException(quoted)))
