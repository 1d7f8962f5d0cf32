"""Every address, DSN, path and key of the local stack, as KEY=VALUE lines that a shell can eval."""

import shlex
from collections.abc import Mapping

from headwater.settings import load_settings
from local import elasticsearch, kafka, kafka_users, postgres, redis, redis_users, registry
from local.credentials import read_secret
from local.places import ROOT, SECRETS, Port, state

API = Port("API", 18080)
METRICS = Port("METRICS", 19108)
RECEIVER = Port("RECEIVER", 18090)


def environment() -> dict[str, str]:
    """Names that Settings does not read: it takes HEADWATER_<SECTION>__<KEY> only."""
    return {
        "HEADWATER_API_URL": f"http://127.0.0.1:{API.number}",
        "HEADWATER_API_KEY": read_secret("api-key-demo"),
        "HEADWATER_API_KEY_2": read_secret("api-key-demo-2"),
        "HEADWATER_API_KEYS_PATH": str(SECRETS / "api-keys.json"),
        "HEADWATER_JWKS_PATH": str(SECRETS / "jwks.json"),
        "HEADWATER_METRICS_URL": f"http://127.0.0.1:{METRICS.number}/metrics",
        **_kafka(),
        **_postgres(),
        "HEADWATER_ELASTICSEARCH_URL": f"http://127.0.0.1:{elasticsearch.HTTP.number}",
        **_redis(),
        "HEADWATER_REGISTRY_URL": f"http://127.0.0.1:{registry.PORT.number}{registry.API}",
        "HEADWATER_LAKE_PATH": load_settings("local").lake_root,
        "HEADWATER_RECEIVER_URL": f"http://127.0.0.1:{RECEIVER.number}",
        "HEADWATER_STATE_PATH": str(state()),
        "HEADWATER_ROOT_PATH": str(ROOT),
    }


def _kafka() -> dict[str, str]:
    return {
        "HEADWATER_KAFKA_BOOTSTRAP": f"127.0.0.1:{kafka.BROKER.number}",
        "HEADWATER_KAFKA_SASL_BOOTSTRAP": f"127.0.0.1:{kafka.SASL.number}",
        **{
            f"HEADWATER_KAFKA_{who.removeprefix('headwater-').upper()}_{part}": value
            for who, secret in kafka_users.SECRETS.items()
            for part, value in (("USERNAME", who), ("PASSWORD", read_secret(secret)))
        },
    }


def _redis() -> dict[str, str]:
    where = f"127.0.0.1:{redis.PORT.number}/0"
    named = {user.name.removeprefix("headwater_").upper(): user for user in redis_users.USERS}
    found = {
        f"HEADWATER_REDIS_{short}_URL": f"redis://{user.name}:{read_secret(user.secret)}@{where}"
        for short, user in named.items()
    }
    # docker/compose.yaml takes the password of `default` and the users one by one.
    lines = {f"HEADWATER_REDIS_{short}_USER": user.line() for short, user in named.items()}
    admin = {
        "HEADWATER_REDIS_URL": found["HEADWATER_REDIS_WRITER_URL"],
        "HEADWATER_REDIS_ADMIN_URL": f"redis://:{read_secret('redis')}@{where}",
        "HEADWATER_REDIS_PASSWORD": read_secret("redis"),
    }
    return found | lines | admin


def _postgres() -> dict[str, str]:
    names = {"": "writer", "OWNER_": "owner", "API_": "api", "READER_": "reader"}
    addresses = {
        f"HEADWATER_POSTGRES_{key}DSN": postgres.dsn(f"headwater_{role}", f"postgres-{role}")
        for key, role in names.items()
    }
    # docker/compose.yaml takes the passwords one by one.
    return addresses | {
        f"HEADWATER_POSTGRES_{role.upper()}_PASSWORD": read_secret(f"postgres-{role}")
        for role in ("superuser", *postgres.ROLES)
    }


def lines(values: Mapping[str, str]) -> list[str]:
    """KEY=VALUE, quoted so that `eval` gives back exactly the value."""
    return [f"{key}={shlex.quote(value)}" for key, value in values.items()]
