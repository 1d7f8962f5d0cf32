"""The one file in an upload's body: the body itself, or the file of a multipart form, found as it arrives."""

import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from api.problems import Fault, Problem
from headwater.text import nfc

FORM = "multipart/form-data"
MAX_FIELDS = 16
MAX_FORM_BYTES = 1 << 20  # of a form without its file
MAX_BOUNDARY = 200
MAX_FIELD_BYTES = 2048  # kept of a field before the file
_PATH = re.compile(r"[\\/]")


class RawFile:
    """A body that is the file."""

    def __init__(self, chunks: AsyncIterator[bytes], label: str | None) -> None:
        self.label = label
        self._chunks = chunks

    def content(self) -> AsyncIterator[bytes]:
        """The file's bytes."""
        return self._chunks


class FormFile:
    """The file of a form; its `label` is known once its bytes begin."""

    def __init__(self, chunks: AsyncIterator[bytes], boundary: str) -> None:
        self.label: str | None = None
        self._chunks = chunks
        self._boundary = boundary
        self._files = 0
        self._in_file = False
        self._before: list[tuple[str, bytearray]] = []
        self._pieces = self._read()

    async def fields(self) -> list[tuple[str, str]]:
        """What stands before the file, in its order: names, and the beginnings of values."""
        await anext(self._pieces, b"")
        return [(name, value.decode("utf-8", "replace")) for name, value in self._before]

    async def content(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes. Raises Problem 400, 413 or 422 for a form without one, with two, or broken."""
        async for piece in self._pieces:
            if piece:
                yield piece

    async def _read(self) -> AsyncGenerator[bytes, None]:
        """Pieces of the file; the first one is empty, where the file begins, or the form ends without one."""
        try:
            # Not in its strict mode, which refuses an end that arrives in two pieces.
            with PushMultipartParser(self._boundary, max_segment_count=MAX_FIELDS) as parser:
                around = 0
                async for chunk in self._chunks:
                    around += len(chunk)
                    for event in parser.parse(chunk):
                        if isinstance(event, MultipartSegment):
                            self._begin(event)
                            if self._in_file:
                                yield b""
                        elif event is not None and self._in_file:
                            around -= len(event)
                            yield event
                        elif event is not None:
                            self._keep(event)
                    if around > MAX_FORM_BYTES:
                        raise Problem(413, "too_large", (Fault("", "too_large", "has much beside its file"),))
        except MultipartError:
            raise Problem(400, "malformed_form") from None
        if not self._files:
            yield b""
            raise Problem(422, "no_file", (Fault("", "missing_required", "has no file"),))

    def _begin(self, segment: MultipartSegment) -> None:
        self._in_file = bool(segment.filename)
        if not self._in_file:
            if not self._files:
                self._before.append((segment.name, bytearray()))
            return
        self._files += 1
        if self._files > 1:
            raise Problem(422, "one_file", (Fault("", "rule:one_file", "has more than one file"),))
        self.label = segment.filename

    def _keep(self, data: bytes | bytearray) -> None:
        if not self._files:
            kept = self._before[-1][1]
            kept += data[: MAX_FIELD_BYTES - len(kept)]


def file_of(content_type: str, chunks: AsyncIterator[bytes], label: str | None) -> RawFile | FormFile:
    """The file of a request. Raises Problem 400 for a form without a usable boundary."""
    kind, options = parse_options_header(content_type)
    if kind != FORM:
        return RawFile(chunks, label)
    boundary = options.get("boundary", "")
    if not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise Problem(400, "malformed_form")
    return FormFile(chunks, boundary)


def clean_label(name: str | None, most: int) -> str | None:
    """What the client called the file, for people to read: no folder, nothing invisible; None for nothing."""
    if not name:
        return None
    last = _PATH.split(name)[-1]
    shown = "".join(c for c in nfc(last) if c == " " or unicodedata.category(c)[0] not in "CZ")
    return shown.strip(" .")[:most] or None
