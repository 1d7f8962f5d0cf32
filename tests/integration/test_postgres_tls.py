"""PostgreSQL by TLS: the certificate is verified, and its name, by every way that we connect."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headwater.errors import SetupError
from headwater.postgres import UNTRUSTED, api_conninfo, classified, connected, sqlstate_of, writer_conninfo
from headwater.settings import Postgres, Settings, load_settings
from schemas.migrate import upgrade
from tests.integration.certificate import Authority
from tests.integration.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgresServer]:
    """Its certificate is for localhost and no other name."""
    made = PostgresServer(authority.vouch_for("localhost"))
    made.start()
    yield made
    made.stop()


def settings_for(server: PostgresServer, host: str = "localhost", **changes: Any) -> Settings:
    base = load_settings("staging")
    where = server.dsn(host, "verify-full")
    own = {"dsn": where, "owner_dsn": where, "api_dsn": where}
    return base.model_copy(update={"postgres": base.postgres.model_copy(update=own | changes)})


def conninfos(postgres: Postgres) -> tuple[str, str]:
    return writer_conninfo(postgres, "test", ""), api_conninfo(postgres, "")


def test_a_certificate_of_our_authority_for_this_host_is_accepted(
    server: PostgresServer, authority: Authority
) -> None:
    for conninfo in conninfos(settings_for(server, ca_file=authority.file).postgres):
        with connected(conninfo, "test") as connection:
            found = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert found.fetchone() == (True, "TLSv1.3")


def test_without_a_private_authority_the_systems_count(
    server: PostgresServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for conninfo in conninfos(settings_for(server, ca_file=None).postgres):
        with connected(conninfo, "test") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("host", "known"), [("127.0.0.1", True), ("localhost", False)], ids=["another host", "a stranger"]
)
def test_another_hosts_certificate_and_a_strangers_are_refused_as_faults_of_the_setup(
    server: PostgresServer, authority: Authority, tmp_path: Path, host: str, known: bool
) -> None:
    ca_file = authority.file if known else Authority(tmp_path, "stranger").file
    settings = settings_for(server, host, ca_file=ca_file)
    for conninfo in conninfos(settings.postgres):
        with pytest.raises(SetupError, match=r"postgres\.ca_file"), connected(conninfo, "test"):
            pass
    with pytest.raises(SetupError, match=r"postgres\.ca_file"):
        upgrade(settings)


def test_without_any_authority_for_it_the_certificate_is_refused(server: PostgresServer) -> None:
    for conninfo in conninfos(settings_for(server, ca_file=None).postgres):
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(conninfo)
        assert sqlstate_of(caught.value) == UNTRUSTED


def test_who_asks_for_no_tls_is_refused_by_the_server(server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(server.dsn("localhost", "disable"))
    assert isinstance(classified(sqlstate_of(caught.value), "test"), SetupError)
