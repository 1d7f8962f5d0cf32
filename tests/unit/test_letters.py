"""Dead letters of a small Delta table: which are wanted, newest first, in groups, one, discarded."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headwater import delta_log
from headwater.errors import SetupError, TransientError
from headwater.paths import table_path
from headwater.settings import Settings
from schemas.letters import LETTERS
from sources.letters.groups import groups
from sources.letters.newest import newest
from sources.letters.one import find
from sources.letters.settle import discard, new_ones, unknown
from sources.letters.shown import whole
from sources.letters.table import TABLE
from sources.letters.wanted import Wanted, moment
from tests.letters import CANARY, NOON, append, identity, lake_settings, letter, make_lake, rows, statuses


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return lake_settings(tmp_path / "lake")


def numbers(letters: list[dict[str, Any]]) -> list[int]:
    return [one["source_offset"] for one in letters]


FOUR = (
    letter(0, "empty", tenant_id=None),
    letter(1, "rule:pattern", "type_mismatch", stream="crm.leads", contract_version="2.0.0"),
    letter(2, "missing_required", stage="decode", fingerprint="a" * 64, status="replayed"),
    letter(3, "type_mismatch", "type_mismatch", replay_of=identity(1)),
)


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        (Wanted(), [0, 1, 2, 3]),
        (Wanted(stream="crm.leads"), [1]),
        (Wanted(tenant="acme"), [1, 2, 3]),
        (Wanted(tenant=""), []),
        (Wanted(stage="decode"), [2]),
        (Wanted(reason="type_mismatch"), [1, 3]),
        (Wanted(reason="nothing"), []),
        (Wanted(fingerprint="a" * 64), [2]),
        (Wanted(contract_version="2.0.0"), [1]),
        (Wanted(status="replayed"), [2]),
        (Wanted(since=NOON + timedelta(seconds=2)), [2, 3]),
        (Wanted(until=NOON + timedelta(seconds=2)), [0, 1]),
        (Wanted(replay_of=identity(1)), [3]),
        (Wanted(ids=(identity(0), identity(3), "x")), [0, 3]),
        (Wanted(reason="type_mismatch", stream="lead.ingest", status="new"), [3]),
    ],
)
def test_a_letter_is_wanted_when_it_meets_all_that_is_given(wanted: Wanted, fitting: list[int]) -> None:
    table = pa.Table.from_pylist(list(FOUR), schema=LETTERS)
    assert wanted.fits(table)["source_offset"].to_pylist() == fitting
    assert wanted.fits(table.select(sorted({"source_offset", *wanted.columns}))).num_rows == len(fitting)


def test_a_letter_without_reasons_is_no_obstacle() -> None:
    table = pa.Table.from_pylist([letter(0, reasons=None), letter(1, reasons=[]), letter(2)], schema=LETTERS)
    assert Wanted(reason="rule:pattern").fits(table)["source_offset"].to_pylist() == [2]


def test_times_are_utc_where_they_say_nothing() -> None:
    assert moment("2026-03-01T12:00:00") == moment("2026-03-01T13:00:00+01:00") == moment("2026-03-01T12:00Z")
    assert moment("2026-03-01") == NOON - timedelta(hours=12)
    for text in ("yesterday", "0001-01-01T00:00:00+10:00", ""):
        with pytest.raises(ValueError):
            moment(text)


def test_pages_of_the_newest_give_each_letter_once_whatever_is_added_meanwhile(settings: Settings) -> None:
    same = {"failed_at": NOON}  # then the id decides
    make_lake(settings, *[letter(n) for n in range(5, 9)], *[letter(n, **same) for n in range(3)])
    append(settings, *[letter(n) for n in range(9, 12)])
    seen: list[int] = []
    page = newest(settings, Wanted(), 3)
    while page:
        seen += numbers(page)
        append(settings, letter(100 + len(seen)))
        last = page[-1]
        page = newest(settings, Wanted(), 3, (last["failed_at"], last["dead_letter_id"]))
    by_id = sorted(range(3), key=identity, reverse=True)
    assert seen == [11, 10, 9, 8, 7, 6, 5, *by_id]
    assert {"payload", "headers"} & page[0].keys() == set() if page else True


def test_groups_count_a_letter_once_for_each_of_its_reasons(settings: Settings) -> None:
    make_lake(settings, *FOUR)
    append(settings, letter(4, "type_mismatch", failed_at=NOON + timedelta(days=1)))
    found = groups(settings, Wanted(), ["reason"], 10)
    assert [(g.key, g.letters) for g in found] == [
        (("type_mismatch",), 3), (("empty",), 1), (("missing_required",), 1), (("rule:pattern",), 1),
    ]  # fmt: skip
    assert (found[0].first, found[0].last) == (NOON + timedelta(seconds=1), NOON + timedelta(days=1))
    assert found[0].example == identity(4)
    by_status = groups(settings, Wanted(), ["status"], 10)
    assert [(g.key, g.letters) for g in by_status] == [(("new",), 4), (("replayed",), 1)]
    by_day = groups(settings, Wanted(), ["day", "tenant"], 10)
    assert [g.key for g in by_day] == [("2026-03-01", "acme"), ("2026-03-01", None), ("2026-03-02", "acme")]
    assert by_day[0].named(["day", "contract-version"])["contract_version"] == "acme"


def test_one_letter_is_told_with_its_kin_within_the_tenant(settings: Settings) -> None:
    make_lake(settings, letter(0), letter(1, tenant_id="globex"), letter(2, fingerprint="a" * 64))
    append(settings, letter(3, replay_of=identity(0)), letter(4, replay_of=identity(0), tenant_id="globex"))
    found = find(settings, identity(0))
    assert found and (found.same_fingerprint, numbers(found.replays)) == (4, [4, 3])
    within = find(settings, identity(0), "acme")
    assert within and (within.same_fingerprint, numbers(within.replays)) == (2, [3])
    assert find(settings, identity(0), "globex") is find(settings, "nobody") is None
    masked, plain = whole(found, personal=False), whole(found, personal=True)
    assert CANARY not in json.dumps(masked) and masked["payload"]["json"]["payload"]["email"] == "text(22)"
    assert masked["headers"] == [{"name": "trace", "size": len(CANARY)}]
    assert plain["payload"]["base64"] and plain["headers"][0]["value"]


def test_what_is_discarded_changes_its_status_and_nothing_else(settings: Settings) -> None:
    make_lake(settings, *FOUR)
    append(settings, *[letter(n, payload=None, headers=None) for n in range(10, 13)])
    before = rows(settings)
    ids = new_ones(settings, Wanted(reason="type_mismatch"))
    assert sorted(ids) == sorted([identity(1), identity(3)])
    assert discard(settings, [*ids, identity(2), "nobody"]) == 2
    changed = [row | ({"status": "discarded"} if row["source_offset"] in (1, 3) else {}) for row in before]
    assert rows(settings) == changed
    assert discard(settings, ids) == 0
    assert new_ones(settings, Wanted(status="discarded")) == []
    assert numbers(newest(settings, Wanted(status="discarded"), 9)) == [3, 1]
    assert [g.letters for g in groups(settings, Wanted(), ["reason"], 1)] == [4]


def test_the_log_has_no_word_of_a_discarded_letter(settings: Settings) -> None:
    make_lake(settings, *FOUR)
    discard(settings, [identity(1)])
    log = Path(table_path(settings, TABLE), "_delta_log")
    newest_commit = max(log.glob("*.json"))
    text = newest_commit.read_text()
    assert "canary" not in text and "type_mismatch" not in text and '"operation":"MERGE"' in text
    added = next(json.loads(line)["add"] for line in text.splitlines() if '"add"' in line)
    assert set(json.loads(added["stats"])["minValues"]) <= {
        "dead_letter_id", "stream", "stage", "tenant_id", "source_topic", "source_partition",
        "source_offset", "failed_at",
    }  # fmt: skip
    assert newest_commit.with_suffix(".crc").exists()


def test_the_log_of_many_discards_gets_checkpoints(settings: Settings) -> None:
    make_lake(settings, *[letter(n) for n in range(55)])
    for number in range(55):
        assert discard(settings, [identity(number)]) == 1
    log = Path(table_path(settings, TABLE), "_delta_log")
    assert list(log.glob("*.checkpoint.parquet"))
    assert set(statuses(settings).values()) == {"discarded"}
    assert delta_log.version(table_path(settings, TABLE)) == 56


def test_ids_that_no_letter_has_are_named(settings: Settings) -> None:
    make_lake(settings, letter(0))
    assert unknown(settings, [identity(0), "b", "a", "b"]) == ["b", "a"]
    assert unknown(settings, [identity(0), "b"], tenant="acme") == ["b"]
    assert unknown(settings, [identity(0), "b"], tenant="globex") == [identity(0), "b"]


def test_without_the_table_there_are_no_letters(settings: Settings) -> None:
    assert newest(settings, Wanted(), 5) == groups(settings, Wanted(), ["stream"], 5) == []
    assert find(settings, identity(0)) is None
    assert discard(settings, [identity(0)]) == 0


def test_a_lake_elsewhere_is_read_but_not_changed(settings: Settings) -> None:
    for lake in ("hdfs://name/lake", "s3a://bucket/lake"):
        with pytest.raises(SetupError, match="on a local lake only"):
            discard(settings.model_copy(update={"lake": lake}), [identity(0)])
    with pytest.raises(SetupError, match="a folder or from S3"):
        newest(settings.model_copy(update={"lake": "hdfs://name/lake"}), Wanted(), 5)


def test_a_file_that_cannot_be_read_is_an_outage(settings: Settings) -> None:
    make_lake(settings, *FOUR)
    for file in Path(table_path(settings, TABLE)).glob("*.parquet"):
        file.write_bytes(b"PAR1")
    with pytest.raises(TransientError, match=r"ops\.dead_letters cannot be read now"):
        newest(settings, Wanted(), 5)


def test_what_was_asked_for_can_be_written_down() -> None:
    wanted = Wanted(stream="lead.ingest", since=NOON)
    assert wanted.given == {"stream": "lead.ingest", "since": "2026-03-01T12:00:00+00:00"}
    assert replace(wanted, ids=("a",)).given["ids"] == ["a"]
