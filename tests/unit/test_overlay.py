"""Rules of single tenants: asked of that tenant's records alone. Overlays: refused with file and line."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import SetupError
from headwater.settings import load_settings
from jobs import refine
from jobs.queries import Context
from schemas.contract import Contract, contracts
from schemas.overlay import overlaid, parse_overlay
from tests.builders import GONE, LEAD, arrow_bronze, arrow_schema, lead
from tests.unit.test_crm import NOW_US, NUMBER, WRITERS, event, raw
from tests.unit.test_verdict import ARRIVED_US, EXACT, documents, field
from transformations import classify, verdict
from transformations.classify import Classifier, outcome_columns
from transformations.leads import normalise_leads
from transformations.verdict import judge

RULES = """
rules:
  acme:
    - property: /source
      enum: [{value: web}, {value: shop}]
    - property: /payload/message
      logicalTypeOptions: {maxLength: 5, pattern: "^[a-z ]+$"}
    - property: /payload/phone
      required: true
  globex:
    - {property: /context/utm/campaign, required: true}
"""
RULED = parse_overlay(RULES, "x.yaml", LEAD)
GOOD = {"/payload/phone": "+49 30 1234567", "/source": "web"}
WITHOUT = judge(LEAD, normalise_leads(None))
WITH = judge(replace(RULED, rules=RULED.rules[:1]), normalise_leads(None))  # acme's alone
SOURCES, MESSAGE = {"web", "shop"}, re.compile("[a-z ]{1,5}")


def classified(contract: Contract, *values: bytes) -> list[tuple[str, Any]]:
    """Outcome and reasons of each record, in order."""
    work = Classifier((contract,), None, arrow_schema(outcome_columns([contract], ["refined_at"])))
    found = pa.Table.from_batches(work([arrow_bronze(list(values))]), work.schema).sort_by("offset")
    return [
        (row["outcome"], row["reasons"] and [(r["code"], r["field"]) for r in row["reasons"]])
        for row in found.to_pylist()
    ]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, None),
        ({"/source": " shop "}, None),
        ({"/payload/message": "hello"}, None),
        ({"/payload/message": None}, None),
        ({"/source": "fax"}, [("rule:enum", "/source")]),
        ({"/payload/phone": GONE}, [("missing_required", "/payload/phone")]),
        ({"/payload/phone": "  "}, [("missing_required", "/payload/phone")]),
        ({"/payload/message": "hello you"}, [("rule:max_length", "/payload/message")]),
        ({"/payload/message": "Hello"}, [("rule:pattern", "/payload/message")]),
        (
            {"/source": "fax", "/payload/message": "HELLO YOU", "/payload/phone": GONE, "/x": 1},
            [
                ("rule:enum", "/source"),
                ("missing_required", "/payload/phone"),
                ("rule:max_length", "/payload/message"),
                ("rule:pattern", "/payload/message"),
            ],
        ),
        # The contract's own rules come first, and what refuses consent is not looked at.
        ({"/source": "x" * 51}, [("rule:max_length", "/source")]),
        ({"/payload/consent": GONE, "/source": "fax"}, [("missing_required", "/payload/consent")]),
    ],
)
def test_a_tenants_record_is_dead_with_every_rule_that_it_breaks(
    changes: dict[str, Any], reasons: Any
) -> None:
    record = lead(GOOD | changes)
    assert classified(RULED, record) == [("dead" if reasons else "silver", reasons)]


def test_other_tenants_records_are_what_they_were() -> None:
    values = [
        lead({"/tenant_id": "initech", "/source": "fax"}),
        lead({"/source": "fax"}),
        lead({"/payload/consent": False, "/source": "fax"}),
        lead({"/tenant_id": "Acme", "/source": "fax"}),
    ]
    assert [outcome for outcome, _ in classified(LEAD, *values)] == [
        "silver",
        "silver",
        "no_consent",
        "silver",
    ]
    assert [outcome for outcome, _ in classified(RULED, *values)] == [
        "silver",
        "dead",
        "no_consent",
        "silver",
    ]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"/context/utm/campaign": "spring"}, None),
        ({"/context/utm/source": "x"}, [("missing_required", "/context/utm/campaign")]),
        ({"/context": {}}, [("missing_required", "/context/utm")]),
        ({"/context": GONE}, [("missing_required", "/context")]),
    ],
)
def test_what_is_required_in_an_object_requires_the_object(changes: dict[str, Any], reasons: Any) -> None:
    record = lead({"/tenant_id": "globex"} | changes)
    assert classified(RULED, record) == [("dead" if reasons else "silver", reasons)]


NUMBERS = replace(
    LEAD,
    fields=(
        *LEAD.fields,
        field("/count", "integer"),
        field("/price", "number", places=2, minimum=Decimal(0), maximum=Decimal(100)),
        field("/status", "string", values=("new", "open", "done")),
        replace(field("/ref", "string"), format="uuid"),
    ),
)
BOUNDS = """
rules:
  acme:
    - {property: /count, logicalTypeOptions: {minimum: 1, maximum: 9}}
    - {property: /price, logicalTypeOptions: {maximum: 9.5, multipleOf: 0.1}}
    - {property: /status, logicalTypeOptions: {pattern: "n"}}
    - {property: /ref, logicalTypeOptions: {pattern: "^0"}}
