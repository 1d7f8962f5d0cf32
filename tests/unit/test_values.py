"""Values and identities against what Python's own libraries say, on texts and times nobody thought of."""

import unicodedata
import uuid
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from headwater.identity import NAMESPACE, dedupe_hashes, event_id, row_version
from headwater.text import WHITESPACE
from transformations.values import campaign, clean_text, instant, instants

# Everything that has a UTF-8 form, the characters that rules speak of more often than others.
TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(
            WHITESPACE + "e\u0301\u0323\u212b\u1e9b\ufb01\u1100\u1161\u00e9%&=?#+aZ0\u200b\ufeff"
        ),
    ),
    max_size=20,
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
OFFSETS = st.integers(-18 * 60, 18 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ISO = st.builds(
    lambda at, zone, precision: at.replace(tzinfo=zone).isoformat(timespec=precision),
    st.datetimes(),
    OFFSETS,
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
NAMES = ("source", "medium", "campaign", "content", "term")


@st.composite
def nearly_iso(draw: st.DrawFn) -> str:
    """ISO 8601 text, damaged in one place, or not."""
    text = draw(ISO)
    at = draw(st.integers(0, len(text)))
    inserted = draw(st.text("0123456789-:,.TtZzW+ \n\u0663\u2003", max_size=3))
    return text[:at] + inserted + text[at + draw(st.integers(0, 3)) :]


def microseconds(text: str) -> int:
    """What Python's reader of ISO 8601 takes the text for."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


@given(raw=TEXT)
def test_clean_text_is_nfc_stripped_and_null_when_empty(raw: str) -> None:
    assert clean_text(raw) == (unicodedata.normalize("NFC", raw).strip(WHITESPACE) or None)


@given(raw=TEXT)
def test_clean_text_leaves_nothing_to_clean(raw: str) -> None:
    cleaned = clean_text(raw)
    assert cleaned is None or clean_text(cleaned) == cleaned


@given(text=ISO, blanks=st.text(" \t\r\n", max_size=2))
def test_instant_reads_what_python_reads(text: str, blanks: str) -> None:
    assert instant(blanks + text + blanks) == microseconds(text)


@given(text=ISO)
def test_z_is_an_offset_of_nothing(text: str) -> None:
    local = text[:-6]
    assert instant(f"{local}Z") == instant(f"{local}+00:00") == microseconds(f"{local}+00:00")


@given(
    at=st.datetimes(),
    digits=st.text("0123456789", min_size=1, max_size=12),
    zone=st.sampled_from(["Z", "+05:30"]),
)
def test_fractions_of_up_to_nine_digits_are_cut_to_microseconds(at: datetime, digits: str, zone: str) -> None:
    text = f"{at.replace(microsecond=0).isoformat()}.{digits}{zone}"
    assert instant(text) == (microseconds(text) if len(digits) <= 9 else None)


@given(at=st.datetimes(), minutes=st.integers(18 * 60 + 1, 24 * 60 - 1), sign=st.sampled_from([1, -1]))
def test_no_place_on_earth_is_more_than_18_hours_away(at: datetime, minutes: int, sign: int) -> None:
    assert instant(at.replace(tzinfo=timezone(timedelta(minutes=sign * minutes))).isoformat()) is None


@given(text=TEXT | st.text("0123456789-:T.Z+ ", max_size=30) | nearly_iso())
def test_instant_takes_any_text_and_gives_nothing_or_what_python_reads(text: str) -> None:
    found = instant(text)
    assert found is None or (type(found) is int and found == microseconds(text.strip()))


# What Arrow reads of its own accord, or might.
USUAL = st.builds(
    lambda text, cut, zone: text[:cut] + zone,
    st.from_regex(
        r"[0-9]{4}-[0-3][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{6}", fullmatch=True
    )
    | st.datetimes().map(lambda at: at.isoformat(timespec="microseconds")),
    st.sampled_from([19, 20, 21, 23, 26]),
    st.sampled_from(["Z", "+00:00"]),
)


@given(texts=st.lists(USUAL, max_size=3) | st.lists(USUAL | nearly_iso() | TEXT | st.none(), max_size=3))
def test_instants_are_what_instant_reads_one_by_one(texts: list[str | None]) -> None:
    assert instants(texts) == [None if text is None else instant(text) for text in texts]


@given(before=st.sampled_from(["", "?utm_source=", "x?a=b&utm_source=", "?utm_term=a&utm_term="]), rest=TEXT)
def test_campaign_takes_any_text(before: str, rest: str) -> None:
    found = campaign(before + rest)
    assert found.keys() <= set(NAMES)
    assert all(text and text == text.strip() and len(text) <= 255 for text in found.values())


@given(said=st.dictionaries(st.sampled_from(NAMES), TEXT), plus=st.booleans(), anchor=st.booleans())
def test_campaign_reads_what_a_browser_writes(said: dict[str, str], plus: bool, anchor: bool) -> None:
    quoted = quote_plus if plus else quote
    query = "&".join(f"utm_{name}={quoted(text)}" for name, text in said.items())
    found = campaign(f"https://example.com/?{query}" + ("#utm_source=anchor" if anchor else ""))
    cleaned = {name: clean_text(text) for name, text in said.items()}
    assert found == {name: text for name, text in cleaned.items() if text}


@given(first=TEXT.map(quote), second=TEXT.map(quote))
def test_the_first_parameter_of_a_name_counts_even_when_it_says_nothing(first: str, second: str) -> None:
    assert campaign(f"?utm_term={first}&utm_term={second}") == campaign(f"?utm_term={first}")


@given(tenant=TEXT, key=TEXT)
def test_an_event_id_is_pythons_uuid5(tenant: str, key: str) -> None:
    assert event_id(tenant, key) == str(uuid.uuid5(NAMESPACE, f"{tenant}\0{key}"))


@given(parts=st.lists(st.tuples(*[st.text("a1:2", max_size=4)] * 4), min_size=2, unique=True))
def test_a_dedupe_hash_tells_all_parts_apart(parts: list[tuple[str, str, str, str]]) -> None:
    found = {dedupe_hashes(stream, [tenant], [[part] for part in key])[0] for stream, tenant, *key in parts}
    assert len(found) == len(parts)


@given(events=st.lists(st.tuples(MOMENTS, st.integers(0, (1 << 20) - 1)), max_size=20))
def test_row_versions_are_ordered_by_time_then_offset(events: list[tuple[datetime, int]]) -> None:
    found = [row_version((at - EPOCH) // timedelta(microseconds=1), offset) for at, offset in events]
    keys = [((at - EPOCH) // timedelta(milliseconds=1), offset) for at, offset in events]
    assert found == [milliseconds << 20 | offset for milliseconds, offset in keys]
    places = range(len(events))
    assert sorted(places, key=lambda i: found[i]) == sorted(places, key=lambda i: keys[i])


@given(at=MOMENTS, offset=st.integers(1 << 20, 1 << 60))
def test_a_row_version_keeps_the_low_20_bits_of_an_offset(at: datetime, offset: int) -> None:
    moment = (at - EPOCH) // timedelta(microseconds=1)
    assert row_version(moment, offset) == row_version(moment, offset % (1 << 20))
