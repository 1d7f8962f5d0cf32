"""What each record becomes, judged in plain Python, and the quick reader held against the exact one."""

import json
from dataclasses import dataclass, replace
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from headwater.identity import dedupe_hashes, event_id
from schemas.contract import Contract, Field, walk
from schemas.envelope import read_document
from tests.builders import ARRIVED, GONE, LEAD, event, lead
from tests.flow.test_poison import TABLE
from tests.unit.test_envelope import NUMBERS, SPLICES
from tests.unit.test_values import TEXT, nearly_iso
from transformations.leads import normalise_leads
from transformations.quick import quick_reader
from transformations.validate import reader
from transformations.verdict import Unsound, judge

ARRIVED_US = int(ARRIVED.timestamp()) * 1_000_000


def field(pointer: str, kind: str, *children: Field, required: bool = False, **more: Any) -> Field:
    path = tuple(pointer.strip("/").split("/"))
    return Field(path, kind, required, None, None, None, False, "", children, **more)


# Leads have no numbers, no second time, no object that must be there: here they do.
EVERY_KIND = replace(
    LEAD,
    stream="every.kind",
    topic="every.kind",
    fields=(
        *LEAD.fields,
        field("/count", "integer"),
        field("/price", "number"),
        field("/seen_at", "timestamp"),
        field("/agreed", "boolean"),
        field("/free", "object", required=True),
        field("/odd name~1", "string"),
        field("/stock", "integer", minimum=Decimal(0)),
        field("/share", "number", minimum=Decimal(0), maximum=Decimal("0.9")),
        field("/fee", "number", places=2),
        field("/status", "string", values=("ok", "\u00e9rror")),
        field("/since_ms", "timestamp", is_epoch=True),
        field(
            "/place", "object", field("/place/lat", "number", required=True), field("/place/at", "timestamp")
        ),
    ),
)
# Its events are dated in milliseconds.
IN_MS = replace(
    EVERY_KIND,
    stream="in.ms",
    topic="in.ms",
    event_time_field="/ts_ms",
    fields=(*EVERY_KIND.fields, field("/ts_ms", "timestamp", required=True, is_epoch=True)),
)
QUICK = {contract.stream: quick_reader(contract) for contract in (LEAD, EVERY_KIND, IN_MS)}
EXACT = {contract.stream: reader(contract) for contract in (LEAD, EVERY_KIND, IN_MS)}
DECIDE = judge(LEAD, normalise_leads(None))


@dataclass(frozen=True)
class Raw:
    """JSON text that json.dumps would not write."""

    text: str


NUMBER = (
    NUMBERS | st.integers().map(str) | st.sampled_from(["1e400", "1.0", "-0", "9223372036854775808"])
).map(Raw)
SCALAR = st.none() | st.booleans() | NUMBER | TEXT | st.sampled_from(["", " ", "\0", "x" * 51, "x" * 256])
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=5
)
TIMES = nearly_iso() | st.timedeltas(timedelta(days=-9999), timedelta(days=2)).map(
    lambda away: (ARRIVED + away).astimezone(timezone(timedelta(hours=-3))).isoformat()
)
# Values that a field of this kind may well have, so that what the quick reader takes is often met.
LIKELY = {
    "string": st.sampled_from(["x", " e\u0301 ", "ada@example.com", "0B5E1C52-7D0B-4E0F-9D8A-6A1F3B7C2D41"])
    | TEXT,
    "timestamp": TIMES,
    "boolean": st.booleans(),
    "integer": st.integers(-(1 << 64), 1 << 64) | st.integers(),
    "number": NUMBER,
    "object": st.dictionaries(TEXT, VALUE, max_size=3),
}


