"""Which addresses a connector may be: public ones, and the private ones that its settings list.

The rule is about the address that is dialled, however its host was spelled. IPv6 addresses that carry an
IPv4 address inside (RFC 4291 §2.5.5, RFC 6052) are judged by that one, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from headwater.errors import HeadwaterError, SetupError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_IPV4_INSIDE = (IPv6Network("::/96"), IPv6Network("::ffff:0:0/96"), IPv6Network("::ffff:0:0:0/96"), _NAT64)
# What ipaddress calls global, and is not: protocol assignments, tunnels (6to4, Teredo), local-use NAT64 (RFC
# 8215), newer entries of the registries, and a cloud's metadata service under a public address.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24 192.88.99.0/24 168.63.129.16/32"
        " 2002::/16 2001::/32 64:ff9b:1::/48 3fff::/20 5f00::/16 fec0::/10"
    ).split()
)


class RefusedAddressError(HeadwaterError):
    """The name points at an address that a connector may not be. The sentence names no address."""


@dataclass(frozen=True)
class Allowed:
    """What a connector's `allow_private` lists. A host admits private addresses, but no link-local ones."""

    networks: tuple[Network, ...]
    hosts: frozenset[str]

    @classmethod
    def parse(cls, connector: str, entries: Iterable[str]) -> "Allowed":
        """Raises SetupError for an entry that is neither a network nor a host name."""
        networks, hosts = [], set()
        for entry in entries:
            try:
                networks.append(ip_network(entry))
            except ValueError as fault:
                if "/" in entry or not entry or ":" in entry:
                    raise SetupError(f"connectors.{connector}.allow_private: {entry!r}: {fault}") from None
                hosts.add(entry.lower().rstrip("."))
        return cls(tuple(networks), frozenset(hosts))

    def private(self, host: str, address: Address) -> bool:
        """Whether this address is listed, itself or by its host's name."""
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        return host.lower().rstrip(".") in self.hosts and not _innermost(address).is_link_local

    def check(self, host: str, address: Address, *, tls: bool) -> None:
        """Raise RefusedAddressError unless the address is listed, or public and spoken to with TLS."""
        if self.private(host, address):
            return
        if not is_public(address):
            raise RefusedAddressError("the host is a private address that allow_private does not list")
        if not tls:
            raise RefusedAddressError("https is required, but for private addresses that allow_private lists")


def is_public(address: Address) -> bool:
    """Whether this is a global unicast address, and one inside of it as well."""
    if any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    inner = _innermost(address)
    if inner is not address:
        # Only a translator's prefix leads to the public internet; the others are spellings.
        return address in _NAT64 and is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def parse(text: str) -> Address:
    """An address as a resolver gives it, without its zone."""
    return ip_address(text.partition("%")[0])


def _innermost(address: Address) -> Address:
    if isinstance(address, IPv6Address) and any(address in network for network in _IPV4_INSIDE):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
