"""The storage that archive.root names."""

from pathlib import Path
from urllib.parse import urlsplit

from headwater.settings import Settings
from sinks.archive.base import Store
from sinks.archive.local import LocalStore


def store_of(settings: Settings) -> Store:
    """The archive's storage. SetupError when its place is not usable."""
    root = settings.archive_root
    if "://" not in root:
        return LocalStore(Path(root))
    from sinks.archive.s3 import S3Store  # takes 40 MB and half a second, for those who need it

    place = urlsplit(root)
    prefix = place.path.strip("/")
    return S3Store(settings.archive.s3, place.netloc, f"{prefix}/" if prefix else "")
