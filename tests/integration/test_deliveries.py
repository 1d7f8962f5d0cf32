"""Connectors as operators meet them: `jobs deliver --to webhook-crm` and `jobs deliveries`, as processes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from headwater import delta_log
from headwater.identity import event_id
from headwater.settings import ROOT, Settings, load_settings
from headwater.tables import table_path
from jobs import runs
from jobs.deliveries import app
from local.receiver import Receiver
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS, JOB_RUNS
from tests.conftest import RECEIVER_SECRET as SECRET
from tests.integration.outbox_harness import Leads, lead, migrated_database, settings_of

Ended = subprocess.CompletedProcess[str]
Words = Callable[..., Ended]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with migrated_database() as name:
        found = settings_of(name, lake=str(tmp_path / "lake"))
        delta_log.create(table_path(found, DEAD_LETTERS.full_name), LETTERS, [], {})
        delta_log.create(table_path(found, JOB_RUNS.full_name), runs.SCHEMA, [], {})
        yield found


@pytest.fixture
def leads(settings: Settings) -> Iterator[Leads]:
    made = Leads(settings)
    yield made
    made.close()


@pytest.fixture
def words(settings: Settings, receiver: Receiver, tmp_path: Path) -> Words:
    """`python -m jobs …` without Java: a job that asked for a Spark session would fail."""
    (tmp_path / "secret").write_text(SECRET)

    def run(*arguments: str) -> Ended:
        crm = {
            "URL": f"{receiver.url}/crm",
            "SECRET_FILE": str(tmp_path / "secret"),
            "ALLOW_PRIVATE": '["127.0.0.0/8"]',
        }
        env = {
            "PATH": "/nowhere", "COLUMNS": "200", "TERM": "dumb", "HEADWATER_LAKE": settings.lake,
            "HEADWATER_POSTGRES__DSN": settings.postgres.dsn, "HEADWATER_METRICS__PORT": "0",
            **{f"HEADWATER_CONNECTORS__CRM__{key}": value for key, value in crm.items()},
        }  # fmt: skip
        argv = [sys.executable, "-m", "jobs", *arguments]
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)

    return run


def deliver(words: Words, *more: str) -> Ended:
    return words("deliver", "--domain", "leads", "--to", "webhook-crm", "--once", *more)


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """`jobs deliveries …` in this process."""
    monkeypatch.setenv("HEADWATER_POSTGRES__DSN", settings.postgres.dsn)
    monkeypatch.setenv("COLUMNS", "200")
    load_settings.cache_clear()
    yield lambda *arguments: CliRunner().invoke(app, arguments)
    load_settings.cache_clear()


def test_a_connector_runs_without_a_jvm_and_its_dead_can_be_retried(
    words: Words, ask: Callable[..., Result], leads: Leads, receiver: Receiver
) -> None:
    leads.write(lead("a"), lead("b"))
    receiver.plan([{"status": 404}])
    ended = deliver(words, "--from-start", "--run-id", "r1")
    assert ended.returncode == 0, ended.stderr
    status = json.loads(ended.stdout.splitlines()[-1])
    assert (status["status"], status["rows_in"], status["rows_out"], status["dead"]) == ("ok", 2, 1, 1)
    assert "ops.dead_letters" in status["table_versions"]
    assert json.loads(deliver(words, "--run-id", "r1").stdout.splitlines()[-1])["status"] == "noop"

    (dead,) = [json.loads(line) for line in ask("list", "--status", "dead", "--json").stdout.splitlines()]
    assert (dead["connector"], dead["last_status"], dead["dead_reason"]) == ("crm", 404, "sink_rejected")
    retried = ask("retry", "--connector", "crm", "--status", "dead")
    assert (retried.exit_code, retried.stdout) == (0, "1 deliveries are due now\n")
    assert deliver(words).returncode == 0
    assert ask("list", "--status", "dead", "--json").stdout == ""
    assert len(receiver.seen()) == 3


def test_the_list_is_a_table_without_the_person(ask: Callable[..., Result], leads: Leads) -> None:
    leads.write(lead("canary-a"))
    leads.connection.execute(
        "INSERT INTO webhook_deliveries (connector, tenant_id, lead_id, event_id, row_version, status,"
        " attempts, last_status) SELECT 'crm', tenant_id, lead_id, event_id, row_version, 'delivered', 1, 200"
        " FROM lead_outbox"
    )
    listed = ask("list")
    head, row = listed.stdout.splitlines()
    assert head.split()[:5] == ["id", "connector", "status", "attempts", "last"]
    assert row.split()[1:5] == ["crm", "delivered", "1", "200"]
    assert event_id("acme", "canary-a") in row and "canary" not in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("retry",), 2, "give either --id"),
        (("retry", "--connector", "crm"), 2, "give either --id"),
        (("retry", "--connector", "cmr", "--status", "dead"), 2, "there is no connector cmr, but crm, "),
        (("retry", "--id", "77"), 1, "1 of the numbers are unknown"),
        (("list", "--status", "lost"), 2, "is none of pending"),
        (("list", "--env", "nowhere"), 2, "no configuration named 'nowhere'"),
    ],
)
def test_a_wrong_order_is_refused_with_what_to_write(
    ask: Callable[..., Result], arguments: tuple[str, ...], code: int, says: str
) -> None:
    ended = ask(*arguments)
    assert (ended.exit_code, says in ended.output) == (code, True), ended.output
