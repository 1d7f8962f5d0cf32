"""Users of Redis: what each may touch, and by which commands. All else is refused.

Redis cannot confine SCAN to keys: who may scan sees the names of all keys, and no other key's value.
"""

import hashlib
from dataclasses import dataclass

from local.credentials import read_secret

HOT_STATE = ("*:session:*:state", "*:session:*:metrics")
# Of every client: redis-py asks for another database than 0 by SELECT.
_ANY = ("ping", "select")


@dataclass(frozen=True)
class User:
    """A user with its keys (globs) and commands; its password is the secret of the same name."""

    name: str
    secret: str
    keys: tuple[str, ...]
    commands: tuple[str, ...]

    def rules(self) -> list[str]:
        """For ACL SETUSER, and for a `user` line of redis.conf: the same words, the password as a digest."""
        digest = hashlib.sha256(read_secret(self.secret).encode()).hexdigest()
        keys = [f"~{pattern}" for pattern in self.keys]
        return ["reset", "on", f"#{digest}", *keys, *(f"+{name}" for name in (*_ANY, *self.commands))]

    def line(self) -> str:
        """For redis.conf."""
        return " ".join(("user", self.name, *self.rules()))


_SCRIPTS = ("evalsha", "script|load")
# api/limits.py: what the script of the package `limits` calls.
_LIMITS = ("exists", "get", "incrby", "pttl", "rename", "set")
# api/page/sessions.py
_SESSIONS = ("multi", "exec", "expire", "zadd", "zrem", "zremrangebyrank", "zremrangebyscore", "zscore")
# sinks/redis.py, jobs/sides_redis.py
_HOT_STATE = ("hget", "hset", "pexpireat", "del", "unlink", "scan", "ttl")

USERS = (
    User(
        "headwater_api",
        "redis-api",
        ("headwater:rate:*", "headwater:session:*"),
        (*_SCRIPTS, *_LIMITS, *_SESSIONS),
    ),
    User("headwater_writer", "redis-writer", HOT_STATE, (*_SCRIPTS, *_HOT_STATE)),
    # Of programs that show a session. What was said last is in it: no role for who analyses data.
    User("headwater_viewer", "redis-viewer", HOT_STATE, ("hget", "hmget", "hgetall", "exists", "ttl")),
)
