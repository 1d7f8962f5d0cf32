"""Redis' users as the local stack makes them, and TLS to Redis: on a server of the tests' own."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError
from redis.retry import Retry

from api.limits import RateLimit
from api.page.sessions import Sessions
from api.security import KeyRecord, Principal
from headwater.errors import SetupError
from headwater.settings import Settings, load_settings
from local import credentials, redis_users
from local import redis as local_redis
from sinks.redis import METRICS, SET_IF_NEWER, STATE, RedisSink, connected
from tests.integration.api_server import free_port
from tests.integration.broker import eventually
from tests.integration.certificate import HERE, Authority

HOT, RATE, SIGN_INS = "acme:session:s1:state", "headwater:rate:LIMITER/key/1", "headwater:session:0f"


class Server:
    """A Redis with the local stack's configuration, by TLS on a second port."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.port, self.tls_port = free_port(), free_port()
        identity = authority.vouch_for(*HERE)
        tls = (
            f"tls-port {self.tls_port}\ntls-cert-file {identity.certificate}\ntls-key-file {identity.key}\n"
            f"tls-ca-cert-file {authority.file}\ntls-auth-clients no\n"
        )
        (folder / "redis.conf").write_text(local_redis.configuration(folder, self.port) + tls)
        argv, env = local_redis.program()
        with (folder / "log").open("ab") as log:
            command = (*argv, str(folder / "redis.conf"))
            self.process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
        eventually(lambda: _answers(self.client("redis", None)), f"Redis answers, see {folder}/log")

    def client(self, secret: str, user: str | None) -> Redis:
        password = credentials.read_secret(secret)
        never = Retry(NoBackoff(), 0)
        return Redis(port=self.port, username=user, password=password, decode_responses=True, retry=never)

    def settings(self, **changes: Any) -> Settings:
        """Of API and jobs, each as its own user."""
        base = load_settings("staging")
        own = {
            "url": f"redis://127.0.0.1:{self.port}/0",
            "password": SecretStr(credentials.read_secret("redis-writer")),
            "api_password": SecretStr(credentials.read_secret("redis-api")),
        }
        return base.model_copy(update={"redis": base.redis.model_copy(update=own | changes)})


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(credentials, "SECRETS", tmp_path_factory.mktemp("secrets") / "made")
        credentials.make_secrets()
        made = Server(tmp_path_factory.mktemp("redis"), authority)
        yield made
        made.process.terminate()
        made.process.wait(10)


@pytest.fixture
def admin(server: Server) -> Iterator[Redis]:
    """The user who may do all, on an empty server with a key of each kind."""
    with server.client("redis", None) as client:
        client.flushall()
        client.hset(HOT, "v", "{}")
        client.set(RATE, 1)
        client.zadd(SIGN_INS, {"digest": 1})
        yield client


def test_the_api_limits_rates_and_signs_in_as_its_own_user(server: Server, admin: Redis) -> None:
    async def work() -> None:
        rate, sessions = RateLimit(server.settings()), Sessions(server.settings())
        record = KeyRecord("0" * 64, Principal("key:k", "acme", frozenset(), "key:k"))
        assert await rate.ping()
        for _ in range(3):
            assert await rate.admit("key:1") is None
        session = await sessions.open("k", record)
        assert await sessions.holds(session, record)
        await sessions.end(session, record)
        assert not await sessions.holds(session, record)
        await rate.close()
        await sessions.close()

    asyncio.run(work())
    # Counted in Redis, and not in memory because it was refused there.
    assert [key for key in admin.scan_iter("headwater:rate:*") if key != RATE]


def test_hot_state_is_kept_looked_through_and_emptied_by_its_own_user(server: Server, admin: Redis) -> None:
    with connected(server.settings()) as client:
        script = client.script_load(SET_IF_NEWER)
        assert client.evalsha(script, 1, "acme:session:s2:metrics", "2", "{}", 2**45) == 1
        assert client.ttl("acme:session:s2:metrics") > 0
    for state in (STATE, METRICS):
        sink = RedisSink(server.settings(), "deliver.interactions.redis", state)
        sink.setup()
        sink.reset()
    assert set(admin.scan_iter()) == {RATE, SIGN_INS}


