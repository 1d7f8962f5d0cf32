"""The archive's part of the configuration, and how a server of S3 is reached."""

from pydantic import Field, SecretStr

from headwater.section import Section


class S3Access(Section):
    """A server of S3, and who we are to it."""

    endpoint: str | None
    region: str
    access_key_id: SecretStr | None
    secret_access_key: SecretStr | None


class Archive(Section):
    # A folder, or a bucket and what comes before every key in it.
    root: str = Field(pattern=r"^([^:]+|s3a?://[^/:]+(/[^/]+)*/?)$")
    s3: S3Access
    file_bytes: int = Field(ge=1 << 20, le=4 << 30)
    memory_bytes: int = Field(ge=1 << 20, le=1 << 30)
    settle_s: float = Field(ge=0)
    every_s: float = Field(gt=0)
