"""Uploaded files in an S3 bucket: a multipart upload, completed when it is whole, aborted when it is not."""

from collections.abc import Iterator
from datetime import timedelta
from typing import BinaryIO

from headwater.clock import utc_now
from headwater.errors import SetupError
from headwater.s3 import FAULTS, S3Parts, abort_uploads, client, explained, opened
from headwater.settings import S3
from sources.landing.base import ABANDONED, KEY, checked

SECTION = "uploads.s3"


class S3Landing:
    """A bucket, and the prefix that is ours in it."""

    def __init__(self, s3: S3) -> None:
        if not s3.bucket:
            raise SetupError("uploads.s3.bucket: uploads.storage is s3, name the bucket")
        self._bucket = s3.bucket
        self._prefix = s3.prefix
        self._client = client(s3)

    def begin(self, key: str) -> S3Parts:
        return S3Parts(self._client, self._place(key), SECTION)

    def open(self, key: str) -> BinaryIO:
        return opened(self._client, self._place(key), f"the uploaded file {key} is not in storage", SECTION)

    def path(self, key: str) -> None:
        return None

    def delete(self, key: str) -> None:
        try:
            self._client.delete_object(**self._place(key))
        except FAULTS as fault:
            raise explained(fault, SECTION) from None

    def keys(self, older: timedelta = ABANDONED) -> Iterator[str]:
        made_before = utc_now() - older
        try:
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    if KEY.fullmatch(key) and found["LastModified"] <= made_before:
                        yield key
        except FAULTS as fault:
            raise explained(fault, SECTION) from None

    def sweep(self, older: timedelta = ABANDONED) -> int:
        try:
            return abort_uploads(self._client, self._bucket, self._prefix, utc_now() - older)
        except FAULTS as fault:
            raise explained(fault, SECTION) from None

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked(key)}
