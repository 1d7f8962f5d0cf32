"""A line of each request to stderr, of many requests at once: the system call costs more than the line.

What was gathered when the process is killed is lost, at most FLUSH_S of it; a stop writes it.
"""

import asyncio
import sys
from select import PIPE_BUF
from typing import Any

import orjson

FLUSH_S = 0.05
_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


class AccessLog:
    """Lines on their way to stderr."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def add(self, line: dict[str, Any]) -> None:
        """Write it soon, as it is now. Only on the loop."""
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what is gathered now. Workers share stderr: a pipe keeps so much together."""
        gathered, self._lines = self._lines, []
        part: list[bytes] = []
        for line in [orjson.dumps(line, option=_LINE) for line in gathered]:
            if part and sum(map(len, part)) + len(line) > PIPE_BUF:
                _write(part)
                part = []
            part.append(line)
        _write(part)


def _write(lines: list[bytes]) -> None:
    sys.stderr.write(b"".join(lines).decode())
    sys.stderr.flush()
