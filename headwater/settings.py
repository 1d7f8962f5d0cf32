"""Configuration: conf/base.yaml, then conf/<HEADWATER_ENV>.yaml, then HEADWATER_* variables.

A double underscore nests (`HEADWATER_POSTGRES__DSN`). Any secret may be given as a path instead, by
the same key with `_file` behind it. Unknown keys are errors with their name.
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AwareDatetime, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from headwater.archive_settings import Archive, S3Access
from headwater.connector_settings import Connector as Connector
from headwater.connector_settings import ConnectorName
from headwater.connector_settings import Constant as Constant
from headwater.errors import SetupError
from headwater.quality_settings import Quality
from headwater.section import ROOT as ROOT
from headwater.section import Section
from headwater.server_settings import Elasticsearch as Elasticsearch
from headwater.server_settings import Kafka as Kafka
from headwater.server_settings import Postgres as Postgres
from headwater.server_settings import Redis as Redis
from headwater.server_settings import Registry as Registry
from headwater.server_settings import unencrypted

CONF = ROOT / "conf"
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


class Jwt(Section):
    jwks_path: Path | None
    issuer: str
    audience: str
    max_age_s: int = Field(ge=60)
    leeway_s: int = Field(ge=0, le=300)


class Api(Section):
    host: str
    port: int
    certificate_file: Path | None = None
    certificate_key_file: Path | None = None
    workers: int = Field(ge=1)
    keys_path: Path | None
    jwt: Jwt
    cors_origins: tuple[str, ...]
    max_body_bytes: int
    max_batch_bytes: int
    max_batch_lines: int
    rate_per_second: int
    rate_burst: int
    redis_timeout_s: float = Field(gt=0)
    kafka_queue_messages: int
    kafka_timeout_s: float

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate_file is None) != (self.certificate_key_file is None):
            raise ValueError("certificate_file and certificate_key_file go together: give both or none")
        return self


class S3(S3Access):
    bucket: str | None
    prefix: str = Field(pattern=r"^([A-Za-z0-9_-]+/)*$")


class Uploads(Section):
    storage: Literal["local", "s3"]
    folder: Path
    s3: S3
    part_bytes: int = Field(ge=5 << 20, le=100 << 20)  # S3 takes no smaller part, but for the last
    max_bytes: int = Field(ge=1)
    max_unpacked_bytes: int = Field(ge=1)
    max_ratio: int = Field(ge=1)
    max_members: int = Field(ge=1, le=10_000)
    max_name_length: int = Field(ge=1, le=255)
    at_once: int = Field(ge=1)
    at_once_each: int = Field(ge=1)
    idle_timeout_s: float = Field(gt=0)
    min_bytes_per_s: int = Field(ge=1)
    attempts: int = Field(ge=1, le=100)
    backoff_s: float = Field(gt=0)
    max_backoff_s: float = Field(gt=0)
    lease_s: float = Field(ge=3, le=45)  # a killed worker's job is to be taken up within a minute
    max_invalid_share: float = Field(ge=0, le=1)
    max_errors: int = Field(ge=1)
    max_raw_row: int = Field(ge=0, le=2_048)  # parsers keep 8 KiB of a row: so many characters of any kind
    scratch: Path
    keep_files: Literal["none", "failed", "all"]
    tenant: str | None = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


class Spark(Section):
    master: str
    driver_memory: str
    shuffle_partitions: int = Field(ge=1)
    jars: Path | None
    conf: dict[str, str]


class Triggers(Section):
    ingest_s: float
    refine_s: float
    deliver_s: float
    publish_s: float
    build_s: float
    report_s: float


class Streams(Section):
    triggers: Triggers
    max_offsets_per_trigger: int = Field(ge=1)
    max_files_per_trigger: int = Field(ge=1)
    small_batches: Literal["driver", "spark"]
    state_store: Literal["rocksdb", "hdfs"]
    overlays: Path | None


class Breaker(Section):
    min_failed_rows: int = Field(ge=1)
    max_failed_share: float = Field(gt=0, le=1)


class Enrichment(Section):
    geo_database: Path | None


class Marketo(Section):
    """The Marketo instance whose leads are polled; without a base_url it is off."""

    base_url: str | None
    client_id: str | None
    client_secret: SecretStr | None
    # The tenant whose leads these are.
    account_id: str | None = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    # Further fields, by their REST names: an event's `attributes`.
    fields: tuple[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,254}$")], ...]
    since: AwareDatetime | None
    every_s: float = Field(gt=0)
    timeout_s: float = Field(gt=0, le=300)
    max_calls: int = Field(ge=1, le=100)  # what Marketo admits in 20 s
    # Hosts that may be spoken to without TLS.
    plain_hosts: tuple[str, ...]


class Billing(Section):
    rates: Path


class Retention(Section):
    crm_months: int | None = Field(ge=1, le=1200)


class Metrics(Section):
    host: str
    port: int


class Settings(BaseSettings):
    """All of Headwater's configuration; conf/base.yaml comments every key."""

    model_config = SettingsConfigDict(
        env_prefix="HEADWATER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    env: str
    require_tls: bool
    lake: str
    kafka: Kafka
    postgres: Postgres
    elasticsearch: Elasticsearch
    redis: Redis
    registry: Registry
    api: Api
    uploads: Uploads
    archive: Archive
    spark: Spark
    streams: Streams
    breaker: Breaker
    enrichment: Enrichment
    connectors: dict[ConnectorName, Connector]
    marketo: Marketo
    billing: Billing
    retention: Retention
    quality: Quality
    metrics: Metrics

    @model_validator(mode="after")
    def _servers_by_tls(self) -> Self:
        servers = (self.kafka, self.postgres, self.elasticsearch, self.redis, self.registry)
        found = [fault for server in servers for fault in server.in_the_clear()]
        for key, endpoint in (("uploads", self.uploads.s3.endpoint), ("archive", self.archive.s3.endpoint)):
            found += unencrypted(f"{key}.s3.endpoint", endpoint or "", "https")
        if self.require_tls and found:
            raise SetupError(
                f"{self.env} demands TLS to every server: {'; '.join(found)}. "
                "Where a network may be trusted set require_tls to false (HEADWATER_REQUIRE_TLS=false)"
            )
        return self

    @property
    def lake_root(self) -> str:
        """The lake as a URI or an absolute path; a relative one counts from the project's folder."""
        return self.lake if self.lake_is_remote else str(ROOT / self.lake)

    @property
    def scratch_root(self) -> Path:
        """Where files are unpacked, as an absolute path."""
        return ROOT / self.uploads.scratch

    @property
    def rates_path(self) -> Path:
        """The rate card, as an absolute path."""
        return ROOT / self.billing.rates

    @property
    def archive_root(self) -> str:
        """The archive's folder as an absolute path, or its URI."""
        return self.archive.root if "://" in self.archive.root else str(ROOT / self.archive.root)

    @property
    def small_batches_here(self) -> bool:
        """Whether what has few rows is done on the driver, without Spark's tasks: only a local lake's is."""
        return not self.lake_is_remote and self.streams.small_batches == "driver"

    @property
    def lake_is_remote(self) -> bool:
        """Whether the lake is a URI (an object store, HDFS) rather than a folder."""
        return "://" in self.lake

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        name = init_settings().get("env") or os.environ.get("HEADWATER_ENV", "local")
        layers = _merge(_load("base"), _load(name)) | {"env": name}
        return init_settings, env_settings, InitSettingsSource(settings_cls, layers)


def _load(name: str) -> dict[str, Any]:
    path = CONF / f"{name}.yaml"
    if not re.fullmatch(r"[a-z]+", name) or not path.is_file():
        raise SetupError(f"no configuration named {name!r}: expected conf/{name}.yaml (HEADWATER_ENV)")
    text = _VARIABLE.sub(lambda found: os.environ.get(found[1], found[2]), path.read_text(encoding="utf-8"))
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as fault:
        raise SetupError(f"conf/{name}.yaml is not YAML: {fault}") from fault


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merge(low[k], high[k]) for k in low.keys() & high.keys() if isinstance(low[k], dict)}
    return {**low, **high, **both}


@cache
def load_settings(env: str | None = None) -> Settings:
    """The settings of `env` (default: HEADWATER_ENV, else local). Raises SetupError naming each bad key."""
    try:
        return Settings.model_validate({"env": env} if env else {})
    except ValidationError as fault:
        keys = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors())
        raise SetupError(f"configuration is wrong: {keys}") from fault
