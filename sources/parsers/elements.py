"""Where the elements of a JSON array begin and end: strings and brackets told apart, nothing parsed."""

import re
from typing import BinaryIO, NamedTuple

import msgspec

BLANK = b" \t\r\n"
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TRIES = 8


class Scanned(NamedTuple):
    """Elements as [start, end) in the bytes; `behind` is where the next one or what follows the array begins.

    An element that does not end within the bytes is not among them.
    """

    elements: list[tuple[int, int]]
    behind: int
    closed: bool


def scan(data: bytes) -> Scanned:
    """The elements of bytes that begin where one may begin."""
    found: list[tuple[int, int]] = []
    depth = start = 0
    for token in _TOKEN.finditer(data):
        mark, place = token[0][:1], token.start()
        if mark == b'"':
            continue
        if depth == 0 and mark in b",]}":
            found.append((start, place))
            start = place + 1
            if mark != b",":
                return Scanned(found, start, True)
        elif mark != b",":
            depth += 1 if mark in b"[{" else -1
    return Scanned(found, start, False)


class Whole(NamedTuple):
    """`number` elements in the first `length` bytes; the next one begins `behind` them and the comma."""

    number: int
    length: int
    behind: int
    closed: bool = False


def whole_elements(data: bytes) -> Whole:
    """The elements that end within these bytes."""
    found = scan(data)
    length = found.elements[-1][1] if found.elements else 0
    return Whole(len(found.elements), length, found.behind, found.closed)


def quick_whole_elements(data: bytes) -> Whole | None:
    """The same, of fewer elements perhaps, if a parser in C can tell.

    What it reads as an array is one: no other place can be the end of an element than where it found one.
    """
    place = len(data)
    for _ in range(_TRIES):
        place = data.rfind(b"}", 0, place)
        if place < 0:
            return None
        comma = data.find(b",", place)
        if comma < 0 or data[place + 1 : comma].strip(BLANK):
            continue
        raws = raws_of(data[: place + 1])
        if raws is not None:
            return Whole(len(raws), place + 1, comma + 1)
    return None


def raws_of(data: bytes) -> list[bytes] | None:
    """The elements that are between commas; None when this is not JSON."""
    try:
        return list(map(bytes, _RAWS.decode(b"[%b]" % data)))
    except (msgspec.DecodeError, RecursionError):
        return None


class Skip:
    """The way to the end of one element, which is too long to be held, block by block."""

    def __init__(self) -> None:
        self.depth, self.in_string, self.escaped = 0, False, False

    def end(self, data: bytes) -> int | None:
        """Where the element ends in the next bytes; None when it does not."""
        place = 1 if self.escaped else 0
        self.escaped = False
        if self.in_string:
            place = self._string(data, place)
        while not self.in_string and (token := _TOKEN.search(data, place)):
            mark, place = token[0][:1], token.end()
            if mark == b'"':
                place = self._string(data, token.start() + 1)
            elif self.depth == 0 and mark in b",]}":
                return token.start()
            elif mark != b",":
                self.depth += 1 if mark in b"[{" else -1
        return None

    def _string(self, data: bytes, place: int) -> int:
        """Behind the string that goes on here."""
        found = _REST_OF_STRING.match(data, place)
        end = found.end() if found else place
        self.in_string = data[end : end + 1] != b'"'
        self.escaped = self.in_string and data[end : end + 1] == b"\\"
        return end + 1


def skipped(file: BinaryIO, begun: bytes, size: int) -> tuple[int, bytes, bool]:
    """The length of an element that has begun, what was read behind it, and whether it has an end."""
    skip, length, block = Skip(), 0, begun
    while (end := skip.end(block)) is None:
        length += len(block)
        block = file.read(size)
        if not block:
            return length, b"", False
    return length + end, block[end:], True
