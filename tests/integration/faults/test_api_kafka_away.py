"""Kafka away for minutes under a steady load of the API: 503, bounded memory, no promise broken."""

import asyncio
import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import KafkaException

from headwater.settings import load_settings
from tests.integration.api_server import ApiServer, running_api
from tests.integration.broker import TOPIC, Broker, eventually
from tests.integration.outgoing import records
from tests.integration.raw_http import Answer, parse, post

AWAY_S = 180.0
RATE_PER_S = 100
BEFORE_S = 10.0
# An acknowledgement is waited for 5 s (api.kafka_timeout_s) and given up within 3 s more; the rest is for a
# machine that is busy.
ANSWERED_WITHIN_S = 15.0
TAKEN_AGAIN_WITHIN_S = 20.0
SETTLES_WITHIN_S = 5.0
# Of the first that were refused every other one is sent again: those had been handed to the Kafka client.
SENT_AGAIN_OF = 1_000
# What waits is bounded by 64 requests once Kafka is known to be away, and by 5 s of load until then.
MEMORY_MAY_GROW_BYTES = 48 << 20


def event(key: str) -> bytes:
    payload = {"email": f"{key}@example.com", "message": "x" * 300, "consent": True}
    return json.dumps({"source": "web", "idempotency_key": key, "payload": payload}).encode()


class Load:
    """Posts RATE_PER_S events a second, each with a key of its own and each when it is due."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.answers: dict[str, list[Answer]] = {}
        self.counts: Counter[int] = Counter()
        self.memory: list[int] = []
        self.enough = threading.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as posts:
            began = time.monotonic()
            for number in itertools.count():
                if self.enough.is_set():
                    return
                await asyncio.sleep(max(0.0, began + number / RATE_PER_S - time.monotonic()))
                posts.create_task(self._post(f"k{number}"))
                if number % RATE_PER_S == 0:
                    self.memory.append(self.server.rss_bytes())

    async def _post(self, key: str) -> None:
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            self.note(key, await exchange(self.server, key))

    def note(self, key: str, answer: Answer) -> None:
        self.answers.setdefault(key, []).append(answer)
        self.counts[answer.status] += 1


async def exchange(server: ApiServer, key: str) -> Answer:
    """One event on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(post(f"X-API-Key: {server.key}", "Connection: close", body=event(key)))
        (answer,) = parse(await reader.read())
    finally:
        writer.close()
    return answer


@contextmanager
def steady(server: ApiServer) -> Iterator[Load]:
    """The load for the length of the block; all is answered behind it."""
    load = Load(server)
    with ThreadPoolExecutor(1) as pool:
        running: Future[None] = pool.submit(asyncio.run, load.run())
        try:
            yield load
        finally:
            load.enough.set()
        running.result()


def stopped(broker: Broker, seconds: float) -> None:
    """The broker stands still: connections stay open, what was sent is read afterwards."""
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        pass_time(seconds)
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)


def killed(broker: Broker, seconds: float) -> None:
    """The broker is gone: connections are refused."""
    broker.kill()
    pass_time(seconds)
    broker.start()


def pass_time(seconds: float) -> None:
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, "the time passes", seconds + 10)


@pytest.mark.parametrize(("away", "seconds"), [(stopped, AWAY_S), (killed, 15.0)])
def test_an_api_without_kafka_answers_503_and_keeps_what_it_promised(
    broker: Broker, tmp_path: Path, away: Callable[[Broker, float], None], seconds: float
) -> None:
    kafka = load_settings("local").kafka.model_copy(update={"bootstrap": broker.bootstrap})
    broker.remake_topics(load_settings("local").model_copy(update={"kafka": kafka}))
    with running_api(tmp_path, HEADWATER_KAFKA__BOOTSTRAP=broker.bootstrap) as server:
        with steady(server) as load, ThreadPoolExecutor(1) as aside:
            pass_time(BEFORE_S)
            assert load.counts.keys() == {202}
            memory_before = max(load.memory)
            asked = aside.submit(health_in_mid_outage, server, seconds / 2)
            away(broker, seconds)
            assert asked.result() == [(503, "down"), (200, None)]
            eventually(lambda: leads_all_partitions(broker), "Kafka is back")
            taken = load.counts[202]
            eventually(
                lambda: load.counts[202] > taken + RATE_PER_S,
                "events are taken again",
                TAKEN_AGAIN_WITHIN_S,
            )
            pass_time(SETTLES_WITHIN_S)
            refused_until_now = load.counts[503]
            pass_time(SETTLES_WITHIN_S)
            assert load.counts[503] == refused_until_now
        refused = check_answers(load)
        assert len(refused) > RATE_PER_S * (seconds - ANSWERED_WITHIN_S)
        assert max(load.memory) - memory_before < MEMORY_MAY_GROW_BYTES
        asyncio.run(send_again(load, refused[:SENT_AGAIN_OF:2]))
    check_topic(broker, load)


def leads_all_partitions(broker: Broker) -> bool:
    """Whether the broker writes to the topic again: it answers before it does."""
    try:
        found = broker.admin.list_topics(TOPIC, timeout=2).topics[TOPIC]
    except KafkaException:
        return False
    return all(partition.leader >= 0 for partition in found.partitions.values())


def health_in_mid_outage(server: ApiServer, after_s: float) -> list[tuple[int, str | None]]:
    pass_time(after_s)
    health, live = (httpx.get(f"{server.url}/health{path}", timeout=20) for path in ("", "/live"))
    return [(health.status_code, health.json()["status"]), (live.status_code, None)]


def check_answers(load: Load) -> list[str]:
    """Each event has one answer, 202 or 503 with a wait; the keys of those that were refused."""
    assert {len(found) for found in load.answers.values()} == {1}
    assert load.counts.keys() == {202, 503}
    refused = {key: found[0] for key, found in load.answers.items() if found[0].status == 503}
    told = {(answer.problem()["code"], answer.fields["retry-after"]) for answer in refused.values()}
    assert told == {("kafka_unavailable", "5")}
    return list(refused)


async def send_again(load: Load, keys: list[str]) -> None:
    """As a client would that was refused: the same event with the same key."""
    for key in keys:
        load.note(key, await exchange(load.server, key))
    assert {load.answers[key][-1].status for key in keys} == {202}


def check_topic(broker: Broker, load: Load) -> None:
    """What was answered 202 is there, once if it was sent once. A refused event may have come through: its
    record has the event id that the second sending has, so that refine counts it once."""
    there: dict[str, list[str]] = {}
    for _, value in records(broker, TOPIC):
        there.setdefault(value["idempotency_key"], []).append(value["event_id"])
    assert there.keys() <= load.answers.keys()
    for key, answers in load.answers.items():
        statuses, found = [answer.status for answer in answers], there.get(key, [])
        least = statuses.count(202)
        assert least <= len(found) <= len(statuses), (key, statuses, found)
        promised = {json.loads(answer.body)["event_id"] for answer in answers if answer.status == 202}
        assert len(set(found) | promised) <= 1, key
