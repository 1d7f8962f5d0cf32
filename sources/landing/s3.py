"""Uploaded files in an S3 bucket: a multipart upload, completed when it is whole, aborted when it is not."""

import io
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from headwater.clock import utc_now
from headwater.errors import DataLossError, HeadwaterError, SetupError, TransientError
from headwater.log import logger
from headwater.settings import S3
from sources.landing.base import ABANDONED, KEY, Part, checked
from sources.landing.s3_reader import ObjectReader

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
ATTEMPTS = 4  # of one request, by the client itself
CONNECTIONS = 32
READ_AHEAD = 1 << 20
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_SET_UP = frozenset(
    {"AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidBucketName",
     "PermanentRedirect", "AuthorizationHeaderMalformed", "403"}
)  # fmt: skip
_log = logger(__name__)


class S3Landing:
    """A bucket, and the prefix that is ours in it."""

    def __init__(self, s3: S3) -> None:
        if not s3.bucket:
            raise SetupError("uploads.s3.bucket: uploads.storage is s3, name the bucket")
        self._bucket = s3.bucket
        self._prefix = s3.prefix
        self._client = _client(s3)

    def begin(self, key: str) -> "S3Parts":
        return S3Parts(self._client, self._place(key))

    def open(self, key: str) -> BinaryIO:
        place = self._place(key)
        try:
            found = self._client.head_object(**place)
        except (ClientError, BotoCoreError) as fault:
            if _code(fault) in _MISSING:
                raise DataLossError(f"the uploaded file {key} is not in storage") from None
            raise _explained(fault) from None
        raw = ObjectReader(self._client, place, found["ContentLength"], found["ETag"])
        return io.BufferedReader(raw, READ_AHEAD)

    def path(self, key: str) -> None:
        return None

    def delete(self, key: str) -> None:
        try:
            self._client.delete_object(**self._place(key))
        except (ClientError, BotoCoreError) as fault:
            raise _explained(fault) from None

    def keys(self, older: timedelta = ABANDONED) -> Iterator[str]:
        made_before = utc_now() - older
        try:
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    if KEY.fullmatch(key) and found["LastModified"] <= made_before:
                        yield key
        except (ClientError, BotoCoreError) as fault:
            raise _explained(fault) from None

    def sweep(self, older: timedelta = ABANDONED) -> int:
        begun_before = utc_now() - older
        removed = 0
        try:
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] <= begun_before:
                        self._abort(upload["Key"], upload["UploadId"])
                        removed += 1
        except (ClientError, BotoCoreError) as fault:
            raise _explained(fault) from None
        return removed

    def _abort(self, name: str, upload_id: str) -> None:
        with suppress(self._client.exceptions.NoSuchUpload):  # finished in this moment
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload_id)

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked(key)}


class S3Parts:
    """A multipart upload."""

    def __init__(self, client: Any, place: dict[str, str]) -> None:
        self._client = client
        self._place = place
        self._etags: list[dict[str, Any]] = []
        self._completed = False
        try:
            self._upload = place | {"UploadId": client.create_multipart_upload(**place)["UploadId"]}
        except (ClientError, BotoCoreError) as fault:
            raise _explained(fault) from None

    def put(self, part: Part) -> None:
        number = len(self._etags) + 1
        try:
            answer = self._client.upload_part(**self._upload, PartNumber=number, Body=bytes(part))
        except (ClientError, BotoCoreError) as fault:
            raise _explained(fault) from None
        self._etags.append({"PartNumber": number, "ETag": answer["ETag"]})

    def complete(self) -> None:
        if not self._etags:
            self.put(b"")  # S3 completes no upload without a part
        try:
            parts = {"Parts": self._etags}
            self._client.complete_multipart_upload(**self._upload, MultipartUpload=parts)
        except (ClientError, BotoCoreError) as fault:
            raise _explained(fault) from None

    def discard(self) -> None:
        """Also a file whose completion was not answered: it may be there."""
        for action, place in (("abort_multipart_upload", self._upload), ("delete_object", self._place)):
            try:
                getattr(self._client, action)(**place)
            except (ClientError, BotoCoreError) as fault:
                if _code(fault) != "NoSuchUpload":
                    _log.warning("upload_not_discarded", action=action, code=_code(fault))


def _client(s3: S3) -> Any:
    secrets = {
        name: given.get_secret_value()
        for name, given in (
            ("aws_access_key_id", s3.access_key_id),
            ("aws_secret_access_key", s3.secret_access_key),
        )
        if given
    }
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        signature_version="s3v4",
        s3={"addressing_style": "path"} if s3.endpoint else {},
        # Servers that are not Amazon's may not know the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=s3.endpoint, region_name=s3.region, config=config, **secrets)


def _code(fault: ClientError | BotoCoreError) -> str:
    return str(fault.response["Error"]["Code"]) if isinstance(fault, ClientError) else type(fault).__name__


def _explained(fault: ClientError | BotoCoreError) -> HeadwaterError:
    """By the code alone: the text may hold what was sent."""
    code = _code(fault)
    if code in _SET_UP or code == "NoCredentialsError":
        return SetupError(f"S3 refuses with {code}: check uploads.s3 and the rights on the bucket")
    return TransientError(f"S3 fails with {code}")
