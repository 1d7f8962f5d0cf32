"""An upload on its way into storage: hashed, counted and looked at meanwhile, two parts of it in memory.

The part that came last is written on a thread while the next one comes in. Whatever goes wrong, a client that
hangs up too, nothing stays in storage.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from api.problems import Fault, Problem
from headwater.settings import Uploads
from sources import sniff
from sources.landing.base import Landing, Stored, Writer
from sources.unpack import Limits, inspect, probe
from sources.zip_directory import UnpackError

CLEARED_WITHIN_S = 5.0


@dataclass(frozen=True)
class Arrived:
    """A file that is in storage, and what it is."""

    stored: Stored
    format: str


class Arrivals:
    """Takes files into storage."""

    def __init__(self, uploads: Uploads, landing: Landing) -> None:
        self.uploads = uploads
        self.landing = landing
        self._threads = ThreadPoolExecutor(uploads.at_once, thread_name_prefix="upload")
        self._clearing: set[asyncio.Task[None]] = set()

    async def take(self, key: str, content: AsyncIterator[bytes]) -> Arrived:
        """All of the content. Raises Problem 400, 413, 415 or 422; storage's faults as they are."""
        arrival = _Arrival(self, key)
        try:
            async for chunk in content:
                await arrival.add(chunk)
            return await arrival.finish()
        except UnpackError as fault:
            await self._clear(arrival)
            raise Problem(422, "archive_refused", (Fault("", fault.code, fault.message),)) from None
        except BaseException:
            await self._clear(arrival)
            raise

    async def forget(self, key: str) -> None:
        """Delete a file that is not needed after all."""
        await self.on_thread(self.landing.delete, key)

    def on_thread(self, work: Callable[..., Any], *values: Any) -> asyncio.Future[Any]:
        """Run what waits for the disk or the network."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *values)

    async def stop(self) -> None:
        """Nobody waits any more for an upload that a stop has ended: but for what it has stored, here."""
        if self._clearing:
            await asyncio.wait(self._clearing, timeout=CLEARED_WITHIN_S)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _clear(self, arrival: "_Arrival") -> None:
        """Goes on when the caller is cancelled."""
        clearing = asyncio.create_task(arrival.abort())
        self._clearing.add(clearing)
        clearing.add_done_callback(self._clearing.discard)
        await asyncio.shield(clearing)


class _Arrival:
    """One file. At most one piece of work is under way on a thread, and `abort` waits for it."""

    def __init__(self, arrivals: Arrivals, key: str) -> None:
        self._arrivals = arrivals
        self._uploads = arrivals.uploads
        self._key = key
        self._part = self._spare = memoryview(b"")
        self._filled = 0
        self._size = 0
        self._tail = b""
        self._format: str | None = None
        self._writer: Writer | None = None
        self._under_way: asyncio.Future[Any] | None = None

    async def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._uploads.max_bytes:
            raise too_large(self._uploads.max_bytes)
        left = memoryview(chunk)
        while left:
            self._part = self._part or _room_for_part(self._uploads)
            taken = min(len(left), len(self._part) - self._filled)
            self._part[self._filled : self._filled + taken] = left[:taken]
            self._filled += taken
            left = left[taken:]
            if self._filled == len(self._part):
                await self._write(self._part)
                self._part, self._spare = self._spare, self._part  # the one before is written by now
                self._filled = 0

    async def finish(self) -> Arrived:
        if self._filled:
            await self._write(self._part[: self._filled])
        writer = self._writer
        if writer is None or self._format is None:
            raise Problem(400, "empty", (Fault("", "empty", "is empty"),))
        if not sniff.ends_as(self._format, self._tail):
            raise Problem(422, "cut_off", (Fault("", "damaged", "is damaged or cut off"),))
        stored: Stored = await self._work(writer.finish)
        if self._format == sniff.ZIP:
            await self._work(self._look_into)
        return Arrived(stored, self._format)

    async def abort(self) -> None:
        with suppress(Exception):  # why it is aborted is known already
            await self._settled()
        if self._writer is not None:
            await self._arrivals.on_thread(self._writer.abort)

    async def _write(self, part: memoryview) -> None:
        """Hand a part over; returns when the one before is written."""
        self._tail = (self._tail + bytes(part[-4:]))[-4:]
        if self._writer is None:
            await self._work(self._open, part)
        await self._settled()
        assert self._writer is not None  # noqa: S101 - `_open` has made it
        self._under_way = self._arrivals.on_thread(self._writer.write, part)

    async def _work(self, work: Callable[..., Any], *values: Any) -> Any:
        await self._settled()
        self._under_way = self._arrivals.on_thread(work, *values)
        return await self._settled()

    async def _settled(self) -> Any:
        """What is under way goes on when we are cancelled: it must end before anything else is done."""
        if self._under_way is None:
            return None
        found = await asyncio.shield(self._under_way)
        self._under_way = None
        return found

    def _open(self, first: memoryview) -> None:
        """On a thread: nothing is stored of what is no file of ours."""
        self._format = sniff.sniff(bytes(first[: sniff.HEAD_BYTES]))
        if self._format is None:
            errors = (Fault("", "unsupported_type", "is not CSV, JSON, NDJSON, Parquet, gzip or zip"),)
            raise Problem(415, "unsupported_type", errors)
        if self._format == sniff.GZIP:
            probe(first, Limits.of(self._uploads))
        self._writer = Writer(self._arrivals.landing, self._key)

    def _look_into(self) -> None:
        with self._arrivals.landing.open(self._key) as stream:
            inspect(stream, Limits.of(self._uploads))


def _room_for_part(uploads: Uploads) -> memoryview:
    """Filled again and again: memory that is taken and given back for each part costs more than the copy."""
    return memoryview(bytearray(uploads.part_bytes))


def too_large(limit: int) -> Problem:
    """413, as the other routes say it."""
    return Problem(413, "too_large", (Fault("", "too_large", f"is larger than {limit} bytes"),))
