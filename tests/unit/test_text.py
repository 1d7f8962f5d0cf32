"""The form of texts: NFC, in time that grows with the length only."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.text import MAX_MARKS, nfc

MARKS = st.text(st.sampled_from("\u0301\u0316\u0344\u0f73\u093c\u0323\U0001e94a"), max_size=200)


@given(st.lists(st.text() | MARKS | st.sampled_from(["a", "\u01d6", "\u1e69"]), max_size=4).map("".join))
def test_nfc_is_nfc_and_applied_again_it_changes_nothing(text: str) -> None:
    once = nfc(text)
    assert unicodedata.is_normalized("NFC", once)
    assert nfc(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "Jose\u0301",
        "e" + "\u0301" * MAX_MARKS,
        "\u1e9b\u0323",
        "\uac00\u11a8",
        "\U0001f469",
        "Jos\u00e9 " * MAX_MARKS,
        "Jose\u0301 " * MAX_MARKS,
        "\u304a\u898b\u7a4d\u3082\u308a" * MAX_MARKS,
    ],
)
def test_text_that_somebody_writes_is_in_plain_nfc(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)


def test_a_long_run_of_marks_is_broken_up_and_loses_none() -> None:
    run = "e" + "\u0316\u0301" * 50
    assert nfc(run) != unicodedata.normalize("NFC", run)
    assert sorted(unicodedata.normalize("NFD", nfc(run).replace("\u034f", ""))) == sorted(run)


def test_no_combining_mark_is_before_the_first_that_may_begin_a_long_run() -> None:
    assert min(code for code in range(0x1000) if unicodedata.combining(chr(code))) == 0x300


def test_the_time_of_a_run_of_marks_grows_with_its_length_only() -> None:
    began = time.perf_counter()
    nfc("a" + "\u0301\u0316" * 250_000)  # sorting them all would take five minutes
    assert time.perf_counter() - began < 10
