"""Principals of Kafka's SCRAM listener, and what each may do with which topic. All else is refused.

`headwater-admin` is a super user: topics are made by it, `python -m jobs migrate`. WRITE and READ bring
DESCRIBE along; an idempotent producer needs no more than WRITE.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types export AdminClient only
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from schemas.contract import contracts
from schemas.topics import OUTGOING

ADMIN = "headwater-admin"
API = "headwater-api"
SPARK = "headwater-spark"
REPLAY = "headwater-replay"
SECRETS = {ADMIN: "kafka-admin", API: "kafka-api", SPARK: "kafka-spark", REPLAY: "kafka-replay"}
# Of earlier versions: it could read and write everything.
FORMER = ("headwater-app",)
# Spark makes a group's name of this and a number of its own.
SPARK_GROUPS = "spark-kafka-source-"
# As sources/kafka_record.py calls itself.
REPLAY_GROUP = "headwater-records"
_API_DOMAIN = "leads"
# What `jobs extract-marketo` writes, and ingest reads.
_EXTRACTED = ("marketo.leads.delta",)
_SCRAM_ITERATIONS = 8192
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Right:
    """An operation on one topic, or on all groups whose names begin so."""

    principal: str
    operation: AclOperation
    name: str
    groups: bool = False

    def binding(self) -> AclBinding:
        """As Kafka keeps it."""
        return AclBinding(
            ResourceType.GROUP if self.groups else ResourceType.TOPIC,
            self.name,
            ResourcePatternType.PREFIXED if self.groups else ResourcePatternType.LITERAL,
            f"User:{self.principal}",
            "*",
            self.operation,
            AclPermissionType.ALLOW,
        )


def api_topics() -> list[str]:
    """What the API publishes to: the leads, and bodies that it refused."""
    return _sources_of(_API_DOMAIN)


def replay_topics() -> list[str]:
    """Where records are sent again."""
    return sorted(contract.topic for contract in contracts().values())


def _sources_of(domain: str) -> list[str]:
    return sorted(t for c in contracts().values() if c.domain == domain for t in c.sources)


def source_topics() -> list[str]:
    """What ingest reads."""
    return sorted({topic for contract in contracts().values() for topic in contract.sources})


def outgoing_topics() -> list[str]:
    """What deliver writes."""
    return sorted({topic for topics in OUTGOING.values() for topic in topics})


def rights() -> list[Right]:
    """Everything that is allowed to whom."""
    return [
        *(Right(API, AclOperation.WRITE, topic) for topic in api_topics()),
        *(Right(SPARK, AclOperation.READ, topic) for topic in source_topics()),
        *(Right(SPARK, AclOperation.WRITE, topic) for topic in (*outgoing_topics(), *_EXTRACTED)),
        Right(SPARK, AclOperation.READ, SPARK_GROUPS, groups=True),
        *(
            Right(REPLAY, what, topic)
            for topic in replay_topics()
            for what in (AclOperation.READ, AclOperation.WRITE)
        ),
        Right(REPLAY, AclOperation.READ, REPLAY_GROUP, groups=True),
    ]


def settle(admin: AdminClient, passwords: Mapping[str, str]) -> None:
    """Principals with these passwords and exactly these rights (repeatable). Raises KafkaException."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
    changes: list[UserScramCredentialAlteration] = [
        *(UserScramCredentialUpsertion(name, info, text.encode()) for name, text in passwords.items()),
        *(UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512) for name in _left_over(admin)),
    ]
    for change in admin.alter_user_scram_credentials(changes).values():
        change.result(_TIMEOUT_S)
    wanted = {right.binding() for right in rights()}
    known = {one for name in (API, SPARK, REPLAY, *FORMER) for one in _known(admin, name)}
    # What is new first: who is at work loses nothing meanwhile.
    if new := [*(wanted - known)]:
        for made in admin.create_acls(new).values():
            made.result(_TIMEOUT_S)
    if over := [_filter(one) for one in known - wanted]:
        for gone in admin.delete_acls(over).values():
            gone.result(_TIMEOUT_S)


def _left_over(admin: AdminClient) -> list[str]:
    asked: Any = admin.describe_user_scram_credentials()  # of all, one future
    known = asked.result(_TIMEOUT_S)
    return [name for name in FORMER if name in known]


def _known(admin: AdminClient, principal: str) -> list[AclBinding]:
    return list(admin.describe_acls(_of(f"User:{principal}")).result(_TIMEOUT_S))


def _of(principal: str) -> AclBindingFilter:
    anything: Any = None  # which the package's signature does not know
    return AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        principal,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _filter(one: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        one.restype,
        one.name,
        one.resource_pattern_type,
        one.principal,
        one.host,
        one.operation,
        one.permission_type,
    )
