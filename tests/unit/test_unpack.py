"""Archives: what is in them, and what they are refused for before they do harm."""

import gzip
import io
import stat
import struct
import zipfile
from collections.abc import Callable
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources import sniff
from sources.unpack import RATIO_FROM_BYTES, Limits, inspect, members, probe
from sources.zip_directory import UnpackError, safe_name

LIMITS = Limits(max_unpacked_bytes=64 << 20, max_ratio=200, max_members=5, max_name_length=50)
ROWS = b"id,name\n1,Ada\n"
Change = Callable[[zipfile.ZipInfo], None]


def archive(
    *files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, change: Change | None = None
) -> bytes:
    """A zip file of these; `change` is made to each entry."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as made:
        for name, content in files:
            entry = zipfile.ZipInfo("placeholder")
            entry.filename = entry.orig_filename = name  # as it is, without the class's tidying
            entry.compress_type = method
            if change:
                change(entry)
            made.writestr(entry, content)
    return held.getvalue()


def read(content: bytes, kind: str, limits: Limits = LIMITS) -> list[tuple[str | None, str, bytes]]:
    return [(m.name, m.format, m.stream.read()) for m in members(io.BytesIO(content), kind, limits)]


def refused(content: bytes, kind: str = sniff.ZIP, limits: Limits = LIMITS) -> str:
    with pytest.raises(UnpackError) as caught:
        read(content, kind, limits)
    return caught.value.code


def claimed(content: bytes) -> str:
    """Why its directory alone is refused."""
    with pytest.raises(UnpackError) as caught:
        inspect(io.BytesIO(content), LIMITS)
    return caught.value.code


def test_a_plain_file_is_its_own_only_member() -> None:
    assert read(ROWS, "csv") == [(None, "csv", ROWS)]


def test_gzip_gives_its_one_file_also_of_several_members() -> None:
    twice = gzip.compress(ROWS) + gzip.compress(b"2,Grace\n")
    assert read(twice, sniff.GZIP) == [(None, "csv", ROWS + b"2,Grace\n")]


def test_zip_gives_its_files_in_order_each_with_its_own_format() -> None:
    packed = archive(("a.csv", ROWS), ("more/", b""), ("more/b.txt", b'{"id": 1}\n'), ("c", b'[{"id": 2}]'))
    assert read(packed, sniff.ZIP) == [
        ("a.csv", "csv", ROWS),
        ("more/b.txt", "ndjson", b'{"id": 1}\n'),
        ("c", "json", b'[{"id": 2}]'),
    ]


@given(st.lists(st.binary(min_size=1, max_size=300).map(lambda rows: b"id\n" + rows), min_size=1, max_size=5))
def test_what_was_packed_comes_out(files: list[bytes]) -> None:
    text = [content for content in files if sniff.sniff(content) == "csv"]
    packed = archive(*((f"{n}.csv", content) for n, content in enumerate(text))) if text else None
    if packed:
        assert [content for _, _, content in read(packed, sniff.ZIP)] == text
        assert read(gzip.compress(text[0]), sniff.GZIP)[0][2] == text[0]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.csv", "a/../../evil.csv", "/etc/passwd", "//server/share", "C:\\evil.csv", "c:evil",
        "a\\b.csv", "..", ".", "./a.csv", "a//b.csv", "a/./b", "", "x" * 51, "a\nb.csv", "a\x00b.csv",
        "a\u202ecsv", "a:b",
    ],
)  # fmt: skip
def test_a_name_that_tries_to_leave_its_folder_is_not_safe(name: str) -> None:
    assert not safe_name(name, 50)


@pytest.mark.parametrize(
    "name", ["a.csv", "2026/03/a.csv", "folder/", "\u00e4 b.csv", "..a", "a..b", "x" * 50]
)
def test_an_ordinary_name_is_safe(name: str) -> None:
    assert safe_name(name, 50)


@pytest.mark.parametrize("name", ["../evil.csv", "/etc/passwd", "a\\..\\b.csv", "x" * 51])
def test_an_archive_with_such_a_name_is_refused_by_its_directory(name: str) -> None:
    assert claimed(archive(("good.csv", ROWS), (name, ROWS))) == "member_name"


def test_the_same_name_twice_is_refused() -> None:
    content = archive(("a.csv", ROWS), ("b.csv", ROWS)).replace(b"b.csv", b"a.csv")
    assert claimed(content) == "member_name"


def test_a_link_is_refused() -> None:
    def link(entry: zipfile.ZipInfo) -> None:
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    assert claimed(archive(("a.csv", b"/etc/passwd"), change=link)) == "member_kind"


def test_an_encrypted_file_is_refused() -> None:
    content = bytearray(archive(("a.csv", ROWS)))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert claimed(bytes(content)) == "encrypted"


def test_a_method_that_is_not_deflate_is_refused() -> None:
    assert claimed(archive(("a.csv", ROWS), method=zipfile.ZIP_BZIP2)) == "method"


def test_more_files_than_allowed_are_refused() -> None:
    assert claimed(archive(*((f"{n}.csv", ROWS) for n in range(6)))) == "too_many_members"


def test_a_directory_that_says_it_is_small_and_is_not_is_refused() -> None:
    content = bytearray(archive(*((f"{n}.csv", ROWS) for n in range(6))))
    struct.pack_into("<HH", content, content.rindex(b"PK\x05\x06") + 8, 1, 1)
    assert claimed(bytes(content)) == "too_many_members"


def test_a_huge_directory_is_not_read() -> None:
    content = bytearray(archive(("a.csv", ROWS)))
    struct.pack_into("<L", content, content.rindex(b"PK\x05\x06") + 12, 50_000_000)
    assert claimed(bytes(content)) == "member_name"


def test_members_that_share_their_bytes_are_refused() -> None:
    content = bytearray(archive(("a.csv", ROWS), ("b.csv", ROWS)))
    second = content.rindex(b"PK\x01\x02")
    struct.pack_into("<L", content, second + 42, 0)  # where its data begins
    assert claimed(bytes(content)) == "member_overlap"


def test_an_archive_without_files_holds_nothing() -> None:
    assert claimed(archive(("folder/", b""))) == "empty"
    assert refused(archive(("a.csv", b""))) == "empty"


@pytest.mark.parametrize("kind", [sniff.ZIP, sniff.GZIP])
def test_an_archive_in_an_archive_is_refused(kind: str) -> None:
    inner = gzip.compress(ROWS)
    assert refused(archive(("a.csv", inner)) if kind == sniff.ZIP else gzip.compress(inner), kind) == (
        "nested_archive"
    )


@pytest.mark.parametrize("inner", [b"%PDF-1.7", b"PAR1" + ROWS, b"\x7fELF"])
def test_an_archive_of_something_else_is_refused(inner: bytes) -> None:
    assert refused(archive(("a.csv", inner))) == "member_type"


@pytest.mark.parametrize("kind", [sniff.ZIP, sniff.GZIP])
def test_what_unpacks_to_too_much_is_refused(kind: str) -> None:
    few = Limits(max_unpacked_bytes=1000, max_ratio=200, max_members=5, max_name_length=50)
    content = b"a,b\n" * 300
    packed = archive(("a.csv", content)) if kind == sniff.ZIP else gzip.compress(content)
    assert refused(packed, kind, few) == "too_large_unpacked"


def test_all_members_together_must_not_unpack_to_too_much() -> None:
    few = Limits(max_unpacked_bytes=1000, max_ratio=200, max_members=5, max_name_length=50)
    assert (
        refused(archive(("a.csv", b"a,b\n" * 130), ("b.csv", b"a,b\n" * 130)), limits=few)
        == "too_large_unpacked"
    )


@pytest.mark.parametrize("kind", [sniff.ZIP, sniff.GZIP])
def test_a_bomb_is_refused_while_it_unpacks(kind: str) -> None:
    bomb = b"0," * (RATIO_FROM_BYTES // 2) + b"0" * 4_000_000
    packed = archive(("a.csv", bomb)) if kind == sniff.ZIP else gzip.compress(bomb)
    assert refused(packed, kind) == "ratio"


def test_a_gzip_bomb_is_seen_in_its_first_part() -> None:
    with pytest.raises(UnpackError) as caught:
        probe(gzip.compress(b"0" * (2 * RATIO_FROM_BYTES)), LIMITS)
    assert caught.value.code == "ratio"


def test_a_file_of_blanks_that_is_small_passes() -> None:
    content = b"a" + b" " * 1_000_000
    assert read(gzip.compress(content), sniff.GZIP) == [(None, "csv", content)]
    probe(gzip.compress(content), LIMITS)


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_said() -> None:
    content = bytearray(archive(("a.csv", b"a,b\n" * 1000)))
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", content, content.index(mark) + place, 8)
    assert refused(bytes(content)) == "damaged"


@pytest.mark.parametrize("cut", [10, 20, 40])
@pytest.mark.parametrize("kind", [sniff.ZIP, sniff.GZIP])
def test_what_is_cut_off_is_damaged(cut: int, kind: str) -> None:
    content = ROWS + bytes(range(48, 123)) * 20
    packed = archive(("a.csv", content)) if kind == sniff.ZIP else gzip.compress(content)
    assert refused(packed[:-cut], kind) == "damaged"


def test_a_flipped_bit_is_damage() -> None:
    packed = bytearray(gzip.compress(ROWS * 50))
    packed[-6] ^= 1
    assert refused(bytes(packed), sniff.GZIP) == "damaged"


@given(st.binary(max_size=400), st.sampled_from([sniff.GZIP, sniff.ZIP]))
def test_any_bytes_are_read_or_refused_never_a_fault(content: bytes, kind: str) -> None:
    magic = b"\x1f\x8b\x08" if kind == sniff.GZIP else b"PK\x03\x04"
    with pytest.raises(UnpackError):
        read(magic + content, kind)


@given(st.integers(0, 500), st.integers(0, 255))
def test_a_changed_byte_of_a_zip_is_harmless_or_refused(place: int, value: int) -> None:
    content = bytearray(archive(("a.csv", ROWS), ("b.csv", ROWS * 3)))
    content[place % len(content)] = value
    try:
        found = read(bytes(content), sniff.ZIP)
    except UnpackError:
        return
    assert {data for _, _, data in found} <= {ROWS, ROWS * 3}


def test_a_stream_is_unpacked_as_it_is_read() -> None:
    reads: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            reads.append(len(found))
            return found

    content = "".join(f"{n},{n * 7919 % 104729}\n" for n in range(400_000)).encode()
    source: BinaryIO = Watched(gzip.compress(content))
    member = next(members(source, sniff.GZIP, LIMITS))
    assert member.stream.read(1000) == content[:1000]
    assert sum(reads) < len(content) // 8
