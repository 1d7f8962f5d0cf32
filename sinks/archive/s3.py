"""The archive in an S3 bucket: multipart uploads, and a manifest that is put only where none is."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from headwater.archive_settings import S3Access
from headwater.errors import TransientError
from headwater.s3 import FAULTS, MISSING, S3Parts, abort_uploads, client, code, explained, opened

SECTION = "archive.s3"
# There already; or another put of the same name is under way.
_THERE, _UNDER_WAY = "PreconditionFailed", "ConditionalRequestConflict"
_OLDER_SERVER = "412"


class S3Store:
    """A bucket, and the prefix that is ours in it: empty, or ending with a slash."""

    def __init__(self, s3: S3Access, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._client = client(s3)

    def folders(self, under: str) -> list[str]:
        start = f"{self._prefix}{under}/"
        found = (entry["Prefix"] for page in self._pages(start) for entry in page.get("CommonPrefixes", ()))
        return [name.removeprefix(start).rstrip("/") for name in found]

    def files(self, folder: str) -> dict[str, int]:
        start = f"{self._prefix}{folder}/"
        found = (entry for page in self._pages(start) for entry in page.get("Contents", ()))
        return {entry["Key"].removeprefix(start): entry["Size"] for entry in found}

    def begin(self, name: str) -> S3Parts:
        return S3Parts(self._client, self._place(name), SECTION)

    def open(self, name: str) -> BinaryIO:
        return opened(self._client, self._place(name), f"{name} is not in the archive", SECTION)

    def read(self, name: str) -> bytes | None:
        try:
            return bytes(self._client.get_object(**self._place(name))["Body"].read())
        except FAULTS as fault:
            if code(fault) in MISSING:
                return None
            raise explained(fault, SECTION) from None

    def put_new(self, name: str, content: bytes) -> bool:
        try:
            self._client.put_object(**self._place(name), Body=content, IfNoneMatch="*")
        except FAULTS as fault:
            if code(fault) == _UNDER_WAY:
                raise TransientError(f"S3 fails with {_UNDER_WAY}") from None
            if code(fault) not in (_THERE, _OLDER_SERVER):
                raise explained(fault, SECTION) from None
            # Ours, perhaps, of a request whose answer was lost.
            return self.read(name) == content
        return True

    def clear(self, folder: str) -> int:
        names = self.files(folder)
        try:
            for name in names:
                self._client.delete_object(**self._place(f"{folder}/{name}"))
            return len(names) + abort_uploads(self._client, self._bucket, f"{self._prefix}{folder}/")
        except FAULTS as fault:
            raise explained(fault, SECTION) from None

    def _pages(self, start: str) -> Iterator[Any]:
        try:
            pages = self._client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self._bucket, Prefix=start, Delimiter="/")
        except FAULTS as fault:
            raise explained(fault, SECTION) from None

    def _place(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}
