"""Bearer tokens: signed JWTs of keys that the operator listed, and nothing else.

RS256, ES256 and EdDSA, each only with a key of its own type; `kid` must name a key of the JWKS file. Headers
that would let a token bring or fetch its own key, and every `crit`, are refused first.
"""

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import urlsafe_b64decode

from api.watched import Watched
from headwater.settings import Jwt

ALGORITHMS = ("RS256", "ES256", "EdDSA")
MAX_TOKEN = 8192
MIN_RSA_BITS = 2048
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER_NAMES = frozenset({"alg", "kid", "typ"})
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
Key = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key and the one algorithm that it verifies."""

    algorithm: str
    key: Key


@dataclass(frozen=True, slots=True)
class Claims:
    """Who a valid token speaks for."""

    subject: str
    tenant_id: str
    scopes: frozenset[str]


class Tokens:
    """Verifies tokens against `settings.jwks_path`, read again when it changes."""

    def __init__(self, settings: Jwt, jwks_path: Path) -> None:
        self._settings = settings
        self._keys = Watched(jwks_path, parse_jwks)

    def verify(self, token: str) -> Claims | None:
        """The claims of a valid token, else None; the reason is kept from the caller on purpose."""
        if len(token) > MAX_TOKEN or not token.isascii():
            return None
        try:
            trusted = self._trusted(token)
            if trusted is None:
                return None
            signed = jws.deserialize_compact(token, trusted.key, registry=_Registry())
            return self._claims(orjson.loads(signed.payload))
        except (JoseError, ValueError, TypeError):
            return None

    def _trusted(self, token: str) -> TrustedKey | None:
        header = orjson.loads(urlsafe_b64decode(token.split(".", 1)[0].encode()))
        if not isinstance(header, dict) or header.keys() - _HEADER_NAMES:
            return None
        typ = header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            return None
        kid = header.get("kid")
        trusted = self._keys.value.get(kid) if isinstance(kid, str) else None
        return trusted if trusted and header.get("alg") == trusted.algorithm else None

    def _claims(self, claims: object) -> Claims | None:
        if not isinstance(claims, dict) or not self._fits(claims) or not self._timely(claims):
            return None
        subject, tenant, scope = claims.get("sub"), claims.get("tenant_id"), claims.get("scope", "")
        if not isinstance(subject, str) or not subject or not isinstance(scope, str):
            return None
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            return None
        return Claims(subject, tenant, frozenset(scope.split()))

    def _fits(self, claims: dict[str, Any]) -> bool:
        audience = claims.get("aud")
        ours = self._settings.audience
        meant = ours in audience if isinstance(audience, list) else audience == ours
        return meant and claims.get("iss") == self._settings.issuer

    def _timely(self, claims: dict[str, Any]) -> bool:
        issued, expires, begins = (_seconds(claims.get(name)) for name in ("iat", "exp", "nbf"))
        if issued is None or expires is None or ("nbf" in claims and begins is None):
            return False
        now, leeway = time.time(), self._settings.leeway_s
        if max(issued, begins or 0) > now + leeway or expires <= now - leeway:
            return False
        return 0 < expires - issued <= self._settings.max_age_s


def parse_jwks(raw: bytes) -> dict[str, TrustedKey]:
    """The signing keys by kid. ValueError for two keys of one kid, a weak key, or a symmetric one."""
    keys: dict[str, TrustedKey] = {}
    for entry in orjson.loads(raw)["keys"]:
        if entry.get("use", "sig") != "sig":
            continue
        kid, trusted = entry["kid"], _trusted_key(entry)
        if kid in keys or entry.get("alg", trusted.algorithm) != trusted.algorithm:
            raise ValueError(kid)
        keys[kid] = trusted
    return keys


def _trusted_key(entry: dict[str, Any]) -> TrustedKey:
    if "d" in entry:
        raise ValueError("a private key does not belong here")
    kind = entry["kty"], entry.get("crv")
    if kind == ("RSA", None):
        key = RSAKey.import_key(entry)
        if key.public_key.key_size < MIN_RSA_BITS:
            raise ValueError("short RSA key")
        return TrustedKey("RS256", key)
    if kind == ("EC", "P-256"):
        return TrustedKey("ES256", ECKey.import_key(entry))
    if kind == ("OKP", "Ed25519"):
        return TrustedKey("EdDSA", OKPKey.import_key(entry))
    raise ValueError("a kind of key that we do not take")


class _Registry(jws.JWSRegistry):
    """The three algorithms, without the package's warning that RFC 9864 has a newer name for EdDSA."""

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
