"""Columns of days and moments: texts of the stated notation, or Arrow's values → values, canonical texts."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.dataset import Column
from schemas.notation import DAY, Notation
from transformations.cells import FIRST_US, LAST_US, Exact, localised
from transformations.column_shortcut import Made, Rule, made, unusual

_MOMENT, _LOCAL = pa.timestamp("us", "UTC"), pa.timestamp("us")
_DAY_US = 86_400_000_000
_FIRST_DAY, _LAST_DAY = FIRST_US // _DAY_US, LAST_US // _DAY_US
# Every day of a year that has a 29th of February.
_ISO_DAY = (
    "^[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))"
)
_ISO_TIME = r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_ISO_OFFSET = (
    "(?:Z|[+-](?:(?:0[0-9]|1[0-7]):[0-5][0-9]|18:00))"  # as far as transformations.values.instant goes
)
_CANONICAL = r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{0,5}[1-9])?Z$"
_BEFORE = {"month": "-", "day": "-", "hour": "T", "minute": ":", "second": ":", "fraction": "."}


def dates(column: Column, slow: Exact) -> Rule:
    """A function of texts or days."""
    stated = column.notation

    def quick(taken: pa.Array) -> tuple[pa.Array, pa.Array]:
        texts = _iso(taken, stated)
        values = texts.cast(pa.date32())
        if unusual(_within(values, pa.int32(), _FIRST_DAY, _LAST_DAY)) is not None:
            raise pa.ArrowInvalid("out of range")
        return values, texts

    def apply(found: pa.Array) -> Made:
        if not pa.types.is_date(found.type):
            return made(found, _usual(found, stated, f"{_ISO_DAY}$"), quick, slow)
        fits = _within(found, pa.int32(), _FIRST_DAY, _LAST_DAY)
        values = pc.if_else(fits, found, None)
        return Made(values, values.cast(pa.string()), _mismatches(found, fits))

    return apply


def timestamps(column: Column, slow: Exact) -> Rule:
    """A function of texts, of moments, or of local times in the column's zone."""
    stated = column.notation
    zone = ZoneInfo(column.timezone) if column.timezone else None
    if zone:
        return _zoned(stated, zone, slow)

    def quick(taken: pa.Array) -> tuple[pa.Array, pa.Array]:
        texts = _iso(taken, stated)
        values = texts.cast(_MOMENT)
        if unusual(_within(values, pa.int64(), FIRST_US, LAST_US)) is not None:
            raise pa.ArrowInvalid("out of range")
        other = unusual(pc.match_substring_regex(texts, _CANONICAL))
        return values, texts if other is None else _canonical(values)

    def apply(found: pa.Array) -> Made:
        if pa.types.is_timestamp(found.type):
            return _moments(found)
        return made(found, _usual(found, stated, f"{_ISO_DAY}{_ISO_TIME}{_ISO_OFFSET}$"), quick, slow)

    return apply


def _zoned(stated: Notation | None, zone: ZoneInfo, slow: Exact) -> Rule:
    """Local times: those of days on which the clocks do not change at once, the others one by one."""

    def apply(found: pa.Array) -> Made:
        if pa.types.is_timestamp(found.type):
            if found.type.tz:
                return _moments(found)
            values, sure = _in_zone(found, zone)
            return made(found, sure, lambda _: (values, _canonical(values)), lambda at: localised(at, zone))
        usual = _usual(found, stated, f"{_ISO_DAY}{_ISO_TIME}$")
        try:
            local = _iso(pc.if_else(usual, found, None), stated).cast(_LOCAL)
        except pa.ArrowInvalid:  # the 29th of February in most years
            local = pa.nulls(len(found), _LOCAL)
        values, sure = _in_zone(local, zone)
        sure = pc.if_else(found.is_valid(), pc.fill_null(sure, False), None)
        return made(found, sure, lambda _: (values, _canonical(values)), slow)

    return apply


def _in_zone(local: pa.Array, zone: ZoneInfo) -> tuple[pa.Array, pa.Array]:
    """The moments of local times, null where it takes a closer look; and where it does not."""
    there = local.is_valid().to_numpy(zero_copy_only=False)
    times = pc.fill_null(local.cast(pa.int64()), 0).to_numpy()
    days, which = np.unique(times // _DAY_US, return_inverse=True)
    away = [_offset(int(day), zone) for day in days]
    sure = np.array([offset is not None for offset in away], np.bool_)[which] & there
    moved = times - np.array([offset or 0 for offset in away], np.int64)[which]
    values = pa.array(moved, mask=~sure).cast(_MOMENT)
    return values, pc.if_else(pa.array(there), pa.array(sure), None)


def _offset(day: int, zone: ZoneInfo) -> int | None:
    """Microseconds between the zone and UTC if they are the same all day, and no other year is near."""
    if not _FIRST_DAY + 1 < day < _LAST_DAY - 1:
        return None
    begin = datetime(1970, 1, 1) + timedelta(days=day)
    times = [begin + timedelta(hours=hours) for hours in (0, 6, 12, 18, 24)]
    found = {time.replace(tzinfo=zone, fold=fold).utcoffset() for time in times for fold in (0, 1)}
    away = found.pop()
    return None if found or away is None else away // timedelta(microseconds=1)


def _moments(found: pa.Array) -> Made:
    fits = _within(found, pa.int64(), FIRST_US, LAST_US)
    values = pc.if_else(fits, found.cast(_MOMENT), None)
    return Made(values, _canonical(values), _mismatches(found, fits))


def _mismatches(found: pa.Array, fits: pa.Array) -> list[tuple[int, str]]:
    other = unusual(fits)
    return [] if other is None else [(row, "type_mismatch") for row in pc.indices_nonzero(other).to_pylist()]


def _within(values: pa.Array, kind: pa.DataType, first: int, last: int) -> pa.Array:
    """Whether each is from year 1 to year 9999."""
    numbers = values.cast(kind)
    return pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))


def _canonical(values: pa.Array) -> pa.Array:
    """The canonical texts of moments."""
    texts = pc.replace_substring(values.cast(_LOCAL).cast(pa.string()), " ", "T")
    return pc.binary_join_element_wise(pc.replace_substring_regex(texts, r"\.?0+$", ""), "Z", "")


def _usual(texts: pa.Array, stated: Notation | None, form: str) -> pa.Array:
    usual = pc.match_substring_regex(_iso(texts, stated), form)
    if stated is None or stated.text == DAY:
        return usual
    return pc.and_(usual, pc.match_substring_regex(texts, stated.pattern))


def _iso(texts: pa.Array, stated: Notation | None) -> pa.Array:
    """Texts of the notation in ISO 8601; any others mean nothing."""
    if stated is None or stated.text == DAY:
        return texts
    groups = {part: f"\\{place}" for place, part in enumerate(stated.parts, 1)}
    groups = {"second": "00", **groups} if stated.has_time else groups
    for part in stated.single:
        groups[part] = f"0{groups[part]}"
    order = ("year", "month", "day", "hour", "minute", "second", "fraction", "offset")
    form = "".join(_BEFORE.get(part, "") + groups[part] for part in order if part in groups)
    texts = pc.replace_substring_regex(texts, stated.pattern, form)
    return pc.replace_substring_regex(texts, "([-T])0([0-9]{2})", r"\1\2") if stated.single else texts
