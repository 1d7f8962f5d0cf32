"""How many records a micro-batch may have, as its query's checkpoint says."""

import json
from pathlib import Path

import pytest

from sources.kafka_few import spanned


def ended(checkpoint: Path, batch: int, ends: dict[str, dict[str, int]]) -> None:
    (checkpoint / "offsets").mkdir(exist_ok=True)
    lines = ["v1", json.dumps({"batchWatermarkMs": 0}), json.dumps(ends)]
    (checkpoint / "offsets" / str(batch)).write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("batch", "before", "ends", "records"),
    [
        (0, None, {"a": {"0": 7, "1": 0}}, 7),  # where it began is not said: not before the first
        (3, {"a": {"0": 7}}, {"a": {"0": 9}}, 2),
        (3, {"a": {"0": 7}}, {"a": {"0": 7}}, 0),
        (3, {"a": {"0": 7}}, {"a": {"0": 8, "1": 4}}, 5),  # a partition was added
        (3, {"a": {"0": 7}}, {"a": {"0": 8}, "b": {"0": 2}}, 3),  # and a topic
    ],
)
def test_a_batch_has_no_more_records_than_there_are_offsets_between_its_ends(
    tmp_path: Path, batch: int, before: dict[str, dict[str, int]] | None, ends: dict[str, dict[str, int]],
    records: int,
) -> None:  # fmt: skip
    if before is not None:
        ended(tmp_path, batch - 1, before)
    ended(tmp_path, batch, ends)
    assert spanned(str(tmp_path), batch) == records
