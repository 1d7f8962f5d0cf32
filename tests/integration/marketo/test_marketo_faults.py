"""Faults of Marketo, of the way to it and of Kafka: what may pass does, what does not is said."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from headwater.errors import SetupError, TransientError
from headwater.settings import Settings
from jobs.extract_marketo import ExtractMarketo
from sources.marketo import client as client_module
from sources.marketo import transport
from sources.marketo.answers import QuotaError
from sources.marketo.pace import Pace
from tests.integration.certificate import vouching_for_itself
from tests.integration.marketo.harness import Events, Make, history, ids, position, run
from tests.integration.marketo_server import NOON, MarketoServer, serving
from tests.integration.outbox_harness import context

CALLS = "headwater_marketo_calls_total"

# What may pass


@pytest.mark.parametrize("call", ["paging_token", "changes", "deletions", "leads", "login"])
@pytest.mark.parametrize(
    ("step", "outcome"),
    [({"status": 503}, "http_503"), ({"cut": True}, "protocol"), ({"drip_s": 1.2}, "timeout")],
)
def test_what_passes_is_tried_again(
    server: MarketoServer, make: Make, events: Events, call: str, step: Any, outcome: str
) -> None:
    history(server, 3)
    server.plan(call, step)
    told = {"call": call, "outcome": outcome}
    before = REGISTRY.get_sample_value(CALLS, told) or 0
    run(make(timeout_s=0.6))
    assert ids(events) == server.guids
    assert REGISTRY.get_sample_value(CALLS, told) == before + 1


def test_codes_that_pass_and_answers_that_are_no_json_are_tried_again(
    server: MarketoServer, make: Make, events: Events
) -> None:
    history(server, 3)
    server.plan("changes", {"code": "611"}, {"code": "615"}, {"raw": b'{"success": tr'})
    run(make())
    assert (ids(events), server.calls["changes"]) == (server.guids, 5)


def test_an_access_token_that_expires_is_replaced_and_the_call_repeated(
    server: MarketoServer, make: Make, events: Events
) -> None:
    history(server, 25)
    extractor = make()
    while extractor.step():
        server.expire_access_token()
    assert ids(events) == server.guids
    assert server.calls["login"] > 5


def test_a_token_is_kept_for_as_long_as_it_lives(server: MarketoServer, make: Make) -> None:
    history(server, 25)
    run(make())
    assert server.calls["login"] == 1


def test_over_marketos_limit_calls_wait_and_come_again(
    server: MarketoServer, make: Make, events: Events
) -> None:
    history(server, 15)
    server.limit = (4, 1.0)
    run(make())
    assert ids(events) == server.guids
    assert server.over_limit > 0


def test_at_our_pace_no_call_is_over_marketos_limit(
    server: MarketoServer, make: Make, events: Events
) -> None:
    history(server, 15)
    server.limit = (4, 1.0)
    run(make(pace=Pace(4, 1.0)))
    assert (ids(events), server.over_limit) == (server.guids, 0)


def test_an_outage_that_lasts_is_an_outage_and_moves_nothing(
    server: MarketoServer, make: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.1)
    history(server, 3)
    server.plan("leads", *[{"status": 500}] * 9)
    with pytest.raises(TransientError, match="Marketo leads: status 500"):
        make().step()
    assert position(settings, "changes") == (NOON, None)


def test_what_kafka_does_not_acknowledge_moves_nothing(
    server: MarketoServer, settings: Settings, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.extract_marketo.ACKNOWLEDGED_WITHIN_S", 1.0)
    history(server, 3)
    make()
    away = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"bootstrap": "127.0.0.1:9"})}
    )
    extractor = ExtractMarketo(context(away), "nowhere")
    with pytest.raises(TransientError, match="did not acknowledge 4"):
        extractor.step()
    extractor.close()
    assert position(settings, "changes") == (NOON, None)


@pytest.mark.parametrize(("trusted", "name", "status"), [
    (True, "localhost", 401), (True, "127.0.0.1", 0), (False, "localhost", 0),
])  # fmt: skip
def test_only_a_host_that_shows_its_own_certificate_is_spoken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, name: str, status: int
) -> None:
    certificate = vouching_for_itself(tmp_path, "localhost")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate=certificate) as server:
        way = transport.Transport(f"https://{name}:{server.server_address[1]}", 5)
        answer = way.get("/identity/oauth/token", {}, {})
        way.close()
    assert (answer.status, answer.error) == (status, None if status else "connection")
    assert bool(server.calls) == bool(status)


# What must be mended


@pytest.mark.parametrize(
    ("call", "steps", "why"),
    [
        ("changes", [{"code": "601"}] * 2, "does not take the access token"),
        ("changes", [{"code": "603"}], "access denied"),
        ("changes", [{"code": "1003"}], "code 1003"),
        ("leads", [{"code": "610"}], "code 610"),
        ("leads", [{"status": 307, "headers": {"Location": "/rest/v1/leads.json"}}], "status 307"),
    ],
)
def test_what_does_not_pass_is_said_at_once(
    server: MarketoServer, make: Make, call: str, steps: list[Any], why: str
) -> None:
    history(server, 1)
    server.plan(call, *steps)
    with pytest.raises(SetupError, match=why):
        make().step()
    assert server.calls[call] == len(steps)


def test_a_token_that_marketo_does_not_know_is_replaced_once(
    server: MarketoServer, make: Make, events: Events
) -> None:
    history(server, 1)
    server.plan("changes", {"code": "601"})
    run(make())
    assert (ids(events), server.calls["login"]) == (server.guids, 2)


def test_a_wrong_secret_or_field_is_said_at_once(server: MarketoServer, make: Make) -> None:
    with pytest.raises(SetupError, match=r"check marketo\.client_id and marketo\.client_secret"):
        make(client_secret=SecretStr("other")).step()
    with pytest.raises(SetupError, match=r"does not have one of marketo\.fields"):
        make(fields=("shoeSize",)).step()
    assert server.calls["login"] == 2


def test_the_days_quota_ends_the_run_without_further_calls(server: MarketoServer, make: Make) -> None:
    history(server, 1)
    server.plan("leads", {"code": "607"})
    with pytest.raises(QuotaError):
        make().step()
    assert server.calls["leads"] == 1


def test_an_answer_about_leads_that_is_too_large_is_asked_for_in_halves(
    server: MarketoServer, make: Make, settings: Settings, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 2000)
    for number in range(1, 5):
        server.create(number, notes="x" * 1500)
    run(make(fields=("notes",)))
    assert (ids(events), server.calls["leads"]) == (server.guids, 7)
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 100)
    with pytest.raises(SetupError, match=r"ask for fewer marketo\.fields"):
        make(account_id=f"{settings.marketo.account_id}-b").step()
