"""Kafka client settings for everyone who speaks to it, from one place."""

import logging
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types export AdminClient only
    AdminClient,
    ClusterMetadata,
)

from headwater.errors import SetupError, TransientError
from headwater.settings import Settings

_ANSWERS_WITHIN_S = 10.0
_ASKED_FOR_S = 1.0
# What librdkafka logs of a question, its caller is told: more than once.
_QUIET = logging.getLogger("librdkafka.quiet")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


def confluent_config(settings: Settings) -> dict[str, Any]:
    """Settings of librdkafka (confluent-kafka), for asking; for sending see `producer_config`."""
    kafka = settings.kafka
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap,
        "security.protocol": kafka.security_protocol,
    }
    if kafka.sasl_mechanism:
        config |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.username,
            "sasl.password": kafka.password.get_secret_value() if kafka.password else "",
        }
    if kafka.ca_file:
        config["ssl.ca.location"] = str(kafka.ca_file)
    return config


def replaying(settings: Settings) -> Settings:
    """The same, as who sends records into source topics again: the jobs themselves may only read those."""
    kafka = settings.kafka
    if kafka.replay_username is None:
        return settings
    who = {"username": kafka.replay_username, "password": kafka.replay_password}
    return settings.model_copy(update={"kafka": kafka.model_copy(update=who)})


def producer_config(settings: Settings, client: str, give_up_s: float) -> dict[str, Any]:
    """Settings of a librdkafka producer: what it acknowledges is kept, and sent once while it lives."""
    return confluent_config(settings) | {
        "client.id": client,
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": round(give_up_s * 1000),
        "linger.ms": 5,
        "compression.type": "lz4",
        # As the Java clients place keys, so that a replayed record lands in the same partition.
        "partitioner": "murmur2_random",
    }


def check_topic(settings: Settings, topic: str) -> None:
    """Raises SetupError when the topic is not there or Kafka refuses us, TransientError when it is away."""
    fault = _asked(settings, topic).topics[topic].error
    if fault is not None and fault.name() == "TOPIC_AUTHORIZATION_FAILED":
        raise SetupError(f"{settings.kafka.username} has no right to the topic {topic}: grant it in Kafka")
    if fault is not None:
        raise SetupError(f"no such topic: {topic}; create it with `python -m jobs migrate`")


def why_away(settings: Settings) -> SetupError | TransientError:
    """What it means that Kafka gave no answer. Asked of librdkafka: kafka-python waits out a wrong password,
    or a certificate that it does not know, and then says only that time is up."""
    try:
        _asked(settings)
    except (SetupError, TransientError) as fault:
        return fault
    return TransientError(f"Kafka at {settings.kafka.bootstrap} did not answer in time")


def _asked(settings: Settings, topic: str | None = None) -> ClusterMetadata:
    """What Kafka tells of the topic, or of all. Raises as soon as it is clear that it tells us nothing."""
    faults: list[KafkaError] = []
    admin = AdminClient(confluent_config(settings) | {"error_cb": faults.append}, logger=_QUIET)
    end = time.monotonic() + _ANSWERS_WITHIN_S
    while True:
        try:
            return admin.list_topics(*([topic] if topic else []), timeout=_ASKED_FOR_S)
        except KafkaException as fault:
            last = fault.args[0].name()
        admin.poll(0)
        if found := [what for fault in faults if (what := remedy(settings, fault))]:
            raise SetupError(found[0])
        if time.monotonic() >= end:
            raise TransientError(f"Kafka at {settings.kafka.bootstrap} does not answer ({last})")


def remedy(settings: Settings, fault: KafkaError) -> str | None:
    """A sentence for a fault that no repetition mends: a refused login, a certificate of somebody else."""
    where = settings.kafka.bootstrap
    if fault.name() == "_AUTHENTICATION":
        return (
            f"Kafka at {where} refuses the login: check kafka.username, kafka.password and "
            "kafka.sasl_mechanism"
        )
    if fault.name() == "_SSL" and "certificate verify failed" in fault.str():
        return (
            f"the certificate of Kafka at {where} cannot be verified, or is another host's: check "
            "kafka.bootstrap and kafka.ca_file"
        )
    return None


def kafka_python_config(settings: Settings) -> dict[str, Any]:
    """Settings of kafka-python: topic administration."""
    kafka = settings.kafka
    config: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security_protocol,
        "client_id": "headwater",
    }
    if kafka.sasl_mechanism:
        config |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": kafka.password.get_secret_value() if kafka.password else "",
        }
    if kafka.ca_file:
        config["ssl_cafile"] = str(kafka.ca_file)
    return config


def spark_config(settings: Settings) -> dict[str, str]:
    """Options of Spark's Kafka source and sink. The password goes into the JAAS line and nowhere else."""
    kafka = settings.kafka
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap,
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.sasl_mechanism:
        module = "plain.PlainLoginModule" if kafka.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        password = kafka.password.get_secret_value() if kafka.password else ""
        options |= {
            "kafka.sasl.mechanism": kafka.sasl_mechanism,
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
            f"username={_quoted(kafka.username or '')} password={_quoted(password)};",
        }
    if kafka.ca_file:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": str(kafka.ca_file)}
    return options


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
