"""Records of the API's refusals: what their headers say is their verdict."""

from typing import Any

import pytest

from transformations.refused import refused
from transformations.validate import Reason, told

FOREIGN = (("malformed_json", ""),)


def headers(**given: bytes | None) -> list[dict[str, Any]]:
    return [{"key": name, "value": value} for name, value in given.items()]


def test_tenant_and_every_reason_come_from_the_headers() -> None:
    verdict = refused(headers(tenant_id=b"acme", reasons=b'[["rule:pattern","/a"],["type_mismatch","/b"]]'))
    assert (verdict.outcome, verdict.stage, verdict.tenant_id) == ("dead", "api", "acme")
    assert list(verdict.reasons) == [("rule:pattern", "/a"), ("type_mismatch", "/b")]
    assert verdict.event_time is None


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        headers(reasons=None),
        headers(reasons=b""),
        headers(reasons=b"[]"),
        headers(reasons=b'{"code":"x"}'),
        headers(reasons=b"[[1,2]]"),
        headers(reasons=b"\xff"),
        headers(tenant_id=b"\xff"),
    ],
)
def test_a_record_that_the_api_did_not_write_is_dead_all_the_same(given: Any) -> None:
    verdict = refused(given)
    assert (verdict.outcome, verdict.stage, tuple(verdict.reasons)) == ("dead", "api", FOREIGN)


@pytest.mark.parametrize(
    ("reason", "rule"),
    [(("rule:unknown_field", "/x"), "unknown_field"), (("of_a_newer_api", "/x"), None)],
)
def test_a_reason_of_the_api_is_told_in_a_sentence(reason: Reason, rule: str | None) -> None:
    found = told(reason)
    assert (found["code"], found["rule"], found["field"]) == (reason[0], rule, "/x")
    assert found["message"]
