"""Which addresses a connector may be, however its host is spelled, and that the checked one is dialled."""

import asyncio
import ssl
from ipaddress import ip_address

import httpcore
import pytest

from headwater.errors import SetupError
from sinks.webhook.addresses import Allowed, RefusedAddressError, is_public
from sinks.webhook.transport import Answer, CheckedBackend, Sender, checked_url

NOTHING = Allowed.parse("crm", [])
PRIVATE = """
  10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3
  169.254.169.254 169.254.170.2 100.64.0.1 100.100.100.200 192.0.0.192 192.0.2.1 198.18.0.1 203.0.113.1
  224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
  192.88.99.1 3fff::1 5f00::1
  :: ::1 fe80::1 fec0::1 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 2001::1 2002:7f00:1:: 2002:808:808::
  ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8 ::127.0.0.1 ::ffff:0:127.0.0.1
  64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8
""".split()
PUBLIC = "8.8.8.8 1.1.1.1 172.32.0.1 192.167.1.1 2606:4700:4700::1111 64:ff9b::8.8.8.8".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_inside_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(RefusedAddressError):
        NOTHING.check("hook.example.com", ip_address(address), tls=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed_with_tls_only(address: str) -> None:
    NOTHING.check("hook.example.com", ip_address(address), tls=True)
    with pytest.raises(RefusedAddressError, match="https is required"):
        NOTHING.check("hook.example.com", ip_address(address), tls=False)


@pytest.mark.parametrize(
    ("listed", "host", "address", "allowed"),
    [
        ("10.1.0.0/16", "crm.internal", "10.1.2.3", True),
        ("10.1.0.0/16", "crm.internal", "10.2.2.3", False),
        ("10.1.0.0/16", "crm.internal", "::ffff:10.1.2.3", False),
        ("fd00::/8", "crm.internal", "fd12::1", True),
        ("127.0.0.1", "localhost", "127.0.0.1", True),
        ("CRM.internal", "crm.internal.", "10.2.2.3", True),
        ("crm.internal", "other.internal", "10.2.2.3", False),
        ("crm.internal", "crm.internal", "169.254.169.254", False),
        ("crm.internal", "crm.internal", "::ffff:169.254.169.254", False),
        ("crm.internal", "crm.internal", "fe80::1", False),
        ("169.254.169.254/32", "crm.internal", "169.254.169.254", True),
    ],
)
def test_a_private_address_is_allowed_when_it_or_its_host_is_listed(
    listed: str, host: str, address: str, allowed: bool
) -> None:
    found = Allowed.parse("crm", [listed])
    try:
        found.check(host, ip_address(address), tls=False)
        seen = True
    except RefusedAddressError:
        seen = False
    assert seen is allowed


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "10.0.0.0/99", "", "::zz"])
def test_an_entry_that_is_neither_network_nor_host_is_named(entry: str) -> None:
    with pytest.raises(SetupError, match=r"connectors\.crm\.allow_private"):
        Allowed.parse("crm", [entry])


@pytest.mark.parametrize(
    "host", ["2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0", "localhost", "::ffff:127.0.0.1", "::1"]
)
def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(RefusedAddressError):
        asyncio.run(CheckedBackend(NOTHING, tls=True).addresses(host, 443))


def test_a_name_with_one_address_inside_is_refused_as_a_whole() -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    with pytest.raises(RefusedAddressError):
        asyncio.run(CheckedBackend(NOTHING, tls=True, resolve=both).addresses("hook.example.com", 443))


def test_a_name_that_changes_its_mind_is_dialled_at_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    dialled: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    async def dial(self: httpcore.AnyIOBackend, host: str, *_: object) -> httpcore.AsyncNetworkStream:
        dialled.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", dial)
    backend = CheckedBackend(NOTHING, tls=True, resolve=rebinding)

    async def post_twice() -> list[Answer]:
        url = checked_url("crm", "https://hook.example.com/in")
        async with Sender(url, backend, ssl.create_default_context(), 5) as sender:
            return [await sender.post({}, b"{}") for _ in range(2)]

    assert [answer.error for answer in asyncio.run(post_twice())] == ["connection", "address_refused"]
    assert dialled == ["8.8.8.8"]


@pytest.mark.parametrize(
    "url",
    ["ftp://x.example/", "https://", "//x.example", "https://user@x.example", "https://u:p@x.example/", "x"],
)
def test_a_url_that_is_no_plain_http_address_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match=r"connectors\.crm\.url"):
        checked_url("crm", url)
