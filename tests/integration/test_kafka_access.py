"""The principals of the local stack's SCRAM listener, and Kafka by TLS: on a broker of the tests' own."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types export AdminClient only
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from headwater.errors import SetupError, TransientError
from headwater.kafka import check_topic, confluent_config, producer_config, spark_config, why_away
from headwater.settings import Settings
from local import credentials, kafka_users
from local.kafka_users import (
    ADMIN,
    API,
    REPLAY,
    SECRETS,
    SPARK,
    api_topics,
    outgoing_topics,
    replay_topics,
    source_topics,
)
from schemas.topics import create_topics
from sources.kafka import partition_bounds, topic_ids
from sources.kafka_record import RecordReader
from tests.integration.broker import eventually
from tests.integration.certificate import Authority
from tests.integration.tls_broker import TlsBroker

INGEST, REFUSED, CRM = "lead.ingest", "lead.refused", "crm.leads"
WITHIN_S = 20.0
NO_TOPIC, NO_GROUP, NO_CLUSTER = (f"{what}_AUTHORIZATION_FAILED" for what in ("TOPIC", "GROUP", "CLUSTER"))
EVERYTHING = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    """With all topics, the principals and their rights."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(credentials, "SECRETS", tmp_path_factory.mktemp("secrets") / "made")
        credentials.make_secrets()
        made = TlsBroker(tmp_path_factory.mktemp("kafka"), Authority(tmp_path_factory.mktemp("authority")))
        try:
            made.format()
            made.start()
            kafka_users.settle(made.admin, passwords())
            # As `python -m jobs migrate` would by this principal.
            create_topics(made.settings(ADMIN, replication=1))
            yield made
        finally:
            made.stop()


def passwords() -> dict[str, str]:
    return {who: credentials.read_secret(secret) for who, secret in SECRETS.items()}


def sent(settings: Settings, *topics: str) -> dict[str, str | None]:
    """Of each topic: None when Kafka acknowledged a record, else the fault's name."""
    found: dict[str, str | None] = {}

    def acknowledged(fault: KafkaError | None, message: Message) -> None:
        found[message.topic() or ""] = fault.name() if fault else None

    producer = Producer(producer_config(settings, "test", WITHIN_S))
    for topic in topics:
        producer.produce(topic, b"{}", b"k", on_delivery=acknowledged)
    producer.flush(WITHIN_S)
    return found


