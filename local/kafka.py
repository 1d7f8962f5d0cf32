# ruff: noqa: S603 - the commands are our own, and no shell reads them
"""Apache Kafka in KRaft mode: one node that is broker and controller.

PLAINTEXT is for the local jobs; its anonymous user may do all. The SCRAM listener knows the principals of
kafka_users.py, each with its rights.
"""

import secrets
import subprocess
from base64 import urlsafe_b64encode
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local import kafka_users
from local.credentials import read_secret
from local.install import command, install_once, maven, profile_digest, versioned
from local.places import Port, data, make_folder
from local.process import Launch
from local.server import Server, StartError

BROKER = Port("KAFKA", 19092)
SASL = Port("KAFKA_SASL", 19094)
CONTROLLER = Port("KAFKA_CONTROLLER", 19093)
_HEAP = "512m"
_PROBE_TIMEOUT_S = 3

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},SASL_PLAINTEXT://127.0.0.1:{sasl}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config={jaas}
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={jaas}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{admin}
allow.everyone.if.no.acl.found=false
auto.create.topics.enable=false
log.dirs={logs}
num.partitions=3
offsets.topic.num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
LOGGING = """\
<Configuration><Appenders><Console name="C"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="C"/></Root></Loggers></Configuration>
"""


def install() -> None:
    install_once(versioned("kafka"), profile_digest("kafka"), lambda to: maven("kafka", to))


def launch() -> Launch:
    """Write the configuration, format the storage at the first start."""
    home = make_folder(data("kafka"))
    config = home / "server.properties"
    config.write_text(_properties(), encoding="utf-8")
    (home / "log4j2.xml").write_text(LOGGING, encoding="utf-8")
    if not (home / "logs" / "meta.properties").exists():
        _format(str(config))
    memory = (f"-Xms{_HEAP}", f"-Xmx{_HEAP}", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError")
    return Launch((*_java(*memory), "kafka.Kafka", str(config)), cwd=home)


def _properties() -> str:
    return properties(BROKER.number, SASL.number, CONTROLLER.number, data("kafka") / "logs")


def properties(broker: int, sasl: int, controller: int, logs: Path) -> str:
    """server.properties of a broker with these ports and this folder."""
    return PROPERTIES.format(
        broker=broker,
        sasl=sasl,
        controller=controller,
        admin=kafka_users.ADMIN,
        logs=logs,
        jaas="org.apache.kafka.common.security.scram.ScramLoginModule required;",
    )


def _java(*options: str) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={data('kafka') / 'log4j2.xml'}"
    return (command("java"), logging, *options, "-cp", f"{versioned('kafka')}/*")


def _format(config: str) -> None:
    cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A")
    argv = (*_java("-Xmx256m"), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError("kafka", f"its storage was not formatted: {(done.stdout + done.stderr)[-2000:]}")


def _admin() -> AdminClient:
    quiet = {"log_level": 0, "socket.timeout.ms": _PROBE_TIMEOUT_S * 1000}
    return AdminClient({"bootstrap.servers": f"127.0.0.1:{BROKER.number}", **quiet})


def answers() -> bool:
    try:
        return bool(_admin().list_topics(timeout=_PROBE_TIMEOUT_S).brokers)
    except KafkaException:
        return False


def settle() -> None:
    """Give the principals their passwords and rights (repeatable)."""
    try:
        kafka_users.settle(_admin(), {who: read_secret(name) for who, name in kafka_users.SECRETS.items()})
    except KafkaException as fault:
        raise StartError("kafka", f"its principals were not set: {fault}") from fault


SERVER = Server(
    name="kafka",
    ports=(BROKER, SASL, CONTROLLER),
    install=install,
    launch=launch,
    answers=answers,
    settle=settle,
)
