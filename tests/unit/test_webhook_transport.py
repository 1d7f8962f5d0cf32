"""Connections of a sender: kept while they are good, and never used by two requests or after a fault."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from headwater.clock import utc_now
from local.receiver import Receiver
from sinks.webhook.addresses import Allowed
from sinks.webhook.payload import headers
from sinks.webhook.transport import Answer, CheckedBackend, Sender, checked_url
from tests.conftest import RECEIVER_SECRET as SECRET

Post = Callable[[], Coroutine[Any, Any, Answer]]
Story = Callable[[Post], Coroutine[Any, Any, None]]


class Dials(CheckedBackend):
    """Counts them."""

    count = 0

    async def connect_tcp(self, *where: Any, **how: Any) -> Any:
        self.count += 1
        return await super().connect_tcp(*where, **how)


def dials(receiver: Receiver, story: Story, timeout_s: float = 5) -> int:
    """How many connections the story took."""
    backend = Dials(Allowed.parse("crm", ["127.0.0.0/8"]), tls=False)

    async def tell() -> None:
        url = checked_url("crm", f"{receiver.url}/hook")
        async with Sender(url, backend, ssl.create_default_context(), timeout_s) as sender:

            async def post() -> Answer:
                return await sender.post(
                    headers("crm", "e", SECRET, int(utc_now().timestamp()), b"{}"), b"{}"
                )

            await story(post)

    asyncio.run(tell())
    return backend.count


def test_one_request_after_another_takes_one_connection(receiver: Receiver) -> None:
    async def story(post: Post) -> None:
        assert [await post() for _ in range(5)] == [Answer(200)] * 5

    assert dials(receiver, story) == 1


def test_requests_at_once_take_a_connection_each_and_leave_it_to_the_next(receiver: Receiver) -> None:
    receiver.plan([{"delay_s": 0.1, "times": 6}])

    async def story(post: Post) -> None:
        for _ in range(2):
            assert await asyncio.gather(post(), post(), post()) == [Answer(200)] * 3

    assert dials(receiver, story) == 3


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ({"drop": True}, Answer(error="protocol")),
        ({"delay_s": 1.5}, Answer(error="timeout")),
        ({"drip_s": 1.5}, Answer(error="timeout")),
        ({"bytes": 100_000}, Answer(200)),
        ({"status": 503, "headers": {"Connection": "close"}}, Answer(503)),
    ],
)
def test_after_a_fault_or_an_answer_too_long_the_next_request_dials_anew(
    receiver: Receiver, step: dict[str, Any], answer: Answer
) -> None:
    receiver.plan([step])

    async def story(post: Post) -> None:
        assert [await post(), await post()] == [answer, Answer(200)]

    assert dials(receiver, story, timeout_s=1) == 2


def test_a_connection_that_the_other_side_closed_while_it_waited_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    process = receiver.process_request

    def remembered(connection: Any, address: Any) -> None:
        taken.append(connection)
        process(connection, address)

    monkeypatch.setattr(receiver, "process_request", remembered)

    async def story(post: Post) -> None:
        assert await post() == Answer(200)
        taken[0].shutdown(socket.SHUT_RDWR)
        assert await post() == Answer(200)

    assert dials(receiver, story) == 2
