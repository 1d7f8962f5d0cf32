"""A Kafka of the tests' own, which may be killed and started again."""

import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types export AdminClient only
    AdminClient,
    NewTopic,
    OffsetSpec,
)

from headwater.settings import Settings
from local import kafka as local_kafka
from local.install import command, versioned
from schemas.topics import create_topics
from tests.integration.api_server import free_port

TOPIC = "lead.ingest"
PARTITIONS = 3
_START_S = 180.0  # of a machine with other work
_ASKED_EVERY_S = 0.05


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """Poll until the condition gives something true; AssertionError when it does not in time."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(_ASKED_EVERY_S)
    return found


@contextmanager
def topic_of_its_own(bootstrap: str, name: str, config: dict[str, str] | None = None) -> Iterator[str]:
    """A new topic of three partitions, which the broker knows and leads; deleted at the end."""
    name, admin = f"test.{name}.{uuid.uuid4().hex[:8]}", AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config or {})])[name].result(30)
    eventually(lambda: _led(admin, {name: PARTITIONS}), "the topic is led")
    yield name
    admin.delete_topics([name])[name].result(30)


def _led(admin: AdminClient, topics: dict[str, int]) -> bool:
    """Whether all partitions answer. A broker has made a topic before it tells of it, and tells of it before
    it leads its partitions."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it has no types
    spots = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
    ends = dict.fromkeys(spots, latest)
    return all(answer.exception(30) is None for answer in admin.list_offsets(ends).values())


class Broker:
    """A Kafka of the tests' own, from the local stack's binaries and properties."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, sasl, controller = free_port(), free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.sasl = f"127.0.0.1:{sasl}"
        properties = local_kafka.properties(self.port, sasl, controller, folder / "logs")
        (folder / "server.properties").write_text(properties)
        (folder / "log4j2.xml").write_text(local_kafka.LOGGING)
        self.process: subprocess.Popen[bytes] | None = None

    def format(self) -> None:
        """Prepare its storage, once."""
        local_kafka.install()
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        config = str(self.folder / "server.properties")
        tool = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", config)
        subprocess.run(self._java("128m", *tool), check=True, capture_output=True)

    def start(self) -> None:
        config = str(self.folder / "server.properties")
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._java("512m", "kafka.Kafka", config),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        eventually(self._answers, f"Kafka of the tests answers, see {self.folder}/broker.log", _START_S)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def kill(self) -> None:
        """As a power cut would, but for the disk."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def remake_topics(self, settings: Settings) -> None:
        """Delete every topic and declare all anew; returns when the broker's metadata agrees."""
        if old := list(self._topics()):
            for done in self.admin.delete_topics(old).values():
                done.result(30)
            eventually(lambda: not self._topics(), "the topics are deleted")
        made = create_topics(settings)
        eventually(lambda: self._topics().get(TOPIC) == 6 and len(self._topics()) == len(made), "topics")
        eventually(lambda: _led(self.admin, self._topics()), "the topics are led")

    def forget_records(self, topic: str) -> None:
        """Delete all records that the topic has now, as retention would."""
        spots = [TopicPartition(topic, number, OFFSET_END) for number in range(self._topics()[topic])]
        for done in self.admin.delete_records(spots).values():
            done.result(30)

    def _topics(self) -> dict[str, int]:
        listed = self.admin.list_topics(timeout=10).topics.items()
        return {name: len(topic.partitions) for name, topic in listed if not name.startswith("__")}

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "Kafka of the tests ended"
        try:
            return bool(self.admin.list_topics(timeout=2).brokers)
        except Exception:  # librdkafka's own, until it is up
            return False

    def _java(self, heap: str, *argv: str) -> tuple[str, ...]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}"
        return (command("java"), logging, f"-Xmx{heap}", "-cp", f"{versioned('kafka')}/*", *argv)
