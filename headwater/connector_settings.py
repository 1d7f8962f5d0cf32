"""The part of the configuration that says which webhooks captured leads are posted to."""

from typing import Annotated

from pydantic import Field, SecretStr

from headwater.section import Section


class Constant(Section):
    """A value that is the same for every lead."""

    constant: str | int | bool


class Connector(Section):
    """A webhook that captured leads are posted to; without a url it is off."""

    url: str | None = None
    secret: SecretStr | None = None
    # Field of the payload (a dot nests) → column of leads, or a constant.
    mapping: dict[str, str | Constant] = Field(min_length=1)
    # Networks (CIDR) and host names that may be private addresses, and may be spoken to without TLS.
    allow_private: tuple[str, ...] = ()
    timeout_s: float = Field(default=10, gt=0, le=60)
    concurrency: int = Field(default=8, ge=1, le=64)
    # Only leads of these tenants; none listed: of all.
    tenants: tuple[str, ...] = ()
    # Column of leads → the values of which it must have one; none listed: any.
    only: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)


ConnectorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
