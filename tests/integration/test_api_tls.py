"""The API by https: with a certificate of a private authority, for who knows that authority."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.__main__ import certificate_options
from headwater.errors import SetupError
from headwater.settings import load_settings
from schemas.topics import create_topics
from tests.integration.api_server import ApiServer
from tests.integration.certificate import HERE, Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ApiServer]:
    create_topics(load_settings())
    identity = authority.vouch_for(*HERE)
    server = ApiServer(tmp_path_factory.mktemp("api"), authority.file)
    server.start(
        HEADWATER_API__CERTIFICATE_FILE=str(identity.certificate),
        HEADWATER_API__CERTIFICATE_KEY_FILE=str(identity.key),
    )
    yield server
    assert server.stop() == 0


def test_who_knows_the_authority_sends_events(api: ApiServer) -> None:
    event = {"source": "web", "payload": {"email": "ann@example.com", "consent": True}}
    with api.client() as client:
        first, second = (client.post("/ingest", json=event) for _ in range(2))  # one connection
        assert (first.status_code, second.json()["event_id"]) == (202, first.json()["event_id"])
        lines = b'{"source":"web","payload":{"email":"ann@example.com","consent":true}}\n' * 500
        batch = client.post("/ingest/batch", content=lines, headers={"Content-Type": "application/x-ndjson"})
        assert batch.json()["accepted"] == 500


def test_who_does_not_know_the_authority_sends_nothing(api: ApiServer, tmp_path: Path) -> None:
    stranger = ssl.create_default_context(cafile=str(Authority(tmp_path, "stranger").file))
    for verify in (True, stranger):
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{api.url}/health/live", verify=verify)


def test_without_tls_there_is_no_answer(api: ApiServer) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{api.port}/health/live")


def test_old_versions_of_tls_are_refused(api: ApiServer, authority: Authority) -> None:
    old = ssl.create_default_context(cafile=str(authority.file))
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{api.url}/health/live", verify=old)


@pytest.mark.parametrize("wrong", ["none there", "another key", "no certificate"])
def test_a_certificate_that_cannot_be_used_ends_the_start_with_the_keys_named(
    authority: Authority, tmp_path: Path, wrong: str
) -> None:
    ours, other = authority.vouch_for("localhost"), Authority(tmp_path, "other").vouch_for("localhost")
    files = {
        "none there": (tmp_path / "nothing.crt", ours.key),
        "another key": (ours.certificate, other.key),
        "no certificate": (ours.key, ours.key),
    }
    certificate, key = files[wrong]
    found = load_settings("staging").api.model_copy(
        update={"certificate_file": certificate, "certificate_key_file": key}
    )
    with pytest.raises(SetupError, match=r"api\.certificate_file and api\.certificate_key_file cannot"):
        certificate_options(found)
