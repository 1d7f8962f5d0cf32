"""Contracts of datasets: compiled from YAML, and refused where they are not plain."""

import pickle
from importlib import resources
from typing import Any

import pytest

from headwater.errors import SetupError
from schemas.dataset import ANY, Dataset, dataset, datasets, generic, parse_dataset, read_as
from schemas.notation import notation

TEXT = (resources.files("schemas") / "datasets" / "orders.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("found", datasets().values(), ids=datasets())
def test_every_dataset_compiles_and_says_what_its_columns_are(found: Dataset) -> None:
    assert [column.name for column in found.columns if not column.description] == []
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 as Spark sends it to a task


def test_a_dataset_without_a_contract_is_generic() -> None:
    assert dataset("nobody.knows") == generic("nobody.knows")
    assert generic("x").generic and generic("x").column("y").kind == ANY
    assert not dataset("contacts").generic


def test_orders_are_written_as_a_german_spreadsheet_writes_them() -> None:
    orders = dataset("orders")
    assert (orders.dialect.delimiter, orders.dialect.encoding, orders.dialect.booleans) == (
        ";",
        "cp1252",
        ("ja", "nein"),
    )
    total = orders.column("total")
    assert (total.precision, total.scale, orders.column("shipped_at").timezone) == (12, 2, "Europe/Berlin")


@pytest.mark.parametrize(("read", "invalid", "fits"), [(100, 2, True), (100, 3, False), (0, 0, True)])
def test_a_share_of_invalid_rows_is_tolerated(read: int, invalid: int, fits: bool) -> None:
    assert dataset("orders").tolerates(read, invalid, unless_said=1.0) is fits


def test_a_dataset_without_a_contract_tolerates_what_is_said_elsewhere() -> None:
    assert generic("x").tolerates(100, 20, unless_said=0.2)
    assert not generic("x").tolerates(100, 21, unless_said=0.2)


def test_a_file_is_read_as_its_sender_says_and_otherwise_as_the_dataset_does() -> None:
    orders = dataset("orders")
    assert read_as(orders, {}) == orders
    stated = read_as(orders, {"encoding": "utf-8", "delimiter": "\t", "quote": "'", "header": False}).dialect
    assert (stated.encoding, stated.delimiter, stated.quote, stated.header) == ("utf-8", "\t", "'", "given")
    assert (stated.decimal_separator, stated.booleans) == (",", ("ja", "nein"))
    assert read_as(orders, {"header": True}) == orders


@pytest.mark.parametrize("options", [{"delimiter": '"'}, {"quote": ";"}, {"delimiter": "."}])
def test_options_that_nothing_can_be_read_by_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="the file's options"):
        read_as(dataset("orders"), options)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("value: cp1252", "value: rot13", "is not known; known: utf-8"),
        ("value: cp1252", "value: hex", "encoding 'hex' is not known"),
        ('value: ";"', "value: ab", "delimiter is one character"),
        ('value: ";"', "value: a", "delimiter is one character"),
        ("value: 0.02", "value: 2", "maxInvalidShare is a share"),
        ("value: 0.02", "value: true", "maxInvalidShare is a share"),
        (
            "property: maxInvalidShare, value: 0.02",
            "property: header, value: found",
            "'maxInvalidShare' is missing",
        ),
        ("property: encoding", "property: encodign", "unknown customProperty 'encodign'"),
        ("value: [ja, nein]", "value: [ja, JA]", "booleans are two texts"),
        ("{format: uuid}", "{format: phone}", "format 'phone' is not known"),
        ("{format: uuid}", "{minLength: 3}", "the option 'minLength' is not applied"),
        ("{format: uuid}", '{pattern: "["}', "the pattern is no regular expression"),
        ("{format: dd.MM.yyyy}", "{format: dd.MM.yy}", "has 'yy'"),
        ("{format: dd.MM.yyyy}", "{format: MM.yyyy}", "must name year, month and day"),
        ("{format: dd.MM.yyyy}", '{format: "dd.MM.yyyy HH:mm"}', "of a date has a time"),
        (", defaultTimezone: Europe/Berlin", "", "a timestamp's zone is stated once"),
        ("HH:mm", "HH:mmXXX", "a timestamp's zone is stated once"),
        ("Europe/Berlin", "Europe/Nowhere", "is no time zone"),
        ("Europe/Berlin", "../../etc/passwd", "is no time zone"),
        ("decimal(12,2)", "decimal(39,2)", "physicalType of a number"),
        ("decimal(12,2)", "decimal(2,3)", "physicalType of a number"),
        ("name: items", "name: customer", "each of another name"),
        ("logicalType: integer", "logicalType: time", "logicalType 'time' is not known"),
    ],
)
def test_what_is_not_plain_is_refused(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(SetupError) as caught:
        parse_dataset(TEXT.replace(old, new, 1), "x.yaml")
    assert str(caught.value).startswith("x.yaml") and said in str(caught.value)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("yyyy-MM-dd yyyy", "names the year twice"),
        ("yyyy-MM-dd HH", "leaves out a part"),
        ("yyyy-MM-dd mm", "leaves out a part"),
        ("yyyy-MM-dd HH:mm SSS", "leaves out a part"),
        ("yyyy-MM-ddXXX", "an offset and no time"),
        ("yyyy-MM-dd HH:mm a", "has 'a'"),
    ],
)
def test_a_notation_that_leaves_something_open_is_refused(form: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        notation(form, "x")


@pytest.mark.parametrize(
    ("form", "parts"),
    [
        ("dd.MM.yyyy", ("day", "month", "year")),
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            ("year", "month", "day", "hour", "minute", "second", "fraction", "offset"),
        ),
    ],
)
def test_a_notation_names_its_parts_in_order(form: str, parts: tuple[Any, ...]) -> None:
    assert notation(form, "x").parts == parts
