"""What every part of the configuration is: frozen, without unknown keys, its secrets given or in files."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from headwater.errors import SetupError

ROOT = Path(__file__).resolve().parents[1]


class Section(BaseModel):
    """A part of the configuration: frozen, unknown keys refused, `<secret>_file` read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        values = dict(data)
        for key in list(values):
            stem = key.removesuffix("_file")
            if key.endswith("_file") and stem in cls.model_fields and key not in cls.model_fields:
                path = values.pop(key)
                if path and not values.get(stem):
                    values[stem] = _secret_text(path)
        return values


def _secret_text(path: str) -> str:
    try:
        return (ROOT / path).read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise SetupError(
            f"secret file {path} cannot be read ({fault.strerror}); for a local stack run `make up` first"
        ) from fault
