"""Hot state by its name in Redis: to let some give way to the lake's, and to take some away.

A key whose version is not the one that was seen is left alone: whoever has written meanwhile was later.
"""

from collections.abc import Sequence
from typing import Any

from redis import Redis

from sinks.base import Seen

_AT_ONCE = 500  # keys in one round trip
# An empty version is before all others. When the key expires stays.
GIVE_WAY = """
if redis.call('HGET', KEYS[1], 'n') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'n', '')
return 1
"""
WITHDRAW = """
if (redis.call('HGET', KEYS[1], 'n') or '') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def run(client: Redis, script: str, rows: Sequence[Seen]) -> int:
    """Run a script for each; how many were as they had been seen. A row's token is the key's name."""
    loaded: Any = client.script_load(script)
    done = 0
    for first in range(0, len(rows), _AT_ONCE):
        asked = client.pipeline(transaction=False)
        for row in rows[first : first + _AT_ONCE]:
            asked.evalsha(loaded, 1, row.token, row.version)
        done += sum(asked.execute())
    return done
