"""Which letters are sent again, and why others are not: of a small Delta table, without Spark and Kafka."""

import json
from pathlib import Path

import pytest

from headwater.errors import SetupError
from headwater.settings import Settings
from jobs import replay_letters
from jobs.replay_letters import picked
from schemas.patch import patch_of
from sources.letters.wanted import Wanted
from tests.letters import identity, lake_settings, letter, make_lake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return lake_settings(tmp_path / "lake")


def test_a_letter_that_a_patch_would_swell_stays_and_the_others_are_sent(settings: Settings) -> None:
    large = json.dumps({"text": "x" * 100_000}).encode()
    make_lake(settings, letter(0, payload=large), letter(1, payload=b'{"text":1}'), letter(2, payload=b"{}"))
    patch = patch_of([{"op": "copy", "from": "/text", "path": f"/{n}"} for n in range(20)])
    found = picked(settings, Wanted(), patch)
    assert [record.count for record in found.records] == [1]
    assert found.skipped == {"patch_copies_too_much": 1, "patch_does_not_apply": 1}


def test_records_that_grow_are_refused_together_where_the_driver_could_not_hold_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_letters, "MAX_BYTES", 10_000)
    make_lake(settings, *[letter(n, payload=b'{"text":"x"}') for n in range(20)])
    patches = {
        size: patch_of([{"op": "replace", "path": "/text", "value": "x" * size}]) for size in (100, 1000)
    }
    assert picked(settings, Wanted(), patches[100]).letters == 20
    with pytest.raises(SetupError, match="narrow the filter"):
        picked(settings, Wanted(), patches[1000])


@pytest.mark.parametrize("letter_id", [identity(0), "0" * 64])
def test_another_tenants_letter_is_as_unknown_as_one_that_nobody_has(
    settings: Settings, letter_id: str
) -> None:
    make_lake(settings, letter(0), letter(1, tenant_id="globex"), letter(2, tenant_id=None))
    assert picked(settings, Wanted(tenant="globex", ids=(identity(1),)), None).letters == 1
    with pytest.raises(SetupError) as told:
        picked(settings, Wanted(tenant="globex", ids=(identity(1), letter_id)), None)
    assert str(told.value) == f"no dead letter has the id {letter_id}"


def test_who_names_no_tenant_means_letters_of_all(settings: Settings) -> None:
    make_lake(settings, letter(0), letter(1, tenant_id="globex"), letter(2, tenant_id=None))
    wanted = Wanted(ids=tuple(identity(number) for number in range(3)))
    assert picked(settings, wanted, None).letters == 3
