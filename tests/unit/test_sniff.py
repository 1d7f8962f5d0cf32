"""What a file is, by its first bytes alone."""

import gzip
import hashlib
import io
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.sniff import HEAD_BYTES, ends_as, sniff


def parquet() -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2]}), held)
    return held.getvalue()


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.csv", "a,b\n")
    return held.getvalue()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"id,name\n1,Ada\n", "csv"),
        (b"one column\n", "csv"),
        (b"\xef\xbb\xbfid;name\n", "csv"),
        ("id\tn\u00e4me\n".encode("utf-16"), "csv"),
        ("\ufeffid,name\n".encode("utf-16-be"), "csv"),
        ("n\u00e4me\n\u00fc".encode("cp1252"), "csv"),
        (b"id,name\n1,A\0da\n", "csv"),
        (b'[{"id": 1}]', "json"),
        (b' \r\n\t[\n  {"id": 1}]', "json"),
        ('\ufeff[{"id": 1}]'.encode("utf-16-le"), "json"),
        (b'{"id": 1}\n{"id": 2}\n', "ndjson"),
        (gzip.compress(b"a,b"), "gzip"),
        (zipped(), "zip"),
        (parquet(), "parquet"),
    ],
)
def test_a_format_is_known_by_its_bytes(head: bytes, kind: str) -> None:
    assert sniff(head) == kind


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b" \r\n\t",
        b"\xef\xbb\xbf",
        b"%PDF-1.7\n1 0 obj",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"\x7fELF\x02\x01",
        b"MZ" + bytes(200),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"<!DOCTYPE html><script>alert(1)</script>",
        b"  <?xml version='1.0'?>",
        b"#!/bin/sh\nrm -rf /\n",
        b"PK\x05\x06" + bytes(18),
        "id,name\n1,Ada\n".encode("utf-16-le") * 4,
        "id,name\n1,Ada\n".encode("utf-32") * 4,
        hashlib.shake_256(b"packed or encrypted").digest(HEAD_BYTES),
    ],
)
def test_what_is_none_of_ours_is_nothing(head: bytes) -> None:
    assert sniff(head) is None


def test_a_name_or_a_header_has_no_say() -> None:
    assert sniff(gzip.compress(b"%PDF-1.7")) == "gzip"


@given(st.binary(max_size=2000))
def test_any_bytes_are_judged_without_a_fault(head: bytes) -> None:
    assert sniff(head) in {None, "csv", "json", "ndjson", "parquet", "gzip", "zip"}


@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), min_size=1).map(lambda text: "x" + text)
)
def test_a_line_of_latin_text_is_csv_in_every_encoding_that_can_be_told(line: str) -> None:
    assert {sniff(line.encode(name)) for name in ("latin-1", "utf-8", "utf-8-sig", "utf-16")} == {"csv"}


def test_parquet_that_was_cut_off_does_not_end_as_parquet() -> None:
    whole = parquet()
    assert ends_as("parquet", whole[-4:])
    assert not ends_as("parquet", whole[:-1][-4:])
    assert ends_as("csv", b"any.")
