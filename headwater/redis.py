"""Redis client settings for everyone who speaks to it, from one place."""

from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from headwater.server_settings import Redis

# redis-py keeps OpenSSL's word only as text.
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


def writer_options(redis: Redis) -> dict[str, Any]:
    """Options for `from_url` of who keeps hot state: the jobs."""
    secret = redis.password
    return _options(redis, redis.username, secret.get_secret_value() if secret else None)


def api_options(redis: Redis) -> dict[str, Any]:
    """The same of the API; what it has not of its own is the jobs'."""
    secret = redis.api_password or redis.password
    user = redis.api_username or redis.username
    return _options(redis, user, secret.get_secret_value() if secret else None)


def _options(redis: Redis, username: str | None, password: str | None) -> dict[str, Any]:
    """redis-py checks certificate and host name of `rediss://` by default, and takes no ssl_* without TLS."""
    tls = redis.url.startswith("rediss://")
    options = {"username": username, "password": password}
    return options | ({"ssl_ca_certs": str(redis.ca_file)} if tls and redis.ca_file else {})


def refused(fault: RedisError) -> bool:
    """Whether trying again is useless: a login, right or certificate is wrong."""
    return isinstance(fault, AuthenticationError | NoPermissionError) or _UNTRUSTED in str(fault)
