"""The storage that the settings name."""

from headwater.errors import SetupError
from headwater.settings import ROOT, Settings
from sources.landing.base import Landing
from sources.landing.local import LocalLanding

S3_MAX_PARTS = 10_000


def landing_of(settings: Settings) -> Landing:
    """The landing of `settings.uploads`. SetupError when its place is not usable."""
    uploads = settings.uploads
    if uploads.storage == "local":
        return LocalLanding(ROOT / uploads.folder)
    if uploads.max_bytes > uploads.part_bytes * S3_MAX_PARTS:
        raise SetupError(f"uploads.max_bytes: S3 takes {S3_MAX_PARTS} parts of uploads.part_bytes at most")
    from sources.landing.s3 import S3Landing  # takes 40 MB and half a second, for those who need it

    return S3Landing(uploads.s3)
