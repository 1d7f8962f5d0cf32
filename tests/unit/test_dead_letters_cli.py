"""`jobs dead-letters` on a small Delta table, in this process."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from headwater import delta_log
from headwater.settings import Settings, load_settings
from headwater.tables import table_path
from jobs.dead_letters import app
from schemas.letters import LETTERS
from schemas.tables import JOB_RUNS
from tests.letters import CANARY, NOON, PAYLOAD, append, identity, lake_settings, letter, make_lake, statuses

Ask = Callable[..., Result]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = lake_settings(tmp_path / "lake")
    make_lake(found, letter(0, "empty", tenant_id=None, payload=b"\x00\xff", stream="crm.leads"))
    append(found, letter(1), letter(2, "type_mismatch", "rule:pattern"), letter(3, status="replayed"))
    return found


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    monkeypatch.setenv("HEADWATER_LAKE", settings.lake)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LOGNAME", "grace")
    load_settings.cache_clear()
    yield lambda *arguments: CliRunner().invoke(app, arguments)
    load_settings.cache_clear()


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def decisions(settings: Settings) -> list[str]:
    table = delta_log.read(table_path(settings, JOB_RUNS.full_name), ["job", "status", "error"], None)
    assert {(row["job"], row["status"]) for row in table.to_pylist()} <= {
        ("dead-letters.discard", "accepted")
    }
    return [row["error"] for row in table.to_pylist()]


def test_the_list_is_a_table_without_the_person(ask: Ask) -> None:
    head, *lines = ask("list").stdout.splitlines()
    assert head.split() == [
        "failed_at", "status", "stage", "stream", "tenant_id", "reasons", "replay_count", "dead_letter_id",
    ]  # fmt: skip
    assert [line.split()[-1] for line in lines] == [identity(n) for n in (3, 2, 1, 0)]
    assert lines[1].split()[:6] == [
        "2026-03-01T12:00:02.000000Z", "new", "validate", "lead.ingest", "acme", "type_mismatch,rule:pattern",
    ]  # fmt: skip
    assert "canary" not in "".join(lines)


def test_the_list_for_programs_takes_the_filter(ask: Ask) -> None:
    found = records(ask("list", "--json", "--reason", "rule:pattern", "--status", "new", "--limit", "1"))
    assert [row["source_offset"] for row in found] == [2]
    assert found[0].keys() == set(LETTERS.names) - {"payload", "headers"}
    span = ("--since", "2026-03-01T12:00:01Z", "--until", "2026-03-01T13:00:02+01:00")
    assert [row["source_offset"] for row in records(ask("list", "--json", *span))] == [1]
    assert records(ask("list", "--json", "--tenant", "globex")) == []


def test_a_letter_is_shown_masked_unless_asked_otherwise(ask: Ask, settings: Settings) -> None:
    append(settings, letter(4, replay_of=identity(1)))
    shown = ask("show", identity(1))
    assert shown.exit_code == 0 and CANARY not in shown.output
    for part in ('"email": "text(22)"', "trace  bytes(22)", "rule:pattern  /payload/email  is wrong"):
        assert part in shown.stdout
    assert f"2026-03-01T12:00:04.000000Z  new  rule:pattern  {identity(4)}" in shown.stdout
    assert "same_fingerprint  5" in shown.stdout
    plain = ask("show", identity(1), "--pii").stdout
    assert PAYLOAD.decode() in plain and f"trace  {CANARY}" in plain
    (record,) = records(ask("show", identity(1), "--pii", "--json"))
    assert base64.b64decode(record["payload"]["base64"]) == PAYLOAD
    assert "masked; not JSON" in ask("show", identity(0)).stdout
    assert "base64:AP8=" in ask("show", identity(0), "--pii").stdout


def test_nothing_of_a_letter_moves_the_terminal(ask: Ask, settings: Settings) -> None:
    odd = "\x1b[2J\u202etenant\r"
    append(settings, letter(5, tenant_id=odd, payload=odd.encode(), headers=[{"key": odd, "value": None}]))
    for said in (ask("list"), ask("show", identity(5), "--pii"), ask("stats", "--by", "tenant")):
        assert said.exit_code == 0 and "\\x1b[2J\\u202etenant\\r" in said.stdout
        assert not {"\x1b", "\r", "\u202e"} & set(said.stdout)


def test_stats_count_by_what_is_asked_the_largest_first(ask: Ask) -> None:
    found = records(ask("stats", "--json"))
    assert [(g["stream"], g["reason"], g["letters"]) for g in found] == [
        ("lead.ingest", "rule:pattern", 3), ("crm.leads", "empty", 1), ("lead.ingest", "type_mismatch", 1),
    ]  # fmt: skip
    assert found[0]["first_failed_at"] == "2026-03-01T12:00:01.000000Z"
    assert (found[0]["last_failed_at"], found[0]["example"]) == ("2026-03-01T12:00:03.000000Z", identity(3))
    by = ("--by", "day", "--by", "contract-version")
    head, line = ask("stats", *by, "--tenant", "acme").stdout.splitlines()
    assert head.split()[:3] == ["day", "contract_version", "letters"]
    assert line.split()[:3] == ["2026-03-01", "1.0.0", "3"]


def test_a_discard_is_told_first_then_done_then_written_down(ask: Ask, settings: Settings) -> None:
    told = ask("discard", "--reason", "rule:pattern")
    assert (told.exit_code, told.stdout.split(";")[0]) == (0, "2 letters would be discarded")
    assert "discarded" not in statuses(settings).values() and decisions(settings) == []
    done = ask("discard", "--reason", "rule:pattern", "--yes", "--why", "a test of the producer")
    assert (done.exit_code, done.stdout) == (0, "2 letters are discarded\n")
    assert statuses(settings) == {0: "new", 1: "discarded", 2: "discarded", 3: "replayed"}
    said = 'grace discards 2 dead letters, {"reason": "rule:pattern"}, because: a test of the producer'
    assert decisions(settings) == [said]
    again = ask("discard", "--reason", "rule:pattern", "--yes", "--why", "again")
    assert again.stdout == "0 letters are discarded\n" and decisions(settings) == [said]


def test_letters_are_discarded_by_id_and_one_that_is_unknown_stops_it(ask: Ask, settings: Settings) -> None:
    lost = ask("discard", "--id", identity(1), "--id", "nobody", "--yes", "--why", "x")
    assert (lost.exit_code, "nobody" in lost.output) == (2, True)
    assert statuses(settings)[1] == "new"
    done = ask("discard", "--id", identity(1), "--id", identity(3), "--yes", "--why", "x")
    assert done.stdout == "1 letters are discarded\n"
    assert statuses(settings) == {0: "new", 1: "discarded", 2: "new", 3: "replayed"}


def test_an_export_is_masked_complete_and_its_owners_alone(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "letters.ndjson"
    file.write_text("what was there before")
    assert ask("export", str(file), "--stream", "lead.ingest").stdout == f"3 letters are in {file}\n"
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert found[0].keys() == {*LETTERS.names, "payload_masked"}
    assert {row["payload"] for row in found} == {None} and "canary" not in file.read_text()
    assert found[0]["payload_masked"]["json"]["payload"]["email"] == "text(22)"
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert [f.name for f in tmp_path.iterdir() if f.is_file()] == ["letters.ndjson"]
    ask("export", str(file), "--pii", "--since", str(NOON + timedelta(seconds=3)))
    (whole,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert base64.b64decode(whole["payload"]) == PAYLOAD and whole["payload_masked"] is None


def test_a_parquet_export_has_the_tables_columns(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "letters.parquet"
    assert ask("export", str(file)).exit_code == 0
    table = pq.read_table(file)
    assert table.schema.names == [*LETTERS.names, "payload_masked"] and table.num_rows == 4
    assert table["payload"].null_count == 4 and b"canary" not in file.read_bytes()
    assert ask("export", str(file), "--pii").exit_code == 0
    plain = pq.read_table(file)
    assert plain.select(LETTERS.names).schema == LETTERS and plain["payload"].null_count == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "nobody"), "no dead letter has the id nobody"),
        (("list", "--status", "lost"), "is none of new"),
        (("list", "--since", "yesterday"), "is no time"),
        (("list", "--env", "nowhere"), "no configuration named 'nowhere'"),
        (("stats", "--by", "weather"), "is none of reason"),
        (("discard",), "give either a filter or --id"),
        (("discard", "--id", "a", "--stream", "b"), "give either a filter or --id"),
        (("discard", "--status", "new", "--yes"), "--yes needs --why"),
        (("export", "letters.csv"), "is called *.ndjson or *.parquet"),
        (("export", "/nowhere/letters.ndjson"), "cannot be written: No such file"),
    ],
)
def test_a_wrong_order_ends_with_two_and_what_to_write(
    ask: Ask, arguments: tuple[str, ...], says: str
) -> None:
    ended = ask(*arguments)
    assert (ended.exit_code, says in ended.output) == (2, True), ended.output


def test_a_lake_elsewhere_is_refused_and_one_that_is_damaged_is_an_outage(
    ask: Ask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in Path(settings.lake, "ops", "dead_letters").glob("*.parquet"):
        file.unlink()
    away = ask("list")
    assert (away.exit_code, "cannot be read" in away.output) == (1, True)
    monkeypatch.setenv("HEADWATER_LAKE", "hdfs://name/lake")
    load_settings.cache_clear()
    for words, says in (
        (("list",), "a folder or from S3"),
        (("discard", "--status", "new"), "local lake only"),
    ):
        ended = ask(*words)
        assert (ended.exit_code, says in ended.output) == (2, True), ended.output
