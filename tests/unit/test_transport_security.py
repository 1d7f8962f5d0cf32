"""What is refused without TLS, and what the clients of the servers are given."""

from collections.abc import Callable

import pytest
from psycopg.conninfo import conninfo_to_dict

from headwater.elasticsearch import client_options
from headwater.errors import SetupError
from headwater.kafka import confluent_config, kafka_python_config, spark_config
from headwater.postgres import owner_conninfo, writer_conninfo
from headwater.redis import api_options, writer_options
from headwater.settings import Settings, load_settings

Load = Callable[..., Settings]
PLAIN_DSN = "postgresql://headwater_writer@db/headwater"
ENVIRONMENTS = ("staging", "production")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load an environment's settings afresh, with these variables."""

    def with_variables(env: str, **variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"HEADWATER_{name}", value)
        load_settings.cache_clear()
        return load_settings(env)

    return with_variables


@pytest.fixture(autouse=True)
def _forget() -> None:
    load_settings.cache_clear()


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_an_environment_as_it_is_shipped_speaks_tls_to_every_server(load: Load, env: str) -> None:
    found = load(env)
    assert found.require_tls
    assert (found.kafka.security_protocol, found.kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert found.kafka.password is found.postgres.password is found.redis.password is None


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("KAFKA__SECURITY_PROTOCOL", "PLAINTEXT", "kafka.security_protocol is PLAINTEXT: set SASL_SSL"),
        ("KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT", "kafka.security_protocol is SASL_PLAINTEXT: set"),
        ("POSTGRES__DSN", PLAIN_DSN, "postgres.dsn has sslmode prefer: add ?sslmode=verify-full"),
        ("POSTGRES__DSN", f"{PLAIN_DSN}?sslmode=require", "postgres.dsn has sslmode require"),
        ("POSTGRES__OWNER_DSN", f"{PLAIN_DSN}?sslmode=verify-ca", "postgres.owner_dsn has sslmode verify-ca"),
        ("POSTGRES__API_DSN", "host=db sslmode=disable", "postgres.api_dsn has sslmode disable"),
        ("ELASTICSEARCH__URL", "http://es:9200", "elasticsearch.url must begin with https://"),
        ("REDIS__URL", "redis://:geheim@redis:6379/0", "redis.url must begin with rediss://"),
        ("REGISTRY__URL", "https://one:8443,http://two:8081", "registry.url must begin with https://"),
        ("UPLOADS__S3__ENDPOINT", "http://s3:9000", "uploads.s3.endpoint must begin with https://"),
        ("ARCHIVE__S3__ENDPOINT", "http://s3:9000", "archive.s3.endpoint must begin with https://"),
    ],
)
def test_an_address_without_tls_is_refused_by_its_key_with_the_remedy(
    load: Load, env: str, variable: str, value: str, told: str
) -> None:
    with pytest.raises(SetupError) as caught:
        load(env, **{variable: value})
    assert told in str(caught.value)
    assert f"{env} demands TLS" in str(caught.value) and "HEADWATER_REQUIRE_TLS=false" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(load: Load) -> None:
    wrong = {"KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT", "REDIS__URL": "redis://r/0"}
    wrong["POSTGRES__DSN"] = PLAIN_DSN
    with pytest.raises(SetupError, match=r"kafka\.security_protocol.*postgres\.dsn.*redis\.url"):
        load("production", **wrong)


def test_where_a_network_may_be_trusted_one_key_allows_it(load: Load) -> None:
    found = load("production", KAFKA__SECURITY_PROTOCOL="PLAINTEXT", REQUIRE_TLS="false")
    assert found.kafka.security_protocol == "PLAINTEXT"


@pytest.mark.parametrize(
    "dsn", [f"{PLAIN_DSN}?sslmode=verify-full", "host=db sslmode = 'verify-full' user=w"]
)
def test_both_forms_of_a_dsn_are_understood(load: Load, dsn: str) -> None:
    assert load("production", POSTGRES__DSN=dsn).postgres.dsn == dsn


def test_a_certificate_of_the_api_needs_its_key(load: Load) -> None:
    with pytest.raises(SetupError, match="certificate_file and certificate_key_file go together"):
        load("production", API__CERTIFICATE_FILE="/run/api.crt")


# --- what the clients are given


@pytest.mark.parametrize(
    ("mechanism", "module"),
    [("PLAIN", "plain.PlainLoginModule"), ("SCRAM-SHA-512", "scram.ScramLoginModule")],
)
def test_every_kafka_client_is_given_login_and_authority(load: Load, mechanism: str, module: str) -> None:
    settings = load(
        "production", KAFKA__SASL_MECHANISM=mechanism, KAFKA__USERNAME="u", KAFKA__PASSWORD='ge"heim',
        KAFKA__CA_FILE="/run/ca.pem",
    )  # fmt: skip
    assert confluent_config(settings) == {
        "bootstrap.servers": settings.kafka.bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": "u",
        "sasl.password": 'ge"heim',
        "ssl.ca.location": "/run/ca.pem",
    }
    assert kafka_python_config(settings)["ssl_cafile"] == "/run/ca.pem"
    assert kafka_python_config(settings)["sasl_plain_password"] == 'ge"heim'
    assert spark_config(settings) == {
        "kafka.bootstrap.servers": settings.kafka.bootstrap,
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": mechanism,
        "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
        'username="u" password="ge\\"heim";',
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.location": "/run/ca.pem",
    }


def test_postgres_is_given_the_private_authority_by_every_role(load: Load) -> None:
    postgres = load("production", POSTGRES__CA_FILE="/run/ca.pem").postgres
    for conninfo in (writer_conninfo(postgres, "test", ""), owner_conninfo(postgres, "")):
        said = conninfo_to_dict(conninfo)
        assert (said["sslmode"], said["sslrootcert"]) == ("verify-full", "/run/ca.pem")


def test_a_dsn_without_tls_is_left_as_it_is(load: Load) -> None:
    postgres = load("staging", POSTGRES__DSN=PLAIN_DSN, REQUIRE_TLS="false").postgres
    assert "sslrootcert" not in conninfo_to_dict(writer_conninfo(postgres, "test", ""))


def test_redis_knows_the_api_and_the_jobs_apart(load: Load) -> None:
    redis = load("production", REDIS__PASSWORD="w", REDIS__API_PASSWORD="a", REDIS__CA_FILE="/run/ca").redis
    assert writer_options(redis) == {
        "username": "headwater_writer",
        "password": "w",
        "ssl_ca_certs": "/run/ca",
    }
    assert api_options(redis) == {"username": "headwater_api", "password": "a", "ssl_ca_certs": "/run/ca"}


def test_without_a_login_of_its_own_the_api_has_that_of_the_jobs(load: Load) -> None:
    redis = load("staging", REDIS__PASSWORD="w").redis.model_copy(update={"api_username": None})
    assert api_options(redis) == writer_options(redis)


def test_elasticsearch_is_given_login_and_authority(load: Load) -> None:
    given = {"USERNAME": "u", "PASSWORD": "p", "CA_FILE": "/run/ca.pem"}
    found = load("production", **{f"ELASTICSEARCH__{name}": value for name, value in given.items()})
    assert client_options(found.elasticsearch) == {
        "hosts": "https://elasticsearch:9200",
        "basic_auth": ("u", "p"),
        "ca_certs": "/run/ca.pem",
    }
