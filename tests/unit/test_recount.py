"""Which of the counted rows are of the touched keys, which of these keys have none, and what was there."""

from datetime import UTC, date, datetime

import pyarrow as pa

from jobs.recount import of_keys, with_gone

KEY = ("tenant_id", "hour")


def keys(*rows: tuple[str, int]) -> pa.Table:
    return pa.table({name: [row[n] for row in rows] for n, name in enumerate(KEY)})


def counted(*rows: tuple[str, int, int]) -> pa.Table:
    found = keys(*[row[:2] for row in rows]).append_column("events", pa.array([row[2] for row in rows]))
    return found.append_column("names", pa.array([["a"]] * len(rows), pa.list_(pa.string())))


def test_a_count_that_may_not_be_null_is_null_where_the_key_is_gone() -> None:
    strict = counted(("a", 1, 5))
    strict = strict.cast(pa.schema([field.with_nullable(False) for field in strict.schema]))
    found = of_keys(strict, keys(("a", 1), ("b", 2)))
    assert all(field.nullable for field in found.schema)
    assert rows(found)[1] == ("b", 2, None, None, True)


def test_with_keys_that_are_gone_no_column_is_bound_to_have_a_value() -> None:
    strict = counted(("a", 1, 5))
    strict = strict.cast(pa.schema([field.with_nullable(False) for field in strict.schema]))
    assert all(field.nullable for field in with_gone(strict, keys(("b", 2))).schema if field.name != "gone")


def rows(table: pa.Table) -> list[tuple[object, ...]]:
    columns = [table[name].to_pylist() for name in (*KEY, "events", "names", "gone")]
    return sorted(zip(*columns, strict=True))


def test_rows_of_other_keys_are_left_out_and_a_key_without_rows_is_gone() -> None:
    found = of_keys(counted(("a", 1, 5), ("a", 2, 6), ("b", 1, 7)), keys(("a", 2), ("b", 2), ("b", 1)))
    assert rows(found) == [("a", 2, 6, ["a"], False), ("b", 1, 7, ["a"], False), ("b", 2, None, None, True)]


def test_all_or_none_of_the_keys_may_have_rows() -> None:
    some = counted(("a", 1, 5))
    assert rows(of_keys(some, keys(("a", 1)))) == [("a", 1, 5, ["a"], False)]
    assert rows(of_keys(some.slice(0, 0), keys(("a", 1)))) == [("a", 1, None, None, True)]


def test_keys_may_come_in_another_of_arrows_types_for_the_same_values() -> None:
    wanted = keys(("a", 1)).cast(pa.schema([("tenant_id", pa.large_string()), ("hour", pa.int32())]))
    assert rows(of_keys(counted(("a", 1, 5)), wanted)) == [("a", 1, 5, ["a"], False)]


def test_an_hour_that_is_gone_says_which_day_it_is_of() -> None:
    hours = [datetime(2026, 3, day, 23, tzinfo=UTC) for day in (1, 2)]
    days = [date(2026, 3, 1), date(2026, 3, 2)]
    wanted = pa.table({"tenant_id": ["a", "a"], "window_start": pa.array(hours, pa.timestamp("us", "UTC"))})
    first = pa.array(days[:1])
    some = wanted.slice(0, 1).append_column("day", first).append_column("event_date", first)
    found = of_keys(some, wanted).sort_by("window_start")
    assert found["day"].to_pylist() == found["event_date"].to_pylist() == days
    assert found["gone"].to_pylist() == [False, True]
