"""What each kind of bad record becomes: one table, read by one Spark job."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from headwater.clock import iso
from tests.builders import ARRIVED, GONE, Reason, lead, outcomes, splice

Verdict = tuple[str, list[Reason]]
SILVER: Verdict = ("silver", [])
NO_CONSENT: Verdict = ("no_consent", [])
MIB = 1 << 20
REFUSED = {"/payload/consent": False}


def dead(*reasons: Reason) -> Verdict:
    return "dead", list(reasons)


def nested(levels: int) -> Any:
    """A value that nests so many levels."""
    value: Any = 1
    for level in range(levels):
        value = {"k": value} if level % 2 else [value]
    return value


def of_size(size: int, changes: dict[str, Any] | None = None) -> bytes:
    text = lead({**(changes or {}), "/payload/message": ""})
    return text.replace(b'"message": ""', b'"message": "' + b"x" * (size - len(text)) + b'"')


def after_arrival(**away: float) -> str:
    return iso(ARRIVED + timedelta(**away))


BYTES: dict[str, tuple[bytes | None, Verdict]] = {
    "a tombstone": (None, dead(("empty", ""))),
    "no bytes": (b"", dead(("empty", ""))),
    "blanks": (b" \n\t ", dead(("empty", ""))),
    "not JSON": (b"hello", dead(("malformed_json", ""))),
    "half an object": (lead()[:-5], dead(("malformed_json", ""))),
    "single quotes": (b"{'tenant_id': 'acme'}", dead(("malformed_json", ""))),
    "a comment": (b"/* hi */" + lead(), dead(("malformed_json", ""))),
    "a trailing comma": (lead()[:-1] + b",}", dead(("malformed_json", ""))),
    "garbage behind": (lead() + b" x", dead(("malformed_json", ""))),
    "a brace behind": (lead() + b"}", dead(("malformed_json", ""))),
    "two documents": (lead() + lead(), dead(("malformed_json", ""))),
    "two documents on two lines": (lead() + b"\n" + lead(), dead(("malformed_json", ""))),
    "a bare key behind": (lead() + b',"b":1', dead(("malformed_json", ""))),
    "a late bare key behind": (lead() + b',"zz":1', dead(("malformed_json", ""))),
    "a bare a behind": (lead() + b',"a":1', dead(("malformed_json", ""))),
    "a bare z behind": (lead() + b',"z":' + lead(), dead(("malformed_json", ""))),
    "an end of our own wrapping behind": (lead() + b',"a":0} hello', dead(("malformed_json", ""))),
    "a raw line break in a string": (splice('"web"', '"we\nb"'), dead(("malformed_json", ""))),
    "a raw NUL": (splice('"web"', '"we\0b"'), dead(("malformed_json", ""))),
    "an unknown escape": (splice('"web"', r'"we\xb"'), dead(("malformed_json", ""))),
    "a leading zero": (splice('"web"', '"web", "n": 012'), dead(("malformed_json", ""))),
    "a plus sign": (splice('"web"', '"web", "n": +1'), dead(("malformed_json", ""))),
    "NaN": (splice('"web"', '"web", "n": NaN'), dead(("malformed_json", ""))),
    "Infinity": (splice('"web"', '"web", "n": Infinity'), dead(("malformed_json", ""))),
    "minus Infinity": (splice('"web"', '"web", "n": -Infinity'), dead(("malformed_json", ""))),
    "a UTF-8 byte order mark": (b"\xef\xbb\xbf" + lead(), dead(("malformed_json", ""))),
    "Latin-1": (splice('"web"', '"wéb"').decode().encode("latin-1"), dead(("invalid_utf8", ""))),
    "a surrogate in bytes": (lead().replace(b"web", b"w\xed\xa0\x80b"), dead(("invalid_utf8", ""))),
    "an overlong slash": (lead().replace(b"web", b"w\xc0\xafb"), dead(("invalid_utf8", ""))),
    "UTF-16": (lead().decode().encode("utf-16"), dead(("invalid_utf8", ""))),
    "an array": (b"[" + lead() + b"]", dead(("type_mismatch", ""))),
    "a string": (b'"hello"', dead(("type_mismatch", ""))),
    "null": (b"null", dead(("type_mismatch", ""))),
    "a number": (b"7", dead(("type_mismatch", ""))),
    "1e400": (splice('"web"', '"web", "n": 1e400'), dead(("type_mismatch", ""))),
    "-1e400 in an array": (splice('"web"', '"web", "n": [1, -1E+400]'), dead(("type_mismatch", ""))),
    "400 digits": (splice('"web"', f'"web", "n": {"9" * 400}'), dead(("type_mismatch", ""))),
    "1e400 as text": (lead({"/payload/message": "1e400"}), SILVER),
    "1e-400": (splice('"web"', '"web", "n": 1e-400'), SILVER),
    "1e0000000001": (splice('"web"', '"web", "n": 1e0000000001'), SILVER),
    "32 levels": (lead({"/metadata/k": nested(30)}), SILVER),
    "33 levels": (lead({"/metadata/k": nested(31)}), dead(("too_deep", ""))),
    "50 levels": (lead({"/metadata/k": nested(48)}), dead(("too_deep", ""))),
    "1,000 levels": (lead({"/metadata/k": nested(900)}), dead(("too_deep", ""))),
    "100,000 open brackets": (b"[" * 100_000, dead(("too_deep", ""))),
    "brackets in a string": (lead({"/payload/message": "[{" * 5_000}), SILVER),
    "many flat objects": (lead({"/metadata/k": [{} for _ in range(500)]}), SILVER),
    "an escaped NUL": (splice('"web"', r'"we\u0000b"'), dead(("nul_character", ""))),
    "an escaped NUL in an unknown key": (splice('"web"', r'"web", "\u0000": 1'), dead(("nul_character", ""))),
    "an escaped backslash before u0000": (splice('"web"', r'"we\\u0000b"'), SILVER),
    "three backslashes before u0000": (splice('"web"', r'"we\\\u0000b"'), dead(("nul_character", ""))),
    "half a surrogate pair": (splice('"web"', r'"we\ud800b"'), dead(("invalid_utf8", ""))),
    "the other half": (splice('"web"', r'"we\uDFFFb"'), dead(("invalid_utf8", ""))),
    "halves in the wrong order": (splice('"web"', r'"we\udc00\ud800b"'), dead(("invalid_utf8", ""))),
    "a surrogate pair": (splice('"web"', r'"we\ud83d\uDE00b"'), SILVER),
    "an escaped backslash before ud800": (splice('"web"', r'"we\\ud800b"'), SILVER),
    "1 MiB": (of_size(MIB), SILVER),
    "1 MiB and one byte": (of_size(MIB + 1), dead(("too_large", ""))),
    "300,000 escapes": (splice('"consent"', '"message": "' + r"\"" * 300_000 + '", "consent"'), SILVER),
    "a repeated key, the last one good": (splice('"source": "web"', '"source": 5, "source": "web"'), SILVER),
    "a repeated key, the last one bad": (
        splice('"source": "web"', '"source": "web", "source": 5'),
        dead(("type_mismatch", "/source")),
    ),
    "an escaped key": (splice('"source"', r'"\u0073ource"'), SILVER),
    "another case of a key": (
        splice('"source"', '"Source"'),
        dead(("missing_required", "/source")),
    ),
}

FIELDS: dict[str, tuple[dict[str, Any], Verdict]] = {
    "nothing wrong": ({}, SILVER),
    "a number for a string": ({"/source": 5}, dead(("type_mismatch", "/source"))),
    "a boolean for a string": ({"/idempotency_key": True}, dead(("type_mismatch", "/idempotency_key"))),
    "an object for a string": (
        {"/payload/first_name": {"a": 1}},
        dead(("type_mismatch", "/payload/first_name")),
    ),
    "an array for an optional string": ({"/payload/phone": []}, dead(("type_mismatch", "/payload/phone"))),
    "text for a boolean": ({"/payload/consent": "true"}, dead(("type_mismatch", "/payload/consent"))),
    "1 for a boolean": ({"/payload/consent": 1}, dead(("type_mismatch", "/payload/consent"))),
    "text for an object": ({"/payload": "x"}, dead(("type_mismatch", "/payload"))),
    "an array for an object": ({"/context": []}, dead(("type_mismatch", "/context"))),
    "an array for free metadata": ({"/metadata": [1]}, dead(("type_mismatch", "/metadata"))),
    "a number for a deep string": (
        {"/context/utm/source": 5},
        dead(("type_mismatch", "/context/utm/source")),
    ),
    "a known name in an unknown object": ({"/x/source": 5, "/x/consent": "no"}, SILVER),
    "a known name in metadata": ({"/metadata/email": 5}, SILVER),
    "a number for the time": ({"/received_at": 1772366340}, dead(("type_mismatch", "/received_at"))),
    "nothing at all": (
        dict.fromkeys(
            ("/event_id", "/tenant_id", "/idempotency_key", "/received_at", "/source", "/payload"), GONE
        ),
        dead(
            ("tenant_missing", "/tenant_id"),
            ("missing_required", "/idempotency_key"),
            ("missing_required", "/received_at"),
            ("missing_required", "/source"),
            ("missing_required", "/payload"),
        ),
    ),
    "no tenant": ({"/tenant_id": GONE}, dead(("tenant_missing", "/tenant_id"))),
    "a null tenant": ({"/tenant_id": None}, dead(("tenant_missing", "/tenant_id"))),
    "a blank tenant": ({"/tenant_id": " \u00a0 "}, dead(("tenant_missing", "/tenant_id"))),
    "a tenant with a slash": ({"/tenant_id": "../x"}, dead(("rule:pattern", "/tenant_id"))),
    "a blank key": ({"/idempotency_key": "\u2003"}, dead(("missing_required", "/idempotency_key"))),
    "no payload": ({"/payload": None}, dead(("missing_required", "/payload"))),
    "no e-mail": ({"/payload/email": GONE}, dead(("missing_required", "/payload/email"))),
    "an empty e-mail": ({"/payload/email": ""}, dead(("missing_required", "/payload/email"))),
    "no consent": ({"/payload/consent": GONE}, dead(("missing_required", "/payload/consent"))),
    "null consent": ({"/payload/consent": None}, dead(("missing_required", "/payload/consent"))),
    "an empty time": ({"/received_at": ""}, dead(("missing_required", "/received_at"))),
    "a blank time": ({"/received_at": " \t"}, dead(("missing_required", "/received_at"))),
    "a time without zone": ({"/received_at": "2026-03-01T11:59:00"}, dead(("type_mismatch", "/received_at"))),
    "a time without seconds": (
        {"/received_at": "2026-03-01T11:59Z"},
        dead(("type_mismatch", "/received_at")),
    ),
    "a date": ({"/received_at": "2026-03-01"}, dead(("type_mismatch", "/received_at"))),
    "the 30th of February": (
        {"/received_at": "2026-02-30T11:59:00Z"},
        dead(("type_mismatch", "/received_at")),
    ),
    "25 o'clock": ({"/received_at": "2026-03-01T25:00:00Z"}, dead(("type_mismatch", "/received_at"))),
    "the year 1999": (
        {"/received_at": "1999-12-31T23:59:59.999Z"},
        dead(("event_time_out_of_range", "/received_at")),
    ),
    "1970 by an offset": (
        {"/received_at": "0001-01-01T00:00:00Z"},
        dead(("event_time_out_of_range", "/received_at")),
    ),
    "the first moment of 2000": ({"/received_at": "2000-01-01T00:00:00Z"}, SILVER),
    "1999 in UTC, 2000 in the text": (
        {"/received_at": "2000-01-01T00:30:00+01:00"},
        dead(("event_time_out_of_range", "/received_at")),
    ),
    "25 hours ahead": (
        {"/received_at": after_arrival(hours=25)},
        dead(("event_time_out_of_range", "/received_at")),
    ),
    "23 hours ahead": ({"/received_at": after_arrival(hours=23)}, SILVER),
    "a day ahead to the second": ({"/received_at": after_arrival(days=1)}, SILVER),
    "ten years ahead": (
        {"/received_at": "2036-03-01T00:00:00Z"},
        dead(("event_time_out_of_range", "/received_at")),
    ),
    "a source of 50 characters": ({"/source": "x" * 50}, SILVER),
    "a source of 51 characters": ({"/source": "x" * 51}, dead(("rule:max_length", "/source"))),
    "50 characters of two UTF-16 units": ({"/source": "😀" * 50}, SILVER),
    "51 characters, trimmed to 50": ({"/source": "x" * 50 + " "}, SILVER),
    "a key of 256 characters": (
        {"/idempotency_key": "k" * 256},
        dead(("rule:max_length", "/idempotency_key")),
    ),
    "a long utm": ({"/context/utm/term": "t" * 256}, dead(("rule:max_length", "/context/utm/term"))),
    "an e-mail without at": ({"/payload/email": "ada.example.com"}, dead(("rule:pattern", "/payload/email"))),
    "an e-mail with two": ({"/payload/email": "a@b@example.com"}, dead(("rule:pattern", "/payload/email"))),
    "an e-mail without dot": ({"/payload/email": "ada@localhost"}, dead(("rule:pattern", "/payload/email"))),
    "an e-mail with a line break": (
        {"/payload/email": "ada@example.com\nbcc: x@example.com"},
        dead(("rule:pattern", "/payload/email")),
    ),
    "an e-mail with blanks around": ({"/payload/email": "\tAda@Example.com "}, SILVER),
    "an e-mail beyond ASCII": ({"/payload/email": "ünal@bücher.example"}, SILVER),
    "an event id that is no UUID": ({"/event_id": "abc"}, dead(("rule:format", "/event_id"))),
    "an event id in capitals": ({"/event_id": "0B5E1C52-7D0B-4E0F-9D8A-6A1F3B7C2D41"}, SILVER),
    "no event id": ({"/event_id": GONE}, SILVER),
    "no context, no metadata": ({"/context": None, "/metadata": GONE}, SILVER),
    "two faults at once": (
        {"/source": "x" * 51, "/payload/email": 7},
        dead(("rule:max_length", "/source"), ("type_mismatch", "/payload/email")),
    ),
}

# False wins over every other fault, wherever the document can be read at all.
CONSENT: dict[str, tuple[bytes, Verdict]] = {
    "refused": (lead(REFUSED), NO_CONSENT),
    "refused, nothing else": (b'{"payload": {"consent": false}}', NO_CONSENT),
    "refused, wrong types": (lead({**REFUSED, "/source": 5, "/tenant_id": None}), NO_CONSENT),
    "refused, out of range": (lead({**REFUSED, "/received_at": "1999-01-01T00:00:00Z"}), NO_CONSENT),
    "refused, too deep": (lead({**REFUSED, "/metadata/k": nested(48)}), NO_CONSENT),
    "refused, too large": (of_size(MIB + 1, REFUSED), NO_CONSENT),
    "refused, NUL": (lead({**REFUSED, "/source": "\0"}), NO_CONSENT),
    "refused, lone surrogate": (
        json.dumps({"source": "\ud800", "payload": {"consent": False}}).encode(),
        NO_CONSENT,
    ),
    "refused, 1e400": (lead(REFUSED)[:-1] + b', "n": 1e400}', NO_CONSENT),
    "refused, not UTF-8": (lead(REFUSED).replace(b"web", b"w\xe9b"), NO_CONSENT),
    "refused, said twice, false last": (
        lead().replace(b'"consent": true', b'"consent": true, "consent": false'),
        NO_CONSENT,
    ),
    "refused elsewhere": (lead({"/metadata/consent": False, "/consent": False}), SILVER),
}
TABLE: dict[str, tuple[bytes | None, Verdict]] = {
    **BYTES,
    **{name: (lead(changes), verdict) for name, (changes, verdict) in FIELDS.items()},
    **CONSENT,
}


@pytest.fixture(scope="module")
def verdicts(spark: SparkSession) -> dict[str, Verdict]:
    """What became of every record of the table."""
    found = outcomes(spark, [value for value, _ in TABLE.values()])
    return dict(zip(TABLE, found, strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_each_record_becomes_what_its_fault_says(verdicts: dict[str, Verdict], name: str) -> None:
    assert verdicts[name] == TABLE[name][1]