"""


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        (
            {"/count": 1, "/price": 9.5, "/status": "open", "/ref": "0" * 8 + "-0000-0000-0000-" + "0" * 12},
            [],
        ),
        ({"/count": 0}, [("rule:minimum", "/count")]),
        ({"/count": 10}, [("rule:maximum", "/count")]),
        ({"/price": 9.51}, [("rule:maximum", "/price"), ("rule:multiple_of", "/price")]),
        ({"/price": -1}, [("rule:minimum", "/price")]),
        ({"/price": 9.511}, [("rule:multiple_of", "/price")]),  # the contract's: it allows two places
        ({"/status": "shut"}, [("rule:enum", "/status")]),  # the contract's
        ({"/ref": "0"}, [("rule:format", "/ref")]),  # the contract's
        ({"/ref": "1" * 8 + "-0000-0000-0000-" + "0" * 12}, [("rule:pattern", "/ref")]),
    ],
)
def test_bounds_and_forms_narrow_what_the_contract_has(
    changes: dict[str, Any], reasons: list[tuple[str, str]]
) -> None:
    decide = judge(parse_overlay(BOUNDS, "x.yaml", NUMBERS), normalise_leads(None))
    sound, unsound = decide([lead(changes)], [ARRIVED_US])
    assert [list(found.reasons) for found in unsound.values()] == ([reasons] if reasons else [])
    assert len(sound.rows) == (not reasons)


def test_a_record_in_avro_is_held_against_them_too() -> None:
    text = "rules: {acme: [{property: /data/company, required: true}]}"
    contract = parse_overlay(text, "x.yaml", contracts()["crm.leads"])
    judged = classify.judges((contract,), None, {NUMBER: WRITERS["crm.leads"]}.get)
    decide = judged[contract.topic][1]
    assert decide
    records = [raw("crm.leads", event("crm.leads", **more)) for more in ({}, {"company": "Initech"})]
    sound, unsound = decide(records, [NOW_US] * 2)
    assert (sound.rows, list(unsound)) == ([1], [0])
    assert list(unsound[0].reasons) == [("missing_required", "/data/company")]


def breaks(values: dict[str, Any]) -> bool:
    """Whether a lead of acme's breaks its rules, said apart."""
    message = values.get("/payload/message")
    spoken = message is None or MESSAGE.fullmatch(message)
    return values["/source"] not in SOURCES or not spoken or not values.get("/payload/phone")


def leads() -> st.SearchStrategy[list[bytes]]:
    made = st.builds(
        lambda tenant, source, phone, message: lead(
            {"/tenant_id": tenant, "/source": source, "/payload/phone": phone, "/payload/message": message}
        ),
        st.sampled_from(["acme", " acme ", "globex", "initech", "", 5]),
        st.sampled_from(["web", " shop", "fax", "e\u0301", ""]),
        st.sampled_from(["1", " ", None, GONE, 7]),
        st.sampled_from(["hi", "hi\n", "Hi", "hello you", "", None]),
    )
    return st.lists(made | documents(LEAD), max_size=8)


@given(leads())
def test_an_overlay_takes_from_silver_what_breaks_its_rules_and_nothing_else(values: list[bytes]) -> None:
    arrived = [ARRIVED_US] * len(values)
    before, dead_before = WITHOUT(values, arrived)
    after, dead = WITH(values, arrived)
    read = EXACT[LEAD.stream]
    broken = {
        row
        for row, tenant in zip(before.rows, before.tenants, strict=True)
        if tenant == "acme" and breaks(read(verdict.read_document(values[row]).value, ARRIVED_US).values)
    }
    assert after.rows == [row for row in before.rows if row not in broken]
    assert {row: found for row, found in dead.items() if row not in broken} == dead_before
    assert all((dead[row].outcome, dead[row].tenant_id, dead[row].stage) == ("dead", "acme", "validate")
               for row in broken)  # fmt: skip
    kept = [n for n, row in enumerate(before.rows) if row not in broken]
    assert {name: [column[n] for n in kept] for name, column in before.columns.items()} == after.columns


def test_only_that_tenants_valid_records_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    quick = verdict.quick_reader

    def counting(contract: Contract) -> Any:
        read = quick(contract)

        def counted(records: Sequence[bytes | None], arrived_us: Sequence[int]) -> Any:
            asked.append(len(records))
            return read(records, arrived_us)

        return counted

    monkeypatch.setattr(verdict, "quick_reader", counting)
    others = [lead({"/tenant_id": "initech"})] * 5
    mine = [lead(GOOD), lead(GOOD), lead({"/source": 5}), lead({"/payload/consent": False})]
    for contract, values in ((LEAD, [*others, *mine]), (RULED, [*others, *mine]), (RULED, others)):
        judge(contract, normalise_leads(None))(values, [ARRIVED_US] * len(values))
    assert asked == [9, 9, 2, 5]