def read(settings: Settings, topic: str, group: str = f"{kafka_users.SPARK_GROUPS}test") -> str | None:
    """None when there was a record or the partition's end, else the fault's name."""
    own = {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer(confluent_config(settings) | own)
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return answered(consumer, besides=NO_GROUP)
    finally:
        consumer.close()


def answered(consumer: Consumer, besides: str = "") -> str | None:
    """As of `read`; a fault that is told `besides` is passed over."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        message = consumer.poll(0.5)
        fault = message.error() if message else None
        if message and not (fault and fault.name() == besides):
            return fault.name() if fault and fault.name() != "_PARTITION_EOF" else None
    raise AssertionError("no answer")


def refused(change: Any) -> str:
    """The name of the fault that a future of the admin client ends with."""
    with pytest.raises(KafkaException) as caught:
        change.result(WITHIN_S)
    return str(caught.value.args[0].name())


def admin_of(settings: Settings) -> AdminClient:
    return AdminClient(confluent_config(settings))


# --- the API


def test_the_api_writes_what_comes_in_and_what_it_refused(broker: TlsBroker) -> None:
    assert sent(broker.settings(API), INGEST, REFUSED) == {INGEST: None, REFUSED: None}
    check_topic(broker.settings(API), INGEST)


def test_the_api_writes_nowhere_else(broker: TlsBroker) -> None:
    others = sorted({*source_topics(), *outgoing_topics()} - {INGEST, REFUSED})
    assert len(others) > 10
    assert sent(broker.settings(API), *others) == dict.fromkeys(others, NO_TOPIC)


def test_the_api_does_not_read_even_what_it_wrote(broker: TlsBroker) -> None:
    assert read(broker.settings(API), INGEST) == NO_TOPIC


def test_the_api_belongs_to_no_group(broker: TlsBroker) -> None:
    own = {"group.id": f"{kafka_users.SPARK_GROUPS}api", "auto.offset.reset": "earliest"}
    consumer = Consumer(confluent_config(broker.settings(API)) | own)
    consumer.subscribe([INGEST])
    assert answered(consumer) == NO_GROUP
    consumer.close()


# --- Spark


def test_spark_reads_every_source(broker: TlsBroker) -> None:
    settings, topics = broker.settings(SPARK), source_topics()
    assert topic_ids(settings, topics).keys() == set(topics)
    first, end = partition_bounds(settings, topics)
    assert first.keys() == end.keys() and first
    assert {topic: read(settings, topic) for topic in (INGEST, CRM)} == {INGEST: None, CRM: None}


def test_spark_writes_what_goes_out(broker: TlsBroker) -> None:
    assert sent(broker.settings(SPARK), *outgoing_topics()) == dict.fromkeys(outgoing_topics())


def test_spark_writes_into_no_source_but_that_of_marketo(broker: TlsBroker) -> None:
    expected = dict.fromkeys(source_topics(), NO_TOPIC) | {"marketo.leads.delta": None}
    assert sent(broker.settings(SPARK), *source_topics()) == expected


def test_spark_reads_nothing_that_goes_out_and_belongs_to_no_group_of_others(broker: TlsBroker) -> None:
    assert read(broker.settings(SPARK), "lead.normalized") == NO_TOPIC
    consumer = Consumer(confluent_config(broker.settings(SPARK)) | {"group.id": "of-others"})
    consumer.subscribe([INGEST])
    assert answered(consumer) == NO_GROUP
    consumer.close()


# --- who sends records again


def test_a_replay_reads_and_writes_the_topics_of_the_crm_and_no_other(broker: TlsBroker) -> None:
    settings, others = (
        broker.settings(REPLAY),
        sorted({*source_topics(), *outgoing_topics()} - {*replay_topics()}),
    )
    assert CRM in replay_topics()
    assert sent(settings, *replay_topics()) == dict.fromkeys(replay_topics())
    assert sent(settings, *others) == dict.fromkeys(others, NO_TOPIC)
    reader = RecordReader(settings, "test", WITHIN_S)
    found = [reader.read(CRM, partition, 0) for partition in range(3)]
    assert [message.value() for message in found if message is not None] == [b"{}"]
    reader.close()


# --- all


@pytest.mark.parametrize(
    ("who", "seen"),
    [(API, api_topics()), (SPARK, sorted({*source_topics(), *outgoing_topics()})), (REPLAY, replay_topics())],
)
def test_a_principal_sees_only_topics_that_it_uses(broker: TlsBroker, who: str, seen: list[str]) -> None:
    assert sorted(admin_of(broker.settings(who)).list_topics(timeout=WITHIN_S).topics) == seen
    with pytest.raises(SetupError, match=f"{who} has no right to the topic other"):
        check_topic(broker.settings(who), "other")


@pytest.mark.parametrize("who", [API, REPLAY, SPARK])
def test_a_principal_makes_and_takes_away_nothing(broker: TlsBroker, who: str) -> None:
    admin = admin_of(broker.settings(who))
    allow = AclBinding(
        ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, f"User:{who}", "*",
        AclOperation.ALL, AclPermissionType.ALLOW,
    )  # fmt: skip
    one_more = UserScramCredentialUpsertion(
        "one-more", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"secret"
    )
    found = {
        "topic": refused(admin.create_topics([NewTopic("more", 1, 1)])["more"]),
        "away": refused(admin.delete_topics([INGEST])[INGEST]),
        "right": refused(admin.create_acls([allow])[allow]),
        "user": refused(admin.alter_user_scram_credentials([one_more])["one-more"]),
    }
    assert found == {
        "topic": NO_TOPIC,
        "away": NO_TOPIC,
        "right": NO_CLUSTER,
        "user": NO_CLUSTER,
    }
    # librdkafka gives an empty list for a refusal.
    assert admin.describe_acls(EVERYTHING).result(WITHIN_S) == []


def acls(broker: TlsBroker) -> set[AclBinding]:
    return set(broker.admin.describe_acls(EVERYTHING).result(WITHIN_S))


def users(broker: TlsBroker) -> dict[str, Any]:
    return dict(broker.admin.describe_user_scram_credentials().result(WITHIN_S))


def test_an_older_installation_is_brought_up_to_date(broker: TlsBroker) -> None:
    former = kafka_users.FORMER[0]
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
    made = UserScramCredentialUpsertion(former, info, b"former-secret")
    broker.admin.alter_user_scram_credentials([made])[former].result(WITHIN_S)
    too_much = [
        AclBinding(
            ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, f"User:{who}", "*",
            AclOperation.WRITE, AclPermissionType.ALLOW,
        )
        for who in (former, API)
    ]  # fmt: skip
    for done in broker.admin.create_acls(too_much).values():
        done.result(WITHIN_S)
    # A broker answers before it has taken in what it has just agreed to.
    eventually(lambda: former in users(broker), "the former user is known")
    eventually(lambda: acls(broker) >= set(too_much), "the former rights are known")
    wanted = {right.binding() for right in kafka_users.rights()}
    for _ in range(2):
        kafka_users.settle(broker.admin, passwords())
        eventually(lambda: acls(broker) == wanted, "the rights are the wanted ones")
    eventually(lambda: former not in users(broker), "the former user is gone")
    assert sent(broker.settings(API), CRM) == {CRM: NO_TOPIC}


# --- TLS


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_by_tls_records_come_and_go_with_either_login(broker: TlsBroker, mechanism: str) -> None:
    assert sent(broker.tls_settings(API, sasl_mechanism=mechanism), INGEST) == {INGEST: None}
    spark = broker.tls_settings(SPARK, sasl_mechanism=mechanism)
    assert read(spark, INGEST) is None
    assert topic_ids(spark, [INGEST]).keys() == {INGEST}  # kafka-python


def test_kafkas_java_client_reads_by_the_options_that_spark_is_given(
    broker: TlsBroker, tmp_path: Path
) -> None:
    assert sent(broker.settings(API), INGEST) == {INGEST: None}
    options = spark_config(broker.tls_settings(SPARK))
    own = {name.removeprefix("kafka."): value for name, value in options.items()}
    assert own["security.protocol"] == "SASL_SSL" and own["ssl.truststore.type"] == "PEM"
    own["group.id"] = f"{kafka_users.SPARK_GROUPS}java"
    file = tmp_path / "client.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in own.items()))
    asked = ("--bootstrap-server", own["bootstrap.servers"], "--topic", INGEST, "--from-beginning")
    argv = broker.tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer", *asked, "--max-messages", "1",
        "--timeout-ms", "20000", "--command-config", str(file),
    )  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert "{}" in done.stdout, done.stderr


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_a_fault_of_the_setup(broker: TlsBroker, mechanism: str) -> None:
    wrong = broker.tls_settings(API, sasl_mechanism=mechanism, password=SecretStr("geheim-of-nobody"))
    with pytest.raises(SetupError, match=r"refuses the login: check kafka\.username") as caught:
        check_topic(wrong, INGEST)
    assert "geheim" not in str(caught.value)
    assert isinstance(why_away(wrong), SetupError)


@pytest.mark.parametrize(
    ("host", "authority"), [("127.0.0.1", "stranger"), ("127.0.0.1", None), ("localhost", "own")]
)
def test_a_certificate_of_a_stranger_or_for_another_host_is_refused(
    broker: TlsBroker, tmp_path: Path, host: str, authority: str | None
) -> None:
    files = {"stranger": Authority(tmp_path, "stranger").file, "own": broker.authority.file, None: None}
    wrong = broker.tls_settings(API, ca_file=files[authority], bootstrap=f"{host}:{broker.tls_port}")
    with pytest.raises(
        SetupError, match=r"certificate of Kafka .* check kafka\.bootstrap and kafka\.ca_file"
    ):
        check_topic(wrong, INGEST)
    assert isinstance(why_away(wrong), SetupError)


def test_a_broker_that_is_away_is_an_outage(broker: TlsBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.kafka._ANSWERS_WITHIN_S", 1.0)
    nowhere = broker.tls_settings(API, bootstrap="127.0.0.1:9")
    assert isinstance(why_away(nowhere), TransientError)
    with pytest.raises(TransientError):
        check_topic(nowhere, INGEST)
