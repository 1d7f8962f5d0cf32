"""Secrets of the local stack: random, made once, readable only by the user who made them.

They guard a stack on 127.0.0.1, so that code meets real authentication; they protect nothing else.
"""

import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from local.places import SECRETS, make_folder

PASSWORDS = (
    "postgres-superuser",
    "postgres-owner",
    "postgres-writer",
    "postgres-api",
    "postgres-reader",
    "postgres-registry",
    "redis",
    "redis-api",
    "redis-writer",
    "redis-viewer",
    "kafka-admin",
    "kafka-api",
    "kafka-spark",
    "kafka-replay",
    "webhook",
)
DEMO_SCOPES = (
    "ingest:write", "upload:write", "jobs:read", "dlq:read", "dlq:replay", "quality:read", "crm:read",
    "crm:control",
)  # fmt: skip
DEMO_KEYS = {"api-key-demo": ("demo", "acme"), "api-key-demo-2": ("demo2", "globex")}
TOKEN_LIFE_S = 3600
_KEY_BYTES = 24


def make_secrets() -> None:
    """Make whatever is missing; what is there stays as it is."""
    make_folder(SECRETS, mode=0o700).chmod(0o700)
    for name in PASSWORDS:
        _write_once(name, secrets.token_urlsafe(_KEY_BYTES))
    _make_api_keys()
    _make_signing_key()


def read_secret(name: str) -> str:
    return (SECRETS / name).read_text(encoding="utf-8").strip()


def make_token(tenant: str, scope: str, issuer: str, audience: str) -> str:
    """A signed JWT for the API, valid for an hour from now."""
    key = ECKey.import_key(json.loads(read_secret("jwt-signing-key.json")))
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": f"local:{tenant}",
        "tenant_id": tenant,
        "scope": scope,
        "iat": now,
        "exp": now + TOKEN_LIFE_S,
    }
    return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)


def _make_api_keys() -> None:
    for name, (key_id, _) in DEMO_KEYS.items():
        # hex: the parts of hw_<id>_<secret> are split at underscores
        _write_once(name, f"hw_{key_id}_{secrets.token_hex(_KEY_BYTES)}")
    entries = [
        {
            "id": key_id,
            "sha256": hashlib.sha256(read_secret(name).split("_", 2)[2].encode()).hexdigest(),
            "tenant_id": tenant,
            "scopes": list(DEMO_SCOPES),
        }
        for name, (key_id, tenant) in DEMO_KEYS.items()
    ]
    others = [entry for entry in _known_keys() if entry["id"] not in {made["id"] for made in entries}]
    text = json.dumps(entries + others, indent=2)
    # A scope that is new since the file was made is given to the demo's keys; keys of other makes stay.
    if text != json.dumps(_known_keys(), indent=2):
        _write_private(SECRETS / "api-keys.json", text + "\n")


def _known_keys() -> list[dict[str, Any]]:
    path = SECRETS / "api-keys.json"
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _make_signing_key() -> None:
    if not (SECRETS / "jwt-signing-key.json").exists():
        made = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        _write_once("jwt-signing-key.json", json.dumps(made.as_dict(private=True)))
    key = ECKey.import_key(json.loads(read_secret("jwt-signing-key.json")))
    _write_once("jwks.json", json.dumps({"keys": [key.as_dict(private=False)]}, indent=2))


def _write_once(name: str, text: str) -> None:
    path = SECRETS / name
    if not path.exists():
        _write_private(path, text + "\n")


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
