"""Credentials: API keys, and the ways in which a token may be false."""

import base64
import hashlib
import hmac
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from starlette.requests import Request

from api import tokens, watched
from api.problems import Problem
from api.security import Gate, Principal, parse_keys
from api.tokens import parse_jwks
from headwater.errors import SetupError
from headwater.settings import Api, Jwt
from tests.integration.api_server import ISSUER, jwks_entry, key_entry, mint

# The package warns of the weak key and of the name EdDSA, both used here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
SECRET = "s3cret-s3cret-s3cret_with_underscores"
RSA = RSAKey.generate_key(2048, parameters={"kid": "rsa"})
EC = ECKey.generate_key("P-256", parameters={"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", parameters={"kid": "ed"})
STRANGER = RSAKey.generate_key(2048, parameters={"kid": "rsa"})


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    keys, jwks = tmp_path / "keys.json", tmp_path / "jwks.json"
    keys.write_text(json.dumps([key_entry("k1", SECRET, "acme")]))
    jwks.write_text(json.dumps({"keys": [jwks_entry(key) for key in (RSA, EC, ED)]}))
    return Gate(api_settings(keys, jwks))


def api_settings(keys: Path | None, jwks: Path | None) -> Api:
    return Api(
        host="127.0.0.1",
        port=1,
        workers=1,
        keys_path=keys,
        jwt=Jwt(jwks_path=jwks, issuer=ISSUER, audience="headwater-api", max_age_s=3600, leeway_s=30),
        cors_origins=(),
        max_body_bytes=1,
        max_batch_bytes=1,
        max_batch_lines=1,
        rate_per_second=1,
        rate_burst=1,
        redis_timeout_s=1,
        kafka_queue_messages=1,
        kafka_timeout_s=1,
    )


def admit(gate: Gate, *headers: tuple[str, str], scope: str = "ingest:write") -> Principal | int:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    try:
        return gate.admit(Request({"type": "http", "headers": raw}), scope)
    except Problem as refusal:
        assert "WWW-Authenticate" in (refusal.headers or {})
        assert refusal.errors == ()
        return refusal.status


def bearer(gate: Gate, token: str) -> Principal | int:
    return admit(gate, ("Authorization", f"Bearer {token}"))


def b64(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changes: object) -> dict[str, Any]:
    """A good token's claims, changed; a timedelta counts from the moment of the call, None takes away."""
    now = int(time.time())
    base = {"iss": ISSUER, "aud": "headwater-api", "sub": "u", "tenant_id": "acme", "scope": "ingest:write"}
    changed = base | {"iat": now, "exp": now + 600} | changes
    moments = {k: now + int(v.total_seconds()) for k, v in changed.items() if isinstance(v, timedelta)}
    return {k: v for k, v in (changed | moments).items() if v is not None}


def after(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)


def test_a_key_admits_its_tenant(gate: Gate) -> None:
    found = admit(gate, ("X-API-Key", f"hw_k1_{SECRET}"))
    assert isinstance(found, Principal)
    assert (found.credential, found.tenant_id) == ("key:k1", "acme")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hw_",
        "hw_k1_",
        "hw_k1_wrong-wrong-wrong-wrong",
        f"hw_k2_{SECRET}",
        f"hw_K1_{SECRET}",
        f"hw__{SECRET}",
        SECRET,
        f"hw_k1_{SECRET} ",
        f"hw_k1_{SECRET}\u00e9",
        "hw_k1_" + hashlib.sha256(SECRET.encode()).hexdigest(),
        "hw_k1_" + "x" * 5000,
    ],
)
def test_any_other_key_is_401(gate: Gate, text: str) -> None:
    assert admit(gate, ("X-API-Key", text)) == 401


def test_no_credential_and_two_credentials_are_401(gate: Gate) -> None:
    key = ("X-API-Key", f"hw_k1_{SECRET}")
    assert admit(gate) == 401
    assert admit(gate, key, key) == 401
    assert admit(gate, key, ("Authorization", f"Bearer {mint(RSA, claims())}")) == 401


def test_a_missing_scope_is_403(gate: Gate) -> None:
    assert admit(gate, ("X-API-Key", f"hw_k1_{SECRET}"), scope="privacy:erase") == 403
    assert bearer(gate, mint(RSA, claims(scope="jobs:read ingest:writer"))) == 403


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=["RS256", "ES256", "EdDSA"])
def test_a_good_token_admits_its_tenant(gate: Gate, key: RSAKey | ECKey | OKPKey) -> None:
    found = bearer(gate, mint(key, claims(aud=["x", "headwater-api"])))
    assert isinstance(found, Principal)
    assert found.tenant_id == "acme"
    assert found.credential.startswith("jwt:")


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 0},
        {"exp": None},
        {"iat": None},
        {"exp": after(90_000)},
        {"iat": after(3000), "exp": after(3600)},
        {"iat": after(-3000), "exp": after(-300)},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": 1e308},
        {"nbf": after(300)},
        {"nbf": "soon"},
        {"aud": "another-api"},
        {"aud": None},
        {"aud": ["headwater-api2"]},
        {"iss": "https://evil.invalid/"},
        {"iss": None},
        {"sub": ""},
        {"sub": None},
        {"tenant_id": None},
        {"tenant_id": "a|b"},
        {"tenant_id": "a\0"},
        {"tenant_id": ["acme"]},
        {"tenant_id": "t" * 65},
        {"scope": ["ingest:write"]},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_401(gate: Gate, changes: dict[str, object]) -> None:
    assert bearer(gate, mint(RSA, claims(**changes))) == 401


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.invalid/jwks"},
        {"x5u": "https://evil.invalid/cert"},
        pytest.param({"jwk": jwks_entry(STRANGER)}, id="jwk"),
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"kid": "nobody"},
        {"kid": "../../../../dev/null"},
        {"kid": "rsa' OR '1'='1"},
        {"kid": ["rsa"]},
        {"kid": None},
        {"kid": "ec"},
        {"typ": "secevent+jwt"},
        {"zip": "DEF"},
    ],
    ids=str,
)
def test_a_header_that_brings_its_own_key_or_rules_is_401(gate: Gate, header: dict[str, object]) -> None:
    full = {"alg": "RS256", "kid": "rsa"} | header
    for key in (RSA, STRANGER):
        assert bearer(gate, raw_token(full, claims(), key)) == 401


