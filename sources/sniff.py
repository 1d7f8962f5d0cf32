"""The first bytes of a file → what it is. Neither its name nor a header is believed.

Text is what has few control characters, whatever its encoding: a row with a NUL is a fault of that row, which
is told with its line when the file is read. UTF-16 counts as text with a byte order mark only.
"""

import codecs
from collections.abc import Sequence

CSV, JSON, NDJSON, PARQUET, GZIP, ZIP = "csv", "json", "ndjson", "parquet", "gzip", "zip"
ARCHIVES = (GZIP, ZIP)
HEAD_BYTES = 65_536
PARQUET_MAGIC = b"PAR1"
# Packed or encrypted bytes have twice this share; a short file may have a few of them in one bad row.
MAX_CONTROL_SHARE = 0.05
MAX_CONTROL = 8
_BLANK = " \t\r\n\ufeff"
_MAGIC = {b"\x1f\x8b\x08": GZIP, b"PK\x03\x04": ZIP, PARQUET_MAGIC: PARQUET}
# UTF-32's mark begins with UTF-16's: nobody sends it, and it is refused by its NULs.
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
# Text at first sight, or close to it.
_KNOWN_OTHERS = (
    b"%PDF-", b"%!PS-", b"{\\rtf1", b"\x7fELF", b"\x89PNG", b"GIF89a", b"\xff\xd8\xff", b"\xca\xfe\xba\xbe",
    b"Rar!\x1a", b"7z\xbc\xaf", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\xd0\xcf\x11\xe0",
    b"SQLite format 3\0", b"Obj\x01",
)  # fmt: skip
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\x0b\x0c\r") + b"\x7f"
_MARKUP = ("<!doctype", "<html", "<?xml", "<svg", "<script", "#!", "<?php")


def sniff(head: bytes) -> str | None:
    """The format that `head` (HEAD_BYTES, or all there is) begins; None when it is none that we read."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(_KNOWN_OTHERS):
        return None
    text = _as_text(head)
    if text is None or not text.strip(_BLANK):
        return None
    shown = text.lstrip(_BLANK)
    if shown[:16].lower().startswith(_MARKUP):
        return None
    return {"[": JSON, "{": NDJSON}.get(shown[0], CSV)


def ends_as(kind: str, tail: Sequence[int]) -> bool:
    """Whether a file's last four bytes are those of its format."""
    return kind != PARQUET or bytes(tail) == PARQUET_MAGIC


def _as_text(head: bytes) -> str | None:
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return _if_text(head[len(mark) :].decode(encoding, "replace"))
    return _if_text(head.decode("latin-1"))


def _if_text(text: str) -> str | None:
    control = sum(text.count(chr(code)) for code in _CONTROL)
    return None if control > max(MAX_CONTROL, MAX_CONTROL_SHARE * len(text)) else text
