"""A large body as it arrives, from clients that go on sending: the slow are cut off, nothing is kept."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request

from api.body import drain
from api.problems import Problem
from headwater.settings import Uploads

GRACE_S = 20.0  # of waiting, before the average counts: a connection starts slowly
_CLOSE = {"Connection": "close"}


class Streamed:
    """The body of one request. The time that counts is spent waiting for the client, not for storage."""

    def __init__(
        self, request: Request, uploads: Uploads, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._request = request
        self._uploads = uploads
        self._clock = clock
        self._stream = request.stream()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes. Raises Problem 408 when they come too slowly."""
        waited, received = 0.0, 0
        while True:
            began = self._clock()
            try:
                async with asyncio.timeout(self._uploads.idle_timeout_s):
                    chunk = await anext(self._stream, None)
            except TimeoutError:
                raise Problem(408, "body_timeout", headers=_CLOSE) from None
            if chunk is None:
                return
            waited += self._clock() - began
            received += len(chunk)
            if not chunk:  # the body's end
                continue
            if waited > GRACE_S and received < self._uploads.min_bytes_per_s * waited:
                raise Problem(408, "body_timeout", headers=_CLOSE)
            yield chunk

    async def turned_away(self, problem: Problem) -> Problem:
        """The problem, once the client had a moment to stop sending and so reads the answer."""
        await drain(self._request, self._stream)
        problem.headers = dict(problem.headers or {}) | _CLOSE
        return problem
