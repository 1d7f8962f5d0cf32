"""Facts that only libraries know: E.164 phone numbers, device, browser and system, country and city.

Values repeat: each distinct one is looked up once per Python worker, as long as it is remembered.
"""

import ipaddress
import socket
from functools import lru_cache
from typing import Any

_REMEMBERED = 50_000


@lru_cache(maxsize=_REMEMBERED)
def e164(text: str) -> str | None:
    """E.164 of an international number (+ and country code, or a tel: URI); None when it is not valid."""
    import phonenumbers

    try:
        number = phonenumbers.parse(text.removeprefix("tel:"), None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=_REMEMBERED)
def valid_ip(text: str) -> str | None:
    """The address in its canonical form (RFC 5952 §4); None when it is neither IPv4 nor IPv6."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        # What ipaddress says (a property test holds both against each other), in a twentieth of the time.
        address = socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        return None
    mixed = family == socket.AF_INET6 and "." in address
    return str(ipaddress.IPv6Address(address)) if mixed else address


@lru_cache(maxsize=_REMEMBERED)
def agent_of(text: str) -> tuple[str | None, str | None, str | None]:
    """(device, browser, operating system) of a User-Agent header."""
    from ua_parser import parse

    found = parse(text[:2048])
    return _name(found.device), _name(found.user_agent), _name(found.os)


def _name(part: Any) -> str | None:
    return str(part.family)[:100] if part else None


@lru_cache(maxsize=_REMEMBERED)
def place_of(database: str | None, ip: str) -> tuple[str | None, str | None]:
    """(country, city) in English by the operator's MaxMind file; nulls without one."""
    if database is None or valid_ip(ip) is None:
        return None, None
    try:
        record = _reader(database).get(ip)
    except ValueError:  # an IPv6 address, and a file of IPv4 only
        return None, None
    if not isinstance(record, dict):
        return None, None
    return _english(record.get("country")), _english(record.get("city"))


@lru_cache(maxsize=1)
def _reader(database: str) -> Any:
    import maxminddb

    return maxminddb.open_database(database)


def _english(part: Any) -> str | None:
    name = part.get("names", {}).get("en") if isinstance(part, dict) else None
    return name[:100] if isinstance(name, str) else None