def raw_token(header: dict[str, object], body: dict[str, object], key: RSAKey) -> str:
    """Signed whatever the header says; no library that would refuse to make it."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    text = f"{b64(header)}.{b64(body)}"
    signature = key.private_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())  # type: ignore[union-attr]
    return f"{text}.{b64(signature)}"


def test_the_forger_of_these_tests_makes_tokens_that_would_be_good(gate: Gate) -> None:
    assert isinstance(bearer(gate, raw_token({"alg": "RS256", "kid": "rsa"}, claims(), RSA)), Principal)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
def test_an_unsigned_token_is_401(gate: Gate, alg: str) -> None:
    head = b64({"alg": alg, "kid": "rsa"})
    assert bearer(gate, f"{head}.{b64(claims())}.") == 401
    assert bearer(gate, f"{head}.{b64(claims())}") == 401


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_shared_secret(gate: Gate, alg: str) -> None:
    digest = getattr(hashlib, f"sha{alg[2:]}")
    for secret in (RSA.as_pem(private=False), json.dumps(jwks_entry(RSA)).encode()):
        text = f"{b64({'alg': alg, 'kid': 'rsa'})}.{b64(claims())}"
        assert bearer(gate, f"{text}.{b64(hmac.new(secret, text.encode(), digest).digest())}") == 401


def test_a_changed_token_is_401(gate: Gate) -> None:
    head, _, signature = mint(RSA, claims()).split(".")
    assert bearer(gate, f"{head}.{b64(claims(tenant_id='globex'))}.{signature}") == 401
    assert bearer(gate, mint(STRANGER, claims())) == 401
    for text in ("", ".", "..", "a.b.c", "x" * 9000, "\u00e9.x.y", f"{head}.{signature}"):
        assert bearer(gate, text) == 401
    assert admit(gate, ("Authorization", f"Basic {mint(RSA, claims())}")) == 401


def test_one_subject_has_one_rate_limit_whatever_its_token(gate: Gate) -> None:
    first, second = (bearer(gate, mint(RSA, claims(exp=int(time.time()) + n))) for n in (100, 200))
    other = bearer(gate, mint(RSA, claims(tenant_id="globex")))
    assert isinstance(first, Principal) and isinstance(second, Principal) and isinstance(other, Principal)
    assert first.credential == second.credential != other.credential
    assert "u" not in first.credential.removeprefix("jwt:")


def test_without_files_nobody_is_admitted() -> None:
    gate = Gate(api_settings(None, None))
    assert admit(gate, ("X-API-Key", f"hw_k1_{SECRET}")) == 401
    assert bearer(gate, mint(RSA, claims())) == 401


def test_a_changed_keys_file_counts_and_a_broken_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_S", 0.0)
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([key_entry("k1", SECRET, "acme")]))
    gate = Gate(api_settings(path, None))
    path.write_text("[{")
    os.utime(path, ns=(1, 1))
    assert isinstance(admit(gate, ("X-API-Key", f"hw_k1_{SECRET}")), Principal)
    path.write_text(json.dumps([key_entry("k2", SECRET, "acme")]))
    os.utime(path, ns=(2, 2))
    assert admit(gate, ("X-API-Key", f"hw_k1_{SECRET}")) == 401
    assert isinstance(admit(gate, ("X-API-Key", f"hw_k2_{SECRET}")), Principal)


def test_a_missing_or_wrong_keys_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        Gate(api_settings(tmp_path / "none.json", None))
    path = tmp_path / "keys.json"
    for content in ("", "{}x", "[{}]", '[{"id": 1}]', '["x"]'):
        path.write_text(content)
        with pytest.raises(SetupError, match="expected content"):
            Gate(api_settings(path, None))


def test_keys_that_must_not_be_trusted_are_refused_at_the_start() -> None:
    weak = jwks_entry(RSAKey.generate_key(1024, parameters={"kid": "weak"}))
    shared = {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}
    for entries in (
        [weak],
        [shared],
        [jwks_entry(RSA), jwks_entry(STRANGER)],
        [jwks_entry(RSA) | {"alg": "PS256"}],
    ):
        with pytest.raises((ValueError, KeyError)):
            parse_jwks(json.dumps({"keys": entries}).encode())
    doubled = [key_entry("k1", SECRET, "acme"), key_entry("k1", SECRET, "globex")]
    with pytest.raises(ValueError, match="k1"):
        parse_keys(json.dumps(doubled).encode())


def test_a_private_key_in_the_jwks_file_is_refused() -> None:
    with pytest.raises(ValueError, match="private"):
        parse_jwks(json.dumps({"keys": [RSA.as_dict(private=True)]}).encode())


def test_the_longest_token_is_bounded() -> None:
    assert tokens.MAX_TOKEN == 8192
