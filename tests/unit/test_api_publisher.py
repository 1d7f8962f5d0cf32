"""The publisher with a librdkafka that misbehaves: one that never reports, and one that breaks for good."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from api import publisher as module
from api.publisher import Publisher, Record, UnavailableError
from headwater.settings import Settings

RECORD = Record("t", b"k", b"v")
TIMED_OUT, PURGED, FATAL = -192, -152, -150  # librdkafka's own numbers (rdkafka.h)


class Rdkafka:
    """In place of confluent_kafka.Producer; `made` are all of a test."""

    made: list["Rdkafka"]

    def __init__(self, config: dict[str, Any], **_: object) -> None:
        self.on_error: Callable[[KafkaError], None] = config["error_cb"]
        self.queued: list[Callable[[KafkaError | None, object], None]] = []
        self.events: list[Callable[[], None]] = []
        self.made.append(self)

    def produce(
        self, *_: object, on_delivery: Callable[[KafkaError | None, object], None], **__: object
    ) -> None:
        self.queued.append(on_delivery)

    def poll(self, _timeout: float) -> None:
        while self.events:
            self.events.pop(0)()

    def purge(self) -> None:
        reports, self.queued = self.queued, []
        self.events += [lambda tell=tell: tell(KafkaError(PURGED), None) for tell in reports]

    def flush(self, _timeout: float) -> None:
        self.poll(0)


@pytest.fixture
def rdkafka(monkeypatch: pytest.MonkeyPatch) -> list[Rdkafka]:
    """All that are made, in order."""
    made: list[Rdkafka] = []
    monkeypatch.setattr(Rdkafka, "made", made, raising=False)
    monkeypatch.setattr(module, "Producer", Rdkafka)
    return made


def publisher(**api: object) -> Publisher:
    found = Settings(env="staging")  # type: ignore[call-arg]  # the rest comes from conf/
    return Publisher(found.model_copy(update={"api": found.api.model_copy(update=api)}))


def test_a_request_whose_report_never_comes_is_given_up_and_its_record_still_counts(
    rdkafka: list[Rdkafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    monkeypatch.setattr(module, "SCAN_S", 0.01)

    async def run() -> tuple[int, int]:
        tested = publisher(kafka_timeout_s=0.05)
        tested.start()
        with pytest.raises(UnavailableError, match="no delivery report"):
            await tested.publish([RECORD])
        before = tested.pending
        rdkafka[0].events.append(lambda: rdkafka[0].queued[0](None, None))  # it comes after all
        while tested.pending:
            await asyncio.sleep(0.001)
        await tested.stop()
        return before, tested.pending

    assert asyncio.run(run()) == (1, 0)


def test_after_a_fatal_error_what_waits_is_refused_and_another_producer_takes_over(
    rdkafka: list[Rdkafka],
) -> None:
    async def run() -> None:
        tested = publisher(kafka_timeout_s=5.0)
        tested.start()
        first = asyncio.create_task(tested.publish([RECORD]))
        await asyncio.sleep(0)
        fatal = KafkaError(FATAL, "", fatal=True)
        rdkafka[0].events.append(lambda: rdkafka[0].on_error(fatal))
        with pytest.raises(UnavailableError, match="PURGE"):
            await first
        second = asyncio.create_task(tested.publish([RECORD]))
        await asyncio.sleep(0)
        rdkafka[1].events.append(lambda: rdkafka[1].queued[0](None, None))
        await second
        await tested.stop()

    asyncio.run(run())
    assert len(rdkafka) == 2


def test_a_request_waits_for_the_last_of_its_records_and_one_failure_fails_it(rdkafka: list[Rdkafka]) -> None:
    async def run() -> list[bool]:
        tested = publisher()
        tested.start()
        request = asyncio.create_task(tested.publish([RECORD, RECORD]))
        await asyncio.sleep(0)
        first, second = rdkafka[0].queued
        rdkafka[0].events.append(lambda: first(KafkaError(TIMED_OUT), None))
        while tested.pending == 2:
            await asyncio.sleep(0.001)
        early = request.done()
        rdkafka[0].events.append(lambda: second(None, None))
        with pytest.raises(UnavailableError, match="TIMED_OUT"):
            await request
        await tested.stop()
        return [early, request.done()]

    assert asyncio.run(run()) == [False, True]
