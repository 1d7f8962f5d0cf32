"""Which dead letters a query or a body asks for, read without a server."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.letters_body import read_order
from api.letters_query import FILTER, LIST, STATS, cursor_of, wanted_of
from api.openapi_letters import ORDER_SCHEMA
from api.problems import Problem
from sources.letters.groups import BY
from sources.letters.wanted import Wanted

ID = "0f" * 32
MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2286, 1, 1), timezones=st.just(UTC))
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(MOMENTS, DIGESTS)
def test_a_cursor_is_the_place_of_its_letter(moment: datetime, name: str) -> None:
    cursor = cursor_of({"failed_at": moment, "dead_letter_id": name})
    assert LIST["cursor"].read(cursor) == (moment, name)


def test_the_tenant_is_never_taken_from_what_was_given() -> None:
    assert "tenant" not in FILTER and "ids" not in FILTER
    assert wanted_of({"stream": "a", "tenant": "globex", "limit": 3}, "acme") == Wanted("a", "acme")
    order = read_order(json.dumps({"ids": [ID, ID], "why": "x"}).encode(), "acme")
    assert order.wanted == Wanted(tenant="acme", ids=(ID,))


def test_letters_of_one_tenant_are_grouped_by_all_else() -> None:
    assert STATS["by"].read("day,contract_version") == ["day", "contract-version"]
    assert STATS["by"].read("reason,fingerprint,stream,stage,status,day") == [
        name for name in BY if name not in ("tenant", "contract-version")
    ]


def test_a_filter_of_a_body_is_read_as_that_of_a_query() -> None:
    given_ = {"reason": "empty", "status": "new", "since": "2026-03-01T12:00:00Z", "fingerprint": ID}
    order = read_order(json.dumps({"filter": given_, "why": "x"}).encode(), "acme")
    assert order.wanted == wanted_of({k: FILTER[k].read(v) for k, v in given_.items()}, "acme")
    assert order.wanted.since == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert {*ORDER_SCHEMA["properties"]["filter"]["properties"]} == {*FILTER}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.sampled_from(["ids", "filter", "why", "status", "since"]) | st.text()


def holders(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)


@given(st.recursive(SCALARS, holders, max_leaves=8))
def test_whatever_is_sent_is_an_order_or_a_refusal(body: object) -> None:
    try:
        order = read_order(json.dumps(body).encode(), "acme")
    except Problem as refusal:
        assert refusal.status in (400, 422) and refusal.errors
    else:
        assert order.wanted.tenant == "acme" and order.why.strip()


@pytest.mark.parametrize("text", ["1-x", f"-1-{ID}", f"{10**16 - 1}-{ID[:-1]}", "", f"1-{ID} "])
def test_a_cursor_of_ones_own_making_is_wrong(text: str) -> None:
    with pytest.raises(ValueError):
        LIST["cursor"].read(text)


def test_every_cursor_that_fits_its_form_is_a_time() -> None:
    moment, _ = LIST["cursor"].read(f"{10**16 - 1}-{ID}")
    assert moment - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(microseconds=10**16 - 1)
