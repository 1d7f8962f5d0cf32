"""Event ids of a column of events."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.identity import event_id
from transformations.event_ids import event_ids

EVENTS = st.lists(st.tuples(st.text(), st.text()))


@given(EVENTS)
def test_a_column_has_the_ids_that_its_events_have_one_by_one(events: list[tuple[str, str]]) -> None:
    tenants, keys = [tenant for tenant, _ in events], [key for _, key in events]
    assert event_ids(tenants, keys) == [event_id(tenant, key) for tenant, key in events]