def test_who_shows_sessions_reads_them_and_can_change_nothing(server: Server, admin: Redis) -> None:
    with server.client("redis-viewer", "headwater_viewer") as viewer:
        assert (viewer.hget(HOT, "v"), viewer.hgetall(HOT)) == ("{}", {"v": "{}"})


REFUSED = {
    "headwater_api": [
        ("HGET", HOT, "v"),
        ("DEL", HOT),
        ("SET", "other", "1"),
        ("SCAN", "0"),
        ("DEL", RATE),
        ("ZRANGE", SIGN_INS, "0", "-1"),
    ],
    "headwater_writer": [
        ("GET", RATE),
        ("ZADD", SIGN_INS, "9", "forged"),
        ("UNLINK", SIGN_INS),
        ("HSET", "other", "v", "1"),
        ("HSET", "acme:session:s1:other", "v", "1"),
    ],
    "headwater_viewer": [
        ("HSET", HOT, "v", "1"),
        ("DEL", HOT),
        ("SCAN", "0"),
        ("GET", RATE),
        ("ZSCORE", SIGN_INS, "digest"),
    ],
}
TO_NOBODY = [
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "requirepass"),
    ("ACL", "LIST"),
    ("SHUTDOWN", "NOSAVE"),
    ("EVAL", "return 1", "0"),
    ("SCRIPT", "FLUSH"),
    ("MONITOR",),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("INFO",),
]


@pytest.mark.parametrize(
    ("user", "words"),
    [(user, words) for user, own in REFUSED.items() for words in (*own, *TO_NOBODY)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_all_else_is_refused(server: Server, admin: Redis, user: str, words: tuple[str, ...]) -> None:
    before = admin.dbsize()
    (known,) = (one for one in redis_users.USERS if one.name == user)
    with server.client(known.secret, user) as client, pytest.raises(NoPermissionError):
        client.execute_command(*words)
    assert admin.dbsize() == before


def test_a_script_may_touch_no_more_than_its_user(server: Server, admin: Redis) -> None:
    with server.client("redis-writer", "headwater_writer") as client:
        script = client.script_load("return redis.call('DEL', KEYS[1])")
        with pytest.raises(NoPermissionError):
            client.evalsha(script, 1, RATE)
    assert admin.exists(RATE)


@pytest.mark.parametrize("user", [None, "headwater_api", "headwater_writer", "headwater_viewer"])
def test_nobody_comes_in_by_the_password_of_another(server: Server, user: str | None) -> None:
    owners = {None: "redis", **{one.name: one.secret for one in redis_users.USERS}}
    for secret in set(owners.values()) - {owners[user]}:
        with server.client(secret, user) as client:
            assert not _answers(client)


def test_a_running_server_is_given_the_users_that_it_lacks(
    server: Server, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.execute_command("ACL DELUSER", "headwater_viewer")
    admin.execute_command("ACL SETUSER", "headwater_writer", "+flushall", "~*")
    monkeypatch.setenv("HEADWATER_PORT_REDIS", str(server.port))
    local_redis.settle()
    made = admin.acl_list()
    local_redis.settle()
    assert admin.acl_list() == made
    with server.client("redis-viewer", "headwater_viewer") as viewer:
        assert viewer.hget(HOT, "v") == "{}"
    with server.client("redis-writer", "headwater_writer") as writer, pytest.raises(NoPermissionError):
        writer.flushall()


def by_tls(server: Server, host: str, ca_file: Path | None) -> Settings:
    return server.settings(url=f"rediss://{host}:{server.tls_port}/0", ca_file=ca_file)


@pytest.mark.parametrize("host", HERE)
def test_redis_by_tls_is_known_by_its_authority(
    server: Server, admin: Redis, authority: Authority, host: str
) -> None:
    settings = by_tls(server, host, authority.file)
    with connected(settings) as client:
        assert client.hget(HOT, "v") == b"{}"

    async def admitted() -> bool:
        rate = RateLimit(settings)
        found = await rate.ping()
        await rate.close()
        return found

    assert asyncio.run(admitted())


def test_a_certificate_of_another_authority_is_refused_and_not_called_an_outage(
    server: Server, tmp_path: Path
) -> None:
    for ca_file in (Authority(tmp_path, "stranger").file, None):
        with (
            pytest.raises(SetupError, match=r"redis\.ca_file"),
            connected(by_tls(server, "localhost", ca_file)) as client,
        ):
            client.ping()