_MS = (
    st.integers(ARRIVED_US // 1000 - 10**9, ARRIVED_US // 1000 + 10**8)
    | st.integers()
    | st.sampled_from([-62_135_596_800_001, -62_135_596_800_000, 253_402_300_799_999, 253_402_300_800_000])
    | st.sampled_from(["1.0", "1e12", "true", '"1772366400000"']).map(Raw)
)
LIKELY_AT = {
    "/since_ms": _MS,
    "/ts_ms": _MS,
    "/status": st.sampled_from(["ok", " ok ", "OK", "e\u0301rror", "\u00e9rror", "", "okok"]),
    "/share": st.sampled_from(["0", "-0", "-1e-9", "0.9", "0.90", "0.90000000000000000001", "1"]).map(Raw),
    "/fee": st.sampled_from(["1", "0.01", "0.010", "0.011", "1e-2", "1e-3", "1e300", "0e-9"]).map(Raw),
    "/stock": st.integers(-2, 2),
}


def likely(found: Field) -> st.SearchStrategy[Any]:
    return LIKELY_AT.get(found.pointer, LIKELY[found.kind])


def changes(contract: Contract) -> st.SearchStrategy[list[tuple[str, Any]]]:
    """Values at pointers that the contract knows, most often of their kind, or that it does not know."""
    fields = {found.pointer: found for found in walk(contract.fields)}
    known = st.sampled_from(sorted(fields)).flatmap(
        lambda pointer: st.tuples(
            st.just(pointer), likely(fields[pointer]) | st.none() | st.just(GONE) | VALUE
        )
    )
    kept = st.sampled_from([p for p, found in fields.items() if not found.children]).flatmap(
        lambda pointer: st.tuples(st.just(pointer), likely(fields[pointer]))
    )
    unknown = st.sampled_from(["/x", "/payload/x", "/context/utm/x", "/Source"])
    return st.lists(kept | kept | known | st.tuples(unknown, VALUE) | known, max_size=4)


def written(value: Any, style: dict[str, Any], repeated: dict[str, Any]) -> str:
    """JSON text in a producer's style; keys of `repeated` stand there twice, first with that value."""
    if isinstance(value, Raw):
        return value.text
    comma, colon = style["separators"]
    if isinstance(value, list):
        return "[" + comma.join(written(inner, style, {}) for inner in value) + "]"
    if isinstance(value, dict):
        # What stands first may hold the same key: there it stands once, or the text would never end.
        before = [(name, written(first, style, {})) for name, first in repeated.items() if name in value]
        kept = [(k, written(inner, style, repeated)) for k, inner in value.items() if inner is not GONE]
        return "{" + comma.join(f"{json.dumps(k, **style)}{colon}{text}" for k, text in before + kept) + "}"
    return json.dumps(value, **style)


@st.composite
def documents(draw: st.DrawFn, contract: Contract) -> bytes:
    """A valid event of this contract, changed in places and written in some style."""
    more = {"/free": {}, "/place/lat": 1, "/ts_ms": ARRIVED_US // 1000} if contract is not LEAD else None
    made = event(more)
    for pointer, value in draw(changes(contract)):
        *parents, name = [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]
        holder: Any = made
        for parent in parents:
            holder = holder.setdefault(parent, {}) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder[name] = value
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")]))
    style = {"ensure_ascii": draw(st.booleans()), "separators": separators}
    names = st.sampled_from(["source", "consent", "payload", "context", "utm", "metadata", "free", "count"])
    repeated = draw(st.just({}) | st.dictionaries(names, VALUE, max_size=2))
    text = written(made, style, repeated).encode()
    if not draw(st.integers(0, 4)):
        at, cut = draw(st.integers(0, len(text))), draw(st.integers(0, 2))
        text = text[:at] + draw(st.sampled_from([*SPLICES, b"\xe9", b"\\ud800"])) + text[at + cut :]
    return text


def agree(contract: Contract, raw: bytes) -> bool:
    """Whether the quick reader takes it; then the exact one has nothing against it and reads the same."""
    taken = QUICK[contract.stream]([raw], [ARRIVED_US])
    if taken.doubtful:
        return False
    document = read_document(raw)
    assert document.fault is None
    found = EXACT[contract.stream](document.value, ARRIVED_US)
    assert (found.reasons, found.extras) == ([], {})
    # As text, so that 1, True, 1.0 and 1.00 are told apart.
    said = {pointer: repr(value) for pointer, [value] in taken.columns.items() if value is not None}
    assert said == {pointer: repr(value) for pointer, value in found.values.items()}
    return True


def unsound(raw: bytes | None) -> Unsound | None:
    """What a record that does not become a lead is; None for one that does."""
    sound, others = DECIDE([raw], [ARRIVED_US])
    assert sound.rows == [row for row in [0] if row not in others]
    return others.get(0)


@pytest.mark.parametrize("name", TABLE)
def test_each_record_becomes_what_its_fault_says(name: str) -> None:
    value, expected = TABLE[name]
    found = unsound(value) or Unsound("silver", None)
    assert (found.outcome, list(found.reasons)) == expected


@pytest.mark.parametrize("name", TABLE)
def test_what_the_quick_reader_takes_of_the_table_the_exact_one_reads_alike(name: str) -> None:
    value, (outcome, _) = TABLE[name]
    if agree(LEAD, value or b""):
        assert outcome in ("silver", "no_consent")


@given(raw=documents(LEAD))
def test_what_the_quick_reader_takes_of_leads_the_exact_one_reads_alike(raw: bytes) -> None:
    note(f"taken: {agree(LEAD, raw)}")


@given(raw=documents(EVERY_KIND))
def test_what_the_quick_reader_takes_of_any_kind_the_exact_one_reads_alike(raw: bytes) -> None:
    note(f"taken: {agree(EVERY_KIND, raw)}")


@given(raw=documents(IN_MS))
def test_what_the_quick_reader_takes_of_events_in_milliseconds_the_exact_one_reads_alike(raw: bytes) -> None:
    note(f"taken: {agree(IN_MS, raw)}")


@given(raws=st.lists(documents(EVERY_KIND) | st.just(lead({"/free": {}, "/place/lat": 1})), max_size=6))
def test_a_record_is_read_by_itself_whatever_stands_beside_it(raws: list[bytes]) -> None:
    quick = QUICK[EVERY_KIND.stream]
    together = quick(raws, [ARRIVED_US] * len(raws))
    for row, raw in enumerate(raws):
        alone = quick([raw], [ARRIVED_US])
        assert (row in together.doubtful) is bool(alone.doubtful)
        if not alone.doubtful:
            said = {pointer: repr(column[row]) for pointer, column in together.columns.items()}
            assert said == {pointer: repr(value) for pointer, [value] in alone.columns.items()}


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        ({"/stock": 0, "/share": 0, "/status": "ok"}, []),
        ({"/stock": -1}, [("rule:minimum", "/stock")]),
        ({"/share": Raw("0.9")}, []),
        ({"/share": Raw("0.9000000000000000000001")}, [("rule:maximum", "/share")]),
        ({"/share": "0.5", "/stock": True}, [("type_mismatch", "/stock"), ("type_mismatch", "/share")]),
        ({"/fee": Raw("1.230")}, []),
        ({"/fee": Raw("1.234")}, [("rule:multiple_of", "/fee")]),
        ({"/status": "OK"}, [("rule:enum", "/status")]),
        ({"/status": " e\u0301rror "}, []),
        ({"/since_ms": 0}, []),
        ({"/since_ms": Raw("0.0")}, [("type_mismatch", "/since_ms")]),
        ({"/since_ms": 253_402_300_800_000}, [("type_mismatch", "/since_ms")]),
        ({"/ts_ms": ARRIVED_US // 1000 + 86_400_000}, []),
        ({"/ts_ms": ARRIVED_US // 1000 + 86_400_001}, [("event_time_out_of_range", "/ts_ms")]),
        ({"/ts_ms": 946_684_799_999}, [("event_time_out_of_range", "/ts_ms")]),
        ({"/ts_ms": "2026-03-01T12:00:00Z"}, [("type_mismatch", "/ts_ms")]),
        ({"/ts_ms": None}, [("missing_required", "/ts_ms")]),
    ],
)
def test_bounds_lists_and_milliseconds_are_kept_to(said: dict[str, Any], reasons: list[Any]) -> None:
    made = event({"/free": {}, "/place/lat": 1, "/ts_ms": ARRIVED_US // 1000} | said)
    raw = written(made, {"separators": (",", ":")}, {}).encode()
    found = EXACT[IN_MS.stream](read_document(raw).value, ARRIVED_US)
    assert found.reasons == reasons
    assert agree(IN_MS, raw) is (not reasons)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"/event_id": GONE},
        {"/context": GONE, "/metadata": None},
        {"/metadata/k": [1, "é"]},
        {"/source": " ü "},
    ],
)
def test_the_usual_lead_is_taken_by_the_quick_reader(changed: dict[str, Any]) -> None:
    assert agree(LEAD, lead(changed))


def test_a_number_of_every_kind_is_taken_by_the_quick_reader() -> None:
    more = {"/free": {"k": 1.5}, "/count": -7, "/price": 0.1, "/place/lat": 1, "/agreed": False}
    assert agree(EVERY_KIND, lead({**more, "/seen_at": "2026-03-01T00:00:00Z"}))


def test_a_null_where_a_number_must_be_is_left_to_the_exact_reader() -> None:
    assert agree(EVERY_KIND, lead({"/free": {}, "/place/lat": 1}))
    assert not agree(EVERY_KIND, lead({"/free": {}, "/place/lat": None}))


@pytest.mark.parametrize(
    "hidden",
    [
        '"metadata": ' + '{"k": ' * 32 + "1" + "}" * 32,
        '"metadata": ' + "[" * 32 + "]" * 32,
        r'"source": "\u0000"',
    ],
)
def test_what_a_repeated_key_hides_is_left_to_the_exact_reader(hidden: str) -> None:
    assert not agree(LEAD, lead().replace(b"{", b"{" + hidden.encode() + b", ", 1))


@pytest.mark.parametrize(
    ("pointer", "text"),
    [
        ("/free", '{"k": 1e400}'),
        ("/free", f'{{"k": {"9" * 400}}}'),
        ("/price", "1e400"),
        ("/price", "9" * 400),
        ("/price", "true"),
        ("/place/lat", "null"),
        ("/count", "9223372036854775808"),
        ("/seen_at", '"2026-02-30T00:00:00Z"'),
        ("/seen_at", '"0001-01-01T00:00:00+18:01"'),
        ("/idempotency_key", '" "'),
        ("/source", f'"{"x" * 51}"'),
    ],
)
def test_what_may_be_a_fault_is_left_to_the_exact_reader(pointer: str, text: str) -> None:
    made = event({"/free": {}, "/place/lat": 1, pointer: Raw(text)})
    assert not agree(EVERY_KIND, written(made, {"separators": (",", ":")}, {}).encode())


@given(raw=documents(LEAD) | st.binary())
def test_any_bytes_become_silver_or_dead_or_nothing(raw: bytes) -> None:
    found = unsound(raw)
    assert found is None or (found.outcome == "dead") == bool(found.reasons)
    assert found is None or found.outcome in ("dead", "no_consent")


def test_a_sound_lead_has_columns_an_identity_and_its_time() -> None:
    sound, others = DECIDE([b"", lead({"/event_id": GONE, "/x/y": 1})], [ARRIVED_US] * 2)
    assert (sound.rows, sound.tenants, list(others)) == ([1], ["acme"], [0])
    assert sound.times == [ARRIVED_US - 59_877_000]
    assert sound.identities == dedupe_hashes("lead.ingest", ["acme"], [["key-1"]])
    assert sound.columns["event_id"] == sound.columns["id"] == [event_id("acme", "key-1")]
    assert sound.columns["extras"] == ['{"/x":{"y":1}}']


def test_unknown_fields_are_kept_in_the_documents_order() -> None:
    names = [f"/{name}" for name in "qwertyuiop"]
    sound, _ = DECIDE([lead(dict.fromkeys(names, 1))], [ARRIVED_US])
    assert list(json.loads(sound.columns["extras"][0])) == names


def test_refused_consent_keeps_the_tenant_but_neither_time_nor_reasons() -> None:
    assert unsound(lead({"/payload/consent": False})) == ("no_consent", "acme", None, (), None)


def test_a_dead_record_says_what_could_be_read_of_tenant_and_time() -> None:
    found = unsound(lead({"/source": 5}))
    assert found == ("dead", "acme", ARRIVED_US - 59_877_000, [("type_mismatch", "/source")], "validate")


def test_of_no_records_nothing_becomes() -> None:
    sound, unsound = judge(LEAD, normalise_leads(None))([], [])
    assert (sound.rows, sound.identities, sound.columns["id"], unsound) == ([], [], [], {})
