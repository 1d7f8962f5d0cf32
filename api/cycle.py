"""One request of a connection and its answer: the body at once when it is all there, the answer in one write.

uvicorn writes head and body of an answer one by one, which is a system call and a packet too many.
"""

from typing import Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

_BODILESS = frozenset({204, 304})


class Cycle(RequestResponseCycle):
    """As uvicorn's, where a shorter way is not open."""

    _held: Any = None  # the head of an answer that waits for its body

    async def run_asgi(self, app: Any) -> None:
        """As uvicorn's. The scope leads back here meanwhile: undone, nothing is left for the collector."""
        try:
            await super().run_asgi(app)
        finally:
            self.scope.pop("extensions", None)

    def take_whole(self) -> bytes | None:
        """The body, as `receive` would give it, when none of it is missing now; else None."""
        if self.more_body or self.disconnected or self.response_complete:
            return None
        body, self.body = bytes(self.body), bytearray()
        self.message_event.clear()
        return body

    async def send(self, message: Message) -> None:  # type: ignore[override]  # uvicorn's own message types
        if message["type"] == "http.response.start" and not self.response_started and _has_length(message):
            self._held = message
            return
        held, self._held = self._held, None
        if held and self._is_short(held, message):
            self._answer(held, message["body"])
            return
        if held:
            await super().send(held)
        await super().send(message)  # type: ignore[arg-type]

    def _is_short(self, head: Message, message: Message) -> bool:
        """Whether the answer is complete, and of the usual kind."""
        usual = self.scope["method"] != "HEAD" and head["status"] not in _BODILESS
        ready = not (self.flow.write_paused or self.disconnected)
        return usual and ready and bool(message.get("body")) and not message.get("more_body", False)

    def _answer(self, head: Message, body: bytes) -> None:
        fields = [*self.default_headers, *head["headers"]]
        _check(fields)
        parts, closes = [STATUS_LINE[head["status"]]], False
        for name, value in fields:
            if name == b"content-length" and int(value) != len(body):
                raise RuntimeError("the answer has another length than it says")
            closes = closes or (name == b"connection" and b"close" in value)
            parts += (name, b": ", value, b"\r\n")
        if not (self.keep_alive or closes):
            parts.append(b"connection: close\r\n")
        self.keep_alive = self.keep_alive and not closes
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(b"".join((*parts, b"\r\n", body)))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _check(fields: list[tuple[bytes, bytes]]) -> None:
    """Raises RuntimeError for a field that would end early. No single byte may be there: of all at once."""
    names, values = zip(*fields, strict=True)
    if HEADER_RE.search(b"".join(names)) or HEADER_VALUE_RE.search(b"".join(values)):
        raise RuntimeError("a header of the answer cannot be sent")


def _has_length(head: Message) -> bool:
    for name, _ in head["headers"]:  # a generator would cost more than the loop
        if name == b"content-length":
            return True
    return False