def test_refine_judges_by_the_overlays_of_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "overlaid", lambda found, _: dict(found) | {LEAD.topic: RULED})
    for name in ("to_dead_letters", "to_filtered"):  # which need a JVM
        monkeypatch.setattr(refine, name, lambda *_: None)
    context = Context(cast(Any, None), load_settings("local"), "test")
    assert refine.Refine(context, "leads").contracts == [RULED]


# Files


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "lead.ingest.yaml").write_text(RULES)
    yield tmp_path


def test_a_stream_with_a_file_has_its_overlay_and_the_others_are_as_they_were(folder: Path) -> None:
    found = overlaid(contracts(), folder)
    assert found["lead.ingest"] == RULED
    assert {name: c for name, c in found.items() if name != "lead.ingest"} == {
        name: c for name, c in contracts().items() if name != "lead.ingest"
    }


def test_none_is_shipped_and_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert overlaid(contracts()) == overlaid(contracts(), tmp_path) == contracts()


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^streams\.overlays: there is no folder .*/nowhere$"):
        overlaid(contracts(), tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["lead.ingests.yaml", "lead.ingest.yml", "README.md"])
def test_a_file_of_no_stream_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).write_text(RULES)
    with pytest.raises(SetupError, match=rf"^{re.escape(str(folder / name))}: no contract"):
        overlaid({}, folder)


def rule(text: str, tenant: str = "acme") -> str:
    """An overlay with this rule in lines 3 and 4."""
    return f"rules:\n  {tenant}:\n    - property: /source\n      {text}\n"


HAS = "[{property: /source, required: true}]"


def sieve(text: str, name: str = "a") -> str:
    """An overlay with this filter in lines 3 and 4."""
    return f"filters:\n  acme:\n    - {{name: {name},\n       {text}}}\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "object"),
        ("rules: {}", 1, "less than 1 property"),
        ("tenant: {}", 1, "tenant"),
        ("rules: [", 1, "expected"),
        (rule("requird: true"), 4, "requird"),
        (rule("required: false"), 4, "true"),
        (rule("logicalTypeOptions: {format: uuid}"), 4, "format"),
        (rule("logicalTypeOptions: {maxLength: '5'}"), 4, "integer"),
        (rule("logicalTypeOptions: {maxLength: 51}"), 4, "/source: allows more than the contract"),
        (rule("logicalTypeOptions: {minimum: 5}"), 3, "minimum is not applied to a string"),
        (rule("logicalTypeOptions: {pattern: '('}"), 4, "no regular expression"),
        (rule("enum: [{value: web}, {value: " + "x" * 51 + "}]"), 4, "does not take 'xxx"),
        (rule("enum: [{value: a}]\n      logicalTypeOptions: {pattern: a}"), 3, "instead of a pattern"),
        (rule("required: true\n    - {property: /source, required: true}"), 5, "has rules already"),
        (rule("required: true\n      required: true"), 5, "'required' is there twice"),
        (rule("required: true\n  acme: [{property: /source, required: true}]"), 5, "'acme' is there twice"),
        (rule("required: true", "42"), 2, "'42' is no text"),
        (rule("required: true", "'no body'"), 2, "'no body' can be no tenant of lead.ingest"),
        (rule("required: true").replace("/source", "/sauce"), 3, "/sauce is no field of lead.ingest"),
        (rule("required: true").replace("/source", "source"), 3, "source is no field"),
        (sieve("drop: []"), 4, "[] has less than 1 item"),
        (sieve("drup: [{property: /source, required: true}]"), 4, "drup"),
        (sieve(f"drop: {HAS}, keep: {HAS}"), 3, "more than 2 properties"),
        (sieve("drop: " + HAS, name="No tests"), 3, "does not match"),
        (sieve("drop: " + HAS + "}\n    - {name: a, keep: " + HAS), 5, "'a' is there twice"),
        (sieve("drop: [{property: /sauce, required: true}]"), 4, "/sauce is no field of lead.ingest"),
        (sieve("drop: [{property: /source, enum: [{value: " + "x" * 51 + "}]}]"), 4, "does not take 'xxx"),
        (sieve("drop: [{property: /source}]"), 4, "less than 2"),
        (sieve("drop: " + HAS[:-1] + ", " + HAS[1:]), 4, "has rules already"),
        (sieve("drop: " + HAS).replace("acme", "'no body'"), 2, "'no body' can be no tenant"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SetupError, match=rf"^x\.yaml:{line}: .*{re.escape(message)}"):
        parse_overlay(text, "x.yaml", LEAD)


@pytest.mark.parametrize(
    "options", ["minimum: -1", "maximum: 100.5", "multipleOf: 0.001", "maximum: 101, minimum: 1"]
)
def test_bounds_that_are_wider_than_the_contracts_are_refused(options: str) -> None:
    text = f"rules:\n  acme:\n    - property: /price\n      logicalTypeOptions: {{{options}}}\n"
    with pytest.raises(SetupError, match=r"^x\.yaml:4: /price: allows more than the contract"):
        parse_overlay(text, "x.yaml", NUMBERS)
