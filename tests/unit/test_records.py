"""Where records of CSV begin and end: by columns of bytes, against a reader of one byte after the other."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import ROW_LIMIT_BYTES
from schemas.rows import Chunk
from sources.parsers.blocks import Start, line_chunks
from sources.parsers.records import find_records

# line, bytes, whether the line is broken
Found = tuple[int, bytes, bool]
MESSY = st.lists(
    st.sampled_from([b"a", b"1", b",", b'"', b'""', b"\n", b"\r\n", b"\r", b'"x"', b"\xff"]), max_size=40
)


def naive(data: bytes) -> list[Found]:
    """The rules of records.py, one byte after the other."""
    found, start, line = [], 0, 0
    while start < len(data):
        end, sound = record_end(data, start)
        if not sound:
            end = data.find(b"\n", start)
            end = len(data) if end < 0 else end
        raw = data[start:end].removesuffix(b"\r")
        if raw:
            found.append((line, raw, not sound))
        line += data.count(b"\n", start, end + 1)
        start = end + 1
    return found


def record_end(data: bytes, start: int) -> tuple[int, bool]:
    """Where the record's newline is, or the file's end, and whether its quotes are right."""
    quoted, at_begin, place = False, True, start
    while place < len(data):
        letter = data[place : place + 1]
        if quoted:
            if letter == b'"' and data[place + 1 : place + 2] == b'"':
                place += 1
            elif letter == b'"':
                rest = data[place + 1 : place + 3]
                if rest[:1] not in (b"", b",", b"\n") and rest not in (b"\r", b"\r\n"):
                    return place, False
                quoted = False
        elif letter == b'"':
            if not at_begin:
                return place, False
            quoted = True
        elif letter == b"\n":
            return place, True
        at_begin = not quoted and letter == b","
        place += 1
    return place, not quoted


def by_columns(data: bytes) -> list[Found]:
    found = find_records(data, ",", '"', final=True)
    rows = zip(
        found.lines.tolist(), found.starts.tolist(), found.ends.tolist(), found.broken.tolist(), strict=True
    )
    return [(line, data[start:end], broken) for line, start, end, broken in rows]


def in_chunks(data: bytes, size: int) -> list[Found]:
    """The records of each chunk by itself, as if a task had it."""

    def measure(part: bytes, final: bool) -> tuple[int, int]:
        found = find_records(part, ",", '"', final)
        return found.consumed, found.lines_consumed

    found: list[Found] = []
    for chunk in line_chunks(io.BytesIO(data), Start(0, 0), Chunk("", "csv", 0, 0, 0, 0), measure, size):
        part = data[chunk.offset : chunk.offset + chunk.length]
        found += [(line + chunk.first, raw, broken) for line, raw, broken in by_columns(part)]
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"a,b", [(0, b"a,b", False)]),
        (b"a\r\nb\n\nc", [(0, b"a", False), (1, b"b", False), (3, b"c", False)]),
        (b'"a\n\nb",c\nd', [(0, b'"a\n\nb",c', False), (3, b"d", False)]),
        (b'1,"x\n2,y\n3,"z"\n', [(0, b'1,"x', True), (1, b"2,y", False), (2, b'3,"z"', False)]),
        (b'1,"x\n2,y\n', [(0, b'1,"x', True), (1, b"2,y", False)]),
        (b'1,5" pipe\n2,y\n', [(0, b'1,5" pipe', True), (1, b"2,y", False)]),
        (b'1,"a"b\n2,"c""d"\n', [(0, b'1,"a"b', True), (1, b'2,"c""d"', False)]),
        (b'"a"\r\n"b"\r', [(0, b'"a"', False), (1, b'"b"', False)]),
        (b'"a"\rb\nc\n', [(0, b'"a"\rb', True), (1, b"c", False)]),
    ],
)
def test_records_are_found_and_a_broken_quote_costs_one_line(data: bytes, expected: list[Found]) -> None:
    assert by_columns(data) == naive(data) == expected


@given(data=MESSY.map(b"".join))
def test_any_bytes_have_the_records_that_the_slow_reader_finds(data: bytes) -> None:
    assert by_columns(data) == naive(data)


@given(data=MESSY.map(b"".join), size=st.integers(1, 50))
def test_chunks_of_any_size_hold_the_records_of_the_whole(data: bytes, size: int) -> None:
    assert in_chunks(data, size) == naive(data)


def test_a_record_of_many_lines_that_is_too_long_is_broken_and_its_lines_are_read_one_by_one() -> None:
    data = b'"' + b"x\n" * (ROW_LIMIT_BYTES // 2 + 1) + b'",1\nlast\n'
    found = by_columns(data)
    assert (found[0], found[1], found[-1]) == (
        (0, b'"x', True),
        (1, b"x", False),
        (found[-1][0], b"last", False),
    )


def test_a_line_longer_than_a_record_is_a_chunk_of_its_own_and_reading_goes_on_behind_it() -> None:
    data = b"a\n" + b"x" * (3 * ROW_LIMIT_BYTES) + b"\nb\nc"

    def measure(part: bytes, final: bool) -> tuple[int, int]:
        found = find_records(part, ",", '"', final)
        return found.consumed, found.lines_consumed

    like = Chunk("", "csv", 0, 0, 0, 0)
    found = list(line_chunks(io.BytesIO(data), Start(0, 1), like, measure, ROW_LIMIT_BYTES))
    assert [(c.first, c.fault) for c in found] == [(1, None), (2, "row_too_long"), (3, None)]
    assert [data[c.offset : c.offset + c.length] for c in found if c.fault is None] == [b"a\n", b"b\nc"]
    assert [c.number for c in found] == [0, 1, 2]
