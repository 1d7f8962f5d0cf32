"""Where the servers are, who we are to them, and by which authority their certificates are known."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from headwater.section import Section

_VERIFIED = "verify-full"


def unencrypted(key: str, address: str, scheme: str) -> list[str]:
    """What is wrong with addresses (commas between) of another scheme. They are not quoted: one may hold a
    password."""
    plain = [one for one in address.split(",") if one and not one.strip().startswith(f"{scheme}://")]
    return [f"{key} must begin with {scheme}://"] if plain else []


class Kafka(Section):
    bootstrap: str
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    sasl_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] | None
    username: str | None
    password: SecretStr | None
    replay_username: str | None
    replay_password: SecretStr | None
    ca_file: Path | None
    replication: int = Field(ge=1, le=5)

    def in_the_clear(self) -> list[str]:
        """What would be sent so that others can read or change it."""
        if self.security_protocol.endswith("SSL"):
            return []
        return [f"kafka.security_protocol is {self.security_protocol}: set SASL_SSL, or SSL without a user"]


class Postgres(Section):
    dsn: str
    password: SecretStr | None
    owner_dsn: str
    owner_password: SecretStr | None
    api_dsn: str
    api_password: SecretStr | None
    ca_file: Path | None
    connect_timeout_s: int = Field(ge=1)
    copy_partitions: int = Field(ge=1, le=64)

    def in_the_clear(self) -> list[str]:
        """DSNs by which another server could pass for ours: every sslmode below verify-full."""
        modes = {name: _sslmode(getattr(self, name)) for name in ("dsn", "owner_dsn", "api_dsn")}
        return [
            f"postgres.{name} has sslmode {mode}: add ?sslmode={_VERIFIED}"
            for name, mode in modes.items()
            if mode != _VERIFIED
        ]


def _sslmode(dsn: str) -> str:
    """By its words, in both forms of a DSN: libpq's own parser is much to load for every process."""
    found = re.findall(r"\bsslmode\s*=\s*'?([a-z-]+)", dsn)
    return found[-1] if found else "prefer"


class Elasticsearch(Section):
    url: str
    username: str | None
    password: SecretStr | None
    ca_file: Path | None
    prefix: str = Field(pattern=r"^[a-z0-9_-]*$")
    writer: Literal["bulk", "connector"]
    batch_entries: int = Field(ge=1)
    batch_bytes: str
    bulk_partitions: int = Field(ge=1, le=64)

    def in_the_clear(self) -> list[str]:
        """What would be sent so that others can read or change it."""
        return unencrypted("elasticsearch.url", self.url, "https")


class Redis(Section):
    url: str
    username: str | None
    password: SecretStr | None
    api_username: str | None
    api_password: SecretStr | None
    ca_file: Path | None

    def in_the_clear(self) -> list[str]:
        """What would be sent so that others can read or change it."""
        return unencrypted("redis.url", self.url, "rediss")


class Registry(Section):
    url: str
    username: str | None
    password: SecretStr | None
    ca_file: Path | None

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        if any("@" in one.split("//", 1)[-1].split("/", 1)[0] for one in url.split(",")):
            raise ValueError("no credentials in the address: give registry.username and registry.password")
        return url

    def in_the_clear(self) -> list[str]:
        """What would be sent so that others can read or change it."""
        return unencrypted("registry.url", self.url, "https")
