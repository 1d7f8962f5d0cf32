"""An uploaded text file → the same in UTF-8, with what is broken in it still broken.

UTF-8 stays where it is. Other encodings are copied once, by stream; bytes that mean nothing in them become
bytes that mean nothing in UTF-8, so that the parser finds them on their line.
"""

import codecs
from pathlib import Path
from typing import BinaryIO, NamedTuple

from schemas.rows import RefusedFileError

_BLOCK = 1 << 20
_MARKS = {  # the longer ones first: UTF-32's begins as UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LONGEST_MARK = 4
_BROKEN = "\udcff"  # half of a pair: encoded all the same, it is broken UTF-8


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _BROKEN * (error.end - error.start), error.end


codecs.register_error("headwater.mark", _mark)


class Utf8File(NamedTuple):
    """A file in UTF-8 and where its text begins, behind a byte order mark."""

    path: str
    offset: int


def utf8_file(path: Path, stated: str, scratch: Path) -> Utf8File:
    """The file itself, or its copy in UTF-8 in the folder `scratch`.

    A byte order mark decides between UTF-8 and UTF-16 unless another encoding is stated. Raises
    RefusedFileError: empty_file, unsupported_encoding.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST_MARK)
        if not head:
            raise RefusedFileError("empty_file")
        found = next(((mark, name) for mark, name in _MARKS.items() if head.startswith(mark)), (b"", ""))
        mark, encoding = found[0], _encoding(found[1], stated)
        if encoding == "utf-8":
            return Utf8File(str(path), len(mark))
        file.seek(len(mark))
        copy = scratch / f"{path.name}.utf8"
        with copy.open("wb") as target:
            _copy(file, encoding, target)
    return Utf8File(str(copy), 0)


def _encoding(marked: str, stated: str) -> str:
    if not marked:
        return "utf-16-le" if stated == "utf-16" else stated
    by_mark = {"utf-8": ("utf-8", "utf-16-le", "utf-16-be"), "utf-16": ("utf-16-le", "utf-16-be")}
    if marked not in by_mark.get(stated, (stated,)):
        raise RefusedFileError("unsupported_encoding")
    return marked


def _copy(source: BinaryIO, encoding: str, target: BinaryIO) -> None:
    decoder = codecs.getincrementaldecoder(encoding)("headwater.mark")
    while block := source.read(_BLOCK):
        target.write(decoder.decode(block).encode("utf-8", "surrogatepass"))
    target.write(decoder.decode(b"", final=True).encode("utf-8", "surrogatepass"))
