"""Filters of single tenants: which events they leave out, and what is kept of those."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from schemas.contract import contracts
from schemas.overlay import parse_overlay
from tests.builders import GONE, LEAD, arrow_bronze, arrow_schema, lead
from tests.unit.test_crm import NOW_US, NUMBER, WRITERS, event, raw
from tests.unit.test_overlay import WITHOUT, classified, leads
from tests.unit.test_verdict import ARRIVED_US
from transformations import classify
from transformations.classify import Classifier, outcome_columns
from transformations.leads import normalise_leads
from transformations.verdict import judge

FILTERS = """
filters:
  acme:
    - name: no-tests
      drop:
        - {property: /source, enum: [{value: test}, {value: probe}]}
    - name: campaigns-we-know
      keep:
        - {property: /context/utm/campaign, logicalTypeOptions: {pattern: "^(spring|autumn)"}}
        - {property: /payload/phone, required: true}
  globex:
    - name: nobody
      drop:
        - {property: /payload/phone, logicalTypeOptions: {pattern: "^0+$"}}
        - {property: /source, enum: [{value: fax}]}
rules:
  acme:
    - {property: /source, enum: [{value: web}, {value: test}]}
"""
FILTERED = parse_overlay(FILTERS, "x.yaml", LEAD)
WANTED = {"/payload/phone": "+49 30 1234567", "/source": "web", "/context/utm/campaign": "spring-2"}


@pytest.mark.parametrize(
    ("changes", "outcome", "code"),
    [
        ({}, "silver", None),
        ({"/source": "test"}, "filtered", "filter:no-tests"),
        ({"/source": " probe "}, "filtered", "filter:no-tests"),
        ({"/context/utm/campaign": "winter"}, "filtered", "filter:campaigns-we-know"),
        # All conditions of a filter have to be met, and of what is not there none is.
        ({"/payload/phone": GONE}, "filtered", "filter:campaigns-we-know"),
        ({"/context": GONE}, "filtered", "filter:campaigns-we-know"),
        ({"/tenant_id": "globex", "/source": "fax", "/payload/phone": "000"}, "filtered", "filter:nobody"),
        ({"/tenant_id": "globex", "/source": "fax"}, "silver", None),
        ({"/tenant_id": "globex", "/source": "fax", "/payload/phone": GONE}, "silver", None),
        # The first filter is told; a filter is asked before the tenant's rules, and after the contract's.
        ({"/source": "test", "/payload/phone": GONE}, "filtered", "filter:no-tests"),
        ({"/source": "probe", "/x": 1}, "filtered", "filter:no-tests"),
        ({"/source": "fax"}, "dead", "rule:enum"),
        ({"/source": "test", "/payload/email": "nobody"}, "dead", "rule:pattern"),
        ({"/source": "test", "/payload/consent": False}, "no_consent", None),
        ({"/source": "test", "/tenant_id": "initech"}, "silver", None),
    ],
)
def test_a_filter_leaves_out_what_its_tenant_does_not_want(
    changes: dict[str, Any], outcome: str, code: str | None
) -> None:
    ((found, reasons),) = classified(FILTERED, lead(WANTED | changes))
    assert (found, reasons and reasons[0][0]) == (outcome, code)


def test_a_filtered_event_says_whose_and_when_and_keeps_nothing_else() -> None:
    work = Classifier((FILTERED,), None, arrow_schema(outcome_columns([FILTERED], ["refined_at"])))
    value = lead(WANTED | {"/source": "test"})
    (row,) = pa.Table.from_batches(work([arrow_bronze([value])]), work.schema).to_pylist()
    assert (row["outcome"], row["tenant_id"], row["size"]) == ("filtered", "acme", len(value))
    assert row["event_time"] is not None
    assert {name for name, said in row.items() if said is not None} == {
        *("outcome", "tenant_id", "stream", "size", "event_time", "dedupe_hash", "reasons", "fingerprint"),
        *("topic", "partition", "offset", "ingested_at", "refined_at"),
    }


def test_two_copies_of_a_filtered_event_are_both_filtered() -> None:
    # Each for itself: should the filter be taken away, a later copy is the event's first.
    value = lead(WANTED | {"/source": "test"})
    assert [outcome for outcome, _ in classified(FILTERED, value, value)] == ["filtered"] * 2


def test_events_in_avro_are_filtered_too() -> None:
    text = "filters: {acme: [{name: ours, drop: [{property: /data/company, enum: [{value: Initech}]}]}]}"
    contract = parse_overlay(text, "x.yaml", contracts()["crm.leads"])
    decide = classify.judges((contract,), None, {NUMBER: WRITERS["crm.leads"]}.get)[contract.topic][1]
    assert decide
    records = [raw("crm.leads", event("crm.leads", **more)) for more in ({}, {"company": "Initech"})]
    sound, unsound = decide(records, [NOW_US] * 2)
    assert (sound.rows, {row: found.outcome for row, found in unsound.items()}) == ([0], {1: "filtered"})


@given(leads())
def test_a_filter_that_drops_and_one_that_keeps_the_same_share_the_events_between_them(
    values: list[bytes],
) -> None:
    arrived = [ARRIVED_US] * len(values)
    source = "{property: /source, enum: [{value: web}, {value: fax}]}"
    conditions = f"[{source}, {{property: /payload/phone, required: true}}]"
    found = {}
    for way in ("drop", "keep"):
        contract = parse_overlay(f"filters: {{acme: [{{name: a, {way}: {conditions}}}]}}", "x.yaml", LEAD)
        sound, unsound = judge(contract, normalise_leads(None))(values, arrived)
        out = {row for row, why in unsound.items() if why.outcome == "filtered"}
        found[way] = out, {n for n, whose in zip(sound.rows, sound.tenants, strict=True) if whose == "acme"}
    before, _ = WITHOUT(values, arrived)
    mine = {row for row, whose in zip(before.rows, before.tenants, strict=True) if whose == "acme"}
    assert found["drop"] == found["keep"][::-1]
    assert found["drop"][0] | found["keep"][0] == mine
