"""Who is calling, and what they may do: API keys and bearer tokens, each bound to one tenant.

A missing, wrong or doubled credential is 401, a valid one without the scope is 403. The answer never says
which part was wrong. The tenant of everything that is written comes from here.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

import orjson
from starlette.requests import Request

from api.problems import Problem
from api.tokens import TENANT, Tokens
from api.watched import Watched
from headwater.settings import Api

REALM = "headwater"
INGEST_WRITE = "ingest:write"
UPLOAD_WRITE = "upload:write"
JOBS_READ = "jobs:read"
CRM_READ = "crm:read"
CRM_CONTROL = "crm:control"
DLQ_READ = "dlq:read"
DLQ_REPLAY = "dlq:replay"
PII_READ = "pii:read"
QUALITY_READ = "quality:read"
_API_KEY = re.compile(r"hw_([A-Za-z0-9.-]{1,64})_([\x21-\x7e]{16,256})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOBODY = hashlib.sha256(b"the digest that an unknown id is compared with").hexdigest()


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `credential` names it for rate limits without telling who it is; `actor` does
    tell, for the audit trail and nothing else: a key's id, or a token's subject."""

    credential: str
    tenant_id: str
    scopes: frozenset[str]
    actor: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of an API key: the digest of its secret, not the secret."""

    sha256: str
    principal: Principal


class ForbiddenError(Problem):
    """403: a known caller, without the scope."""

    def __init__(self, caller: Principal, scope: str) -> None:
        challenge = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scope}"'
        super().__init__(403, "forbidden", headers={"WWW-Authenticate": challenge})
        self.caller = caller


class Gate:
    """Authenticates and authorises requests."""

    def __init__(self, settings: Api) -> None:
        self._keys = Watched(settings.keys_path, parse_keys) if settings.keys_path else None
        jwks = settings.jwt.jwks_path
        self._tokens = Tokens(settings.jwt, jwks) if jwks else None

    def admit(self, request: Request, scope: str) -> Principal:
        """The caller. Raises Problem 401, or ForbiddenError."""
        principal = self._authenticate(request)
        if scope not in principal.scopes:
            raise ForbiddenError(principal, scope)
        return principal

    def _authenticate(self, request: Request) -> Principal:
        keys, bearers = request.headers.getlist("x-api-key"), request.headers.getlist("authorization")
        if not keys and not bearers:
            raise _unauthorized("")
        if len(keys) + len(bearers) == 1:
            found = self.by_key(keys[0]) if keys else self.by_bearer(bearers[0])
            if found:
                return found
        raise _unauthorized(', error="invalid_token"')

    def by_key(self, text: str) -> Principal | None:
        """The owner of `hw_<id>_<secret>`."""
        found = self.holder(text)
        return found[1].principal if found else None

    def holder(self, text: str) -> tuple[str, KeyRecord] | None:
        """The id in `hw_<id>_<secret>`, and its record. Unknown ids take the same comparison as others."""
        match = _API_KEY.fullmatch(text)
        name, secret = match.groups() if match else ("", text)
        record = self.key(name)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        same = hmac.compare_digest(digest, record.sha256 if record else _NOBODY)
        return (name, record) if record and same else None

    def key(self, name: str) -> KeyRecord | None:
        """What is kept of the key with this id now; None for one that is not there, or not any more."""
        return self._keys.value.get(name) if self._keys else None

    def by_bearer(self, text: str) -> Principal | None:
        """The subject of `Bearer <token>`."""
        scheme, _, token = text.partition(" ")
        if scheme.lower() != "bearer" or not self._tokens:
            return None
        claims = self._tokens.verify(token.strip())
        if not claims:
            return None
        name = hashlib.sha256(f"{claims.tenant_id}\0{claims.subject}".encode()).hexdigest()[:32]
        return Principal(f"jwt:{name}", claims.tenant_id, claims.scopes, f"jwt:{claims.subject}")


def parse_keys(raw: bytes) -> dict[str, KeyRecord]:
    """The keys file, by id. ValueError for a doubled id, a digest or a tenant of the wrong form."""
    records: dict[str, KeyRecord] = {}
    for entry in orjson.loads(raw):
        name, digest, tenant = entry["id"], entry["sha256"], entry["tenant_id"]
        if name in records or not _SHA256.fullmatch(digest) or not TENANT.fullmatch(tenant):
            raise ValueError(name)
        principal = Principal(f"key:{name}", tenant, frozenset(entry["scopes"]), f"key:{name}")
        records[name] = KeyRecord(digest, principal)
    return records


def _unauthorized(error: str) -> Problem:
    return Problem(401, "unauthorized", headers={"WWW-Authenticate": f'Bearer realm="{REALM}"{error}'})
