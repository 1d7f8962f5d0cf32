"""ops.dead_letters in Arrow's terms, for letters that are made on the driver."""

import pyarrow as pa

# Headers of a record that is sent again: the letter it was, or its place; how often that was.
REPLAY_OF, REPLAY_COUNT = "replay_of", "replay_count"
_TEXT, _TIME, _LIST = pa.string(), pa.timestamp("us", tz="UTC"), pa.list_(pa.string())
_REASONS = pa.list_(pa.struct([(name, _TEXT) for name in ("code", "rule", "field", "message")]))
_HEADERS = pa.list_(pa.struct([("key", _TEXT), ("value", pa.binary())]))
LETTERS = pa.schema(
    [
        *[(name, _TEXT) for name in ("dead_letter_id", "fingerprint", "stream", "stage", "tenant_id")],
        ("reasons", _REASONS),
        ("payload", pa.binary()),
        ("headers", _HEADERS),
        ("source_topic", _TEXT),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
        ("event_id", _TEXT),
        ("event_time", _TIME),
        ("failed_at", _TIME),
        ("code_version", _TEXT),
        ("contract_version", _TEXT),
        ("replay_count", pa.int32()),
        ("replay_of", _TEXT),
        ("status", _TEXT),
        ("failed_sinks", _LIST),
    ]
)
