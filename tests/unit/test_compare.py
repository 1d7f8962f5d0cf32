"""What reconcile makes of the rows of both sides, and how it names what differs."""

from hashlib import sha256

import pytest

from headwater.errors import SetupError
from jobs.chosen import ALL, MANY, Chosen, sample
from jobs.compare import Compared, against
from jobs.launch import Launch
from jobs.sides import Found, digest
from jobs.sides_elasticsearch import _key, _name
from sinks.base import Seen
from sinks.elasticsearch_mend import seconds

ROW = bytes(16)
OTHER = bytes([1] * 16)


def key(name: str) -> bytes:
    return sha256(name.encode()).digest()


def found(name: str, row: bytes = ROW, version: int = 1, fading: bool = False) -> Found:
    return Found(key(name), row, (), version, fading=fading)


def test_rows_are_missing_extra_or_different_by_key_and_digest() -> None:
    expected = {key(name): digest(ROW, ()) for name in ("same", "changed", "gone")}
    compared = against(expected, [found("same"), found("changed", OTHER, 7), found("nobody", version=3)])
    assert (compared.silver, compared.found) == (3, 3)
    assert list(compared.missing) == [key("gone")]
    assert compared.extra == {key("nobody"): Seen(key("nobody"), 3)}
    assert compared.different == {key("changed"): Seen(key("changed"), 7)}
    assert compared.keys == {key("gone"), key("nobody"), key("changed")}


def test_what_goes_away_by_itself_may_be_there_or_not() -> None:
    compared = against({key("due"): digest(ROW, ())}, [found("due", fading=True), found("old", fading=True)])
    assert (compared.found, compared.keys) == (1, frozenset())
    wrong = against({key("due"): digest(ROW, ())}, [found("due", OTHER, fading=True)])
    assert wrong.counts["different"] == 1


def test_examples_are_places_and_digests_of_each_kind_in_turn() -> None:
    names = [f"n{number}" for number in range(4)]
    seen = {key(name): Seen(key(name), 1) for name in names}
    places = {key(name): f"lead.ingest-0-{number}" for number, name in enumerate(names)}
    compared = Compared(
        9, 9, [key("n0"), key("n1")], {key("x"): Seen(key("x"), 1)}, different=seen, places=places
    )
    told = compared.examples(4)
    assert sorted(told) == ["different", "extra", "missing"]
    assert told["extra"] == [f"key {key('x').hex()}"]
    assert sum(map(len, told.values())) == 4
    assert set(told["missing"]) <= set(places.values())
    assert compared.examples(0) == {}


def test_a_sample_has_about_as_many_keys_as_were_asked_for_and_the_same_ones_each_time() -> None:
    keys = [key(str(number)) for number in range(20_000)]
    for wanted in (1, 200, 5_000, 19_999):
        chosen = sample(wanted, len(keys))
        drawn = [one for one in keys if chosen.has(one)]
        assert abs(len(drawn) - wanted) <= 4 * wanted**0.5 + 1
        assert drawn == [one for one in keys if sample(wanted, len(keys)).has(one)]
    assert sample(20_000, len(keys)) == sample(1, 0) == ALL
    assert all(map(ALL.has, keys))


def test_keys_are_asked_for_by_name_only_if_they_are_few() -> None:
    few = Chosen(keys=frozenset([key("a")]))
    assert few.has(key("a")) and not few.has(key("b"))
    assert few.few == few.keys
    many = Chosen(keys=frozenset(number.to_bytes(4, "big") for number in range(MANY + 1)))
    assert many.few is None and ALL.few is None


@pytest.mark.parametrize(
    "name", [sha256(b"x").hexdigest(), "aBcD", "x" * 32, "f" * 65, sha256(b"x").hexdigest().upper()]
)
def test_a_document_is_found_again_by_whatever_id_it_has(name: str) -> None:
    assert _name(_key(name)) == name
    assert len(_key(name)) >= 32


def test_a_foreign_id_is_not_told() -> None:
    foreign = _key("ada@example.com")
    (told,) = Compared(0, 1, [], {foreign: Seen(foreign, 1)}).examples(1)["extra"]
    assert told == f"key {sha256(foreign).hexdigest()}"


@pytest.mark.parametrize(
    ("text", "expected"), [("60s", 60), ("1m", 60), ("500ms", 0.5), ("1h", 3600), ("0s", 0)]
)
def test_a_duration_of_elasticsearch_is_understood(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_a_duration_that_nobody_knows_is_a_fault_of_the_setup() -> None:
    with pytest.raises(SetupError, match=r"index\.gc_deletes"):
        seconds("soon")


def test_a_run_id_counts_for_what_was_asked_of_reconcile() -> None:
    asked = [{}, {"repair": True}, {"sample": 5}, {"sample": 6}, {"to": "redis"}]
    assert len({Launch("reconcile", ("leads",), True, "r", **more).work for more in asked}) == len(asked)  # type: ignore[arg-type]  # one of each
