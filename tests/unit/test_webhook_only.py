"""A connector's `only`: the condition that it becomes, the columns it may name, how it is set."""

import re

import pytest

from headwater.errors import SetupError
from headwater.settings import Connector, load_settings
from sinks.postgres import LEAD_COLUMNS
from sinks.webhook.only import COLUMNS, check_only, condition, parameters

PERSONAL = {"id", "event_id", "idempotency_key", "first_name", "last_name", "email", "phone", "message",
            "ip_address", "user_agent", "metadata"}  # fmt: skip


def test_values_are_parameters_and_never_text_of_the_statement() -> None:
    only = {"source": ("web'; DROP TABLE leads; --",), "submission_type": ("demo", "contact")}
    wanted = 'kept."source" = ANY(%(only_source)s) AND kept."submission_type" = ANY(%(only_submission_type)s)'
    assert condition(only).as_string(None) == wanted
    assert parameters(only) == {f"only_{column}": list(values) for column, values in only.items()}


def test_without_columns_every_lead_is_wanted() -> None:
    assert (condition({}).as_string(None), parameters({})) == ("true", {})


def test_the_columns_are_those_of_leads_that_say_nothing_of_the_person() -> None:
    assert set(COLUMNS) <= set(LEAD_COLUMNS)
    assert not set(COLUMNS) & PERSONAL


@pytest.mark.parametrize("column", ["email", "shoe_size", "source; --", "kept.source"])
def test_another_column_is_named(column: str) -> None:
    with pytest.raises(SetupError, match=rf"connectors\.crm\.only: .* by {re.escape(column)}, but by source"):
        check_only("crm", {"source": ("web",), column: ("x",)})


@pytest.mark.parametrize("values", [[], "demo_request", [False], [None], [["a"]]])
def test_values_are_a_list_of_texts_that_is_not_empty(values: object) -> None:
    with pytest.raises(ValueError, match="only"):
        Connector.model_validate({"mapping": {"a": "id"}, "only": {"source": values}})


def test_it_is_set_by_a_variable_beside_what_the_files_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CONNECTORS__CRM__ONLY", '{"submission_type": ["demo_request", "été"]}')
    load_settings.cache_clear()
    try:
        found = load_settings("staging").connectors
    finally:
        load_settings.cache_clear()
    assert found["crm"].only == {"submission_type": ("demo_request", "été")}
    assert (found["crm"].mapping["email"], found["marketing"].only) == ("email", {})
