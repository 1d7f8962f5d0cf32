"""Where the records of CSV begin and end, for splitter and parser alike: quotes counted, nothing parsed.

The rules (RFC 4180, and what it leaves open):
- A line ends with LF; a CR before it, or at the end of the file, belongs to the line's end.
- A quote opens a field at its beginning only. Inside, two quotes are one. The quote that closes is followed
  by a delimiter, the line's end or the file's end. In a quoted field line ends are text.
- Where this is broken, or a record of several lines is longer than ROW_LIMIT_BYTES, the *line* on which the
  record begins is broken, and reading goes on with the next line: an unbalanced quote costs one line.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.contract import ROW_LIMIT_BYTES

Places = NDArray[np.int64]
_LF, _CR = 10, 13


class Records(NamedTuple):
    """One entry of each record that is not blank: bytes [start, end) without the line's end, the line that it
    begins on (from 0), and whether it is a broken line. They are in the first `consumed` bytes, which are
    `lines_consumed` lines."""

    starts: Places
    ends: Places
    lines: Places
    broken: NDArray[np.bool_]
    consumed: int
    lines_consumed: int


def find_records(data: bytes, delimiter: str, quote: str | None, final: bool) -> Records:
    """The records of bytes that begin with a record. Unless `final`, what is not complete is left over."""
    buffer = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(buffer == _LF).astype(np.int64)
    if quote is None or quote.encode() not in data:
        return _lines(buffer, newlines, final)
    return _Quoted(buffer, newlines, ord(delimiter), ord(quote), final).records()


def _lines(buffer: NDArray[np.uint8], newlines: Places, final: bool) -> Records:
    """Each line is a record."""
    ends = newlines
    if final and buffer.size and (not newlines.size or newlines[-1] < buffer.size - 1):
        ends = np.append(newlines, buffer.size)
    starts = np.concatenate([np.zeros(1, np.int64), newlines + 1])[: ends.size]
    consumed = buffer.size if final else int(newlines[-1]) + 1 if newlines.size else 0
    numbers = np.arange(ends.size, dtype=np.int64)
    return _trimmed(buffer, starts, ends, numbers, np.zeros(ends.size, np.bool_), (consumed, newlines.size))


def _trimmed(
    buffer: NDArray[np.uint8],
    starts: Places,
    ends: Places,
    lines: Places,
    broken: NDArray[np.bool_],
    consumed: tuple[int, int],
) -> Records:
    """Without CRs before the line ends, and without blank lines."""
    if ends.size:
        ends = ends - ((ends > starts) & (buffer[np.maximum(ends - 1, 0)] == _CR))
    kept = ends > starts
    if kept.all():
        return Records(starts, ends, lines, broken, *consumed)
    return Records(starts[kept], ends[kept], lines[kept], broken[kept], *consumed)


class _Quoted:
    """The records of bytes in which there are quotes.

    Whether a quote opens or closes depends on how many stand before it since reading began anew. So for both
    parities the quotes that would be wrong, and the newlines that would end a record, are listed once, and
    each run from one broken line to the next is looked up in the lists.
    """

    def __init__(
        self, buffer: NDArray[np.uint8], newlines: Places, delimiter: int, quote: int, final: bool
    ) -> None:
        self.buffer, self.newlines, self.final = buffer, newlines, final
        self.quotes = np.flatnonzero(buffer == quote).astype(np.int64)
        opens, closes = self._fit(delimiter, quote)
        even = np.arange(self.quotes.size) % 2 == 0
        wrong = [np.flatnonzero(~np.where(even == first, opens, closes)) for first in (True, False)]
        before = np.searchsorted(self.quotes, newlines)
        self.ending = [np.flatnonzero(before % 2 == parity) for parity in (0, 1)]
        # Lists, because a run may be one line, and a lookup in a list costs a tenth of one in an array.
        self.wrong = [found.tolist() for found in wrong]
        self.ends = [ending.tolist() for ending in self.ending] if any(self.wrong) else [[], []]
        self.places = [newlines[ending].tolist() for ending in self.ending] if any(self.wrong) else [[], []]
        self.line_starts = np.concatenate([np.zeros(1, np.int64), newlines + 1])
        self.quotes_before = np.concatenate([np.zeros(1, np.int64), before])

    def _fit(self, delimiter: int, quote: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each quote can open a field or be the second of two; close one or be the first of two."""
        padded = np.full(self.buffer.size + 3, _LF, np.uint8)
        padded[1:-2] = self.buffer
        left, right, next_but_one = (padded[self.quotes + away] for away in (0, 2, 3))
        opens = (left == delimiter) | (left == _LF) | (left == quote)
        line_end = (right == _LF) | ((right == _CR) & (next_but_one == _LF))
        return opens, (right == delimiter) | (right == quote) | line_end

    def records(self) -> Records:
        pieces, line, count = [], 0, self.line_starts.size
        while line < count and self.line_starts[line] < self.buffer.size:
            piece, broken = self._run(line)
            pieces.append(piece)
            last = int(piece[-1]) if piece.size else line - 1  # the newline that ends the last sound record
            line = last + 1
            if broken is None:
                break
            if broken < self.newlines.size or self.final:
                pieces.append(np.array([-broken - 1]))  # a broken line, told from sound records by its sign
                line = broken + 1
            if broken >= self.newlines.size:
                break
        return self._made(pieces, line)

    def _run(self, line: int) -> tuple[Places, int | None]:
        """Newlines that end sound records from this line on, and the line that is broken behind them."""
        first = int(self.quotes_before[line])
        parity = first % 2
        ending, wrong = self.ending[parity], self.wrong[parity]
        at = bisect_left(wrong, first)
        faulty = int(self.quotes[wrong[at]]) if at < len(wrong) else None
        if faulty is None:
            piece = ending[int(np.searchsorted(ending, line)) :]
        else:
            begin, end = bisect_left(self.ends[parity], line), bisect_left(self.places[parity], faulty)
            if begin == end:
                return ending[:0], line
            piece = ending[begin:end]
        begins = np.concatenate([[line], piece[:-1] + 1]) if piece.size else piece
        sizes = self.newlines[piece] - self.line_starts[begins]
        over = np.flatnonzero((sizes > ROW_LIMIT_BYTES) & (begins != piece))
        if over.size:
            return piece[: over[0]], int(begins[over[0]])
        tail = int(piece[-1]) + 1 if piece.size else line
        if faulty is not None:
            return piece, tail
        left = self.buffer.size - int(self.line_starts[tail])
        is_open = (self.quotes.size - first) % 2 == 1
        if is_open and (self.final or left > ROW_LIMIT_BYTES):
            return piece, tail
        if self.final and left and not is_open:
            if left > ROW_LIMIT_BYTES and tail < self.newlines.size:
                return piece, tail
            piece = np.append(piece, self.newlines.size)  # the last record has no newline
        return piece, None

    def _made(self, pieces: list[Places], line: int) -> Records:
        """From newlines that end records, and broken lines among them, to bytes."""
        marks = np.concatenate(pieces).astype(np.int64) if pieces else np.zeros(0, np.int64)
        broken = marks < 0
        last_lines = np.where(broken, -marks - 1, marks)
        lines = np.concatenate([np.zeros(1, np.int64), last_lines + 1])[: last_lines.size]
        limits = np.append(self.newlines, self.buffer.size)
        starts, ends = self.line_starts[lines], limits[last_lines]
        done = line >= self.line_starts.size or self.final
        consumed = self.buffer.size if done else int(self.line_starts[line])
        consumed_lines = min(line, self.newlines.size)
        return _trimmed(self.buffer, starts, ends, lines, broken, (consumed, consumed_lines))


def at_records(records: Records, places: Places) -> Iterator[int]:
    """Which records hold bytes at these places; places between records are none's."""
    found = np.unique(np.searchsorted(records.starts, places, side="right") - 1)
    return (int(record) for record in found if record >= 0)
