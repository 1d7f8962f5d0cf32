"""The receiver's own words: a plan, what it has seen, and that it believes nothing unsigned."""

import json

import httpx
import pytest

from headwater.clock import utc_now
from local.receiver import Receiver
from sinks.webhook.payload import headers
from tests.conftest import RECEIVER_SECRET as SECRET


def post(receiver: Receiver, key: str, content: bytes = b"{}", age_s: int = 0, secret: str = SECRET) -> int:
    signed = headers("crm", key, secret, int(utc_now().timestamp()) - age_s, content)
    return httpx.post(f"{receiver.url}/hook", headers=signed, content=content).status_code


@pytest.mark.parametrize(("age_s", "secret"), [(0, "another"), (310, SECRET), (-310, SECRET)])
def test_what_is_signed_wrongly_or_at_another_time_is_refused(
    receiver: Receiver, age_s: int, secret: str
) -> None:
    assert post(receiver, "a", age_s=age_s, secret=secret) == 401
    assert [(seen["signed"], seen["answer"]) for seen in receiver.seen()] == [(False, 401)]


def test_a_plan_is_followed_in_order_and_what_came_is_told(receiver: Receiver) -> None:
    plan = [{"status": 503, "times": 2}, {"status": 429, "headers": {"Retry-After": "7"}}]
    assert httpx.put(f"{receiver.url}/_plan", content=json.dumps(plan)).status_code == 204
    assert [post(receiver, "a", b'{"n": 1}') for _ in range(4)] == [503, 503, 429, 200]
    seen = httpx.get(f"{receiver.url}/_seen").json()
    assert [(one["key"], one["attempt"], one["answer"]) for one in seen] == [
        ("crm:a", 1, 503), ("crm:a", 2, 503), ("crm:a", 3, 429), ("crm:a", 4, 200),
    ]  # fmt: skip
    assert httpx.delete(f"{receiver.url}/_seen").status_code == 204
    assert receiver.seen() == []
