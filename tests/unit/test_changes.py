"""Changes of gold that are on the driver: what is left of each key, and what went."""

from typing import Any

import pyarrow as pa
import pytest

from transformations.changes import CHANGE, COMMIT, COMMITTED_AT, latest_here

Change = tuple[str, str, int, int]  # key, what happened, commit, value


def changes(*told: Change) -> pa.Table:
    rows = [
        {"tenant_id": "acme", "key": key, "value": value, CHANGE: change, COMMIT: commit, COMMITTED_AT: 0}
        for key, change, commit, value in told
    ]
    return pa.Table.from_pylist(rows)


def values(rows: pa.Table) -> dict[str, Any]:
    assert not {CHANGE, COMMIT, COMMITTED_AT} & set(rows.column_names)
    return {row["key"]: row["value"] for row in rows.to_pylist()}


@pytest.mark.parametrize(
    ("told", "left", "went"),
    [
        ([("a", "insert", 1, 1)], {"a": 1}, {}),
        (
            [("a", "insert", 1, 1), ("a", "update_preimage", 2, 1), ("a", "update_postimage", 2, 5)],
            {"a": 5},
            {},
        ),
        ([("a", "update_postimage", 9, 5), ("a", "insert", 1, 1)], {"a": 5}, {}),
        ([("a", "insert", 1, 1), ("a", "delete", 2, 1)], {}, {"a": 1}),
        ([("a", "delete", 2, 1), ("a", "insert", 3, 7)], {"a": 7}, {}),
        ([("a", "delete", 2, 1), ("a", "insert", 2, 7)], {"a": 7}, {}),
        ([("a", "insert", 1, 1), ("b", "delete", 1, 2)], {"a": 1}, {"b": 2}),
        ([("a", "update_preimage", 4, 1)], {}, {}),
    ],
)
def test_the_last_commit_of_a_key_counts_and_of_one_commit_what_it_left(
    told: list[Change], left: dict[str, int], went: dict[str, int]
) -> None:
    kept, gone = latest_here(changes(*told), ("tenant_id", "key"))
    assert (values(kept), values(gone)) == (left, went)
