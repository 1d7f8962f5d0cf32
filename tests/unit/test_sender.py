"""The sender of the API's load and race, against a small server of the test's own."""

import asyncio
from collections.abc import Callable

import pytest

from tests.perf import sender
from tests.perf.sender import Answers, new_runner, post, send

REQUESTS = [post("good", 202, "/x", b"%d" % number, {}) for number in range(200)]
Answer = Callable[[int], bytes]


def exchanged(answer: Answer) -> tuple[Answers, list[bytes]]:
    """What a server got, and the sender's account of it; `answer` is given the request's number there."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                writer.write(reply := answer(len(bodies)))
                if not reply or b"close" in reply:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def run() -> Answers:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            return await send(server.sockets[0].getsockname()[1], REQUESTS, 20_000)
        finally:
            server.close()

    with new_runner() as runner:
        return runner.run(run()), bodies


def reply(status: int, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\n%bContent-Length: 2\r\n\r\nok" % (status, more)


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_each_request_is_sent_and_answered_once(more: bytes) -> None:
    answers, bodies = exchanged(lambda _: reply(202, more))
    assert sorted(bodies, key=int) == [b"%d" % number for number in range(200)]
    assert answers.counts == {"good as due": 200}
    assert len(answers.latencies_ms["good"]) == 200


def test_another_status_is_told_apart() -> None:
    answers, _ = exchanged(lambda number: reply(503 if number % 2 else 202))
    assert answers.counts == {"good as due": 100, "good 503": 100}


def test_a_connection_that_ends_without_an_answer_is_a_fault_once_and_a_retry_when_it_was_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "CONNECTIONS", 1)  # so the fiftieth request comes by one that was used
    monkeypatch.setattr(sender, "FRESH_S", 600.0)
    answers, bodies = exchanged(lambda number: b"" if number in (1, 50) else reply(202))
    assert answers.counts == {"good closed": 1, "good as due": 199}
    assert len(bodies) == 201
