"""Kafka client settings for everyone who speaks to it, from one place."""

from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headwater.errors import SetupError, TransientError
from headwater.settings import Settings

_ANSWERS_WITHIN_S = 10.0


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
    """Raises SetupError when the topic is not there, TransientError when Kafka does not answer."""
    admin = AdminClient(confluent_config(settings))
    try:
        found = admin.list_topics(topic, timeout=_ANSWERS_WITHIN_S).topics[topic]
    except KafkaException as fault:
        raise TransientError(
            f"Kafka at {settings.kafka.bootstrap} does not answer ({fault.args[0].name()})"
        ) from None
    if found.error is not None:
        raise SetupError(f"no such topic: {topic}; create it with `python -m jobs migrate`")


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
