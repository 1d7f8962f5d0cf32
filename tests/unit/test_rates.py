"""The rate card: what is refused, and what the fault says."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from headwater.errors import SetupError
from headwater.settings import load_settings
from schemas.rates import read_rates

RATE = '{metric: api_calls, from: "2025-01-01T00:00:00Z", price: "0.5"}'
OTHER = '{metric: api_calls, tenant: acme, from: "2025-01-01T00:00:00Z", price: "0.4"}'


def card(folder: Path, *rates: str, currency: str = "EUR", more: str = "") -> Path:
    path = folder / "rates.yaml"
    path.write_text(f"currency: {currency}\n{more}\nrates: [{', '.join(rates)}]\n", encoding="utf-8")
    return path


def rate(name: str, value: str) -> str:
    fields = {"metric": "api_calls", "from": '"2025-01-01T00:00:00Z"', "price": '"0.5"', name: value}
    return "{" + ", ".join(f"{key}: {said}" for key, said in fields.items()) + "}"


def test_a_card_is_read_as_it_is_written(tmp_path: Path) -> None:
    found = read_rates(card(tmp_path, RATE, OTHER))
    assert (found.currency, [one.tenant for one in found.rates]) == ("EUR", [None, "acme"])
    assert [one.price for one in found.rates] == [Decimal("0.5"), Decimal("0.4")]
    assert found.rates[0].since == datetime(2025, 1, 1, tzinfo=UTC)


def test_the_card_of_the_project_can_be_read() -> None:
    assert read_rates(load_settings("staging").rates_path).rates


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("price", "0.5", "write the price as text"),
        ("price", "5.0e-1", "write the price as text"),
        ("price", "true", "rates.0.price"),
        ("price", '"0.123456789"', "at most 8 places"),
        ("price", '"-1"', "greater than or equal to 0"),
        ("price", '"1000000.5"', "less than or equal to 1000000"),
        ("price", '"NaN"', "rates.0.price"),
        ("price", '"Infinity"', "rates.0.price"),
        ("price", '"much"', "rates.0.price"),
        ("metric", "API", "rates.0.metric"),
        ("from", '"2025-01-01T00:00:00"', "rates.0.from"),
        ("from", '"2025-01-01T00:30:00Z"', "a rate begins with an hour"),
        ("from", '"2025-01-01T00:00:00+05:30"', "a rate begins with an hour"),
        ("tenant", "42", "rates.0.tenant"),
        ("region", "eu", "rates.0.region"),
    ],
)
def test_a_rate_that_is_wrong_is_named_with_its_file(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    path = card(tmp_path, rate(name, value))
    with pytest.raises(SetupError) as fault:
        read_rates(path)
    assert str(path) in str(fault.value) and said in str(fault.value)


def test_eight_places_and_zeros_behind_them_are_a_price(tmp_path: Path) -> None:
    (found,) = read_rates(card(tmp_path, rate("price", '"0.1234567800"'))).rates
    assert found.price == Decimal("0.12345678")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (lambda folder: card(folder, RATE, RATE), "two rates of api_calls"),
        (lambda folder: card(folder, RATE, currency="euro"), "currency"),
        (lambda folder: card(folder, RATE, more="discount: 5"), "discount"),
        (lambda folder: written(folder, b"rates: ["), "is not YAML"),
        (lambda folder: written(folder, b""), "rates.yaml"),
        (lambda folder: written(folder, b"currency: \xff\xfe"), "is not UTF-8"),
        (lambda folder: folder / "nothing.yaml", "nothing.yaml cannot be read"),
        (lambda folder: folder, "cannot be read"),
    ],
)
def test_a_card_that_is_wrong_stops_with_its_name(tmp_path: Path, path: object, said: str) -> None:
    assert callable(path)
    with pytest.raises(SetupError, match=said) as fault:
        read_rates(path(tmp_path))
    assert str(tmp_path) in str(fault.value)


def written(folder: Path, text: bytes) -> Path:
    path = folder / "rates.yaml"
    path.write_bytes(text)
    return path
