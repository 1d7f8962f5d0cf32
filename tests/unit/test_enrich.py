"""Facts by libraries: phone numbers, addresses, user agents, and places from a MaxMind file made here."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transformations.enrich import agent_of, e164, place_of, valid_ip

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)
# What may or may not be an address.
ALMOST = st.one_of(
    st.lists(st.integers(0, 300).map(str) | st.just("01"), min_size=2, max_size=5).map(".".join),
    st.lists(
        st.sampled_from(["", "0", "1", "ab", "0db8", "ffff", "12345", "g", "1.2.3.4"]), min_size=2, max_size=9
    ).map(":".join),
)
Value = str | bytes | dict[str, "Value"]


def encoded(value: Value) -> bytes:
    """The MaxMind DB data format (maxmind.github.io/MaxMind-DB): strings and maps; bytes are encoded."""
    if isinstance(value, str):
        return _head(2, len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return value
    pairs = b"".join(encoded(name) + encoded(found) for name, found in value.items())
    return _head(7, len(value)) + pairs


def uint16(number: int) -> bytes:
    return _head(5, 2) + number.to_bytes(2, "big")


def _head(kind: int, size: int) -> bytes:
    return bytes([kind << 5 | size]) if size < 29 else bytes([kind << 5 | 29, size - 29])


def database(network: str, record: dict[str, Value]) -> bytes:
    """A MaxMind DB that knows one IPv4 network: a tree with one node a bit, 24-bit records."""
    known = ipaddress.ip_network(network)
    nodes = known.prefixlen
    tree = b""
    for depth in range(nodes):
        bit = int(known.network_address) >> (31 - depth) & 1
        onward = depth + 1 if depth + 1 < nodes else nodes + 16
        left, right = (onward, nodes) if bit == 0 else (nodes, onward)
        tree += left.to_bytes(3, "big") + right.to_bytes(3, "big")
    about: Value = {
        "node_count": _head(6, 4) + nodes.to_bytes(4, "big"),
        "record_size": uint16(24),
        "ip_version": uint16(4),
        "binary_format_major_version": uint16(2),
        "binary_format_minor_version": uint16(0),
        "build_epoch": bytes([8, 2]) + (1).to_bytes(8, "big"),
        "database_type": "Test",
        "languages": bytes([0, 4]),
        "description": {},
    }
    return tree + bytes(16) + encoded(record) + b"\xab\xcd\xefMaxMind.com" + encoded(about)


@pytest.fixture
def geo(tmp_path: Path) -> str:
    """The path of a file in which 192.0.2.0/24 is Zürich."""
    record: dict[str, Value] = {
        "country": {"names": {"en": "Switzerland", "de": "Schweiz"}},
        "city": {"names": {"en": "Zürich"}},
    }
    path = tmp_path / "city.mmdb"
    path.write_bytes(database("192.0.2.0/24", record))
    return str(path)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+41 44 668 18 00", "+41446681800"),
        ("tel:+41-44-668-18-00", "+41446681800"),
        ("+1 (650) 253-0000 ext. 5", "+16502530000"),
        ("0446681800", None),
        ("+41 1", None),
        ("+999 123 456 789", None),
        ("call me", None),
        ("", None),
        ("+" * 5000, None),
        ("9" * 5000, None),
    ],
)
def test_a_phone_number_becomes_e164_or_nothing(text: str, number: str | None) -> None:
    assert e164(text) == number


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.7", str(ipaddress.ip_address("::ffff:192.0.2.7"))),
        ("192.0.2.07", None),
        ("192.0.2.256", None),
        ("192.0.2.0/24", None),
        ("::102:304", "::102:304"),
        ("2001:db8:0:1:0:0:0:0", "2001:db8:0:1::"),
        ("fe80::1%eth0", None),
        ("192.0.2.7\0", None),
        ("\u0661.2.3.4", None),
        ("3221225991", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_an_address_becomes_canonical_or_nothing(text: str, address: str | None) -> None:
    assert valid_ip(text) == address


@given(st.one_of(st.ip_addresses().map(str), st.ip_addresses(v=6).map(lambda found: found.exploded), ALMOST))
@example("::1.2.3.4")
@example("1:2:3:4:5:6:7::")
@example("::ffff:0:1.2.3.4")
def test_an_address_is_what_the_standard_library_reads_as_one(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        assert valid_ip(text) is None
    else:
        assert valid_ip(text) == str(expected)


@pytest.mark.parametrize(
    ("header", "facts"),
    [(FIREFOX, ("Firefox", "Windows")), (IPHONE, ("Mobile Safari", "iOS"))],
)
def test_browser_and_system_are_read_from_the_header(header: str, facts: tuple[str, str]) -> None:
    assert agent_of(header)[1:] == facts


def test_a_phone_is_a_device() -> None:
    assert agent_of(IPHONE)[0] == "iPhone"


def test_a_header_without_meaning_gives_nulls() -> None:
    assert agent_of("") == agent_of("?") == (None, None, None)


def test_facts_fit_into_their_columns_however_long_the_header_is() -> None:
    found = agent_of("Mozilla/5.0 (Linux; Android 14; " + "x" * 100_000 + ") Chrome/1 Mobile")
    assert all(part is None or len(part) <= 100 for part in found)


def test_a_place_is_named_in_english(geo: str) -> None:
    assert place_of(geo, "192.0.2.200") == ("Switzerland", "Zürich")


@pytest.mark.parametrize("ip", ["198.51.100.1", "not an address", ""])
def test_an_unknown_address_has_no_place(geo: str, ip: str) -> None:
    assert place_of(geo, ip) == (None, None)


def test_an_ipv6_address_is_no_fault_in_a_file_that_knows_ipv4_only(geo: str) -> None:
    assert place_of(geo, "2001:db8::1") == (None, None)


def test_without_a_file_there_is_no_place() -> None:
    assert place_of(None, "192.0.2.7") == (None, None)
