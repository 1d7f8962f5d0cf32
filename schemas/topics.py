"""Topics as the contracts declare them, created with kafka-python's admin client."""

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from headwater.kafka import kafka_python_config, why_away
from headwater.settings import Settings
from schemas.contract import contracts

DAY_MS = 86_400_000
# The largest record a topic takes: above our own limit of 1 MiB, so that an oversized event becomes a dead
# letter.
MAX_MESSAGE_BYTES = 24 << 20
OUTGOING = {
    "leads": ("lead.normalized", "lead.captured", "lead.dlq"),
    "interactions": ("interactions.dlq",),
    "crm": ("crm.dlq",),
    "uploads": ("uploads.dlq",),
}
OUTGOING_PARTITIONS = 3
OUTGOING_DAYS = 30


def declared_topics(replication: int) -> list[NewTopic]:
    """Every topic of every contract, and the ones that deliver writes."""
    wanted = [
        (topic, partitions, c.retention_days)
        for c in contracts().values()
        for topic, partitions in c.sources.items()
    ]
    for names in OUTGOING.values():
        wanted += [(name, OUTGOING_PARTITIONS, OUTGOING_DAYS) for name in names]
    return [_topic(name, partitions, days, replication) for name, partitions, days in wanted]


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are not there yet; their names. Existing ones are left as they are."""
    try:
        admin = KafkaAdminClient(**kafka_python_config(settings))
    except KafkaError as fault:
        raise why_away(settings) from fault
    created = []
    try:
        existing = set(admin.list_topics())
        for topic in declared_topics(settings.kafka.replication):
            if topic.name in existing:
                continue
            try:
                admin.create_topics([topic])
                created.append(topic.name)
            except TopicAlreadyExistsError:  # another starter was quicker
                continue
    finally:
        admin.close()
    return created


def _topic(name: str, partitions: int, days: int, replication: int) -> NewTopic:
    return NewTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replication,
        topic_configs={
            "retention.ms": str(days * DAY_MS),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "min.insync.replicas": str(max(1, replication - 1)),
            # Dated by the sender, a record of a clock that is an hour ahead would be refused (Kafka's
            # message.timestamp.after.max.ms): the API, or a delivery, would stand still.
            "message.timestamp.type": "LogAppendTime",
        },
    )
