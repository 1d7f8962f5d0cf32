"""The rate card: conf/rates.yaml, checked. Which rate an hour of usage has is transformations/billing.py."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from headwater.decimals import fits
from headwater.errors import SetupError

# Of a price; with the six places of a quantity a product has fourteen, and stays exact.
PLACES = 8
_MOST = Decimal(1_000_000)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Strict):
    """What a unit of `metric` costs from `since` on; without tenant or model: for every one."""

    metric: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    tenant: str | None = None
    model: str | None = None
    since: Annotated[AwareDatetime, Field(alias="from")]
    price: Annotated[Decimal, Field(ge=0, le=_MOST)]

    @field_validator("price", mode="before")
    @classmethod
    def _exact(cls, value: object) -> object:
        if isinstance(value, float):
            raise ValueError("write the price as text, in quotes: a float is not exact")
        return value

    @field_validator("price")
    @classmethod
    def _short(cls, value: Decimal) -> Decimal:
        if not fits(value, PLACES):
            raise ValueError(f"a price has at most {PLACES} places behind the point")
        return value

    @field_validator("since")
    @classmethod
    def _whole_hour(cls, value: datetime) -> datetime:
        utc = value.astimezone(UTC)
        if utc != utc.replace(minute=0, second=0, microsecond=0):
            raise ValueError("a rate begins with an hour")
        return utc


class RateCard(_Strict):
    """All rates, in one currency."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    rates: tuple[Rate, ...]

    @field_validator("rates")
    @classmethod
    def _once(cls, rates: tuple[Rate, ...]) -> tuple[Rate, ...]:
        seen = [(rate.metric, rate.tenant, rate.model, rate.since) for rate in rates]
        twice = next((rate for rate in seen if seen.count(rate) > 1), None)
        if twice:
            raise ValueError(f"two rates of {twice[0]} for the same tenant and model begin at {twice[3]}")
        return rates


def read_rates(path: Path) -> RateCard:
    """The card in this file. Raises SetupError naming the file and what is wrong with it."""
    try:
        return RateCard.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as fault:
        raise SetupError(f"billing.rates: {path} cannot be read ({type(fault).__name__})") from None
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8") from None
    except yaml.YAMLError as fault:
        raise SetupError(f"{path} is not YAML: {fault}") from None
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise SetupError(f"{path}: {where}: {first['msg']}") from None
